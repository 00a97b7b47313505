//! The pages: the console for administrators, the own account for everybody.
//!
//! Rendered on the server from two kinds of templates: bespoke ones, and [`ui`], which lays out
//! tables, forms and facts. Everything is escaped but the SVG that this server draws. One answer
//! shows a page: it brings the style sheet and the one script with it, and the browser takes these
//! two by their digests and no other; nothing comes from elsewhere. No other site may frame a page,
//! post to it, or learn where its visitor came from. The script makes pages live; without it every
//! form works.

mod account;
mod audit;
mod chart;
mod enroll;
mod events;
mod fault;
mod gateway;
mod gateways;
mod groups;
mod import;
mod location;
mod locations;
mod login;
mod mail;
mod overview;
mod page;
mod passkey;
mod people;
mod records;
mod session;
mod setup;
mod signed;
mod tokens;
mod ui;
mod words;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tower_http::set_header::SetResponseHeaderLayer;

use crate::app::App;
use crate::http::{BODY_BYTES, policy};

/// What the pages' policy allows beside what they bring with them.
const ALLOWED: &str = "connect-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
/// In every page, as it is.
const STYLE: &str = include_str!("../../look/style.css");
/// In every page, as it is.
const SCRIPT: &str = include_str!("../templates/live.js");
const ICON: &str = include_str!("../templates/icon.svg");

/// The pages' routes.
pub(crate) fn router() -> Router<Arc<App>> {
    let set = |name: HeaderName, value| SetResponseHeaderLayer::overriding(name, value);
    Router::new()
        .route("/", get(login::index))
        .route("/icon.svg", get(icon))
        .route("/setup", get(setup::form).post(setup::administrator))
        .route("/setup-confirm", post(setup::confirm))
        .route("/join", get(enroll::form).post(enroll::join))
        .route("/login", get(login::form).post(login::password))
        .route("/login/code", get(login::code).post(login::factor))
        .route("/login/mail", post(login::mail))
        .route("/login/passkey", post(passkey::prove))
        .route("/login/passkey/ask", post(passkey::ask))
        .route("/logout", post(login::logout))
        .route("/forgot", get(login::forgot).post(login::send_reset))
        .route("/reset", get(login::reset_form).post(login::reset))
        .route("/overview", get(overview::show))
        .route("/overview/events", get(events::stream))
        .route("/locations", get(locations::list))
        .route(
            "/locations/import",
            get(import::blank).post(import::import).layer(DefaultBodyLimit::max(import::BYTES)),
        )
        .route("/locations/new", get(location::blank).post(location::add))
        .route("/locations/{name}/edit", get(location::edit).post(location::save))
        .route("/locations/{name}/remove", post(location::remove))
        .route("/sessions", get(records::sessions))
        .route("/sessions/end", post(records::end))
        .route("/sessions/end-many", post(session::end_many))
        .route("/sessions/{id}", get(session::show))
        .route("/users", get(people::list).post(people::add))
        .route("/users/{login}", get(people::show).post(people::act))
        .route("/groups", get(groups::list).post(groups::add))
        .route("/groups/{name}", get(groups::show).post(groups::act))
        .route("/devices", get(records::devices))
        .route("/devices/disconnect", post(records::disconnect_device))
        .route("/devices/remove", post(records::remove_device))
        .route("/gateways", get(gateways::list).post(gateways::token))
        .route("/gateways/remove", post(gateways::remove))
        .route("/gateways/{name}", get(gateway::show))
        .route("/mail", get(mail::show).post(mail::save))
        .route("/mail/test", post(mail::test))
        .route("/mail/remove", post(mail::remove))
        .route("/tokens", get(tokens::list).post(tokens::add))
        .route("/tokens/remove", post(tokens::remove))
        .route("/audit/export", post(audit::export))
        .route("/audit", get(audit::show))
        .route("/audit/verify", post(audit::verify))
        .route("/account", get(account::show).post(account::act))
        .route("/account/totp", post(account::confirm))
        .route("/account/passkey", post(passkey::add))
        .route("/account/passkey/ask", post(passkey::ask_new))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(set(CONTENT_SECURITY_POLICY, policy::of(STYLE, SCRIPT, ALLOWED)))
        .layer(set(HeaderName::from_static("x-frame-options"), HeaderValue::from_static("DENY")))
        .layer(set(
            HeaderName::from_static("cross-origin-opener-policy"),
            HeaderValue::from_static("same-origin"),
        ))
}

async fn icon() -> Response {
    let headers = [(CONTENT_TYPE, "image/svg+xml"), (CACHE_CONTROL, "max-age=86400")];
    (headers, ICON).into_response()
}
