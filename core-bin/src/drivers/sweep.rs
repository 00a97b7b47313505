//! Forgets what nobody needs any more, and renews core's own certificate.

use core::time::Duration;
use std::sync::Arc;

use mfa_core::time::Timestamp;
use mfa_store::StoreError;
use tokio::sync::watch;

use super::{each, turn};
use crate::app::App;
use crate::pki::ServerCertificate;

const PERIOD: Duration = Duration::from_secs(3600);
/// Challenges and tokens are told apart from unknown ones for this long after they are over.
const OVER: Duration = Duration::from_secs(24 * 3600);
/// Ended sessions can be listed for this long; the audit log keeps them for ever.
const ENDED: Duration = Duration::from_secs(90 * 24 * 3600);

/// Traffic can be looked at for this long.
const TRAFFIC: Duration = Duration::from_secs(31 * 24 * 3600);

/// Runs until core stops.
pub async fn run(
    app: Arc<App>,
    certificate: Option<Arc<ServerCertificate>>,
    mut stop: watch::Receiver<bool>,
) {
    let mut turns = each(PERIOD);
    while turn(&mut turns, &mut stop).await {
        let now = app.clock.now();
        if let Err(error) = sweep(&app, now).await {
            tracing::warn!(%error, "old challenges and sessions were not forgotten");
        }
        let renewed = certificate.as_ref().map(|one| one.renew_if_due(&app.rng, now));
        if let Some(Err(error)) = renewed {
            tracing::error!(%error, "the public certificate was not renewed");
        }
    }
}

/// Forgets once.
///
/// # Errors
///
/// What the database reports.
pub async fn sweep(app: &App, now: Timestamp) -> Result<(), StoreError> {
    app.store
        .write(move |tx| {
            tx.forget_challenges(now.saturating_sub(OVER))?;
            tx.forget_tokens(now.saturating_sub(OVER))?;
            tx.forget_ended_sessions(now.saturating_sub(ENDED))?;
            tx.forget_web_sessions(now)?;
            tx.forget_traffic(now, TRAFFIC)?;
            tx.forget_trail(now.saturating_sub(ENDED))?;
            Ok(())
        })
        .await
}
