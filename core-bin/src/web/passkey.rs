//! Passkeys in the browser: what its script asks for, and what it brings back in a form.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Form, Json};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::fault::{Fault, own_place, with_next};
use super::login;
use super::setup::Visitor;
use super::signed::{Signed, token, with_token};
use crate::app::App;
use crate::flows::login::{LoginError, passkey as flow};
use crate::passkey;

/// What a script gets to ask the authenticator for a signature with.
pub(super) async fn ask(
    State(app): State<Arc<App>>,
    _: Visitor,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let held = token(&headers, &app).ok_or_else(|| Fault::SignIn("/".to_owned()))?;
    match flow::ask(&app, held).await {
        Ok(options) => Ok(Json(options).into_response()),
        Err(LoginError::Over) => Err(Fault::SignIn("/".to_owned())),
        Err(error) => Err(error.into()),
    }
}

#[derive(Deserialize)]
pub(super) struct Answer {
    id: String,
    client: String,
    data: String,
    signature: String,
    #[serde(default)]
    next: String,
}

pub(super) async fn prove(
    State(app): State<Arc<App>>,
    _: Visitor,
    headers: HeaderMap,
    Form(form): Form<Answer>,
) -> Response {
    let Answer { id, client, data, signature, next } = form;
    let Some(held) = token(&headers, &app) else {
        return Redirect::to(&with_next("/login", &next)).into_response();
    };
    let read = || {
        Some(passkey::Signed {
            id: decode(&id)?,
            client: decode(&client)?,
            data: decode(&data)?,
            signature: decode(&signature)?,
        })
    };
    let proved = match read() {
        Some(signed) => flow::prove(&app, held, signed).await,
        None => Err(passkey::PasskeyError::Malformed.into()),
    };
    match proved {
        Ok(token) => {
            let to = Redirect::to(own_place(&next)).into_response();
            with_token(&app, to, Some(&token.expose_text()))
        }
        Err(LoginError::Store(error)) => Fault::from(error).into_response(),
        Err(LoginError::Over) => Redirect::to(&with_next("/login", &next)).into_response(),
        Err(refused) => {
            login::ask(&app, &headers, login::PASSKEY, &next, &login::sentence(&refused)).await
        }
    }
}

/// What a script gets to have a new passkey made with.
pub(super) async fn ask_new(
    State(app): State<Arc<App>>,
    Signed(one): Signed,
) -> Result<Response, Fault> {
    Ok(Json(flow::ask_new(&app, &one).await?).into_response())
}

#[derive(Deserialize)]
pub(super) struct New {
    name: String,
    client: String,
    data: String,
}

pub(super) async fn add(
    State(app): State<Arc<App>>,
    Signed(one): Signed,
    Form(New { name, client, data }): Form<New>,
) -> Result<Response, Fault> {
    let read = || Some(passkey::Made { client: decode(&client)?, data: decode(&data)? });
    let made =
        read().ok_or_else(|| Fault::from(LoginError::from(passkey::PasskeyError::Malformed)))?;
    flow::add(&app, &one, &name, made).await?;
    Ok(Redirect::to("/account?done=passkey-added").into_response())
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
