//! The public API: extract, call the flow, answer.
//!
//! Every call is a POST with a JSON body, but for `/healthz` and `/readyz`. What clients in use
//! expect of statuses and texts is in [`problem`]; what a request may take in bytes and time is in
//! [`listener`] and below.

mod answers;
mod connect;
mod device;
mod enrollment;
mod health;
pub mod listener;
pub(crate) mod policy;
mod poll;
pub mod problem;
pub(crate) mod request;
pub mod source;
pub mod throttle;
pub mod tls;

use core::time::Duration;
use std::sync::Arc;

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::routing::{get, post};
use mfa_wire::http::{Problem, path};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::TimeoutLayer;

use crate::api;
use crate::app::App;
use crate::http::problem::Refusal;
use crate::web;

/// Bytes of a request's body.
pub const BODY_BYTES: usize = 16 * 1024;
/// For a whole request. A finish waits up to four seconds for gateways.
const REQUEST: Duration = Duration::from_secs(10);

/// Clients in use warn their users about servers that claim to be older than this.
const CLAIMED_VERSION: &str = "1.6.0";

/// Builds the router of the public listener.
pub fn router(app: Arc<App>) -> Router {
    let api = Router::new()
        .route(path::ENROLLMENT_START, post(enrollment::start))
        .route(path::ENROLLMENT_ACTIVATE_USER, post(enrollment::activate_user))
        .route(path::ENROLLMENT_CREATE_DEVICE, post(enrollment::create_device))
        .route(path::ENROLLMENT_NETWORK_INFO, post(enrollment::network_info))
        .route(path::ENROLLMENT_MFA_START, post(enrollment::mfa_start))
        .route(path::ENROLLMENT_MFA_FINISH, post(enrollment::mfa_finish))
        .route(path::POLL, post(poll::poll))
        .route(path::MFA_START, post(connect::start))
        .route(path::MFA_FINISH, post(connect::finish))
        .route(path::DEVICE_NONCE, post(device::nonce))
        .route(path::DEVICE_STATUS, post(device::status))
        .route(path::DEVICE_DISCONNECT, post(device::disconnect))
        .route(path::DEVICE_RENEW, post(device::renew))
        .route(path::DEVICE_ROTATE, post(device::rotate))
        .route(path::DEVICE_MFA, post(device::mfa_list))
        .route(path::DEVICE_MFA_START, post(device::mfa_start))
        .route(path::DEVICE_MFA_FINISH, post(device::mfa_finish))
        .layer(header("defguard-core-version", CLAIMED_VERSION))
        .layer(header("defguard-component-version", CLAIMED_VERSION))
        .layer(header("defguard-core-connected", "true"));
    let rest = api::router(&app);
    let secure = app.site.url.scheme() == "https";
    let router = Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .merge(api)
        .merge(rest)
        .merge(web::router())
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(SetResponseHeaderLayer::if_not_present(CACHE_CONTROL, value("no-store")))
        .layer(SetResponseHeaderLayer::overriding(X_CONTENT_TYPE_OPTIONS, value("nosniff")))
        .layer(SetResponseHeaderLayer::overriding(REFERRER_POLICY, value("no-referrer")))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, REQUEST))
        .layer(CatchPanicLayer::new())
        .with_state(app);
    if secure {
        router.layer(SetResponseHeaderLayer::overriding(
            STRICT_TRANSPORT_SECURITY,
            value("max-age=31536000"),
        ))
    } else {
        router
    }
}

fn header(name: &'static str, text: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::overriding(HeaderName::from_static(name), value(text))
}

const fn value(text: &'static str) -> HeaderValue {
    HeaderValue::from_static(text)
}

async fn not_found() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "not found", Problem::BadRequest)
        .detail("there is nothing at this address")
}

async fn wrong_method() -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed", Problem::BadRequest)
}
