//! **disconnect** — a device ends its own session.

use std::sync::Arc;

use mfa_core::connect::EndReason;
use mfa_core::id::LocationId;
use mfa_store::{Scope, StoreError};
use wg_types::PublicKey;

use crate::app::App;

/// Why nothing was ended.
#[derive(Debug, thiserror::Error)]
pub enum DisconnectError {
    /// No such device.
    #[error("this device is not registered any more; enroll it again")]
    DeviceNotFound,
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Ends the device's session in a location. Returns whether there was one.
///
/// # Errors
///
/// [`DisconnectError`].
pub async fn disconnect(
    app: &Arc<App>,
    device: PublicKey,
    location: LocationId,
) -> Result<bool, DisconnectError> {
    let now = app.clock.now();
    let ended = app
        .store
        .write(move |tx| {
            let device = tx.device_by_key(&device)?.ok_or(DisconnectError::DeviceNotFound)?;
            let scope = Scope::DeviceAt(device.id, location);
            let ended =
                tx.end_sessions(App::by_device(&device, now), scope, EndReason::Disconnected)?;
            Ok::<_, DisconnectError>(!ended.is_empty())
        })
        .await?;
    if ended {
        app.registry.wake(location);
    }
    Ok(ended)
}
