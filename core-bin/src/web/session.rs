//! One session, how its end reached the gateways; and the end of many.

use std::sync::Arc;

use axum::Form;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use mfa_core::id::SessionId;
use mfa_core::time::Timestamp;
use mfa_store::{Scope, SessionInfo, Snapshot, StoreError};
use serde::Deserialize;

use super::fault::Fault;
use super::login::{method_name, sentence};
use super::page::Frame;
use super::signed::Admin;
use super::ui::{self, Block, Cell, Table};
use super::words::why;
use crate::admin::answer::bytes;
use crate::app::App;
use crate::flows::location;
use crate::flows::session::{self as flow, SessionError, Which};
use crate::text::{count, utc};
use crate::view::{TrailStep, trail};

/// The choice of a form that means every location.
pub(super) const EVERYWHERE: &str = "Every location";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    done: String,
}

/// What there is to say of a session.
struct Found {
    info: SessionInfo,
    names: [String; 3],
    tunnel: String,
    steps: Vec<TrailStep>,
}

fn find(view: &mut Snapshot, id: SessionId) -> Result<Option<Found>, StoreError> {
    let Some(info) = view.session(id)? else { return Ok(None) };
    let subject = info.subject;
    let names = [
        view.user(subject.user)?.map(|user| user.details.login),
        view.device(subject.device)?.map(|device| device.name),
        view.location(subject.location)?.map(|location| location.settings.name),
    ];
    let addresses = view.addresses(subject.device, subject.location)?;
    let tunnel = addresses.iter().map(|net| net.addr().to_string()).collect::<Vec<_>>().join(", ");
    let steps = trail(view, id)?;
    Ok(Some(Found { info, names: names.map(Option::unwrap_or_default), tunnel, steps }))
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    admin: Admin,
    Path(number): Path<i64>,
    Query(asked): Query<Asked>,
) -> Result<Response, Fault> {
    let found = app.store.read(move |view| find(view, SessionId::new(number))).await?;
    let Some(Found { info, names: [login, device, location], tunnel, steps }) = found else {
        return Err(Fault::words(StatusCode::NOT_FOUND, "There is no such session."));
    };
    let state = match info.ended {
        None => "live".to_owned(),
        Some((_, reason)) => format!("ended {}", why(reason)),
    };
    let over = info.ended.map_or_else(String::new, |(at, _)| utc(at));
    let mut facts = vec![
        ("State", state),
        ("User", login.clone()),
        ("Device", device.clone()),
        ("Location", location),
        ("Tunnel address", tunnel),
        ("Method", method_name(info.method).to_owned()),
        ("Began", utc(info.authorized)),
        ("First heard", info.connected.map_or_else(|| "never".to_owned(), utc)),
        ("Last activity", utc(info.last_activity)),
        if info.ended.is_none() {
            ("Ends at the latest", utc(info.lifetime_ends))
        } else {
            ("Ended", over)
        },
        ("Pre-shared key", format!("no. {}", info.generation.get())),
        ("Received", bytes(info.rx_bytes)),
        ("Sent", bytes(info.tx_bytes)),
    ];
    facts.retain(|(_, value)| !value.is_empty());
    let mut blocks = vec![Block::Facts(facts)];
    if let Some((decided, _)) = info.ended {
        let after = |at: Timestamp| {
            let millis = at.as_unix_millis().saturating_sub(decided.as_unix_millis());
            Cell::time(format!("+{millis} ms"))
        };
        let row = |step: &TrailStep| {
            vec![
                Cell::text(&step.gateway),
                after(step.committed),
                after(step.sent),
                after(step.applied),
                after(step.verified),
                Cell::time(step.last.map_or_else(
                    || "not known".to_owned(),
                    |(rx, tx)| format!("{} / {}", bytes(rx), bytes(tx)),
                )),
            ]
        };
        blocks.push(Block::Table(Table {
            title: "How the end reached the gateways",
            headings: vec![
                "Gateway",
                "Committed",
                "Sent",
                "Applied",
                "Verified in the kernel",
                "Last received / sent",
            ],
            rows: steps.iter().map(row).collect(),
            empty: "No gateway has acknowledged the end yet.",
            ..Table::default()
        }));
    } else {
        blocks.push(Block::Form(ui::Form {
            title: "Disconnect",
            hint: "The peer leaves every gateway at once; the device has to prove a second factor \
                   again."
                .to_owned(),
            action: "/sessions/end".to_owned(),
            hidden: vec![("session", number.to_string()), ("stay", "on".to_owned())],
            button: "Revoke",
            danger: true,
            ..ui::Form::default()
        }));
    }
    blocks.push(Block::Links(vec![("/sessions".to_owned(), "All sessions")]));
    let title = format!("Session {number}: {login}, {device}");
    Ok(ui::show(Frame::new(&app, &admin.0, "sessions", &asked.done), &title, blocks))
}

#[derive(Deserialize)]
pub(super) struct Many {
    location: String,
    #[serde(default)]
    sure: String,
}

/// Ends all sessions of a location, or every one, once it was said how many that are.
pub(super) async fn end_many(
    State(app): State<Arc<App>>,
    admin: Admin,
    Form(Many { location: place, sure }): Form<Many>,
) -> Result<Response, Fault> {
    let everywhere = place == EVERYWHERE;
    if sure.is_empty() {
        let which = place.clone();
        let read = move |view: &mut Snapshot| {
            let scope = if everywhere {
                Scope::All
            } else {
                Scope::Location(location::find(view, &which)?.id)
            };
            Ok::<_, SessionError>(view.live_count(scope)?)
        };
        let live = app.store.read(read).await.map_err(refused)?;
        let at = if everywhere { "at every location".to_owned() } else { format!("at {place}") };
        let words = format!(
            "{} {at} will end. Whoever is there is disconnected and has to prove a second factor \
             again.",
            count(live, "session")
        );
        let frame = Frame::new(&app, &admin.0, "sessions", "");
        let ways = ("End them", "/sessions".to_owned());
        let hidden = vec![("location", place)];
        return Ok(ui::ask(frame, "End many sessions", words, "/sessions/end-many", hidden, ways));
    }
    let which = if everywhere { Which::All } else { Which::Location(place) };
    let by = admin.by(&app);
    app.store.write(move |tx| flow::end(tx, by, &which)).await.map_err(refused)?;
    app.registry.wake_all();
    Ok(Redirect::to("/sessions?done=many-ended").into_response())
}

fn refused(error: SessionError) -> Fault {
    match error {
        SessionError::Store(error) => error.into(),
        error => Fault::bad(sentence(&error)),
    }
}
