//! `/healthz`: the process answers. `/readyz`: it can do its work. No details to strangers.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use mfa_core::id::UserId;
use mfa_store::StoreError;

use crate::app::App;

pub(super) async fn alive() -> &'static str {
    "ok\n"
}

pub(super) async fn ready(State(app): State<Arc<App>>) -> (StatusCode, &'static str) {
    match check(&app).await {
        Ok(()) => (StatusCode::OK, "ready\n"),
        Err(error) => {
            tracing::warn!(%error, "not ready: the database does not answer");
            (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
        }
    }
}

/// Asks the database anything at all.
pub(crate) async fn check(app: &App) -> Result<(), StoreError> {
    app.store.read(|view| view.user(UserId::new(0)).map(drop)).await
}
