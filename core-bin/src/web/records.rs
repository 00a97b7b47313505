//! Sessions and devices.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Form;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use mfa_core::connect::EndReason;
use mfa_core::id::{DeviceId, SessionId};
use mfa_core::time::Timestamp;
use mfa_store::{
    By, Device, DeviceSort, ListQuery, Scope, SessionFilter, SessionSort, Snapshot, StoreError, Tx,
};
use serde::Deserialize;

use super::fault::Fault;
use super::login::method_name;
use super::page::Frame;
use super::session;
use super::signed::Admin;
use super::ui::{self, Block, Cell, Columns, Field, Form as Fields, Table, encoded, segment};
use super::words::why;
use crate::admin::answer::{ago, bytes};
use crate::app::App;
use crate::text::{count, utc};

/// How long an end waits for gateways to confirm it.
const CONFIRM: Duration = Duration::from_secs(4);

const SESSIONS: Columns<SessionSort> = Columns(&[
    ("User", Some(("user", SessionSort::User))),
    ("Device", Some(("device", SessionSort::Device))),
    ("Location", Some(("location", SessionSort::Location))),
    ("Method", None),
    ("Since", Some(("since", SessionSort::Since))),
    ("Active", Some(("active", SessionSort::Active))),
    ("Received", Some(("received", SessionSort::Received))),
    ("Sent", Some(("sent", SessionSort::Sent))),
    ("State", None),
    ("", None),
]);

const DEVICES: Columns<DeviceSort> = Columns(&[
    ("Device", Some(("name", DeviceSort::Name))),
    ("User", Some(("user", DeviceSort::User))),
    ("Public key", None),
    ("Added", Some(("added", DeviceSort::Added))),
    ("Last heard", Some(("heard", DeviceSort::Heard))),
    ("Connected", None),
    ("", None),
]);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    q: String,
    sort: String,
    page: Option<i64>,
    /// `live`: only those that live.
    state: String,
    done: String,
}

impl Asked {
    fn query<S>(&self, order: (S, bool)) -> ListQuery<S> {
        ui::query(&self.q, order, self.page)
    }

    fn link(&self, path: &str, sort: &str, page: i64) -> String {
        let state = if self.state == "live" { "&state=live" } else { "" };
        ui::page_of(path, &self.q, sort, page) + state
    }

    fn pages(&self, path: &str, matching: u64) -> Block {
        let link = |page| self.link(path, &self.sort, page);
        ui::neighbours(self.page.unwrap_or(1), matching, link)
    }
}

pub(super) async fn sessions(
    State(app): State<Arc<App>>,
    admin: Admin,
    Query(asked): Query<Asked>,
) -> Result<Response, Fault> {
    let now = app.clock.now();
    let order = SESSIONS.order(&asked.sort, (SessionSort::Since, true));
    let query = asked.query(order);
    let filter = SessionFilter { live: asked.state == "live", ..SessionFilter::default() };
    let read = move |view: &mut Snapshot| {
        Ok::<_, StoreError>((view.session_list(&query, &filter)?, view.locations()?))
    };
    let (found, locations) = app.store.read(read).await?;
    let rows = found
        .entries
        .into_iter()
        .map(|(one, [login, device, location])| {
            let state = state(one.ended);
            let end = if one.ended.is_none() {
                Cell::Post {
                    action: "/sessions/end".to_owned(),
                    fields: vec![("session", one.id.get().to_string())],
                    label: "Revoke",
                    about: format!("{login}, {device}"),
                    danger: true,
                }
            } else {
                Cell::Text(String::new())
            };
            vec![
                Cell::link(format!("/users/{}", segment(&login)), &login),
                Cell::Text(device),
                Cell::Text(location),
                Cell::text(method_name(one.method)),
                Cell::link(format!("/sessions/{}", one.id), &utc(one.authorized)),
                Cell::time(ago(Some(one.last_activity), now)),
                Cell::time(bytes(one.rx_bytes)),
                Cell::time(bytes(one.tx_bytes)),
                state,
                end,
            ]
        })
        .collect();
    let shown: [(&str, &'static str); 2] = [("", "Live and ended"), ("live", "Live ones only")];
    let others = shown.into_iter().filter(|(state, _)| *state != asked.state);
    let others = others.map(|(state, name)| {
        let link = format!("/sessions?q={}&state={state}", encoded(&asked.q));
        (link, name)
    });
    let places = core::iter::once(session::EVERYWHERE.to_owned())
        .chain(locations.into_iter().map(|one| one.settings.name));
    let blocks = vec![
        Block::Search { value: asked.q.clone(), what: "sessions" },
        Block::Links(others.collect()),
        Block::Table(Table {
            headings: SESSIONS.headings(),
            sorts: SESSIONS.sorts(order, |sort| asked.link("/sessions", sort, 1)),
            rows,
            empty: if asked.q.trim().is_empty() {
                "Nobody has connected yet. A session begins when a user has proved a second factor."
            } else {
                "No session fits this search."
            },
            ..Table::default()
        }),
        asked.pages("/sessions", found.matching),
        Block::Form(Fields {
            title: "End many sessions",
            hint:
                "Everybody there is disconnected and has to prove a second factor again. You see \
                   first how many that are."
                    .to_owned(),
            action: "/sessions/end-many".to_owned(),
            fields: vec![Field::choice("location", "Location", places.collect(), "")],
            button: "End them",
            danger: true,
            ..Fields::default()
        }),
    ];
    Ok(ui::show(Frame::new(&app, &admin.0, "sessions", &asked.done), "Sessions", blocks))
}

/// Whether a session lives, or why it ended.
pub(super) fn state(ended: Option<(Timestamp, EndReason)>) -> Cell {
    match ended {
        None => Cell::Badge("good", "live".to_owned()),
        Some((_, reason)) => Cell::Badge("plain", why(reason).to_owned()),
    }
}

#[derive(Deserialize)]
pub(super) struct End {
    session: i64,
    /// The location whose overview to go back to.
    #[serde(default)]
    location: String,
    /// Whether to go back to the session's own page.
    #[serde(default)]
    stay: String,
}

/// Ends a session, and waits a moment for the gateways' word that the peer is gone.
pub(super) async fn end(
    State(app): State<Arc<App>>,
    admin: Admin,
    Form(End { session, location, stay }): Form<End>,
) -> Result<Response, Fault> {
    let done = end_and_wait(&app, admin.by(&app), Scope::Session(SessionId::new(session))).await?;
    let to = match (location.is_empty(), stay.is_empty()) {
        (false, _) => format!("/overview?location={}&done={done}", encoded(&location)),
        (true, false) => format!("/sessions/{session}?done={done}"),
        (true, true) => format!("/sessions?done={done}"),
    };
    Ok(Redirect::to(&to).into_response())
}

/// Ends the live sessions of a scope, and waits a moment for the gateways' word that the peers are
/// gone. Returns the key of what to say.
async fn end_and_wait(app: &App, by: By, scope: Scope) -> Result<&'static str, Fault> {
    let work = move |tx: &mut Tx| {
        let live = tx.live_sessions(scope)?;
        tx.end_sessions(by, scope, EndReason::Administrator)?;
        let mut places = BTreeMap::new();
        for place in live.iter().map(|session| session.subject.location) {
            places.insert(place, tx.revision(place)?.unwrap_or_default());
        }
        Ok::<_, StoreError>(places)
    };
    let places = app.store.write(work).await?;
    if places.is_empty() {
        return Ok("gone");
    }
    for place in places.keys() {
        app.registry.wake(*place);
    }
    for (place, revision) in places {
        if !app.registry.wait_applied(place, revision, CONFIRM).await.is_complete() {
            return Ok("ending");
        }
    }
    Ok("ended")
}

pub(super) async fn devices(
    State(app): State<Arc<App>>,
    admin: Admin,
    Query(asked): Query<Asked>,
) -> Result<Response, Fault> {
    let now = app.clock.now();
    let order = DEVICES.order(&asked.sort, (DeviceSort::Name, false));
    let query = asked.query(order);
    let read = move |view: &mut Snapshot| {
        let found = view.device_list(&query, None)?;
        let live =
            found.entries.iter().map(|(device, _)| view.live_count(Scope::Device(device.id)));
        let live = live.collect::<Result<Vec<_>, _>>()?;
        Ok::<_, StoreError>((found, live))
    };
    let (found, live) = app.store.read(read).await?;
    let rows = found
        .entries
        .into_iter()
        .zip(live)
        .map(|((device, login), live)| {
            vec![
                Cell::text(&device.name),
                Cell::link(format!("/users/{}", segment(&login)), &login),
                Cell::Code(device.public_key.to_string()),
                Cell::time(utc(device.created)),
                Cell::time(ago(device.last_poll.map(|poll| poll.at), now)),
                disconnect(&device, &login, live, ""),
                Cell::Post {
                    action: "/devices/remove".to_owned(),
                    fields: vec![("device", device.id.get().to_string())],
                    label: "Remove",
                    about: format!("{} of {login}", device.name),
                    danger: true,
                },
            ]
        })
        .collect();
    let blocks = vec![
        Block::Search { value: asked.q.clone(), what: "devices" },
        Block::Table(Table {
            headings: DEVICES.headings(),
            sorts: DEVICES.sorts(order, |sort| asked.link("/devices", sort, 1)),
            rows,
            empty: if asked.q.trim().is_empty() {
                "No device is enrolled yet: issue an enrollment link on a user's page."
            } else {
                "No device fits this search."
            },
            ..Table::default()
        }),
        asked.pages("/devices", found.matching),
    ];
    Ok(ui::show(Frame::new(&app, &admin.0, "devices", &asked.done), "Devices", blocks))
}

/// Whether a device is connected, and the button that ends it. `back` is the login of the user whose
/// page to go back to; empty: the list of devices.
pub(super) fn disconnect(device: &Device, login: &str, live: usize, back: &str) -> Cell {
    if live == 0 {
        return Cell::Text("no".to_owned());
    }
    let number = device.id.get().to_string();
    Cell::Post {
        action: "/devices/disconnect".to_owned(),
        fields: vec![("device", number), ("back", back.to_owned())],
        label: "Disconnect",
        about: format!("{} of {login}", device.name),
        danger: true,
    }
}

#[derive(Deserialize)]
pub(super) struct Disconnect {
    device: i64,
    #[serde(default)]
    back: String,
}

/// Ends every session of a device.
pub(super) async fn disconnect_device(
    State(app): State<Arc<App>>,
    admin: Admin,
    Form(Disconnect { device, back }): Form<Disconnect>,
) -> Result<Response, Fault> {
    let done = end_and_wait(&app, admin.by(&app), Scope::Device(DeviceId::new(device))).await?;
    Ok(Redirect::to(&format!("{}?done={done}", place_of(&back))).into_response())
}

/// Where devices are shown: a user's page, or all of them.
fn place_of(login: &str) -> String {
    if login.is_empty() { "/devices".to_owned() } else { format!("/users/{}", segment(login)) }
}

#[derive(Deserialize)]
pub(super) struct Remove {
    device: i64,
    #[serde(default)]
    back: String,
    #[serde(default)]
    sure: String,
}

/// Removes a device, once it was said what that does.
pub(super) async fn remove_device(
    State(app): State<Arc<App>>,
    admin: Admin,
    Form(Remove { device, back, sure }): Form<Remove>,
) -> Result<Response, Fault> {
    let (by, id) = (admin.by(&app), DeviceId::new(device));
    let place = place_of(&back);
    if sure.is_empty() {
        let found = app
            .store
            .read(move |view| {
                let Some(device) = view.device(id)? else { return Ok(None) };
                let owner = view.user(device.user)?.map(|user| user.details.login);
                let live = view.live_count(Scope::Device(id))?;
                Ok::<_, StoreError>(Some((device.name, owner.unwrap_or_default(), live)))
            })
            .await?;
        let Some((name, owner, live)) = found else {
            return Err(Fault::words(StatusCode::NOT_FOUND, "There is no such device."));
        };
        let words = format!(
            "The device {name} of {owner} will be removed, and {} will end. Its addresses become \
             free; to come back it has to be enrolled anew.",
            count(live, "session")
        );
        let hidden = vec![("device", device.to_string()), ("back", back)];
        let frame = Frame::new(&app, &admin.0, "devices", "");
        let ways = ("Remove the device", place);
        return Ok(ui::ask(frame, "Remove a device", words, "/devices/remove", hidden, ways));
    }
    app.store.write(move |tx| tx.remove_device(by, id)).await?;
    app.registry.wake_all();
    Ok(Redirect::to(&format!("{place}?done=removed")).into_response())
}
