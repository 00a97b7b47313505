//! Who calls: a program with a token.
//!
//! [`identify`] is the one place that turns a request's credentials into a [`Caller`]; another kind
//! of credential, such as a console's session, is another arm of it and no handler's business.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use mfa_core::time::Timestamp;
use mfa_store::{Actor, By};

use super::problem::Problem;
use crate::app::App;
use crate::flows::api_token::{self, Scope, Scopes};
use crate::http::source::{Peer, source};
use crate::http::throttle::{Source, Throttled};

/// Who calls, and what the caller may do.
#[derive(Clone, Debug)]
pub struct Caller {
    actor: Actor,
    scopes: Scopes,
}

impl Caller {
    /// Says that the caller acts at `now`, for the audit log.
    #[must_use]
    pub const fn by(&self, now: Timestamp) -> By {
        By::new(self.actor, now)
    }

    /// Returns what the caller may do.
    #[must_use]
    pub const fn scopes(&self) -> &Scopes {
        &self.scopes
    }
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Problem> {
        // `authorize` put it there; a route without it is refused rather than open.
        parts.extensions.get::<Self>().cloned().ok_or_else(Problem::unauthenticated)
    }
}

/// What stands before one operation.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    pub(super) app: Arc<App>,
    pub(super) scope: Scope,
}

/// Lets those through who have the operation's scope, within the limits.
pub(super) async fn authorize(
    State(guard): State<Guard>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    match admit(&guard.app, &parts).await {
        Ok((caller, news)) => {
            let response = if caller.scopes.allow(guard.scope) {
                parts.extensions.insert(caller);
                next.run(Request::from_parts(parts, body)).await
            } else {
                Problem::forbidden(guard.scope).into_response()
            };
            // Not before: who cuts somebody's session must not wait for one more commit.
            if let Some(token) = news {
                note_use(&guard.app, token).await;
            }
            response
        }
        Err(problem) => problem.into_response(),
    }
}

/// Returns who calls, and the token's number if it is time to note that it was used.
async fn admit(app: &App, parts: &Parts) -> Result<(Caller, Option<i64>), Problem> {
    let now = app.clock.now();
    let peer = parts.extensions.get::<Peer>().ok_or_else(Problem::unauthenticated)?;
    let from = source(peer.0, &parts.headers, &app.trusted_proxies);
    app.limits.all.charge(from.into(), now).map_err(too_many)?;
    identify(app, parts).await
}

async fn note_use(app: &App, token: i64) {
    let now = app.clock.now();
    if let Err(error) = app.store.write(move |tx| tx.note_api_token(token, now)).await {
        tracing::warn!(token, %error, "that a token was used could not be noted");
    }
}

async fn identify(app: &App, parts: &Parts) -> Result<(Caller, Option<i64>), Problem> {
    let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let shown = header
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, shown)| zeroize::Zeroizing::new(shown.trim().to_owned()))
        .ok_or_else(Problem::unauthenticated)?;
    let by = By::new(Actor::System, app.clock.now());
    let token = app.store.read(move |view| api_token::good(view, &shown, by)).await?;
    let token = token.ok_or_else(Problem::unauthenticated)?;
    app.limits.tokens.charge(Source::token(token.id), by.now).map_err(too_many)?;
    let news = token.is_news(by.now).then_some(token.id);
    Ok((Caller { actor: Actor::Token(token.id), scopes: Scopes::stored(&token.scopes) }, news))
}

fn too_many(refused: Throttled) -> Problem {
    Problem::too_many(refused.retry_after)
}
