//! A server's wg-quick configuration becomes a location with devices. What that will be is said
//! first, from a trial that is rolled back.

use std::sync::Arc;

use axum::Form;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use mfa_core::policy::Mfa;
use mfa_core::token::Token;
use mfa_store::{StoreError, Tx};
use mfa_wire::http::SecretText;
use serde::Deserialize;

use super::fault::Fault;
use super::login::sentence;
use super::page::Frame;
use super::signed::Admin;
use super::ui::{self, Block, Field, Form as Fields, Kind, encoded};
use crate::app::App;
use crate::flows::import::{self as flow, Configuration, ImportError, Imported};
use crate::flows::location::{LocationChange, LocationError};
use crate::text::count;

/// Bytes of a form: a configuration with some thousand peers, written as a form writes it.
pub(super) const BYTES: usize = 1024 * 1024;

/// The form as it is filled in.
#[derive(Deserialize)]
pub(super) struct Filled {
    name: String,
    user: String,
    endpoint: String,
    #[serde(default)]
    mfa: String,
    configuration: SecretText,
    #[serde(default)]
    sure: String,
}

/// Why a trial or an import left nothing.
enum Left {
    /// It was a trial, and this is what would have come of it.
    Trial(Box<Imported>),
    Refused(ImportError),
}

impl From<ImportError> for Left {
    fn from(error: ImportError) -> Self {
        Self::Refused(error)
    }
}

impl From<StoreError> for Left {
    fn from(error: StoreError) -> Self {
        Self::Refused(error.into())
    }
}

pub(super) async fn blank(State(app): State<Arc<App>>, admin: Admin) -> Response {
    let filled = Filled {
        name: String::new(),
        user: admin.0.user.details.login.clone(),
        endpoint: String::new(),
        mfa: "on".to_owned(),
        configuration: SecretText::new(""),
        sure: String::new(),
    };
    page(&app, &admin, &filled, None, Vec::new())
}

/// Shows the form. `seen`: what it will do was said, and a second click does it.
fn page(
    app: &App,
    admin: &Admin,
    filled: &Filled,
    problem: Option<&str>,
    seen: Vec<String>,
) -> Response {
    let mut blocks = Vec::new();
    if let Some(problem) = problem {
        blocks.push(Block::Notice("bad", problem.to_owned()));
    }
    let ready = !seen.is_empty();
    if ready {
        blocks.push(Block::Notice("note", "What this will do. Nothing was imported yet.".into()));
        blocks.extend(seen.into_iter().map(Block::Text));
    } else {
        let words = "Paste the configuration of a WireGuard server that runs already. It becomes a \
                     location with the server's key, so clients go on to know it; each peer becomes \
                     a device with its key and address. Nothing is imported unless all of it can be.";
        blocks.push(Block::Text(words.to_owned()));
    }
    blocks.push(Block::Form(Fields {
        title: "Import a configuration",
        action: "/locations/import".to_owned(),
        hidden: if ready { vec![("sure", "on".to_owned())] } else { Vec::new() },
        fields: vec![
            Field::text("name", "Name of the location", &filled.name).required(),
            Field::text("endpoint", "Endpoint", &filled.endpoint)
                .required()
                .hint("Host and port as clients reach the gateway: vpn.example.com:51820"),
            Field::text("user", "Login of whose the devices are", &filled.user).required(),
            Field::check("mfa", "Require MFA for this Location".to_owned(), !filled.mfa.is_empty()),
            Field::text("configuration", "Configuration", filled.configuration.expose_secret())
                .of(Kind::Lines)
                .required()
                .hint("The server's file, such as /etc/wireguard/wg0.conf, with its private key."),
        ],
        button: if ready { "Import it" } else { "See what it will do" },
        ..Fields::default()
    }));
    blocks.push(Block::Links(vec![("/locations".to_owned(), "Go back, and import nothing")]));
    let frame = Frame::new(app, &admin.0, "locations", "");
    let mut response = ui::show(frame, "Import a location", blocks);
    if problem.is_some() {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    response
}

pub(super) async fn import(
    State(app): State<Arc<App>>,
    admin: Admin,
    Form(filled): Form<Filled>,
) -> Result<Response, Fault> {
    let again =
        |problem: &ImportError| page(&app, &admin, &filled, Some(&sentence(problem)), Vec::new());
    let file = match Configuration::parse(filled.configuration.expose_secret()) {
        Ok(file) => file,
        Err(refused) => return Ok(again(&refused)),
    };
    let change = LocationChange {
        endpoint: Some(filled.endpoint.clone()),
        mfa: Some(if filled.mfa.is_empty() { Mfa::Off } else { Mfa::Required }),
        ..LocationChange::default()
    };
    let (by, rng, sure) = (admin.by(&app), app.rng.clone(), !filled.sure.is_empty());
    let (name, login) = (filled.name.clone(), filled.user.clone());
    let work = move |tx: &mut Tx| {
        let mut polling = || Token::from_random(*rng.bytes()).digest();
        let done = flow::import(tx, by, (&name, &login), &file, &change, &mut polling)?;
        if sure { Ok(done) } else { Err(Left::Trial(Box::new(done))) }
    };
    match app.store.write(work).await {
        Ok(done) => {
            app.registry.wake_all();
            let name = encoded(&done.location.settings.name);
            Ok(Redirect::to(&format!("/overview?location={name}&done=imported")).into_response())
        }
        Err(Left::Trial(done)) => Ok(page(&app, &admin, &filled, None, said(&done, &filled.user))),
        Err(Left::Refused(
            ImportError::Store(error) | ImportError::Location(LocationError::Store(error)),
        )) => Err(error.into()),
        Err(Left::Refused(refused)) => Ok(again(&refused)),
    }
}

/// Says what an import makes.
fn said(done: &Imported, login: &str) -> Vec<String> {
    let settings = &done.location.settings;
    let networks = settings.addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut said = vec![format!(
        "The location {} with {} of {login}, in {}, reached at {}. {}",
        settings.name,
        count(done.devices.len(), "device"),
        networks.join(", "),
        settings.endpoint,
        if done.location.asks_mfa() {
            "Each connection asks for a second factor: no device connects until its user has one."
        } else {
            "No connection asks for a second factor: a device's key alone is enough."
        }
    )];
    let names: Vec<&str> = done.devices.iter().take(20).map(|one| one.name.as_str()).collect();
    if !names.is_empty() {
        let more = if done.devices.len() > names.len() { ", …" } else { "" };
        said.push(format!("Devices: {}{more}.", names.join(", ")));
    }
    said.extend(done.ignored.iter().take(20).map(|line| format!("Left out: {line}.")));
    said
}
