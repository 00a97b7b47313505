//! When a session has gone quiet, as a location sees it.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use wg_types::timers::REJECT_AFTER_TIME;

use super::PolicyError;

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
