//! Takes up mail settings that another core, or the command line, has changed.

use core::time::Duration;
use std::sync::Arc;

use mfa_core::time::Timestamp;
use mfa_store::StoreError;
use tokio::sync::watch;

use super::{each, turn};
use crate::app::App;
use crate::mail::Transport;

const PERIOD: Duration = Duration::from_secs(2);

/// Runs until core stops. `seen` is what [`look`] saw last.
pub async fn run(app: Arc<App>, mut seen: Option<Timestamp>, mut stop: watch::Receiver<bool>) {
    let mut turns = each(PERIOD);
    while turn(&mut turns, &mut stop).await {
        match look(&app, seen).await {
            Ok(now) => seen = now,
            Err(error) => tracing::warn!(%error, "the mail settings could not be looked at"),
        }
    }
}

/// Takes up the settings if they are not those of `seen`. Returns when they were changed last.
///
/// # Errors
///
/// What the database reports.
pub async fn look(app: &App, seen: Option<Timestamp>) -> Result<Option<Timestamp>, StoreError> {
    let changed = app.store.read(mfa_store::Snapshot::mail_settings_changed).await?;
    if changed == seen {
        return Ok(seen);
    }
    let settings = app.store.read(mfa_store::Snapshot::mail_settings).await?;
    match settings.as_ref().map(Transport::of).transpose() {
        Ok(transport) => app.mailer.set(transport.map(Arc::new)),
        Err(error) => tracing::error!(%error, "the stored mail settings cannot be used"),
    }
    Ok(changed)
}
