//! Who is signed in, from the cookie; and the cookie.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::{HOST, ORIGIN, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method as Verb, StatusCode};
use axum::response::Response;
use mfa_store::{Actor, By};

use super::fault::Fault;
use crate::app::App;
use crate::flows::login::{self, SignedIn};
use crate::http::request::{admit, cookie};

/// Anybody who is signed in.
#[derive(Debug)]
pub(super) struct Signed(pub(super) SignedIn);

/// An administrator who is signed in.
#[derive(Debug)]
pub(super) struct Admin(pub(super) SignedIn);

impl Admin {
    /// Says that this administrator acts now.
    pub(super) fn by(&self, app: &App) -> By {
        By::new(Actor::Admin(self.0.user.id), app.clock.now())
    }

    /// Tells whether a factor was proved a moment ago.
    pub(super) fn is_fresh(&self) -> bool {
        self.0.fresh().is_ok()
    }

    /// Insists on a factor that was proved a moment ago; the page that asks for one leads back to
    /// `place`.
    pub(super) fn fresh(&self, place: &str) -> Result<(), Fault> {
        if self.is_fresh() { Ok(()) } else { Err(Fault::Prove(place.to_owned())) }
    }
}

impl FromRequestParts<Arc<App>> for Signed {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Fault> {
        admit(parts, app)?;
        if parts.method != Verb::GET && !is_own(&parts.headers, app) {
            return Err(Fault::foreign());
        }
        let place = parts.uri.path_and_query().map_or("/", |place| place.as_str());
        let next = if parts.method == Verb::GET { place } else { "/" };
        let token = token(&parts.headers, app).ok_or_else(|| Fault::SignIn(next.to_owned()))?;
        // What the page's script asks for keeps nobody signed in.
        let watching = parts.headers.contains_key("x-live");
        let found = login::signed_in(app, token, watching).await?;
        found.map(Self).ok_or_else(|| Fault::SignIn(next.to_owned()))
    }
}

impl FromRequestParts<Arc<App>> for Admin {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Fault> {
        let Signed(one) = Signed::from_request_parts(parts, app).await?;
        if !one.user.details.admin {
            let words = "This page is for administrators. Your own account is at /account.";
            return Err(Fault::words(StatusCode::FORBIDDEN, words));
        }
        Ok(Self(one))
    }
}

/// Tells whether a form comes from a page of ours: browsers say so, in one header or the other.
pub(super) fn is_own(headers: &HeaderMap, app: &App) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return matches!(site, "same-origin" | "none");
    }
    let Some(origin) = text(ORIGIN.as_str()) else { return false };
    let own = app.site.url.origin().ascii_serialization();
    let host = text(HOST.as_str()).unwrap_or_default();
    origin == own || origin == format!("{}://{host}", app.site.url.scheme())
}

/// Returns the token of the cookie.
pub(super) fn token<'a>(headers: &'a HeaderMap, app: &App) -> Option<&'a str> {
    cookie(headers, cookie_name(app)).filter(|token| !token.is_empty())
}

/// Bound to this host where the browser can be sure of it (RFC 6265bis §4.1.3.2).
fn cookie_name(app: &App) -> &'static str {
    if app.site.url.scheme() == "https" { "__Host-wgmfa" } else { "wgmfa" }
}

/// Gives the browser a token, or takes it away.
pub(super) fn with_token(app: &App, mut response: Response, token: Option<&str>) -> Response {
    let secure = if app.site.url.scheme() == "https" { "; Secure" } else { "" };
    let life = if token.is_none() { "; Max-Age=0" } else { "" };
    let (name, value) = (cookie_name(app), token.unwrap_or_default());
    let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict{life}{secure}");
    if let Ok(mut value) = HeaderValue::try_from(text) {
        value.set_sensitive(true);
        response.headers_mut().append(SET_COOKIE, value);
    }
    response
}
