//! Sessions, devices, mail, and the audit log.

use core::time::Duration;
use std::sync::Arc;

use axum::Form;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use mfa_core::connect::EndReason;
use mfa_core::id::{DeviceId, SessionId};
use mfa_store::StoreError;
use serde::Deserialize;

use super::fault::Fault;
use super::login::sentence;
use super::page::Frame;
use super::signed::Admin;
use super::ui::{self, Block, Cell, Field, Form as Fields, Kind, Table, encoded, segment};
use crate::admin::answer::{ago, bytes};
use crate::app::App;
use crate::mail;
use crate::text::utc;

/// How long an end waits for gateways to confirm it.
const CONFIRM: Duration = Duration::from_secs(4);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    q: String,
    page: Option<usize>,
    before: Option<i64>,
    done: String,
}

pub(super) async fn sessions(
    State(app): State<Arc<App>>,
    admin: Admin,
    Query(asked): Query<Asked>,
) -> Result<Response, Fault> {
    const NEWEST: i64 = 1_000;
    let now = app.clock.now();
    let wanted = asked.q.trim().to_lowercase();
    let rows = app
        .store
        .read(move |view| {
            let mut rows = Vec::new();
            for one in view.newest_sessions(NEWEST)? {
                let subject = one.subject;
                let login = view.user(subject.user)?.map(|user| user.details.login);
                let device = view.device(subject.device)?.map(|device| device.name);
                let location = view.location(subject.location)?.map(|l| l.settings.name);
                let [login, device, location] =
                    [login, device, location].map(Option::unwrap_or_default);
                let fits = [&login, &device, &location]
                    .iter()
                    .any(|text| text.to_lowercase().contains(&wanted));
                if !fits {
                    continue;
                }
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
                    }
                } else {
                    Cell::Text(String::new())
                };
                rows.push(vec![
                    Cell::link(format!("/users/{}", segment(&login)), &login),
                    Cell::Text(device),
                    Cell::Text(location),
                    Cell::text(one.method.code()),
                    Cell::text(utc(one.authorized)),
                    Cell::text(ago(Some(one.last_activity), now)),
                    Cell::Text(bytes(one.rx_bytes)),
                    Cell::Text(bytes(one.tx_bytes)),
                    state,
                    end,
                ]);
            }
            Ok::<_, StoreError>(rows)
        })
        .await?;
    let link = |page| format!("/sessions?q={}&page={page}", encoded(&asked.q));
    let (rows, pages) = ui::paged(rows, asked.page.unwrap_or(1), link);
    let headings = vec![
        "User", "Device", "Location", "Method", "Since", "Active", "Received", "Sent", "State", "",
    ];
    let blocks = vec![
        Block::Search { value: asked.q.clone(), what: "the newest 1,000 sessions" },
        Block::Table(Table { title: "", headings, rows, empty: "No session fits." }),
        pages,
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
    let (devices, users) =
        app.store.read(|view| Ok::<_, StoreError>((view.devices()?, view.users()?))).await?;
    let wanted = asked.q.trim().to_lowercase();
    let logins: std::collections::BTreeMap<_, _> =
        users.into_iter().map(|user| (user.id, user.details.login)).collect();
    let rows: Vec<_> = devices
        .into_iter()
        .map(|device| (logins.get(&device.user).cloned().unwrap_or_default(), device))
        .filter(|(login, device)| {
            login.to_lowercase().contains(&wanted)
                || device.name.to_lowercase().contains(&wanted)
                || device.public_key.to_string().contains(asked.q.trim())
        })
        .collect();
    let link = |page| format!("/devices?q={}&page={page}", encoded(&asked.q));
    let (rows, pages) = ui::paged(rows, asked.page.unwrap_or(1), link);
    let rows = rows
        .into_iter()
        .map(|(login, device)| {
            vec![
                Cell::text(&device.name),
                Cell::link(format!("/users/{}", segment(&login)), &login),
                Cell::Code(device.public_key.to_string()),
                Cell::text(utc(device.created)),
                Cell::text(ago(device.last_poll.map(|poll| poll.at), now)),
                Cell::Post {
                    action: "/devices/remove".to_owned(),
                    fields: vec![("device", device.id.get().to_string())],
                    label: "Remove",
                    about: format!("{} of {login}", device.name),
                },
            ]
        })
        .collect();
    let headings = vec!["Device", "User", "Public key", "Added", "Last heard", ""];
    let blocks = vec![
        Block::Search { value: asked.q.clone(), what: "devices" },
        Block::Table(Table { title: "", headings, rows, empty: "No device fits." }),
        pages,
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

pub(super) async fn mail(
    State(app): State<Arc<App>>,
    admin: Admin,
    Query(asked): Query<Asked>,
) -> Result<Response, Fault> {
    let blocks = if app.mailer.is_on() {
        vec![
            Block::Notice("good", "Mail is set up: e-mail codes and notices are sent.".to_owned()),
            Block::Form(Fields {
                title: "Send test mail",
                hint: "It says that codes will arrive there.".to_owned(),
                action: "/mail".to_owned(),
                fields: vec![
                    Field::text("to", "Address", &admin.0.user.details.email)
                        .of(Kind::Email)
                        .required(),
                ],
                button: "Send test mail",
                ..Fields::default()
            }),
        ]
    } else {
        let words = "E-mail is not set up on this server (no SMTP). E-mail codes are not offered, \
                     and no notice of a change reaches anybody.";
        vec![Block::Notice("bad", words.to_owned())]
    };
    let mut blocks = blocks;
    blocks.push(Block::Copy {
        label: "Where it is set: core.toml, then start core again",
        text: "[smtp]\nurl = \"smtps://vpn%40example.com@mail.example.com\"\n\
               from = \"VPN <vpn@example.com>\"\npassword_file = \"/etc/wg-mfa/smtp-password\""
            .to_owned(),
    });
    Ok(ui::show(Frame::new(&app, &admin.0, "mail", &asked.done), "Mail", blocks))
}

#[derive(Deserialize)]
pub(super) struct To {
    to: String,
}

pub(super) async fn test_mail(
    State(app): State<Arc<App>>,
    admin: Admin,
    Form(To { to }): Form<To>,
) -> Result<Response, Fault> {
    let (by, now) = (admin.by(&app), app.clock.now());
    let address = to.trim().parse().map_err(|_| Fault::bad("That is no e-mail address."))?;
    let place = app.mailer.reserve().map_err(|error| Fault::bad(sentence(&error)))?;
    let detail = serde_json::json!({});
    app.store.write(move |tx| tx.audit(by, "mail.test", "mail", &detail)).await?;
    place.send(mail::test_mail(address, &app.site.name, now));
    Ok(Redirect::to("/mail?done=mail").into_response())
}

pub(super) async fn audit(
    State(app): State<Arc<App>>,
    admin: Admin,
    Query(asked): Query<Asked>,
) -> Result<Response, Fault> {
    const ROWS: i64 = 100;
    const LOOKED: i64 = 5_000;
    let wanted = asked.q.trim().to_lowercase();
    let (before, searching) = (asked.before, !wanted.is_empty());
    let entries = app
        .store
        .read(move |view| {
            let all = view.audit_entries(before, if searching { LOOKED } else { ROWS })?;
            let fits = all.into_iter().filter(|entry| {
                [&entry.actor, &entry.action, &entry.subject, &entry.detail]
                    .iter()
                    .any(|text| text.to_lowercase().contains(&wanted))
            });
            Ok::<_, StoreError>(fits.take(100).collect::<Vec<_>>())
        })
        .await?;
    let last = entries.last().map(|entry| entry.seq).filter(|seq| *seq > 1);
    let rows = entries
        .into_iter()
        .map(|entry| {
            vec![
                Cell::text(entry.seq),
                Cell::text(utc(entry.at)),
                Cell::Text(entry.actor),
                Cell::Text(entry.action),
                Cell::Text(entry.subject),
                Cell::Code(entry.detail),
            ]
        })
        .collect();
    let mut links = Vec::new();
    if let Some(last) = last {
        let link = format!("/audit?q={}&before={last}", encoded(&asked.q));
        links.push((link, "Older entries".to_owned()));
    }
    let blocks = vec![
        Block::Search { value: asked.q.clone(), what: "the audit log" },
        Block::Table(Table {
            title: "",
            headings: vec!["No.", "When", "Who", "What", "Of", "Detail"],
            rows,
            empty: "No entry fits.",
        }),
        Block::Pages(links),
    ];
    Ok(ui::show(Frame::new(&app, &admin.0, "audit", &asked.done), "Audit log", blocks))
}
