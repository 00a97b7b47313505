//! Signing in and out; a password by mail.

use std::sync::Arc;

use axum::Form;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use mfa_core::method::Method;
use mfa_wire::http::{Code, SecretText};
use serde::Deserialize;

use super::fault::{Fault, own_place, with_next};
use super::page;
use super::setup::Visitor;
use super::signed::{Signed, token, with_token};
use super::words::said;
use crate::app::App;
use crate::flows::login::{self, LoginError};

/// The passkey's place among the methods' codes.
pub(super) const PASSKEY: &str = "passkey";

#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    next: String,
    #[serde(default)]
    done: String,
    #[serde(default)]
    method: String,
    #[serde(default)]
    token: String,
}

/// The start page: where the visitor belongs.
pub(super) async fn index(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let signed = match token(&headers, &app) {
        Some(token) => login::signed_in(&app, token, false).await,
        None => Ok(None),
    };
    match signed {
        Ok(Some(one)) if one.user.details.admin => Redirect::to("/overview").into_response(),
        Ok(Some(_)) => Redirect::to("/account").into_response(),
        Ok(None) => page::show(&page::Index { site: &app.site }),
        Err(error) => Fault::from(error).into_response(),
    }
}

pub(super) async fn form(
    State(app): State<Arc<App>>,
    _: Visitor,
    Query(asked): Query<Asked>,
) -> Response {
    page::show(&blank(&app, &asked.next, said(&asked.done)))
}

fn blank<'a>(app: &'a App, next: &'a str, said: &'a str) -> page::SignIn<'a> {
    page::SignIn { site: &app.site, problem: "", said, login: "", next, mail: app.mailer.is_on() }
}

#[derive(Deserialize)]
pub(super) struct Credentials {
    login: String,
    password: SecretText,
    #[serde(default)]
    next: String,
}

pub(super) async fn password(
    State(app): State<Arc<App>>,
    Visitor(source): Visitor,
    Form(form): Form<Credentials>,
) -> Response {
    let Credentials { login, password, next } = form;
    match login::password(&app, &login, password, source).await {
        Ok(token) => {
            let to = Redirect::to(&with_next("/login/code", &next)).into_response();
            with_token(&app, to, Some(&token.expose_text()))
        }
        Err(LoginError::Store(error)) => Fault::from(error).into_response(),
        Err(refused) => {
            let problem = sentence(&refused);
            let again = page::SignIn { problem: &problem, login: &login, ..blank(&app, &next, "") };
            page::refuse(status(&refused), &again)
        }
    }
}

pub(super) async fn code(
    State(app): State<Arc<App>>,
    _: Visitor,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> Response {
    ask(&app, &headers, &asked.method, &asked.next, "").await
}

/// Shows the form for a code, or for a passkey.
pub(super) async fn ask(
    app: &Arc<App>,
    headers: &HeaderMap,
    method: &str,
    next: &str,
    problem: &str,
) -> Response {
    let pending = match token(headers, app) {
        Some(token) => login::pending(app, token).await,
        None => Err(LoginError::Over),
    };
    let pending = match pending {
        Ok(pending) => pending,
        Err(LoginError::Store(error)) => return Fault::from(error).into_response(),
        Err(_) => return Redirect::to(&with_next("/login", next)).into_response(),
    };
    let good = |wanted: &&(Method, Option<String>)| wanted.1.is_none();
    let usable = || pending.methods.iter().filter(good);
    let chosen = match usable().find(|(one, _)| one.code() == method) {
        Some((one, _)) => one.code(),
        None if pending.passkey => PASSKEY,
        None => usable().next().map_or(Method::Totp.code(), |(one, _)| one.code()),
    };
    let passkey = pending.passkey.then(|| page::Choice {
        code: PASSKEY,
        name: "Passkey",
        why: String::new(),
    });
    let choices = pending.methods.iter().map(|(one, why)| page::Choice {
        code: one.code(),
        name: method_name(*one),
        why: why.clone().unwrap_or_default(),
    });
    let choices = passkey.into_iter().chain(choices).collect();
    let form = page::LoginCode {
        site: &app.site,
        problem,
        login: &pending.user.details.login,
        choices,
        method: chosen,
        mailed: pending.mailed,
        next,
    };
    if problem.is_empty() {
        page::show(&form)
    } else {
        page::refuse(StatusCode::BAD_REQUEST, &form)
    }
}

#[derive(Deserialize)]
pub(super) struct Answer {
    #[serde(default)]
    method: String,
    code: String,
    #[serde(default)]
    next: String,
}

pub(super) async fn factor(
    State(app): State<Arc<App>>,
    _: Visitor,
    headers: HeaderMap,
    Form(form): Form<Answer>,
) -> Response {
    let Answer { method, code, next } = form;
    let Some(held) = token(&headers, &app) else {
        return Redirect::to(&with_next("/login", &next)).into_response();
    };
    let chosen = method.parse().unwrap_or(Method::Totp);
    let code = Code::new(code.split_whitespace().collect::<String>());
    match login::factor(&app, held, chosen, code).await {
        Ok(token) => {
            let to = Redirect::to(own_place(&next)).into_response();
            with_token(&app, to, Some(&token.expose_text()))
        }
        Err(LoginError::Store(error)) => Fault::from(error).into_response(),
        Err(LoginError::Over) => Redirect::to(&with_next("/login", &next)).into_response(),
        Err(refused) => ask(&app, &headers, &method, &next, &sentence(&refused)).await,
    }
}

#[derive(Deserialize)]
pub(super) struct Onward {
    #[serde(default)]
    next: String,
}

pub(super) async fn mail(
    State(app): State<Arc<App>>,
    _: Visitor,
    headers: HeaderMap,
    Form(Onward { next }): Form<Onward>,
) -> Response {
    let sent = match token(&headers, &app) {
        Some(token) => login::mail_code(&app, token).await,
        None => Err(LoginError::Over),
    };
    match sent {
        Ok(()) => {
            let to = format!("{}&method=email", with_next("/login/code", &next));
            Redirect::to(&to).into_response()
        }
        Err(LoginError::Store(error)) => Fault::from(error).into_response(),
        Err(LoginError::Over) => Redirect::to(&with_next("/login", &next)).into_response(),
        Err(refused) => ask(&app, &headers, "email", &next, &sentence(&refused)).await,
    }
}

pub(super) async fn logout(
    State(app): State<Arc<App>>,
    Signed(one): Signed,
) -> Result<Response, Fault> {
    login::sign_out(&app, &one).await?;
    let to = Redirect::to("/login?done=signed-out").into_response();
    Ok(with_token(&app, to, None))
}

pub(super) async fn forgot(State(app): State<Arc<App>>, _: Visitor) -> Response {
    page::show(&page::Forgot { site: &app.site, mail: app.mailer.is_on() })
}

#[derive(Deserialize)]
pub(super) struct Who {
    who: String,
}

pub(super) async fn send_reset(
    State(app): State<Arc<App>>,
    Visitor(source): Visitor,
    Form(Who { who }): Form<Who>,
) -> Result<Response, Fault> {
    login::forgot(&app, &who, source)?;
    Ok(Redirect::to("/login?done=sent").into_response())
}

pub(super) async fn reset_form(
    State(app): State<Arc<App>>,
    _: Visitor,
    Query(asked): Query<Asked>,
) -> Response {
    page::show(&page::Reset { site: &app.site, problem: "", token: &asked.token })
}

#[derive(Deserialize)]
pub(super) struct NewPassword {
    token: String,
    password: SecretText,
}

pub(super) async fn reset(
    State(app): State<Arc<App>>,
    Visitor(source): Visitor,
    Form(NewPassword { token, password }): Form<NewPassword>,
) -> Response {
    let throttled = app.limits.strangers.charge(source.into(), app.clock.now());
    let done = match throttled {
        Ok(()) => login::reset(&app, &token, password).await,
        Err(throttled) => Err(throttled.into()),
    };
    match done {
        Ok(()) => Redirect::to("/login?done=reset").into_response(),
        Err(LoginError::Store(error)) => Fault::from(error).into_response(),
        Err(refused) => {
            let problem = sentence(&refused);
            let again = page::Reset { site: &app.site, problem: &problem, token: &token };
            page::refuse(status(&refused), &again)
        }
    }
}

/// The method as people call it.
pub(super) const fn method_name(method: Method) -> &'static str {
    match method {
        Method::Totp => "Authenticator app",
        Method::Email => "E-mail code",
    }
}

const fn status(refused: &LoginError) -> StatusCode {
    match refused {
        LoginError::Throttled { .. } => StatusCode::TOO_MANY_REQUESTS,
        LoginError::Wrong => StatusCode::UNAUTHORIZED,
        _ => StatusCode::BAD_REQUEST,
    }
}

/// Writes a refusal as a sentence.
pub(super) fn sentence(refused: &impl core::fmt::Display) -> String {
    let text = refused.to_string();
    let mut letters = text.chars();
    let Some(first) = letters.next() else { return text };
    format!("{}{}.", first.to_uppercase(), letters.as_str().trim_end_matches('.'))
}
