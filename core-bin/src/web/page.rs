//! The pages' templates.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use qrcode::QrCode;
use qrcode::render::svg;
use zeroize::Zeroizing;

use crate::app::Site;

#[derive(Template)]
#[template(path = "index.html")]
pub(super) struct Index<'a> {
    pub(super) site: &'a Site,
}

#[derive(Template)]
#[template(path = "setup.html")]
pub(super) struct SetUp<'a> {
    pub(super) site: &'a Site,
    pub(super) problem: &'a str,
    pub(super) token: &'a str,
    pub(super) login: &'a str,
    pub(super) name: &'a str,
    pub(super) email: &'a str,
}

#[derive(Template)]
#[template(path = "setup_factor.html")]
pub(super) struct Factor<'a> {
    pub(super) site: &'a Site,
    pub(super) problem: &'a str,
    /// SVG that [`qr`] made: the one value that is not escaped.
    pub(super) qr: &'a str,
    pub(super) base32: &'a str,
}

#[derive(Template)]
#[template(path = "setup_done.html")]
pub(super) struct Done<'a> {
    pub(super) site: &'a Site,
    pub(super) codes: &'a [Zeroizing<String>],
    pub(super) login: &'a str,
}

#[derive(Template)]
#[template(path = "message.html")]
pub(super) struct Message<'a> {
    pub(super) site: &'a Site,
    pub(super) title: &'a str,
    pub(super) words: &'a str,
}

/// Answers with a page.
pub(super) fn show(page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page could not be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Answers with a page that says no.
pub(super) fn refuse(status: StatusCode, page: &impl Template) -> Response {
    let mut response = show(page);
    *response.status_mut() = status;
    response
}

/// Draws a QR code as an SVG element, dark on light whatever the colour scheme: apps read it so.
pub(super) fn qr(text: &str) -> Zeroizing<String> {
    let Ok(code) = QrCode::new(text) else { return Zeroizing::default() };
    let drawn = code
        .render::<svg::Color<'_>>()
        .dark_color(svg::Color("#000"))
        .light_color(svg::Color("#fff"))
        .quiet_zone(true)
        .build();
    let drawn = Zeroizing::new(drawn);
    // An element within a page has no XML declaration.
    let start = drawn.find("<svg").unwrap_or(0);
    Zeroizing::new(drawn.get(start..).unwrap_or_default().to_owned())
}
