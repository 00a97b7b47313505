//! `/setup`: the link that `init` printed → a login and a password → an authenticator app →
//! recovery codes.

use std::sync::Arc;

use axum::Form;
use axum::extract::{FromRequestParts, Query, State};
use axum::http::header::SET_COOKIE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method as Verb, StatusCode};
use axum::response::{IntoResponse, Response};
use mfa_core::method::Method;
use mfa_wire::http::{Code, SecretText};
use serde::Deserialize;

use super::fault::Fault;
use super::page;
use super::signed::is_own;
use crate::app::App;
use crate::flows::enroll::{self, EnrollSession};
use crate::flows::mfa::{self, Holder, MfaError, Staged};
use crate::flows::setup::{self, SetupError};
use crate::flows::user::NewUser;
use crate::http::problem::Refusal;
use crate::http::request::{admit, cookie};

/// Where a visitor comes from who is within the limits and whose form is one of ours.
#[derive(Debug)]
pub(super) struct Visitor(pub(super) std::net::IpAddr);

impl FromRequestParts<Arc<App>> for Visitor {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Fault> {
        let source = admit(parts, app)?;
        if parts.method != Verb::GET && !is_own(&parts.headers, app) {
            return Err(Fault::foreign());
        }
        Ok(Self(source))
    }
}

/// A link's token.
#[derive(Debug, Deserialize)]
pub(super) struct Link {
    #[serde(default)]
    pub(super) token: String,
}

pub(super) async fn form(
    State(app): State<Arc<App>>,
    _: Visitor,
    Query(link): Query<Link>,
) -> Response {
    let form = page::SetUp {
        site: &app.site,
        problem: "",
        token: &link.token,
        login: "",
        name: "",
        email: "",
    };
    page::show(&form)
}

#[derive(Deserialize)]
pub(super) struct Administrator {
    token: String,
    login: String,
    #[serde(default)]
    name: String,
    email: String,
    password: SecretText,
}

pub(super) async fn administrator(
    State(app): State<Arc<App>>,
    _: Visitor,
    Form(form): Form<Administrator>,
) -> Response {
    let Administrator { token, login, name, email, password } = form;
    let new = NewUser { login, name, email, admin: true, ..NewUser::default() };
    let begun = setup::administrator(&app, &token, new.clone(), password).await;
    let (session, text) = match begun {
        Ok((_user, session, cookie)) => (session, cookie.expose_text()),
        Err(SetupError::Store(error)) => return Refusal::from(error).into_response(),
        Err(refused) => {
            let again = page::SetUp {
                site: &app.site,
                problem: &refused.to_string(),
                token: &token,
                login: &new.login,
                name: &new.name,
                email: &new.email,
            };
            return page::refuse(StatusCode::BAD_REQUEST, &again);
        }
    };
    let staged = mfa::start(&app, Holder::Enrollment(session), Method::Totp, None).await;
    match staged.map(|staged| factor(&app, &staged, "")) {
        Ok(response) => with_cookie(&app, response, &text),
        Err(error) => Refusal::from(error).into_response(),
    }
}

#[derive(Deserialize)]
pub(super) struct Confirmation {
    code: String,
}

pub(super) async fn confirm(
    State(app): State<Arc<App>>,
    _: Visitor,
    headers: HeaderMap,
    Form(form): Form<Confirmation>,
) -> Response {
    let Some(session) = cookie(&headers, cookie_name(&app)).and_then(EnrollSession::parse) else {
        return over(&app);
    };
    let holder = Holder::Enrollment(session);
    let code = Code::new(form.code);
    match mfa::finish(&app, holder, Method::Totp, code).await {
        Ok(codes) => match enroll::close(&app, session).await {
            Ok(user) => {
                let login = &user.details.login;
                let done = page::show(&page::Done { site: &app.site, codes: &codes, login });
                with_cookie(&app, done, "")
            }
            Err(error) => Refusal::from(error).into_response(),
        },
        Err(refused @ (MfaError::Wrong | MfaError::Malformed(_) | MfaError::Guess(_))) => {
            match mfa::pending_totp(&app, holder).await {
                Ok(staged) => {
                    let words = format!("{refused}. Enter the newest code that the app shows.");
                    let mut response = factor(&app, &staged, &words);
                    *response.status_mut() = StatusCode::BAD_REQUEST;
                    response
                }
                Err(error) => Refusal::from(error).into_response(),
            }
        }
        Err(MfaError::Enroll(_) | MfaError::NothingPending) => over(&app),
        Err(error) => Refusal::from(error).into_response(),
    }
}

pub(super) fn factor(app: &App, staged: &Staged, problem: &str) -> Response {
    let (base32, uri) = match staged {
        Staged::Totp { base32, uri } => (base32.as_str(), uri.as_str()),
        Staged::Email { .. } | Staged::CurrentCodeSent { .. } => ("", ""),
    };
    let qr = page::qr(uri);
    page::show(&page::Factor { site: &app.site, problem, qr: &qr, base32 })
}

fn over(app: &App) -> Response {
    let message = page::Message {
        site: &app.site,
        title: "This set-up is over",
        words: "It was finished, or took too long. On the server, core-bin admin recover prints a \
                new link.",
    };
    page::refuse(StatusCode::UNAUTHORIZED, &message)
}

/// Bound to this host where the browser can be sure of it (RFC 6265bis §4.1.3.2).
fn cookie_name(app: &App) -> &'static str {
    if app.site.url.scheme() == "https" { "__Host-wgmfa_setup" } else { "wgmfa_setup" }
}

pub(super) fn with_cookie(app: &App, mut response: Response, value: &str) -> Response {
    let secure = if app.site.url.scheme() == "https" { "; Secure" } else { "" };
    let life = if value.is_empty() { "; Max-Age=0" } else { "" };
    let name = cookie_name(app);
    let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict{life}{secure}");
    if let Ok(mut value) = HeaderValue::try_from(text) {
        value.set_sensitive(true);
        response.headers_mut().append(SET_COOKIE, value);
    }
    response
}
