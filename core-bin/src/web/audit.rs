//! The audit log: what was changed, when and by whom, and whether that is the whole of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Form;
use axum::extract::{Query, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use mfa_core::id::{DeviceId, GatewayId, LocationId, UserId};
use mfa_store::{AuditVerdict, Snapshot, StoreError};
use serde::Deserialize;

use super::fault::Fault;
use super::page::Frame;
use super::signed::Admin;
use super::ui::{self, Block, Cell, Field, Form as Fields, Kind, Table, encoded};
use crate::app::App;
use crate::text::utc;
use crate::view::ChainedView;

const ROWS: i64 = 50;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    q: String,
    before: Option<i64>,
    done: String,
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    admin: Admin,
    Query(asked): Query<Asked>,
) -> Result<Response, Fault> {
    page(&app, &admin, &asked, None).await
}

/// Walks the whole chain and says what it found.
pub(super) async fn verify(State(app): State<Arc<App>>, admin: Admin) -> Result<Response, Fault> {
    let key = app.keys.audit.clone();
    let notice = match app.store.read(move |view| view.verify_audit_by(&key)).await? {
        AuditVerdict::Whole { entries } => {
            ("good", format!("The log is whole: {entries} entries, none changed, none missing."))
        }
        AuditVerdict::Broken { seq } => (
            "bad",
            format!(
                "The log is broken: entry {seq} is missing or was changed. Somebody wrote to the \
                 database past this program; compare it with a backup."
            ),
        ),
        AuditVerdict::CutShort { last, .. } => (
            "bad",
            format!(
                "The log is cut short: it ends at entry {last}, before its recorded end. Somebody \
                 removed the newest entries; compare it with a backup."
            ),
        ),
    };
    page(&app, &admin, &Asked::default(), Some(notice)).await
}

async fn page(
    app: &Arc<App>,
    admin: &Admin,
    asked: &Asked,
    notice: Option<(&'static str, String)>,
) -> Result<Response, Fault> {
    let (search, before) = (asked.q.trim().to_owned(), asked.before);
    let (rows, last) = app
        .store
        .read(move |view| {
            let entries = if search.is_empty() {
                view.audit_entries(before, ROWS)?
            } else {
                let person = view.user_by_login(&search)?.map(|user| user.id);
                view.audit_search(before, &search, person, ROWS)?
            };
            let full = i64::try_from(entries.len()).unwrap_or(ROWS) == ROWS;
            let last = entries.last().map(|entry| entry.seq).filter(|seq| full && *seq > 1);
            let mut names = Names::default();
            let mut rows = Vec::new();
            for entry in entries {
                rows.push(vec![
                    Cell::text(entry.seq),
                    Cell::time(utc(entry.at)),
                    Cell::Time(names.of(view, &entry.actor)?),
                    Cell::Text(entry.action),
                    Cell::Text(names.of(view, &entry.subject)?),
                    Cell::Detail(if entry.detail == "{}" { String::new() } else { entry.detail }),
                ]);
            }
            Ok::<_, StoreError>((rows, last))
        })
        .await?;
    let mut links = Vec::new();
    if asked.before.is_some() {
        links.push((format!("/audit?q={}", encoded(&asked.q)), "Newest entries".to_owned()));
    }
    if let Some(last) = last {
        let link = format!("/audit?q={}&before={last}", encoded(&asked.q));
        links.push((link, "Older entries".to_owned()));
    }
    let mut blocks = Vec::new();
    if let Some((kind, words)) = notice {
        blocks.push(Block::Notice(kind, words));
    }
    blocks.extend([
        Block::Search { value: asked.q.clone(), what: "the audit log" },
        Block::Table(Table {
            headings: vec!["No.", "When", "Who", "What", "Of", "Detail"],
            rows,
            empty: "No entry fits.",
            ..Table::default()
        }),
        Block::Pages(links),
        Block::Form(Fields {
            title: "Verify the log",
            hint: "Each entry is chained to the one before it with a key that is not in the \
                   database. This walks the whole chain and tells whether an entry was changed or \
                   removed."
                .to_owned(),
            action: "/audit/verify".to_owned(),
            button: "Verify now",
            ..Fields::default()
        }),
        Block::Form(Fields {
            title: "Export the log",
            hint: "Entries with their place in the chain, one a line as JSON, oldest first, to be \
                   kept elsewhere; 10,000 at once."
                .to_owned(),
            action: "/audit/export".to_owned(),
            fields: vec![
                Field::text("after", "After entry", "0")
                    .of(Kind::Number)
                    .hint("The last one that is kept already; 0: from the beginning."),
            ],
            button: "Export",
            ..Fields::default()
        }),
    ]);
    Ok(ui::show(Frame::new(app, &admin.0, "audit", &asked.done), "Audit log", blocks))
}

/// Entries of one export.
const EXPORT: i64 = 10_000;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Since {
    after: String,
}

/// Gives entries out as a file, one a line.
pub(super) async fn export(
    State(app): State<Arc<App>>,
    _: Admin,
    Form(Since { after }): Form<Since>,
) -> Result<Response, Fault> {
    let after = match after.trim() {
        "" => 0,
        text => text.parse().map_err(|_| Fault::bad("An entry is named by its number."))?,
    };
    let entries = app.store.read(move |view| view.audit_entries_after(after, EXPORT)).await?;
    let mut text = String::new();
    for entry in entries {
        let line = serde_json::to_string(&ChainedView::from(entry));
        text.push_str(&line.map_err(Fault::bad)?);
        text.push('\n');
    }
    let headers = [
        (CONTENT_TYPE, "application/x-ndjson"),
        (CONTENT_DISPOSITION, "attachment; filename=\"audit.jsonl\""),
    ];
    Ok((headers, text).into_response())
}

/// The names of what the log calls by number, as far as it is still there.
#[derive(Default)]
struct Names(BTreeMap<String, String>);

impl Names {
    fn of(&mut self, view: &mut Snapshot, word: &str) -> Result<String, StoreError> {
        if let Some(known) = self.0.get(word) {
            return Ok(known.clone());
        }
        let name = Self::find(view, word)?.unwrap_or_else(|| match word {
            "cli" => "command line".to_owned(),
            "system" => "core itself".to_owned(),
            other => other.replace(':', " "),
        });
        self.0.insert(word.to_owned(), name.clone());
        Ok(name)
    }

    fn find(view: &mut Snapshot, word: &str) -> Result<Option<String>, StoreError> {
        let Some((noun, number)) = word.split_once(':') else { return Ok(None) };
        let Ok(id) = number.parse() else { return Ok(None) };
        Ok(match noun {
            "admin" | "user" => view.user(UserId::new(id))?.map(|user| user.details.login),
            "device" => {
                view.device(DeviceId::new(id))?.map(|device| format!("device {}", device.name))
            }
            "location" => view
                .location(LocationId::new(id))?
                .map(|location| format!("location {}", location.settings.name)),
            "gateway" => {
                view.gateway(GatewayId::new(id))?.map(|gateway| format!("gateway {}", gateway.name))
            }
            _ => None,
        })
    }
}
