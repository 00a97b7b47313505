//! *Edit Location*: what a location is and what it asks, and what a change will do before it does.

use core::time::Duration;
use std::net::IpAddr;
use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use ipnet::IpNet;
use mfa_core::method::{Method, MethodSet};
use mfa_core::policy::{IdleMode, LinkLoss, Mfa, OutageHold, PolicyError};
use mfa_core::rotate::PskPolicy;
use mfa_store::{Location, StoreError, Tx};
use serde::Deserialize;
use wg_types::PrivateKey;

use super::fault::Fault;
use super::login::sentence;
use super::page::{self, Frame};
use super::signed::Admin;
use super::ui::{encoded, segment};
use crate::app::App;
use crate::flows::location::{self as flow, LocationChange, LocationError};
use crate::mail;
use crate::view::LocationView;

/// The form as it is filled in.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Filled {
    name: String,
    endpoint: String,
    networks: String,
    allowed: String,
    dns: String,
    keepalive: String,
    listen_port: String,
    mtu: String,
    groups: String,
    mfa: String,
    totp: String,
    email: String,
    threshold: String,
    mode: String,
    lifetime: String,
    rotation: String,
    ends_at: String,
    link_loss: String,
    hold: String,
    sure: String,
}

#[derive(Template)]
#[template(path = "location.html")]
struct Edit<'a> {
    frame: Frame<'a>,
    /// Empty for a new one.
    old: String,
    action: String,
    filled: Filled,
    problem: String,
    effects: Vec<String>,
    /// Whether the effects were seen and only "Save changes" is missing.
    ask: bool,
    /// Why e-mail codes cannot be offered; empty: they can.
    email_off: &'static str,
    all_groups: Vec<String>,
    /// The gateways' public key; empty for a new one.
    key: String,
    /// What is wrong with the settings as they are.
    warnings: Vec<String>,
}

impl Filled {
    fn of(location: &Location, groups: &[String]) -> Self {
        let settings = &location.settings;
        let policy = &settings.policy;
        let on = |on: bool| if on { "on".to_owned() } else { String::new() };
        Self {
            name: settings.name.clone(),
            endpoint: settings.endpoint.clone(),
            networks: join(&settings.addresses),
            allowed: join(&settings.allowed_ips),
            dns: join(&settings.dns),
            keepalive: settings.keepalive.map_or(0, core::num::NonZeroU16::get).to_string(),
            listen_port: settings.listen_port.to_string(),
            mtu: settings.mtu.map_or_else(String::new, |mtu| mtu.to_string()),
            groups: groups.join(", "),
            mfa: on(policy.mfa() == Mfa::Required),
            totp: on(policy.methods().contains(Method::Totp)),
            email: on(policy.methods().contains(Method::Email)),
            threshold: policy.idle().threshold().as_secs().to_string(),
            mode: policy.idle().mode().code().to_owned(),
            lifetime: (policy.lifetime().get().as_secs() / 60).to_string(),
            rotation: match policy.psk() {
                PskPolicy::Fixed => "0".to_owned(),
                PskPolicy::Every(period) => (period.get().as_secs() / 60).to_string(),
            },
            ends_at: policy.daily_end().map_or_else(String::new, |end| end.to_string()),
            link_loss: policy.link_loss().map_or(0, |limit| limit.get().as_secs()).to_string(),
            hold: (policy.outage_hold().map_or(0, |hold| hold.get().as_secs()) / 60).to_string(),
            sure: String::new(),
        }
    }

    fn blank() -> Self {
        let on = || "on".to_owned();
        Self {
            networks: "10.1.0.0/24".to_owned(),
            keepalive: flow::DEFAULT_KEEPALIVE.to_string(),
            mfa: on(),
            totp: on(),
            email: on(),
            threshold: "300".to_owned(),
            mode: IdleMode::Transfer.code().to_owned(),
            lifetime: "720".to_owned(),
            rotation: "10".to_owned(),
            link_loss: "0".to_owned(),
            hold: "0".to_owned(),
            ..Self::default()
        }
    }

    /// Reads what was typed. `kept` are the methods that the form could not show as a choice.
    fn change(&self, mail: bool, kept: MethodSet) -> Result<LocationChange, String> {
        let mut methods = MethodSet::EMPTY;
        if !self.totp.is_empty() {
            methods = methods.with(Method::Totp);
        }
        if if mail { !self.email.is_empty() } else { kept.contains(Method::Email) } {
            methods = methods.with(Method::Email);
        }
        let minutes = |text: &str, what: &str| {
            let minutes: u64 = number(text, what)?;
            Ok::<_, String>(Duration::from_secs(minutes.saturating_mul(60)))
        };
        let allowed: Vec<IpNet> = list(&self.allowed, "a network, for example 10.99.0.0/24")?;
        let rotation = minutes(&self.rotation, "The rotation")?;
        // What an older page does not have stays as it is.
        let link_loss = (!self.link_loss.is_empty()).then(|| {
            let seconds: u64 = number(&self.link_loss, "The link-loss timer")?;
            let limit = (seconds > 0).then(|| LinkLoss::new(Duration::from_secs(seconds)));
            limit.transpose().map_err(|error| sentence(&error))
        });
        let outage_hold = (!self.hold.is_empty()).then(|| {
            let hold = minutes(&self.hold, "The hold")?;
            let hold = (!hold.is_zero()).then(|| OutageHold::new(hold));
            hold.transpose().map_err(|error| sentence(&error))
        });
        let (link_loss, outage_hold) = (link_loss.transpose()?, outage_hold.transpose()?);
        Ok(LocationChange {
            name: Some(self.name.clone()),
            endpoint: Some(self.endpoint.clone()),
            networks: Some(list(&self.networks, "a network, for example 10.1.0.0/24")?),
            allowed_ips: (!allowed.is_empty()).then_some(allowed),
            dns: Some(list::<IpAddr>(&self.dns, "an IP address")?),
            keepalive: Some(number(&self.keepalive, "The keepalive")?),
            listen_port: match self.listen_port.trim() {
                "" => None,
                port => Some(number(port, "The gateways' port")?),
            },
            mtu: Some(match self.mtu.trim() {
                "" => 0,
                mtu => number(mtu, "The MTU")?,
            }),
            mfa: Some(if self.mfa.is_empty() { Mfa::Off } else { Mfa::Required }),
            methods: Some(methods),
            idle_threshold: Some(Duration::from_secs(number(
                &self.threshold,
                "The peer disconnect threshold",
            )?)),
            idle_mode: Some(self.mode.parse().unwrap_or(IdleMode::Transfer)),
            lifetime: Some(minutes(&self.lifetime, "The lifetime")?),
            psk: Some(if rotation.is_zero() {
                PskPolicy::Fixed
            } else {
                PskPolicy::every(rotation).map_err(|error| sentence(&error))?
            }),
            daily_end: Some(match self.ends_at.trim() {
                "" => None,
                text => Some(text.parse().map_err(|error: PolicyError| sentence(&error))?),
            }),
            link_loss,
            outage_hold,
            groups: Some(words(&self.groups)),
        })
    }
}

/// Reads words separated by commas or spaces.
pub(super) fn words(text: &str) -> Vec<String> {
    text.split([',', ' ', '\n', '\r']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn list<T: core::str::FromStr>(text: &str, what: &str) -> Result<Vec<T>, String> {
    let one = |word: String| word.parse().map_err(|_| format!("“{word}” is not {what}."));
    words(text).into_iter().map(one).collect()
}

fn number<T: core::str::FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.trim().parse().map_err(|_| format!("{what} is a whole number."))
}

fn join<T: ToString>(all: &[T]) -> String {
    all.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

async fn page(
    app: &Arc<App>,
    admin: &Admin,
    old: &str,
    filled: Filled,
    problem: String,
    effects: Vec<String>,
) -> Result<Response, Fault> {
    let name = old.to_owned();
    let (groups, now) = app
        .store
        .read(move |view| {
            let now = view.location_by_name(&name)?;
            let now = now.map(|now| LocationView::of(view, &now)).transpose()?;
            Ok::<_, StoreError>((view.groups()?, now))
        })
        .await?;
    let (key, warnings) = now.map(|now| (now.public_key, now.warnings)).unwrap_or_default();
    let bad = !problem.is_empty();
    let edit = Edit {
        frame: Frame::new(app, &admin.0, "locations", ""),
        key,
        warnings,
        old: old.to_owned(),
        action: if old.is_empty() {
            "/locations/new".to_owned()
        } else {
            format!("/locations/{}/edit", segment(old))
        },
        ask: !effects.is_empty(),
        filled,
        problem,
        effects,
        email_off: if app.mailer.is_on() { "" } else { mail::NOT_SET_UP },
        all_groups: groups.into_iter().map(|group| group.name).collect(),
    };
    Ok(if bad { page::refuse(StatusCode::BAD_REQUEST, &edit) } else { page::show(&edit) })
}

pub(super) async fn blank(State(app): State<Arc<App>>, admin: Admin) -> Result<Response, Fault> {
    page(&app, &admin, "", Filled::blank(), String::new(), Vec::new()).await
}

pub(super) async fn add(
    State(app): State<Arc<App>>,
    admin: Admin,
    Form(filled): Form<Filled>,
) -> Result<Response, Fault> {
    let change = match filled.change(app.mailer.is_on(), MethodSet::ALL) {
        Ok(change) => change,
        Err(words) => return page(&app, &admin, "", filled, words, Vec::new()).await,
    };
    let (by, name) = (admin.by(&app), filled.name.clone());
    let key = PrivateKey::from_bytes(*app.rng.bytes());
    let added = app.store.write(move |tx| flow::add(tx, by, &name, &change, &key)).await;
    match added {
        Ok(location) => {
            app.registry.wake_all();
            let name = encoded(&location.settings.name);
            Ok(Redirect::to(&format!("/overview?location={name}&done=added")).into_response())
        }
        Err(LocationError::Store(error)) => Err(error.into()),
        Err(refused) => page(&app, &admin, "", filled, sentence(&refused), Vec::new()).await,
    }
}

pub(super) async fn edit(
    State(app): State<Arc<App>>,
    admin: Admin,
    Path(name): Path<String>,
) -> Result<Response, Fault> {
    let (location, groups) = find(&app, &name).await?;
    let filled = Filled::of(&location, &groups);
    page(&app, &admin, &name, filled, String::new(), Vec::new()).await
}

async fn find(app: &Arc<App>, name: &str) -> Result<(Location, Vec<String>), Fault> {
    let name = name.to_owned();
    let found = app
        .store
        .read(move |view| {
            let Some(location) = view.location_by_name(&name)? else { return Ok(None) };
            let groups = view.groups_of_location(location.id)?;
            Ok::<_, StoreError>(Some((location, groups)))
        })
        .await?;
    found.ok_or_else(|| Fault::words(StatusCode::NOT_FOUND, "There is no such location."))
}

/// Saves at once what disturbs nobody; else says first what it will do.
pub(super) async fn save(
    State(app): State<Arc<App>>,
    admin: Admin,
    Path(name): Path<String>,
    Form(filled): Form<Filled>,
) -> Result<Response, Fault> {
    let (location, _) = find(&app, &name).await?;
    let kept = location.settings.policy.methods();
    let change = match filled.change(app.mailer.is_on(), kept) {
        Ok(change) => change,
        Err(words) => return page(&app, &admin, &name, filled, words, Vec::new()).await,
    };
    let (by, offered, sure) = (admin.by(&app), app.offered(), !filled.sure.is_empty());
    let which = name.clone();
    let work = move |tx: &mut Tx| {
        let before = flow::find(tx, &which)?;
        let after = flow::apply(&before.settings, &change)?;
        let effects = flow::effects(tx, &before, &after, offered)?;
        if !sure && !effects.is_empty() {
            return Ok(Err(effects));
        }
        Ok::<_, LocationError>(Ok(flow::set(tx, by, &which, &change)?))
    };
    match app.store.write(work).await {
        Ok(Ok(location)) => {
            app.registry.wake_all();
            let name = encoded(&location.settings.name);
            Ok(Redirect::to(&format!("/overview?location={name}&done=saved")).into_response())
        }
        Ok(Err(effects)) => {
            let effects = effects.iter().map(sentence).collect();
            page(&app, &admin, &name, filled, String::new(), effects).await
        }
        Err(LocationError::Store(error)) => Err(error.into()),
        Err(refused) => page(&app, &admin, &name, filled, sentence(&refused), Vec::new()).await,
    }
}

#[derive(Deserialize)]
pub(super) struct Sure {
    #[serde(default)]
    sure: String,
}

pub(super) async fn remove(
    State(app): State<Arc<App>>,
    admin: Admin,
    Path(name): Path<String>,
    Form(Sure { sure }): Form<Sure>,
) -> Result<Response, Fault> {
    if sure.is_empty() {
        return Err(Fault::bad("Tick the box that says that the location will be removed."));
    }
    let by = admin.by(&app);
    let done = app.store.write(move |tx| flow::remove(tx, by, &name)).await;
    match done {
        Ok(_) => {
            app.registry.wake_all();
            Ok(Redirect::to("/overview?done=location-removed").into_response())
        }
        Err(LocationError::Store(error)) => Err(error.into()),
        Err(refused) => Err(Fault::bad(sentence(&refused))),
    }
}
