//! **rotate** — a client takes part in the rotation of its session's PSK.
//!
//! One call, which says levels: what the client has set, and what a handshake has proven. It learns
//! which PSK waits for it. What it has just set its gateways are given, and the answer waits for them
//! as a connect's does. Who stages, promotes and gives up is [`drivers::rotate`](crate::drivers::rotate).

use core::time::Duration;
use std::sync::Arc;

use mfa_core::id::{LocationId, SessionId};
use mfa_core::rotate::{PskGeneration, RotationState};
use mfa_store::{RotationInfo, Scope, StoreError, Tx};
use wg_types::{PresharedKey, PublicKey};

use crate::app::App;

/// How long the answer waits for gateways.
const WAIT: Duration = Duration::from_secs(4);

/// What a client says.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    /// Where.
    pub location: LocationId,
    /// Which session.
    pub session: SessionId,
    /// The highest generation that it has set.
    pub set: PskGeneration,
    /// The highest generation with which it saw a handshake.
    pub proven: PskGeneration,
}

/// How the rotation stands.
#[derive(Debug)]
pub struct Standing {
    /// The generation in force.
    pub generation: PskGeneration,
    /// The one that waits for the client.
    pub next: Option<(PskGeneration, PresharedKey)>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// No such device.
    #[error("this device is not registered any more; enroll it again")]
    DeviceNotFound,
    /// The session has ended, or is another device's or location's.
    #[error("this session is over; connect again")]
    NoSession,
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Notes what the client of `device` says, and tells how its rotation stands.
///
/// # Errors
///
/// [`RotateError`].
pub async fn rotate(
    app: &Arc<App>,
    device: PublicKey,
    said: Said,
) -> Result<Standing, RotateError> {
    let now = app.clock.now();
    let (standing, news) = app
        .store
        .write(move |tx| {
            let generation = generation(tx, &device, said)?;
            tx.can_rotate(said.session)?;
            let news = tx.note_rotations(&[(said.session, said.set, said.proven)], now)?;
            let Some(under_way) = tx.rotation(said.session)? else {
                return Ok((Standing { generation, next: None }, None));
            };
            let RotationInfo { rotation, revision, .. } = under_way;
            let next = match rotation.state() {
                RotationState::Staged => tx.next_psk(said.session)?,
                RotationState::Set | RotationState::Proven => None,
            };
            let next = next.map(|psk| (rotation.generation(), psk));
            Ok::<_, RotateError>((Standing { generation, next }, revision.filter(|_| news > 0)))
        })
        .await?;
    if let Some(revision) = news {
        app.registry.wake(said.location);
        let applied = app.registry.wait_applied(said.location, revision, WAIT).await;
        if !applied.is_complete() {
            let session = said.session;
            tracing::info!(%session, ?applied, "a new key is not in every gateway yet");
        }
    }
    Ok(standing)
}

/// The generation in force of the session that the client speaks of.
fn generation(tx: &mut Tx, device: &PublicKey, said: Said) -> Result<PskGeneration, RotateError> {
    let device = tx.device_by_key(device)?.ok_or(RotateError::DeviceNotFound)?;
    let live = tx.live_sessions(Scope::DeviceAt(device.id, said.location))?;
    let live = live.into_iter().find(|live| live.id == said.session);
    Ok(live.ok_or(RotateError::NoSession)?.generation)
}
