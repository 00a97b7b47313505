//! The audit log.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::json;

use super::body::Params;
use super::operation::{Api, Operation};
use super::problem::Problem;
use crate::app::App;
use crate::flows::api_token::Scope::AuditRead;
use crate::view::AuditView;

/// Entries at once.
const MAX: i64 = 1_000;

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
