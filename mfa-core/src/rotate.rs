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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NORTH: GatewayId = GatewayId::new(1);
    const SOUTH: GatewayId = GatewayId::new(2);
    const SECOND: PskGeneration = PskGeneration::new(2);

    #[test]
    fn a_rotation_goes_client_gateways_promoted() {
        let mut rotation = staged();
        assert_eq!((rotation.generation(), rotation.state()), (SECOND, RotationState::Staged));
        assert_eq!(rotation.poll_timeout(), Some(at(60)));

        rotation.handle_client_set(SECOND, at(1));
        assert_eq!(rotation.state(), RotationState::ClientSet);
        rotation.handle_gateway_set(NORTH, SECOND, at(2));
        assert_eq!(rotation.state(), RotationState::ClientSet);
        assert!(rotation.waiting().eq([SOUTH]));
        rotation.handle_gateway_set(SOUTH, SECOND, at(3));
        assert_eq!((rotation.state(), rotation.poll_timeout()), (RotationState::GatewaysSet, None));
        rotation.promote();
        assert_eq!(rotation.state(), RotationState::Promoted);
    }

    #[test]
    fn a_location_without_gateways_waits_for_the_client_alone() {
        let mut rotation = Rotation::stage(PskGeneration::FIRST, BTreeSet::new(), at(0));
        assert_eq!(rotation.state(), RotationState::Staged);
        rotation.handle_client_set(SECOND, at(1));
        assert_eq!(rotation.state(), RotationState::GatewaysSet);
    }

    #[test]
    fn words_about_another_generation_change_nothing() {
        let mut rotation = staged();
        rotation.handle_client_set(PskGeneration::FIRST, at(1));
        assert_eq!(rotation.state(), RotationState::Staged);
        rotation.handle_client_set(SECOND, at(1));
        for generation in [PskGeneration::FIRST, SECOND.next()] {
            rotation.handle_gateway_set(NORTH, generation, at(2));
            assert!(rotation.waiting().eq([NORTH, SOUTH]));
        }
    }

    #[test]
    fn a_gateway_that_speaks_before_the_client_is_not_counted() {
        let mut rotation = staged();
        rotation.handle_gateway_set(NORTH, SECOND, at(1));
        rotation.promote();
        assert_eq!(rotation.state(), RotationState::Staged);
        assert!(rotation.waiting().eq([NORTH, SOUTH]));
    }

    #[test]
    fn a_late_rotation_is_abandoned_and_stays_so() {
        for client in [false, true] {
            let mut rotation = staged();
            if client {
                rotation.handle_client_set(SECOND, at(1));
            }
            rotation.handle_timeout(at(60).saturating_sub(Duration::from_millis(1)));
            assert_ne!(rotation.state(), RotationState::Abandoned);
            rotation.handle_client_set(SECOND, at(60));
            rotation.handle_gateway_set(NORTH, SECOND, at(60));
            rotation.handle_gateway_set(SOUTH, SECOND, at(60));
            rotation.promote();
            let end = (rotation.state(), rotation.poll_timeout());
            assert_eq!(end, (RotationState::Abandoned, None));
        }
    }

    #[test]
    fn what_both_ends_have_is_not_abandoned() {
        let mut rotation = staged();
        rotation.handle_client_set(SECOND, at(1));
        rotation.handle_gateway_set(NORTH, SECOND, at(2));
        rotation.handle_gateway_set(SOUTH, SECOND, at(2));
        rotation.handle_timeout(at(10_000));
        assert_eq!(rotation.state(), RotationState::GatewaysSet);
    }

    #[test]
    fn a_period_is_within_its_range() {
        for good in [PskPolicy::MIN_PERIOD, PskPolicy::MAX_PERIOD] {
            let PskPolicy::Every(period) = PskPolicy::every(good).unwrap() else {
                panic!("a period was given");
            };
            assert_eq!(period.get(), good);
        }
        let second = Duration::from_secs(1);
        let short = PskPolicy::MIN_PERIOD.saturating_sub(second);
        for given in [short, PskPolicy::MAX_PERIOD + second] {
            let refused = Err(PolicyError::RotationOutOfRange { given });
            assert_eq!(PskPolicy::every(given), refused);
        }
    }

    #[test]
    fn a_new_key_is_due_after_the_period_or_never() {
        assert_eq!(PskPolicy::default().due(at(0)), Some(at(600)));
        assert_eq!(PskPolicy::Fixed.due(at(0)), None);
    }

    #[test]
    fn generations_only_grow() {
        assert_eq!(PskGeneration::FIRST.get(), 1);
        assert!(PskGeneration::FIRST.next() > PskGeneration::FIRST);
        assert_eq!(PskGeneration::new(u32::MAX).next(), PskGeneration::new(u32::MAX));
    }

    proptest! {
        /// Whatever is said in whatever order: no step is skipped, and an end is final.
        #[test]
        fn no_step_is_skipped(ops in prop::collection::vec((0_u8..5, 0_u64..15), 1..40)) {
            use RotationState::{Abandoned, ClientSet, GatewaysSet, Promoted, Staged};

            let mut rotation = staged();
            let mut now = at(0);
            for (op, wait) in ops {
                let before = rotation.state();
                now = now.saturating_add(Duration::from_secs(wait));
                match op {
                    0 => rotation.handle_client_set(SECOND, now),
                    1 => rotation.handle_gateway_set(NORTH, SECOND, now),
                    2 => rotation.handle_gateway_set(SOUTH, SECOND, now),
                    3 => rotation.promote(),
                    _ => rotation.handle_timeout(now),
                }
                let allowed: &[RotationState] = match before {
                    Staged => &[Staged, ClientSet, Abandoned],
                    ClientSet => &[ClientSet, GatewaysSet, Abandoned],
                    GatewaysSet => &[GatewaysSet, Promoted],
                    Promoted => &[Promoted],
                    Abandoned => &[Abandoned],
                };
                prop_assert!(allowed.contains(&rotation.state()));
                if matches!(rotation.state(), GatewaysSet | Promoted) {
                    prop_assert_eq!(rotation.waiting().count(), 0);
                }
            }
        }
    }

    fn staged() -> Rotation {
        Rotation::stage(PskGeneration::FIRST, BTreeSet::from([NORTH, SOUTH]), at(0))
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_unix_millis(1_700_000_000_000 + secs * 1000)
    }
}
