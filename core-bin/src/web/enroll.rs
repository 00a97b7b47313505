//! `/join`: an enrollment's link in a browser → a password → an authenticator app → recovery codes.

use std::sync::Arc;

use axum::Form;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mfa_core::method::Method;
use mfa_wire::http::SecretText;
use serde::Deserialize;

use super::fault::Fault;
use super::login::sentence;
use super::page;
use super::setup::{self, Link, Visitor};
use crate::app::App;
use crate::flows::login;
use crate::flows::mfa::{self, Holder};
use crate::http::problem::Refusal;

pub(super) async fn form(
    State(app): State<Arc<App>>,
    _: Visitor,
    Query(link): Query<Link>,
) -> Response {
    page::show(&page::Join { site: &app.site, problem: "", token: &link.token })
}

#[derive(Deserialize)]
pub(super) struct Begin {
    token: String,
    password: SecretText,
}

pub(super) async fn join(
    State(app): State<Arc<App>>,
    _: Visitor,
    Form(Begin { token, password }): Form<Begin>,
) -> Response {
    let (session, cookie) = match login::join(&app, &token, password).await {
        Ok(begun) => begun,
        Err(login::LoginError::Store(error)) => return Fault::from(error).into_response(),
        Err(refused) => {
            let problem = sentence(&refused);
            let again = page::Join { site: &app.site, problem: &problem, token: &token };
            return page::refuse(StatusCode::BAD_REQUEST, &again);
        }
    };
    match mfa::start(&app, Holder::Enrollment(session), Method::Totp, None).await {
        Ok(staged) => {
            let shown = setup::factor(&app, &staged, "");
            setup::with_cookie(&app, shown, &cookie.expose_text())
        }
        Err(error) => Refusal::from(error).into_response(),
    }
}
