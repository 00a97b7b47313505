//! What a location asks of those who connect to it.
//!
//! A policy is checked when it is built; code that holds one trusts it.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use wg_types::timers::REJECT_AFTER_TIME;

use crate::method::{Method, MethodSet};
use crate::rotate::PskPolicy;

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

/// What counts as a sign of life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IdleMode {
    /// User data: transfer net of keepalives and handshakes. A laptop that only keeps the tunnel
    /// open is idle.
    Transfer,
    /// A completed handshake. A laptop with keepalive renews it for ever and is never idle.
    Handshake,
}

impl IdleMode {
    /// Returns the word for configuration and the store: `transfer` or `handshake`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Transfer => "transfer",
            Self::Handshake => "handshake",
        }
    }

    /// Returns the shortest threshold that does not end sessions in use: 5 s by transfer, 180 s
    /// (`REJECT_AFTER_TIME`) by handshake, which a busy peer renews only every 120 s.
    #[must_use]
    pub const fn min_threshold(self) -> Duration {
        match self {
            Self::Transfer => Duration::from_secs(5),
            Self::Handshake => REJECT_AFTER_TIME,
        }
    }
}

impl fmt::Display for IdleMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl FromStr for IdleMode {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let mode = [Self::Transfer, Self::Handshake].into_iter().find(|mode| mode.code() == text);
        mode.ok_or(PolicyError::UnknownIdleMode)
    }
}

/// When a session has gone quiet: how its life is judged, and the *peer disconnect threshold*.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IdlePolicy {
    mode: IdleMode,
    threshold: Duration,
    gateway_keepalive: Option<Duration>,
}

impl IdlePolicy {
    /// The recommended threshold: 300 s.
    pub const DEFAULT_THRESHOLD: Duration = Duration::from_secs(300);

    /// The longest threshold: 7 days.
    pub const MAX_THRESHOLD: Duration = Duration::from_secs(7 * 24 * 3600);

    /// Checks a threshold against its mode.
    ///
    /// # Errors
    ///
    /// [`PolicyError::ThresholdTooShort`] below [`IdleMode::min_threshold`],
    /// [`PolicyError::ThresholdTooLong`] above [`Self::MAX_THRESHOLD`].
    pub fn new(mode: IdleMode, threshold: Duration) -> Result<Self, PolicyError> {
        if threshold < mode.min_threshold() {
            return Err(PolicyError::ThresholdTooShort { mode, given: threshold });
        }
        if threshold > Self::MAX_THRESHOLD {
            return Err(PolicyError::ThresholdTooLong { given: threshold });
        }
        Ok(Self { mode, threshold, gateway_keepalive: None })
    }

    /// Says that gateways themselves send a persistent keepalive at this interval, which is then
    /// not taken for data. Without this they send none.
    #[must_use]
    pub const fn with_gateway_keepalive(self, interval: Duration) -> Self {
        Self { gateway_keepalive: Some(interval), ..self }
    }

    /// Returns what counts as a sign of life.
    #[must_use]
    pub const fn mode(self) -> IdleMode {
        self.mode
    }

    /// Returns how long a session may be without one.
    #[must_use]
    pub const fn threshold(self) -> Duration {
        self.threshold
    }

    /// Returns the interval of the gateways' own persistent keepalive; `None`: they send none.
    #[must_use]
    pub const fn gateway_keepalive(self) -> Option<Duration> {
        self.gateway_keepalive
    }

    /// Checks whether gateways that report every `period` can support the threshold.
    ///
    /// A report may be lost, so two must fit into the threshold; and a session is ended up to one
    /// period late, because data is dated by the report that tells of it.
    ///
    /// # Errors
    ///
    /// [`PolicyWarning`], for the administrator: the policy still works, and ends sessions in use.
    pub fn check_statistics_period(self, period: Duration) -> Result<(), PolicyWarning> {
        if period.saturating_mul(2) <= self.threshold {
            return Ok(());
        }
        Err(PolicyWarning { threshold: self.threshold, period })
    }
}

/// By transfer, after 300 s.
impl Default for IdlePolicy {
    fn default() -> Self {
        Self {
            mode: IdleMode::Transfer,
            threshold: Self::DEFAULT_THRESHOLD,
            gateway_keepalive: None,
        }
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
        Self { mfa, methods, idle, lifetime, psk }.checked()
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
    /// A word that names no mode.
    #[error("unknown idle mode; the modes are: transfer, handshake")]
    UnknownIdleMode,
}

/// A statistics period that cannot support the threshold.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "gateways report every {period:?}, which cannot support a peer disconnect threshold of \
     {threshold:?}: one lost report would end sessions in use; report at least every {max:?}, or \
     raise the threshold to {min:?}",
    max = .threshold.checked_div(2).unwrap_or_default(),
    min = .period.saturating_mul(2)
)]
pub struct PolicyWarning {
    /// The location's threshold.
    pub threshold: Duration,
    /// The gateway's statistics period.
    pub period: Duration,
}
