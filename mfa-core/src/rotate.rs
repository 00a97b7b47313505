//! Renews the PSK of a live session without a lost packet.
//!
//! The kernel uses a new PSK only in the next handshake and keeps the current keys until
//! `REJECT_AFTER_TIME` (180 s) after the last one, so both ends have time to converge, in either
//! order. A rotation that is not promoted leaves the old generation in force.

use core::time::Duration;
use std::collections::BTreeSet;

use crate::id::GatewayId;
use crate::policy::PolicyError;
use crate::time::Timestamp;

/// The n-th PSK of a session, counted from 1.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PskGeneration(u32);

impl PskGeneration {
    /// The PSK that the login bought.
    pub const FIRST: Self = Self(1);

    /// Wraps a stored number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Returns the generation after this one; the last one is its own successor.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// How often a live session gets a new PSK.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PskPolicy {
    /// The login's PSK serves until the session ends.
    Fixed,
    /// A new one each time this span has passed; see [`PskPolicy::every`].
    Every(RotationPeriod),
}

/// A span between two rotations, within [`PskPolicy::MIN_PERIOD`] and [`PskPolicy::MAX_PERIOD`].
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct RotationPeriod(Duration);

impl RotationPeriod {
    /// Returns the span.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl PskPolicy {
    /// 60 s: shorter ones would overlap.
    pub const MIN_PERIOD: Duration = Duration::from_secs(60);

    /// One day.
    pub const MAX_PERIOD: Duration = Duration::from_secs(24 * 3600);

    /// Checks a period.
    ///
    /// # Errors
    ///
    /// [`PolicyError::RotationOutOfRange`] outside [`Self::MIN_PERIOD`] to [`Self::MAX_PERIOD`].
    pub fn every(period: Duration) -> Result<Self, PolicyError> {
        if period < Self::MIN_PERIOD || period > Self::MAX_PERIOD {
            return Err(PolicyError::RotationOutOfRange { given: period });
        }
        Ok(Self::Every(RotationPeriod(period)))
    }

    /// Returns when a PSK set at `since` is due to be replaced; `None`: never.
    #[must_use]
    pub fn due(self, since: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Fixed => None,
            Self::Every(period) => Some(since.saturating_add(period.0)),
        }
    }
}

/// Every 10 min.
impl Default for PskPolicy {
    fn default() -> Self {
        Self::Every(RotationPeriod(Duration::from_secs(600)))
    }
}

/// One step from a generation to the next.
///
/// ```text
///            client_set          gateway_set (all of them)     promote
///   staged ─────────────▶ client set ─────────────▶ gateways set ─────▶ promoted
///      │                      │                          │
///      └──────────────────────┴────── deadline ──────────┴──▶ abandoned (old generation serves)
/// ```
///
/// The client sets the new PSK first, because it is the one that initiates handshakes: until the
/// gateways follow, the keys of the last handshake serve.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rotation {
    to: PskGeneration,
    state: RotationState,
    waiting: BTreeSet<GatewayId>,
    deadline: Timestamp,
}

/// Where a [`Rotation`] stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RotationState {
    /// The new PSK is stored, and no peer has it.
    Staged,
    /// The client has it; gateways are about to get it.
    ClientSet,
    /// Both ends have it; the old one is still remembered.
    GatewaysSet,
    /// The old one is forgotten.
    Promoted,
    /// Not everyone got it in time; whoever has it goes back to the old one.
    Abandoned,
}

impl Rotation {
    /// How long both ends have to converge: from a handshake that is due at 120 s to the end of
    /// the keys at 180 s.
    pub const TIME_LIMIT: Duration = Duration::from_secs(60);

    /// Begins a rotation away from `current`, over all of the location's `gateways`.
    #[must_use]
    pub fn stage(current: PskGeneration, gateways: BTreeSet<GatewayId>, now: Timestamp) -> Self {
        Self {
            to: current.next(),
            state: RotationState::Staged,
            waiting: gateways,
            deadline: now.saturating_add(Self::TIME_LIMIT),
        }
    }

    /// Returns the generation that the rotation leads to.
    #[must_use]
    pub const fn generation(&self) -> PskGeneration {
        self.to
    }

    /// Returns where the rotation stands.
    #[must_use]
    pub const fn state(&self) -> RotationState {
        self.state
    }

    /// Returns the gateways that have not confirmed the new PSK.
    pub fn waiting(&self) -> impl Iterator<Item = GatewayId> {
        self.waiting.iter().copied()
    }

    /// Returns when the rotation is abandoned; `None` once it has come to its end.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Timestamp> {
        match self.state {
            RotationState::Staged | RotationState::ClientSet => Some(self.deadline),
            RotationState::GatewaysSet | RotationState::Promoted | RotationState::Abandoned => None,
        }
    }

    /// The client says that it has set `generation`. Words about another one change nothing.
    pub fn handle_client_set(&mut self, generation: PskGeneration, now: Timestamp) {
        self.handle_timeout(now);
        match self.state {
            RotationState::Staged if generation == self.to => {
                self.state = RotationState::ClientSet;
                self.settle();
            }
            RotationState::Staged
            | RotationState::ClientSet
            | RotationState::GatewaysSet
            | RotationState::Promoted
            | RotationState::Abandoned => {}
        }
    }

    /// A gateway says that its interface has `generation`. Words about another one change nothing.
    pub fn handle_gateway_set(
        &mut self,
        gateway: GatewayId,
        generation: PskGeneration,
        now: Timestamp,
    ) {
        self.handle_timeout(now);
        match self.state {
            RotationState::ClientSet if generation == self.to => {
                self.waiting.remove(&gateway);
                self.settle();
            }
            RotationState::Staged
            | RotationState::ClientSet
            | RotationState::GatewaysSet
            | RotationState::Promoted
            | RotationState::Abandoned => {}
        }
    }

    /// The store has made the new generation the session's own.
    pub fn promote(&mut self) {
        match self.state {
            RotationState::GatewaysSet => self.state = RotationState::Promoted,
            RotationState::Staged
            | RotationState::ClientSet
            | RotationState::Promoted
            | RotationState::Abandoned => {}
        }
    }

    /// Moves time forward; a rotation that is late is abandoned.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        if self.poll_timeout().is_some_and(|deadline| now >= deadline) {
            self.state = RotationState::Abandoned;
        }
    }

    fn settle(&mut self) {
        if self.waiting.is_empty() {
            self.state = RotationState::GatewaysSet;
        }
    }
}
