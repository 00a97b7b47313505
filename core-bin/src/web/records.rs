//! Sessions and devices.

use core::time::Duration;
use std::sync::Arc;

use axum::Form;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use mfa_core::connect::EndReason;
use mfa_core::id::{DeviceId, SessionId};
use mfa_store::{DeviceSort, ListQuery, SessionSort, StoreError};
use serde::Deserialize;

use super::fault::Fault;
use super::login::method_name;
use super::page::Frame;
use super::signed::Admin;
use super::ui::{self, Block, Cell, Columns, Table, encoded, segment};
use crate::admin::answer::{ago, bytes};
use crate::app::App;
use crate::text::utc;

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
    ("", None),
]);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    q: String,
    sort: String,
    page: Option<i64>,
    done: String,
}

impl Asked {
    fn query<S>(&self, (sort, descending): (S, bool)) -> ListQuery<S> {
        ListQuery {
            search: self.q.clone(),
            sort,
            descending,
            offset: ui::offset(self.page.unwrap_or(1)),
            limit: ui::ROWS,
        }
    }

    fn link(&self, path: &str, sort: &str, page: i64) -> String {
        format!("{path}?q={}&sort={}&page={page}", encoded(&self.q), encoded(sort))
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
    let found = app.store.read(move |view| view.session_list(&query)).await?;
    let rows = found
        .entries
        .into_iter()
        .map(|(one, [login, device, location])| {
            let state = match one.ended {
                None => Cell::Badge("good", "live".to_owned()),
                Some((_, reason)) => Cell::Badge("plain", reason.code().replace('_', " ")),
            };
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
                Cell::time(utc(one.authorized)),
                Cell::time(ago(Some(one.last_activity), now)),
                Cell::time(bytes(one.rx_bytes)),
                Cell::time(bytes(one.tx_bytes)),
                state,
                end,
            ]
        })
        .collect();
    let blocks = vec![
        Block::Search { value: asked.q.clone(), what: "sessions" },
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
    ];
    Ok(ui::show(Frame::new(&app, &admin.0, "sessions", &asked.done), "Sessions", blocks))
}

#[derive(Deserialize)]
pub(super) struct End {
    session: i64,
    #[serde(default)]
    location: String,
}

/// Ends a session, and waits a moment for the gateways' word that the peer is gone.
pub(super) async fn end(
    State(app): State<Arc<App>>,
    admin: Admin,
    Form(End { session, location }): Form<End>,
) -> Result<Response, Fault> {
    let (by, id) = (admin.by(&app), SessionId::new(session));
    let ended = app
        .store
        .write(move |tx| {
            let Some(found) = tx.session(id)? else { return Ok(None) };
            if !tx.end_session(by, id, EndReason::Administrator)? {
                return Ok(None);
            }
            let place = found.subject.location;
            Ok::<_, StoreError>(Some((place, tx.revision(place)?.unwrap_or_default())))
        })
        .await?;
    let done = match ended {
        None => "gone",
        Some((place, revision)) => {
            app.registry.wake(place);
            let applied = app.registry.wait_applied(place, revision, CONFIRM).await;
            if applied.is_complete() { "ended" } else { "ending" }
        }
    };
    let to = if location.is_empty() {
        format!("/sessions?done={done}")
    } else {
        format!("/overview?location={}&done={done}", encoded(&location))
    };
    Ok(Redirect::to(&to).into_response())
}

pub(super) async fn devices(
    State(app): State<Arc<App>>,
    admin: Admin,
    Query(asked): Query<Asked>,
) -> Result<Response, Fault> {
    let now = app.clock.now();
    let order = DEVICES.order(&asked.sort, (DeviceSort::Name, false));
    let query = asked.query(order);
    let found = app.store.read(move |view| view.device_list(&query)).await?;
    let rows = found
        .entries
        .into_iter()
        .map(|(device, login)| {
            vec![
                Cell::text(&device.name),
                Cell::link(format!("/users/{}", segment(&login)), &login),
                Cell::Code(device.public_key.to_string()),
                Cell::time(utc(device.created)),
                Cell::time(ago(device.last_poll.map(|poll| poll.at), now)),
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

#[derive(Deserialize)]
pub(super) struct Remove {
    device: i64,
    #[serde(default)]
    back: String,
}

pub(super) async fn remove_device(
    State(app): State<Arc<App>>,
    admin: Admin,
    Form(Remove { device, back }): Form<Remove>,
) -> Result<Response, Fault> {
    let by = admin.by(&app);
    app.store.write(move |tx| tx.remove_device(by, DeviceId::new(device))).await?;
    app.registry.wake_all();
    let to = if back.is_empty() {
        "/devices?done=removed".to_owned()
    } else {
        format!("/users/{}?done=removed", segment(&back))
    };
    Ok(Redirect::to(&to).into_response())
}
