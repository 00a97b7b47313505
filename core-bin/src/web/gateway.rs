//! One gateway: how it stands, and what its kernel took of late.

use core::time::Duration;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use mfa_core::time::Timestamp;
use mfa_store::{Gateway, Location, Passed, Snapshot};

use super::fault::Fault;
use super::gateways::refused;
use super::page::Frame;
use super::signed::Admin;
use super::ui::{self, Block, Cell, Table, encoded};
use crate::admin::answer::ago;
use crate::app::App;
use crate::flows::gateway::{self as flow, GatewayError};
use crate::link::registry::{Connected, Protocol};
use crate::text::utc;

/// Silence after which a gateway counts as away: its lease has run out then.
const AWAY: Duration = Duration::from_secs(90);
/// Acknowledgements that are shown.
const SHOWN: i64 = 20;

/// How a gateway stands.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) state: &'static str,
    /// The badge's: `good`, `note`, `bad` or `plain`.
    pub(super) class: &'static str,
    /// The revision that its kernel has, and the one that it should have.
    pub(super) revision: String,
    pub(super) heard: String,
    /// What is left of the time for which its kernel passes packets without core's word.
    pub(super) lease: String,
}

impl Standing {
    /// Judges a gateway whose location is at `revision`. `seats` are those that are connected to
    /// this core; of others the store says when they were heard.
    pub(super) fn of(one: &Gateway, revision: i64, seats: &[Connected], now: Timestamp) -> Self {
        let seat = seats.iter().find(|seat| seat.gateway == one.id);
        let heard = seat.map(|seat| seat.last_heard).or(one.heard);
        let applied = seat.and_then(|seat| seat.applied).unwrap_or(one.applied_revision);
        let (state, class) = match (one.enrolled, heard) {
            (None, _) if one.legacy_token.is_none() => ("not enrolled", "plain"),
            (_, None) => ("never connected", "plain"),
            (_, Some(heard)) if now.since(heard) > AWAY => ("away", "bad"),
            _ if applied < revision => ("catching up", "note"),
            _ => ("in sync", "good"),
        };
        let left = heard.map(|heard| AWAY.saturating_sub(now.since(heard)));
        Self {
            state,
            class,
            revision: format!("{applied} of {revision}"),
            heard: ago(heard, now),
            lease: match left {
                // A gateway of another make holds none.
                _ if one.legacy_token.is_some() => "none".to_owned(),
                None => "–".to_owned(),
                Some(left) if left.is_zero() => "run out".to_owned(),
                Some(left) => format!("{} s", left.as_secs()),
            },
        }
    }
}

type Found = (Gateway, Option<Location>, Vec<Passed>);

fn find(view: &mut Snapshot, name: &str) -> Result<Found, GatewayError> {
    let gateway = flow::find(view, name)?;
    let location = view.location(gateway.location)?;
    let passed = view.acknowledged(gateway.id, SHOWN)?;
    Ok((gateway, location, passed))
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    admin: Admin,
    Path(name): Path<String>,
) -> Result<Response, Fault> {
    let found = app.store.read(move |view| find(view, &name)).await.map_err(refused)?;
    let (one, location, passed) = found;
    let now = app.clock.now();
    let seats = app.registry.list(one.location);
    let revision = location.as_ref().map_or(0, |location| location.revision);
    let standing = Standing::of(&one, revision, &seats, now);
    let place = location.map(|location| location.settings.name).unwrap_or_default();
    let mut facts = vec![
        ("State", standing.state.to_owned()),
        ("Location", place.clone()),
        ("Revision", standing.revision),
        ("Last heard", standing.heard),
        ("Lease", standing.lease),
    ];
    if let Some(seat) = seats.into_iter().find(|seat| seat.gateway == one.id) {
        facts.push(("Connected since", utc(seat.since)));
        facts.push(("Interface", seat.about.interface));
        facts.extend(seat.about.remote.map(|at| ("Dialled from", at.to_string())));
        if seat.about.protocol == Protocol::Legacy {
            facts.push(("Protocol", "without acknowledgements".to_owned()));
        }
    }
    facts.extend([
        ("WireGuard", one.backend),
        ("Version", one.version),
        ("Host", one.hostname),
        ("Enrolled", one.enrolled.map_or_else(String::new, utc)),
    ]);
    facts.retain(|(_, value)| !value.is_empty());
    let after = |from: Timestamp, at: Timestamp| {
        let millis = at.as_unix_millis().saturating_sub(from.as_unix_millis());
        Cell::time(format!("+{millis} ms"))
    };
    let rows = passed.iter().map(|step| {
        vec![
            Cell::text(step.revision),
            Cell::time(utc(step.committed)),
            after(step.committed, step.sent),
            after(step.committed, step.applied),
            after(step.committed, step.verified),
        ]
    });
    let blocks = vec![
        Block::Facts(facts),
        Block::Table(Table {
            title: "What its kernel took of late",
            headings: vec!["Revision", "Committed", "Sent", "Applied", "Verified in the kernel"],
            rows: rows.collect(),
            empty: "It has acknowledged nothing yet.",
            ..Table::default()
        }),
        Block::Links(vec![
            (format!("/overview?location={}", encoded(&place)), "The location"),
            ("/gateways".to_owned(), "All gateways"),
        ]),
    ];
    let title = format!("Gateway {}", one.name);
    Ok(ui::show(Frame::new(&app, &admin.0, "gateways", ""), &title, blocks))
}
