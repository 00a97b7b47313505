//! Pages: what this server is, and the first administrator.
//!
//! Plain forms, no script, no toolchain beside cargo. Everything is escaped, nothing is inline but
//! the QR code, and no other site may frame a page, post to it, or learn where its visitor came from.

mod page;
mod setup;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tower_http::set_header::SetResponseHeaderLayer;

use crate::app::App;
use crate::http::BODY_BYTES;

const CSP: &str = "default-src 'none'; style-src 'self'; form-action 'self'; \
                   frame-ancestors 'none'; base-uri 'none'";
const STYLE: &str = include_str!("../templates/style.css");

/// The pages' routes.
pub(crate) fn router() -> Router<Arc<App>> {
    let set = |name: HeaderName, text| {
        SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(text))
    };
    Router::new()
        .route("/", get(index))
        .route("/style.css", get(style))
        .route("/setup", get(setup::form).post(setup::administrator))
        .route("/setup-confirm", post(setup::confirm))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(set(CONTENT_SECURITY_POLICY, CSP))
        .layer(set(HeaderName::from_static("x-frame-options"), "DENY"))
        .layer(set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin"))
}

async fn index(State(app): State<Arc<App>>) -> Response {
    page::show(&page::Index { site: &app.site })
}

async fn style() -> Response {
    let headers = [(CONTENT_TYPE, "text/css; charset=utf-8"), (CACHE_CONTROL, "max-age=3600")];
    (headers, STYLE).into_response()
}
