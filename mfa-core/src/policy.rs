//! What a location asks of those who connect to it.
//!
//! A policy is checked when it is built; code that holds one trusts it.

mod daily;
mod idle;
mod link;
mod outage;

use core::time::Duration;

pub use daily::DailyEnd;
pub use idle::{IdleMode, IdlePolicy, PolicyWarning};
pub use link::LinkLoss;
pub use outage::OutageHold;

use crate::method::{Method, MethodSet};
use crate::rotate::PskPolicy;
use crate::time::Timestamp;

/// Whether a location asks for a second factor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mfa {
    /// Plain WireGuard: the device's key is enough.
    Off,
    /// A peer exists only for a live session.
    Required,
}

impl Mfa {
    /// Returns the word for the store: `off` or `required`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Required => "required",
        }
    }

    /// Reads a word of the store.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        [Self::Off, Self::Required].into_iter().find(|mfa| mfa.code() == code)
    }
}

/// How long a session lives at most, whatever its traffic: a compromised gateway can fake activity,
/// and this alone bounds it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lifetime(Duration);

impl Lifetime {
    /// 60 s.
    pub const MIN: Duration = Duration::from_secs(60);

    /// 30 days.
    pub const MAX: Duration = Duration::from_secs(30 * 24 * 3600);

    /// Checks a lifetime.
    ///
    /// # Errors
    ///
    /// [`PolicyError::LifetimeOutOfRange`] below [`Self::MIN`] or above [`Self::MAX`].
    pub fn new(lifetime: Duration) -> Result<Self, PolicyError> {
        if lifetime < Self::MIN || lifetime > Self::MAX {
            return Err(PolicyError::LifetimeOutOfRange { given: lifetime });
        }
        Ok(Self(lifetime))
    }

    /// Returns the span.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

/// 12 h, as NIST SP 800-63B asks at AAL2.
impl Default for Lifetime {
    fn default() -> Self {
        Self(Duration::from_secs(12 * 3600))
    }
}

/// What one location asks. Checked when built.
///
/// ```
/// use core::time::Duration;
/// use mfa_core::method::{Method, MethodSet};
/// use mfa_core::policy::{IdleMode, IdlePolicy, LocationPolicy, MethodRefused};
///
/// let policy = LocationPolicy::recommended()
///     .with_methods(MethodSet::from(Method::Totp))?
///     .with_idle(IdlePolicy::new(IdleMode::Transfer, Duration::from_secs(600))?);
///
/// let account = MethodSet::ALL;
/// assert_eq!(policy.admit(Method::Totp, account), Ok(()));
/// assert_eq!(policy.admit(Method::Email, account), Err(MethodRefused::NotAllowed));
/// # Ok::<(), mfa_core::policy::PolicyError>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LocationPolicy {
    mfa: Mfa,
    methods: MethodSet,
    idle: IdlePolicy,
    lifetime: Lifetime,
    psk: PskPolicy,
    daily_end: Option<DailyEnd>,
    link_loss: Option<LinkLoss>,
    outage_hold: Option<OutageHold>,
}

impl LocationPolicy {
    /// Returns the policy of a location without MFA. The rest is as in
    /// [`recommended`](Self::recommended), and waits until MFA is switched on.
    #[must_use]
    pub fn off() -> Self {
        Self { mfa: Mfa::Off, ..Self::recommended() }
    }

    /// Returns the recommended policy: MFA by any method, idle after 300 s without user data, 12 h
    /// at most, a new PSK every 10 min.
    #[must_use]
    pub fn recommended() -> Self {
        Self {
            mfa: Mfa::Required,
            methods: MethodSet::ALL,
            idle: IdlePolicy::default(),
            lifetime: Lifetime::default(),
            psk: PskPolicy::default(),
            daily_end: None,
            link_loss: None,
            outage_hold: None,
        }
    }

    /// Builds a policy of stored or configured parts.
    ///
    /// # Errors
    ///
    /// [`PolicyError::NoMethod`] if MFA is required by no method.
    pub fn new(
        mfa: Mfa,
        methods: MethodSet,
        idle: IdlePolicy,
        lifetime: Lifetime,
        psk: PskPolicy,
    ) -> Result<Self, PolicyError> {
        Self { mfa, methods, idle, lifetime, psk, ..Self::recommended() }.checked()
    }

    /// Returns the policy with MFA switched on or off.
    ///
    /// # Errors
    ///
    /// [`PolicyError::NoMethod`] if it is now required by no method.
    pub fn with_mfa(self, mfa: Mfa) -> Result<Self, PolicyError> {
        Self { mfa, ..self }.checked()
    }

    /// Returns the policy with other methods allowed.
    ///
    /// # Errors
    ///
    /// [`PolicyError::NoMethod`] if MFA is required and `methods` is empty.
    pub fn with_methods(self, methods: MethodSet) -> Result<Self, PolicyError> {
        Self { methods, ..self }.checked()
    }

    /// Returns the policy with another idea of idleness.
    #[must_use]
    pub const fn with_idle(self, idle: IdlePolicy) -> Self {
        Self { idle, ..self }
    }

    /// Returns the policy with another lifetime.
    #[must_use]
    pub const fn with_lifetime(self, lifetime: Lifetime) -> Self {
        Self { lifetime, ..self }
    }

    /// Returns the policy with another rotation of PSKs.
    #[must_use]
    pub const fn with_psk(self, psk: PskPolicy) -> Self {
        Self { psk, ..self }
    }

    /// Returns the policy with a time of day at which sessions end; `None`: there is none.
    #[must_use]
    pub const fn with_daily_end(self, daily_end: Option<DailyEnd>) -> Self {
        Self { daily_end, ..self }
    }

    /// Returns the policy with another limit for a lost link; `None`: there is none.
    #[must_use]
    pub const fn with_link_loss(self, link_loss: Option<LinkLoss>) -> Self {
        Self { link_loss, ..self }
    }

    /// Returns the policy with another hold for sessions while core is away; `None`: the gateways'
    /// lease ends their traffic.
    #[must_use]
    pub const fn with_outage_hold(self, outage_hold: Option<OutageHold>) -> Self {
        Self { outage_hold, ..self }
    }

    /// Returns whether a second factor is asked.
    #[must_use]
    pub const fn mfa(&self) -> Mfa {
        self.mfa
    }

    /// Returns the methods allowed here; only meaningful while MFA is required.
    #[must_use]
    pub const fn methods(&self) -> MethodSet {
        self.methods
    }

    /// Returns when a session has gone quiet.
    #[must_use]
    pub const fn idle(&self) -> IdlePolicy {
        self.idle
    }

    /// Returns how long a session lives at most.
    #[must_use]
    pub const fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// Returns the time of day at which sessions end; `None`: there is none.
    #[must_use]
    pub const fn daily_end(&self) -> Option<DailyEnd> {
        self.daily_end
    }

    /// Returns how long nothing at all may come from a peer; `None`: as long as it is not idle.
    #[must_use]
    pub const fn link_loss(&self) -> Option<LinkLoss> {
        self.link_loss
    }

    /// Returns how long sessions outlive core's absence; `None`: as long as the gateways' lease.
    #[must_use]
    pub const fn outage_hold(&self) -> Option<OutageHold> {
        self.outage_hold
    }

    /// Returns when a session that is proven at `now` ends at the latest.
    #[must_use]
    pub fn session_ends(&self, now: Timestamp) -> Timestamp {
        let ends = now.saturating_add(self.lifetime.get());
        self.daily_end.map_or(ends, |daily| ends.min(daily.next_after(now)))
    }

    /// Returns how often a session's PSK is renewed.
    #[must_use]
    pub const fn psk(&self) -> PskPolicy {
        self.psk
    }

    /// Decides whether `method` may be used here by an account that has `enabled` its methods.
    ///
    /// # Errors
    ///
    /// [`MethodRefused`], the location's refusal before the account's.
    pub fn admit(&self, method: Method, enabled: MethodSet) -> Result<(), MethodRefused> {
        match self.mfa {
            Mfa::Off => Err(MethodRefused::MfaOff),
            Mfa::Required if !self.methods.contains(method) => Err(MethodRefused::NotAllowed),
            Mfa::Required if !enabled.contains(method) => Err(MethodRefused::NotEnabled),
            Mfa::Required => Ok(()),
        }
    }

    fn checked(self) -> Result<Self, PolicyError> {
        match self.mfa {
            Mfa::Required if self.methods.is_empty() => Err(PolicyError::NoMethod),
            Mfa::Required | Mfa::Off => Ok(self),
        }
    }
}

/// Why a method may not be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MethodRefused {
    /// The location asks for no factor.
    #[error("this location does not ask for a second factor; update the client's configuration")]
    MfaOff,
    /// The location forbids the method.
    #[error("this location does not allow this method; choose another one")]
    NotAllowed,
    /// The account has not set the method up.
    #[error("this method is not enabled on the account; set it up first, or choose another one")]
    NotEnabled,
}

/// Why a policy was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// Nobody could connect.
    #[error("MFA needs at least one method; allow totp, email or both")]
    NoMethod,
    /// Sessions in use would be ended.
    #[error(
        "a threshold of {given:?} is too short for idleness by {mode}; use at least {min:?}",
        min = mode.min_threshold()
    )]
    ThresholdTooShort {
        /// How idleness is judged.
        mode: IdleMode,
        /// The refused value.
        given: Duration,
    },
    /// Sessions would hardly ever be ended.
    #[error(
        "a threshold of {given:?} is too long; use at most {max:?}",
        max = IdlePolicy::MAX_THRESHOLD
    )]
    ThresholdTooLong {
        /// The refused value.
        given: Duration,
    },
    /// Shorter than a person can use, or longer than anyone should trust.
    #[error(
        "a lifetime of {given:?} is out of range; use {min:?} to {max:?}",
        min = Lifetime::MIN,
        max = Lifetime::MAX
    )]
    LifetimeOutOfRange {
        /// The refused value.
        given: Duration,
    },
    /// Rotations would overlap, or hardly ever happen.
    #[error(
        "a rotation every {given:?} is out of range; use {min:?} to {max:?}, or off",
        min = PskPolicy::MIN_PERIOD,
        max = PskPolicy::MAX_PERIOD
    )]
    RotationOutOfRange {
        /// The refused value.
        given: Duration,
    },
    /// Peers whose link works would be ended, or hardly ever those whose link is lost.
    #[error(
        "a link-loss timer of {given:?} is out of range; use {min:?} to {max:?}, or off",
        min = LinkLoss::MIN,
        max = LinkLoss::MAX
    )]
    LinkLossOutOfRange {
        /// The refused value.
        given: Duration,
    },
    /// A client that has nothing to say would look like one whose link is lost.
    #[error(
        "a link-loss timer needs clients' keepalives, and this location's are off: a client that has \
         nothing to send would be disconnected; switch the keepalive on (25 seconds is usual), or the \
         link-loss timer off"
    )]
    LinkLossWithoutKeepalive,
    /// The same, with keepalives that are too rare.
    #[error(
        "a link-loss timer of {limit:?} is too short for a keepalive each {keepalive:?}: two must fit \
         into it"
    )]
    LinkLossWithinKeepalives {
        /// The refused limit.
        limit: Duration,
        /// How often clients send one.
        keepalive: Duration,
    },
    /// Shorter than the lease itself, or longer than anyone should trust.
    #[error(
        "a hold of {given:?} for outages of core is out of range; use {min:?} to {max:?}, or off",
        min = OutageHold::MIN,
        max = OutageHold::MAX
    )]
    OutageHoldOutOfRange {
        /// The refused value.
        given: Duration,
    },
    /// Not a time of day in a known zone.
    #[error(
        "an end of the day is HH:MM and a time zone of the IANA database, such as 18:30 Europe/Warsaw"
    )]
    DailyEnd,
    /// A word that names no mode.
    #[error("unknown idle mode; the modes are: transfer, handshake")]
    UnknownIdleMode,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mfa_by_no_method_is_refused() {
        let policy = LocationPolicy::recommended();
        assert_eq!(policy.with_methods(MethodSet::EMPTY), Err(PolicyError::NoMethod));

        let off = LocationPolicy::off().with_methods(MethodSet::EMPTY).unwrap();
        assert_eq!(off.with_mfa(Mfa::Required), Err(PolicyError::NoMethod));
        let build = |mfa| {
            let (idle, lifetime) = (policy.idle(), policy.lifetime());
            LocationPolicy::new(mfa, MethodSet::EMPTY, idle, lifetime, policy.psk())
        };
        assert_eq!(build(Mfa::Required), Err(PolicyError::NoMethod));
        assert_eq!(build(Mfa::Off), Ok(off));
    }

    #[test]
    fn a_policy_is_what_was_put_in() {
        let (idle, psk) = (IdlePolicy::default(), PskPolicy::Fixed);
        let lifetime = Lifetime::new(Duration::from_secs(3600)).unwrap();
        let methods = MethodSet::from(Method::Email);

        let built = LocationPolicy::new(Mfa::Required, methods, idle, lifetime, psk).unwrap();

        let parts = (built.mfa(), built.methods(), built.idle(), built.lifetime(), built.psk());
        assert_eq!(parts, (Mfa::Required, methods, idle, lifetime, psk));
        let changed = LocationPolicy::recommended()
            .with_methods(methods)
            .unwrap()
            .with_idle(idle)
            .with_lifetime(lifetime)
            .with_psk(psk);
        assert_eq!(built, changed);
        assert_eq!(built.with_mfa(Mfa::Off).unwrap().mfa(), Mfa::Off);
    }

    #[test]
    fn the_recommended_policy_is_the_promised_one() {
        let policy = LocationPolicy::recommended();
        assert_eq!(policy.mfa(), Mfa::Required);
        assert_eq!(policy.methods(), MethodSet::ALL);
        assert_eq!(policy.idle().threshold(), Duration::from_secs(300));
        assert_eq!(policy.lifetime().get(), Duration::from_secs(12 * 3600));
        assert_eq!(LocationPolicy::off().with_mfa(Mfa::Required), Ok(policy));
    }

    #[test]
    fn a_lifetime_is_within_its_range() {
        for good in [Lifetime::MIN, Lifetime::MAX] {
            assert_eq!(Lifetime::new(good).map(Lifetime::get), Ok(good));
        }
        let millisecond = Duration::from_millis(1);
        for given in [Lifetime::MIN.saturating_sub(millisecond), Lifetime::MAX + millisecond] {
            assert_eq!(Lifetime::new(given), Err(PolicyError::LifetimeOutOfRange { given }));
        }
    }

    /// Every policy with every account: the location speaks before the account.
    #[test]
    fn a_method_is_admitted_where_location_and_account_agree() {
        let sets = [MethodSet::EMPTY, Method::Totp.into(), Method::Email.into(), MethodSet::ALL];
        for allowed in sets {
            for enabled in sets {
                for method in Method::ALL {
                    let off = LocationPolicy::off().with_methods(allowed).unwrap();
                    assert_eq!(off.admit(method, enabled), Err(MethodRefused::MfaOff));
                    let Ok(on) = off.with_mfa(Mfa::Required) else { continue };
                    let expected = match (allowed.contains(method), enabled.contains(method)) {
                        (false, _) => Err(MethodRefused::NotAllowed),
                        (true, false) => Err(MethodRefused::NotEnabled),
                        (true, true) => Ok(()),
                    };
                    assert_eq!(on.admit(method, enabled), expected);
                }
            }
        }
    }

    #[test]
    fn words_of_the_store_read_back() {
        for mfa in [Mfa::Off, Mfa::Required] {
            assert_eq!(Mfa::from_code(mfa.code()), Some(mfa));
        }
        assert_eq!(Mfa::from_code("on"), None);
    }

    #[test]
    fn refusals_name_the_bounds() {
        let refused = Lifetime::new(Duration::from_secs(1)).unwrap_err();
        assert_eq!(refused.to_string(), "a lifetime of 1s is out of range; use 60s to 2592000s");
        let refused = IdlePolicy::new(IdleMode::Handshake, Duration::from_secs(60)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "a threshold of 60s is too short for idleness by handshake; use at least 180s"
        );
    }
}
