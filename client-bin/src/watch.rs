//! The task beside a connection's loop: it asks the server in turns, and only reads.

use std::sync::Arc;

use mfa_wire::http::{DeviceConfigResponse, DeviceStatus};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};

use crate::api::{Api, ApiError};
use crate::client::Periods;
use crate::state::Instance;

/// What was learned.
#[derive(Debug)]
pub(crate) enum Finding {
    /// How the session stands.
    Status(Result<DeviceStatus, ApiError>),
    /// An Instance Update.
    Update(Result<DeviceConfigResponse, ApiError>),
}

/// Asks at each period, and for the session also when nudged. It may be dropped at any time; it
/// ends by itself when nobody takes its findings.
pub(crate) async fn watch(
    api: Arc<Api>,
    instance: Instance,
    periods: Periods,
    nudge: Arc<Notify>,
    findings: mpsc::Sender<Finding>,
) {
    let mut status = Instant::now() + periods.status;
    let mut update = Instant::now() + periods.update;
    loop {
        let due = tokio::select! {
            () = sleep_until(status) => None,
            () = nudge.notified() => None,
            () = sleep_until(update), if instance.polling_token.is_some() => {
                instance.polling_token.clone()
            }
        };
        let finding = match due {
            Some(token) => Finding::Update(api.poll(token).await),
            None => Finding::Status(api.status(&instance.private_key).await),
        };
        match finding {
            Finding::Status(_) => status = Instant::now() + periods.status,
            Finding::Update(_) => update = Instant::now() + periods.update,
        }
        if findings.send(finding).await.is_err() {
            return;
        }
    }
}
