//! The audit log.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use mfa_store::AuditVerdict;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::body::Params;
use super::operation::{Api, Operation};
use super::problem::Problem;
use crate::app::App;
use crate::flows::api_token::Scope::AuditRead;
use crate::view::{AuditView, ChainedView};

/// Entries at once.
const MAX: i64 = 1_000;
/// Entries of an export at once.
const EXPORT: i64 = 10_000;

pub(super) fn add(api: &mut Api) {
    let number = json!({"type": "integer", "minimum": 1});
    let list = Operation::get("/audit", "listAudit", AuditRead)
        .says("List the newest entries of the audit log, newest first.")
        .query("before", &number, "Only entries before this number, to go on where a list ended.")
        .query(
            "limit",
            &json!({"type": "integer", "minimum": 1, "maximum": MAX, "default": 50}),
            "How many at most.",
        );
    api.add(list.answers_list::<AuditView>(), list_audit);
    let export = Operation::get("/audit/export", "exportAudit", AuditRead)
        .says("List entries with their place in the chain, oldest first, to be kept elsewhere.")
        .query(
            "after",
            &json!({"type": "integer", "minimum": 0, "default": 0}),
            "Only entries after this number: the last one that is kept already.",
        )
        .query(
            "limit",
            &json!({"type": "integer", "minimum": 1, "maximum": EXPORT, "default": EXPORT}),
            "How many at most.",
        );
    api.add(export.answers_list::<ChainedView>(), export_audit);
    let verify = Operation::get("/audit/verify", "verifyAudit", AuditRead)
        .says("Walk the whole chain and tell whether an entry was changed or removed.");
    api.add(verify.answers::<Verdict>(StatusCode::OK), verify_audit);
}

/// What the chain shows.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = AuditVerdict)]
struct Verdict {
    /// Whether no entry was changed and none is missing.
    whole: bool,
    /// How many entries there are; absent of a broken log.
    entries: Option<i64>,
    /// The first entry that is missing or was changed, or after which the newest are missing.
    broken_at: Option<i64>,
}

async fn verify_audit(State(app): State<Arc<App>>) -> Result<Json<Verdict>, Problem> {
    let key = app.keys.audit.clone();
    let verdict = match app.store.read(move |view| view.verify_audit_by(&key)).await? {
        AuditVerdict::Whole { entries } => {
            Verdict { whole: true, entries: Some(entries), broken_at: None }
        }
        AuditVerdict::Broken { seq: at } | AuditVerdict::CutShort { last: at, .. } => {
            Verdict { whole: false, entries: None, broken_at: Some(at) }
        }
    };
    Ok(Json(verdict))
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Since {
    #[serde(default)]
    after: i64,
    limit: Option<i64>,
}

async fn export_audit(
    State(app): State<Arc<App>>,
    Params(Since { after, limit }): Params<Since>,
) -> Result<Json<Vec<ChainedView>>, Problem> {
    let limit = limit.unwrap_or(EXPORT);
    if !(1..=EXPORT).contains(&limit) {
        return Err(Problem::bad(format!("limit is between 1 and {EXPORT}")));
    }
    let entries = app.store.read(move |view| view.audit_entries_after(after, limit)).await?;
    Ok(Json(entries.into_iter().map(ChainedView::from).collect()))
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    before: Option<i64>,
    limit: Option<i64>,
}

async fn list_audit(
    State(app): State<Arc<App>>,
    Params(wanted): Params<Wanted>,
) -> Result<Json<Vec<AuditView>>, Problem> {
    let limit = wanted.limit.unwrap_or(50);
    if !(1..=MAX).contains(&limit) {
        return Err(Problem::bad(format!("limit is between 1 and {MAX}")));
    }
    let entries = app.store.read(move |view| view.audit_entries(wanted.before, limit)).await?;
    Ok(Json(entries.into_iter().map(AuditView::from).collect()))
}
