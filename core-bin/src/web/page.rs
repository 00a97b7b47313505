//! The pages' templates.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use qrcode::QrCode;
use qrcode::render::svg;
use zeroize::Zeroizing;

use crate::app::{App, Site};
use crate::flows::login::SignedIn;

/// What frames a page of somebody who is signed in.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    /// The installation's name.
    pub(super) site: &'a str,
    /// Who is signed in.
    pub(super) login: &'a str,
    /// Whether this person administers.
    pub(super) admin: bool,
    /// The key of the place in the navigation.
    pub(super) here: &'static str,
    /// What was just done.
    pub(super) said: &'static str,
}

/// Key, address and name of each place of an administrator.
const PLACES: [(&str, &str, &str); 11] = [
    ("overview", "/overview", "VPN Overview"),
    ("locations", "/locations", "Locations"),
    ("users", "/users", "Users"),
    ("groups", "/groups", "Groups"),
    ("devices", "/devices", "Devices"),
    ("gateways", "/gateways", "Gateways"),
    ("sessions", "/sessions", "Sessions"),
    ("mail", "/mail", "Mail"),
    ("tokens", "/tokens", "API tokens"),
    ("audit", "/audit", "Audit log"),
    ("account", "/account", "My account"),
];

impl<'a> Frame<'a> {
    pub(super) fn new(app: &'a App, one: &'a SignedIn, here: &'static str, done: &str) -> Self {
        let details = &one.user.details;
        let said = super::words::said(done);
        Self { site: &app.site.name, login: &details.login, admin: details.admin, here, said }
    }

    pub(super) fn places(&self) -> &'static [(&'static str, &'static str, &'static str)] {
        if self.admin { &PLACES } else { PLACES.get(10..).unwrap_or_default() }
    }
}

/// A page that says that there is none.
#[derive(Template)]
#[template(path = "sorry.html")]
pub(super) struct Sorry<'a> {
    pub(super) words: &'a str,
}

#[derive(Template)]
#[template(path = "login.html")]
pub(super) struct SignIn<'a> {
    pub(super) site: &'a Site,
    pub(super) problem: &'a str,
    pub(super) said: &'a str,
    pub(super) login: &'a str,
    pub(super) next: &'a str,
    pub(super) mail: bool,
}

/// A method to choose.
pub(super) struct Choice {
    pub(super) code: &'static str,
    pub(super) name: &'static str,
    /// Why it cannot be used; empty: it can.
    pub(super) why: String,
}

#[derive(Template)]
#[template(path = "login_code.html")]
pub(super) struct LoginCode<'a> {
    pub(super) site: &'a Site,
    pub(super) problem: &'a str,
    pub(super) login: &'a str,
    pub(super) choices: Vec<Choice>,
    pub(super) method: &'static str,
    pub(super) mailed: bool,
    pub(super) next: &'a str,
}

#[derive(Template)]
#[template(path = "forgot.html")]
pub(super) struct Forgot<'a> {
    pub(super) site: &'a Site,
    pub(super) mail: bool,
}

#[derive(Template)]
#[template(path = "reset.html")]
pub(super) struct Reset<'a> {
    pub(super) site: &'a Site,
    pub(super) problem: &'a str,
    pub(super) token: &'a str,
}

#[derive(Template)]
#[template(path = "join.html")]
pub(super) struct Join<'a> {
    pub(super) site: &'a Site,
    pub(super) problem: &'a str,
    pub(super) token: &'a str,
}

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
    // An element within a page has no XML declaration; what stands around it names it.
    let start = drawn.find("<svg").map_or(0, |at| at.saturating_add(4));
    Zeroizing::new(format!("<svg aria-hidden=\"true\"{}", drawn.get(start..).unwrap_or_default()))
}
