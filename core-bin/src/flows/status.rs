//! How a device stands to its locations.

use std::sync::Arc;

use mfa_core::connect::EndReason;
use mfa_core::method::Method;
use mfa_core::rotate::RotationState;
use mfa_store::{Device, Location, Scope, SessionInfo, Snapshot, StoreError};
use mfa_wire::http as wire;
use wg_types::PublicKey;

use super::device_config;
use crate::app::App;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// No such device.
    #[error("this device is not registered any more; enroll it again")]
    DeviceNotFound,
    /// The user is disabled.
    #[error("this account is disabled; ask an administrator")]
    Disabled,
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Says how the device stands to each location that its user may use.
///
/// # Errors
///
/// [`StatusError`].
pub async fn status(app: &Arc<App>, key: PublicKey) -> Result<wire::DeviceStatus, StatusError> {
    let work = Arc::clone(app);
    app.store
        .read(move |view| {
            let device = view.device_by_key(&key)?.ok_or(StatusError::DeviceNotFound)?;
            let user = view.user(device.user)?.ok_or(StatusError::DeviceNotFound)?;
            if !user.active {
                return Err(StatusError::Disabled);
            }
            let mut locations = Vec::new();
            for location in view.locations_of(user.id)? {
                locations.push(at(&work, view, &device, &location)?);
            }
            let methods = view.enabled_methods(user.id)?.iter().map(method).collect();
            Ok(wire::DeviceStatus {
                config_version: device_config::version(view, &work.site, &user, &device)?,
                device_name: device.name,
                username: user.details.login,
                locations,
                methods,
            })
        })
        .await
}

fn at(
    app: &App,
    view: &mut Snapshot,
    device: &Device,
    location: &Location,
) -> Result<wire::LocationStatus, StoreError> {
    let gateways = app.registry.applied(location.id, location.revision);
    let live = view.live_sessions(Scope::DeviceAt(device.id, location.id))?.pop();
    let ended = match &live {
        Some(_) => None,
        None => view.last_ended_session(device.id, location.id)?.and_then(|last| last.ended),
    };
    Ok(wire::LocationStatus {
        location_id: location.id.get(),
        name: location.settings.name.clone(),
        mfa_required: location.asks_mfa(),
        session: match live {
            Some(live) => Some(wire::SessionInfo {
                next_generation: waiting(view, &live)?,
                ..session(&live, location, (gateways.connected, gateways.applied))
            }),
            None => None,
        },
        ended: ended.map(|(at, reason)| wire::EndInfo {
            reason: reason.code().to_owned(),
            detail: told(reason, location),
            at: at.as_unix_secs(),
        }),
        gateways_connected: count(gateways.connected),
    })
}

/// Describes a live session as it is now.
pub(crate) fn of(app: &App, live: &SessionInfo, location: &Location) -> wire::SessionInfo {
    let gateways = app.registry.applied(location.id, location.revision);
    session(live, location, (gateways.connected, gateways.applied))
}

/// Says why a session ended, with the number that a person will ask for.
fn told(reason: EndReason, location: &Location) -> String {
    match reason {
        EndReason::Idle => format!(
            "Disconnected because there was no activity for {} seconds. Connect again to go on.",
            location.settings.policy.idle().threshold().as_secs()
        ),
        reason => reason.sentence().to_owned(),
    }
}

/// The generation that waits for the client to take it.
fn waiting(view: &mut Snapshot, live: &SessionInfo) -> Result<Option<u32>, StoreError> {
    let rotation = view.rotation(live.id)?.map(|one| one.rotation);
    let staged = rotation.filter(|one| one.state() == RotationState::Staged);
    Ok(staged.map(|one| one.generation().get()))
}

/// Describes a live session, with how many gateways are connected and have it.
pub(crate) fn session(
    session: &SessionInfo,
    location: &Location,
    (connected, applied): (usize, usize),
) -> wire::SessionInfo {
    wire::SessionInfo {
        id: session.id.get(),
        since: session.authorized.as_unix_secs(),
        expires: session.lifetime_ends.as_unix_secs(),
        idle_threshold: location.settings.policy.idle().threshold().as_secs(),
        generation: session.generation.get(),
        next_generation: None,
        gateways_connected: count(connected),
        gateways_applied: count(applied),
    }
}

/// A method in the API's terms.
pub(crate) const fn method(method: Method) -> wire::Method {
    match method {
        Method::Totp => wire::Method::Totp,
        Method::Email => wire::Method::Email,
    }
}

pub(crate) fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
