//! Renews the PSK of a live session without a lost packet.
//!
//! The kernel uses a new PSK only in the next handshake and keeps the current keys until
//! `REJECT_AFTER_TIME` (180 s) after the last one, so both ends have time to converge, in either
//! order. A rotation that is not promoted leaves the old generation remembered at both ends.

use core::time::Duration;

use mutant::Mutant;
use wg_types::timers::REKEY_AFTER_TIME;

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
    /// `REKEY_AFTER_TIME` (120 s): a PSK matters in handshakes alone, and a tunnel in use makes one
    /// that often.
    pub const MIN_PERIOD: Duration = REKEY_AFTER_TIME;

    /// One day.
    pub const MAX_PERIOD: Duration = Duration::from_secs(24 * 3600);

    /// 15 min; see [`Self::patience`].
    pub const MIN_PATIENCE: Duration = Duration::from_secs(900);

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

    /// Returns how long a client may leave a staged PSK untaken before its session ends: three
    /// periods, at least 15 min. `None`: nothing is staged.
    #[must_use]
    pub fn patience(self) -> Option<Duration> {
        match self {
            Self::Fixed => None,
            Self::Every(period) => Some(period.0.saturating_mul(3).max(Self::MIN_PATIENCE)),
        }
    }
}

/// Every 10 min.
impl Default for PskPolicy {
    fn default() -> Self {
        Self::Every(RotationPeriod(Duration::from_secs(600)))
    }
}

/// One step from a generation to the next, as it is stored.
///
/// ```text
///            client has set it         client saw a handshake with it       all gateways have it
///   staged ───────────────────▶ set ───────────────────────────▶ proven ───────────────────▶ promoted
///      └── patience is over ──▶ given up: the session ends
/// ```
///
/// The client sets the new PSK first; gateways are given it only once the client says so. From then
/// on there is no way back: both ends keep the old one until the new one is proven, and whichever
/// missed it finds out at the next handshake, while the keys of the last one still serve.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rotation {
    to: PskGeneration,
    staged: Timestamp,
    state: RotationState,
}

/// Where a [`Rotation`] stands.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum RotationState {
    /// The new PSK is stored, and no peer has it.
    Staged,
    /// The client has it, and gateways are given it.
    Set,
    /// The client saw a handshake that only both ends' having it explains.
    Proven,
}

/// What is to be done about a [`Rotation`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Nothing yet.
    Wait,
    /// The new PSK becomes the session's own.
    Promote,
    /// The client did not take it for too long: the session ends.
    GiveUp,
}

/// How far the gateways of a location are with a rotation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GatewaysHave {
    /// At least one that is connected lacks the new PSK, or none is connected.
    NotAll,
    /// Every one that is connected has it in its kernel.
    All,
}

impl Rotation {
    /// Begins a rotation away from `current`.
    #[must_use]
    pub const fn stage(current: PskGeneration, now: Timestamp) -> Self {
        Self { to: current.next(), staged: now, state: RotationState::Staged }
    }

    /// Restores a stored rotation.
    #[must_use]
    pub const fn from_parts(to: PskGeneration, staged: Timestamp, state: RotationState) -> Self {
        Self { to, staged, state }
    }

    /// Returns the generation that the rotation leads to.
    #[must_use]
    pub const fn generation(&self) -> PskGeneration {
        self.to
    }

    /// Returns when it began. The next one is due a period later, however long this one takes.
    #[must_use]
    pub const fn staged(&self) -> Timestamp {
        self.staged
    }

    /// Returns where the rotation stands.
    #[must_use]
    pub const fn state(&self) -> RotationState {
        self.state
    }

    /// The client says which generation it has set, and with which it saw a handshake. Tells
    /// whether anything is new. Words about another generation change nothing, and none leads
    /// back; what is proven is set.
    pub fn handle_client(&mut self, set: PskGeneration, proven: PskGeneration) -> bool {
        let told = if proven == self.to {
            RotationState::Proven
        } else if set == self.to {
            RotationState::Set
        } else {
            RotationState::Staged
        };
        let before = self.state;
        let back = mutant::on(Mutant::WordsLeadBack);
        self.state = if back { told } else { before.max(told) };
        before != self.state
    }

    /// Decides what is to be done at `now`. `policy` is the location's of today.
    #[must_use]
    pub fn step(&self, policy: PskPolicy, gateways: GatewaysHave, now: Timestamp) -> Step {
        match (self.state, gateways) {
            (RotationState::Proven, GatewaysHave::All) => Step::Promote,
            (RotationState::Set, GatewaysHave::All) if mutant::on(Mutant::PromotedUnproven) => {
                Step::Promote
            }
            (RotationState::Staged, _) if mutant::on(Mutant::NeverGivenUp) => Step::Wait,
            (RotationState::Set, _) if mutant::on(Mutant::GivenUpAnyway) => {
                Self { state: RotationState::Staged, ..*self }.step(policy, gateways, now)
            }
            (RotationState::Staged, _) => match policy.patience() {
                Some(patience) if now.since(self.staged) >= patience => Step::GiveUp,
                Some(_) | None => Step::Wait,
            },
            (RotationState::Set | RotationState::Proven, _) => Step::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIRST: PskGeneration = PskGeneration::FIRST;
    const SECOND: PskGeneration = PskGeneration::new(2);

    #[test]
    fn a_rotation_goes_set_proven_promoted() {
        let mut rotation = Rotation::stage(FIRST, at(0));
        assert_eq!((rotation.generation(), rotation.state()), (SECOND, RotationState::Staged));
        assert_eq!(step(&rotation, GatewaysHave::All, 1), Step::Wait);

        assert!(rotation.handle_client(SECOND, FIRST));
        assert_eq!(rotation.state(), RotationState::Set);
        assert_eq!(step(&rotation, GatewaysHave::All, 2), Step::Wait, "no handshake proved it");

        assert!(rotation.handle_client(SECOND, SECOND));
        assert_eq!(step(&rotation, GatewaysHave::NotAll, 3), Step::Wait, "a gateway lacks it");
        assert_eq!(step(&rotation, GatewaysHave::All, 4), Step::Promote);
    }

    #[test]
    fn a_word_that_was_lost_is_made_up_for_by_the_next() {
        let mut rotation = Rotation::stage(FIRST, at(0));
        assert!(rotation.handle_client(SECOND, SECOND));
        assert_eq!(rotation.state(), RotationState::Proven);
        assert!(!rotation.handle_client(SECOND, FIRST), "what was proven stays so");
        assert_eq!(rotation.state(), RotationState::Proven);
    }

    #[test]
    fn words_about_another_generation_change_nothing() {
        let mut rotation = Rotation::stage(FIRST, at(0));
        for other in [FIRST, SECOND.next(), PskGeneration::new(u32::MAX)] {
            assert!(!rotation.handle_client(other, other));
            assert_eq!(rotation.state(), RotationState::Staged);
        }
    }

    #[test]
    fn a_client_that_takes_nothing_is_given_up_exactly_when_patience_is_over() {
        let rotation = Rotation::stage(FIRST, at(0));
        let patience = PskPolicy::default().patience().unwrap().as_secs();
        for gateways in [GatewaysHave::NotAll, GatewaysHave::All] {
            assert_eq!(step(&rotation, gateways, patience - 1), Step::Wait);
            assert_eq!(step(&rotation, gateways, patience), Step::GiveUp);
        }
        let never = rotation.step(PskPolicy::Fixed, GatewaysHave::All, at(1_000_000));
        assert_eq!(never, Step::Wait, "rotation was switched off meanwhile");
    }

    #[test]
    fn what_the_client_has_is_never_given_up() {
        let mut rotation = Rotation::stage(FIRST, at(0));
        rotation.handle_client(SECOND, FIRST);
        assert_eq!(step(&rotation, GatewaysHave::NotAll, 1_000_000), Step::Wait);
    }

    #[test]
    fn patience_is_three_periods_and_at_least_a_quarter_of_an_hour() {
        let patience = |secs| PskPolicy::every(Duration::from_secs(secs)).unwrap().patience();
        assert_eq!(patience(120), Some(Duration::from_secs(900)));
        assert_eq!(patience(600), Some(Duration::from_secs(1800)));
        assert_eq!(PskPolicy::Fixed.patience(), None);
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
        assert_eq!(FIRST.get(), 1);
        assert!(FIRST.next() > FIRST);
        assert_eq!(PskGeneration::new(u32::MAX).next(), PskGeneration::new(u32::MAX));
    }

    proptest! {
        /// Whatever is said in whatever order: nothing leads back, and nothing is promoted that was
        /// not proven.
        #[test]
        fn nothing_leads_back(
            words in prop::collection::vec((0_u32..5, 0_u32..5, any::<bool>(), 0_u64..4000), 1..40),
        ) {
            let mut rotation = Rotation::stage(FIRST, at(0));
            let mut proven = false;
            for (set, saw, all, now) in words {
                let before = rotation.state();
                let new = rotation.handle_client(PskGeneration::new(set), PskGeneration::new(saw));
                proven |= saw == 2;
                prop_assert!(rotation.state() >= before);
                prop_assert_eq!(new, rotation.state() != before);
                let gateways = if all { GatewaysHave::All } else { GatewaysHave::NotAll };
                let next = step(&rotation, gateways, now);
                prop_assert_eq!(next == Step::Promote, proven && all);
                prop_assert!(next != Step::GiveUp || rotation.state() == RotationState::Staged);
            }
        }
    }

    fn step(rotation: &Rotation, gateways: GatewaysHave, secs: u64) -> Step {
        rotation.step(PskPolicy::default(), gateways, at(secs))
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_unix_millis(1_700_000_000_000 + secs * 1000)
    }
}
