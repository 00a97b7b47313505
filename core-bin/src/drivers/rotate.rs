//! **rotate** — stages the next PSK of each session that is due, promotes what both ends have, and
//! ends the sessions of clients that took none for too long.
//!
//! Each look does all of that in batches: whatever the number of sessions, a look is one read and
//! few transactions. Nothing is remembered here between two looks, so a restart loses nothing.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mfa_core::connect::EndReason;
use mfa_core::id::{GatewayId, LocationId, SessionId};
use mfa_core::rotate::{GatewaysHave, PskPolicy, Step};
use mfa_core::time::Timestamp;
use mfa_store::{Actor, By, Gateway, Location, RotationInfo, Snapshot, StoreError};
use mutant::Mutant;
use tokio::sync::watch;
use wg_types::PresharedKey;
use wg_types::timers::REJECT_AFTER_TIME;

use super::{each, turn};
use crate::app::App;
use crate::link::registry::Protocol;

/// How often it looks.
const PERIOD: Duration = Duration::from_secs(5);

/// Sessions in one transaction: what waits behind it waits for some tens of milliseconds.
pub const BATCH: usize = 1_000;

/// The most sessions of a location that are staged in one look. At once for all would have all
/// clients fetch in the same seconds.
const STAGED_A_LOOK: i64 = 5_000;

/// What a gateway calls WireGuard in the kernel.
const KERNEL: &str = "kernel";

/// What one look did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Done {
    /// Rotations begun.
    pub staged: usize,
    /// Rotations completed.
    pub promoted: usize,
    /// Sessions ended because their client took no key for too long.
    pub given_up: usize,
}

/// Runs until core stops.
pub async fn run(app: Arc<App>, mut stop: watch::Receiver<bool>) {
    let mut turns = each(PERIOD);
    while turn(&mut turns, &mut stop).await {
        match look(&app, app.clock.now()).await {
            Ok(done) if done != Done::default() => {
                let Done { staged, promoted, given_up } = done;
                tracing::debug!(staged, promoted, given_up, "keys of live sessions were rotated");
            }
            Ok(_nothing) => {}
            Err(error) => tracing::error!(%error, "the rotation of keys failed; it is tried again"),
        }
    }
}

/// Looks once, and does what is due at `now`.
///
/// # Errors
///
/// What the database reports; what was not done is done at the next look.
pub async fn look(app: &Arc<App>, now: Timestamp) -> Result<Done, StoreError> {
    let work = Arc::clone(app);
    let found = app.store.read(move |view| find(view, |at| connected(&work, at), now)).await?;
    let mut done = Done::default();
    for batch in found.due.chunks(BATCH) {
        // Drawn before the transaction, which may run twice.
        let draw = |id: &SessionId| (*id, PresharedKey::from_bytes(*app.rng.bytes()));
        let new: Vec<(SessionId, PresharedKey)> = batch.iter().map(draw).collect();
        done.staged += app.store.write(move |tx| tx.stage_rotations(&new, now)).await?;
    }
    for batch in found.ready.chunks(BATCH) {
        let batch = batch.to_vec();
        done.promoted += app.store.write(move |tx| tx.promote_rotations(&batch)).await?;
    }
    for batch in found.late.chunks(BATCH) {
        let batch = batch.to_vec();
        let ended = app
            .store
            .write(move |tx| {
                let mut ended = BTreeSet::new();
                let by = By::new(Actor::System, now);
                for (session, location) in &batch {
                    if tx.end_session(by, *session, EndReason::RotationFailed)? {
                        ended.insert((*session, *location));
                    }
                }
                Ok::<_, StoreError>(ended)
            })
            .await?;
        done.given_up += ended.len();
        for (session, location) in ended {
            let reason = EndReason::RotationFailed.code();
            tracing::info!(%session, reason, "session ended");
            app.registry.wake(location);
        }
    }
    Ok(done)
}

/// What is to be done.
#[derive(Debug, Default)]
pub struct Found {
    /// Sessions that are due a new key.
    pub due: Vec<SessionId>,
    /// Rotations that both ends have completed.
    pub ready: Vec<SessionId>,
    /// Sessions whose client took none for too long.
    pub late: Vec<(SessionId, LocationId)>,
}

/// What is read of the store for that. The functions are those of [`Snapshot`].
#[expect(missing_docs, clippy::missing_errors_doc, reason = "described at Snapshot")]
pub trait Rotations {
    fn gateways(&mut self) -> Result<Vec<Gateway>, StoreError>;
    fn locations(&mut self) -> Result<Vec<Location>, StoreError>;
    fn due_for_rotation(
        &mut self,
        location: LocationId,
        since: Timestamp,
        limit: i64,
    ) -> Result<Vec<SessionId>, StoreError>;
    fn rotations(&mut self) -> Result<Vec<RotationInfo>, StoreError>;
}

impl Rotations for Snapshot {
    fn gateways(&mut self) -> Result<Vec<Gateway>, StoreError> {
        Self::gateways(self)
    }

    fn locations(&mut self) -> Result<Vec<Location>, StoreError> {
        Self::locations(self)
    }

    fn due_for_rotation(
        &mut self,
        location: LocationId,
        since: Timestamp,
        limit: i64,
    ) -> Result<Vec<SessionId>, StoreError> {
        Self::due_for_rotation(self, location, since, limit)
    }

    fn rotations(&mut self) -> Result<Vec<RotationInfo>, StoreError> {
        Self::rotations(self)
    }
}

/// A gateway that is connected to this core.
#[derive(Clone, Copy, Debug)]
pub struct Here {
    /// Which.
    pub gateway: GatewayId,
    /// The revision that it has in its kernel; `None`: it has not said so yet.
    pub applied: Option<i64>,
    /// It can set a key in place. A gateway of the existing protocol, and WireGuard in userspace, can
    /// only remove a peer and add it again, which would interrupt.
    pub in_place: bool,
}

/// The gateways of a location that are connected.
#[derive(Clone, Debug, Default)]
pub struct Connected {
    /// To this core.
    pub here: Vec<Here>,
    /// To other ones, and what each has applied there; `None`: it has not said so yet.
    pub elsewhere: BTreeMap<GatewayId, Option<i64>>,
}

/// Finds what is to be done at `now`; `connected` tells of a location which of its gateways are
/// connected.
///
/// # Errors
///
/// What the database reports.
pub fn find(
    view: &mut impl Rotations,
    connected: impl Fn(LocationId) -> Connected,
    now: Timestamp,
) -> Result<Found, StoreError> {
    let mut found = Found::default();
    let known = view.gateways()?;
    let mut places = BTreeMap::new();
    for location in view.locations()?.into_iter().filter(Location::asks_mfa) {
        let policy = location.settings.policy.psk();
        let there = There::look(&connected(location.id), location.id, &known, now);
        if let PskPolicy::Every(period) = policy
            && there.can_rotate()
        {
            let since = now.saturating_sub(period.get());
            found.due.extend(view.due_for_rotation(location.id, since, STAGED_A_LOOK)?);
        }
        places.insert(location.id, (policy, there));
    }
    for RotationInfo { session, location, rotation, revision } in view.rotations()? {
        let Some((policy, there)) = places.get(&location) else { continue };
        let have = revision.map_or(GatewaysHave::NotAll, |revision| there.have(revision));
        match rotation.step(*policy, have, now) {
            Step::Wait => {}
            Step::Promote => found.ready.push(session),
            Step::GiveUp => found.late.push((session, location)),
        }
    }
    Ok(found)
}

fn connected(app: &App, location: LocationId) -> Connected {
    let here = app.registry.list(location).into_iter().map(|one| Here {
        gateway: one.gateway,
        applied: one.applied,
        in_place: one.about.protocol == Protocol::Own && one.about.backend == KERNEL,
    });
    Connected { here: here.collect(), elsewhere: app.registry.elsewhere(location) }
}

/// The gateways of a location that are connected, to this core or another one of the database.
#[derive(Debug, Default)]
struct There {
    /// The revision that each has in its kernel.
    applied: Vec<i64>,
    /// All of them can set a key in place.
    in_place: bool,
    /// One has just left, and may still serve sessions with the keys that it has.
    just_left: bool,
}

impl There {
    fn look(
        connected: &Connected,
        location: LocationId,
        known: &[Gateway],
        now: Timestamp,
    ) -> Self {
        let Connected { here, elsewhere } = connected;
        let mut there = Self { in_place: true, ..Self::default() };
        for one in here {
            there.applied.push(one.applied.unwrap_or(-1));
            there.in_place &= one.in_place;
        }
        let served = |one: &&Gateway| one.location == location && one.revoked.is_none();
        for one in known.iter().filter(served) {
            let silent = one.heard.map_or(Duration::MAX, |heard| now.since(heard));
            if here.iter().any(|at| at.gateway == one.id) {
                continue;
            }
            if let Some(applied) = elsewhere.get(&one.id) {
                there.applied.push(applied.unwrap_or(-1));
                there.in_place &= one.legacy_token.is_none() && one.backend == KERNEL;
            } else if silent < REJECT_AFTER_TIME {
                there.just_left = true;
            }
        }
        there
    }

    fn can_rotate(&self) -> bool {
        // One that has come back may have a key that was promoted without it.
        let all_said = self.applied.iter().all(|applied| *applied >= 0);
        let patient = (all_said && !self.just_left) || mutant::on(Mutant::HastyRotation);
        !self.applied.is_empty() && self.in_place && patient
    }

    /// One that is away is not waited for: it takes a snapshot when it comes back, and the client
    /// keeps the key before until then.
    fn have(&self, revision: i64) -> GatewaysHave {
        let all = self.applied.iter().all(|applied| *applied >= revision)
            || mutant::on(Mutant::PromotedBehind);
        if all && !self.applied.is_empty() { GatewaysHave::All } else { GatewaysHave::NotAll }
    }
}
