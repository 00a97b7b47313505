//! Tokens of this API.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use mfa_core::token::Token;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::actor::Caller;
use super::body::{Body, Named};
use super::operation::{Api, Operation};
use super::problem::Problem;
use crate::app::App;
use crate::flows::api_token::Scope::{TokensRead, TokensWrite};
use crate::flows::api_token::{self as flow, DEFAULT_LIFE, NewToken};
use crate::span::Span;
use crate::view::TokenView;

pub(super) fn add(api: &mut Api) {
    let list = Operation::get("/tokens", "listTokens", TokensRead).says("List API tokens.");
    api.add(list.answers_list::<TokenView>(), list_tokens);
    let make = Operation::post("/tokens", "addToken", TokensWrite)
        .says("Make a token that may do no more than the one it is made with. It is shown once.");
    api.add(make.takes::<TokenBody>().answers::<Made>(StatusCode::CREATED), make_token);
    let remove = Operation::delete("/tokens/{name}", "removeToken", TokensWrite)
        .says("Remove a token: it is worth nothing from now on.");
    api.add(remove, remove_token);
}

/// A token to make.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = NewToken)]
#[serde(deny_unknown_fields)]
struct TokenBody {
    /// What it is for.
    name: String,
    /// What it may do.
    scopes: Vec<String>,
    /// Seconds that it is good; 90 days by default, 366 at most.
    valid_seconds: Option<u64>,
    /// The administrator on whose behalf it acts: it is worth nothing once that person is none.
    user: Option<String>,
}

/// A token, shown this once.
#[derive(Clone, Serialize, ToSchema)]
#[schema(as = MadeToken)]
struct Made {
    /// What it is for.
    name: String,
    /// The secret.
    token: String,
    /// What it may do.
    scopes: Vec<&'static str>,
    /// Until when.
    expires_at: String,
}

async fn list_tokens(State(app): State<Arc<App>>) -> Result<Json<Vec<TokenView>>, Problem> {
    let list = app.store.read(|view| {
        let tokens = view.api_tokens()?;
        Ok::<_, Problem>(TokenView::all(view, tokens)?)
    });
    list.await.map(Json)
}

async fn make_token(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(body): Body<TokenBody>,
) -> Result<(StatusCode, Json<Made>), Problem> {
    let by = caller.by(app.clock.now());
    let scopes =
        body.scopes.join(",").parse().map_err(|error: flow::UnknownScope| Problem::bad(error))?;
    let life =
        body.valid_seconds.map_or(DEFAULT_LIFE, |seconds| Span::from_secs(seconds).duration());
    let new = NewToken { name: body.name, scopes, life, login: body.user };
    let token = Token::from_random(*app.rng.bytes());
    let (digest, maker, codes) = (token.digest(), caller.scopes().clone(), new.scopes.codes());
    let made = app
        .store
        .write(move |tx| flow::add(tx, by, &new, &maker, digest).map_err(Problem::from))
        .await?;
    let made = Made {
        name: made.name,
        token: token.expose_text().to_string(),
        scopes: codes,
        expires_at: crate::text::rfc3339(made.expires),
    };
    Ok((StatusCode::CREATED, Json(made)))
}

async fn remove_token(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(name): Named,
) -> Result<StatusCode, Problem> {
    let by = caller.by(app.clock.now());
    app.store.write(move |tx| flow::remove(tx, by, &name).map_err(Problem::from)).await?;
    Ok(StatusCode::NO_CONTENT)
}
