//! When a session has gone quiet, as a location sees it.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use wg_types::timers::{REJECT_AFTER_TIME, REKEY_AFTER_TIME};

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

impl IdleMode {
    /// How long a busy peer may go without a sign of life of this kind.
    const fn renewal(self) -> Duration {
        match self {
            Self::Transfer => Duration::ZERO,
            Self::Handshake => REKEY_AFTER_TIME,
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
    threshold: Millis,
    /// Zero: they send none.
    gateway_keepalive: Millis,
}

/// A span of 49 days at most, in a quarter of a [`Duration`]'s room: each live session has a policy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Millis(u32);

impl Millis {
    #[expect(clippy::cast_possible_truncation, clippy::as_conversions, reason = "it is not more")]
    const fn new(span: Duration) -> Self {
        let millis = span.as_millis();
        Self(if millis > u32::MAX as u128 { u32::MAX } else { millis as u32 })
    }

    #[expect(clippy::as_conversions, reason = "there is no `from` in a constant")]
    const fn get(self) -> Duration {
        Duration::from_millis(self.0 as u64)
    }
}

impl IdlePolicy {
    /// The recommended threshold: 300 s.
    pub const DEFAULT_THRESHOLD: Duration = Duration::from_secs(300);

    /// The longest threshold: 7 days.
    pub const MAX_THRESHOLD: Duration = Duration::from_secs(7 * 24 * 3600);

    /// Checks a threshold against its mode. It counts in whole milliseconds.
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
        let gateway_keepalive = Millis::new(Duration::ZERO);
        Ok(Self { mode, threshold: Millis::new(threshold), gateway_keepalive })
    }

    /// Says that gateways themselves send a persistent keepalive at this interval, which is then
    /// not taken for data. Without this they send none.
    #[must_use]
    pub const fn with_gateway_keepalive(self, interval: Duration) -> Self {
        Self { gateway_keepalive: Millis::new(interval), ..self }
    }

    /// Returns what counts as a sign of life.
    #[must_use]
    pub const fn mode(self) -> IdleMode {
        self.mode
    }

    /// Returns how long a session may be without one.
    #[must_use]
    pub const fn threshold(self) -> Duration {
        self.threshold.get()
    }

    /// Returns the interval of the gateways' own persistent keepalive; `None`: they send none.
    #[must_use]
    pub const fn gateway_keepalive(self) -> Option<Duration> {
        let interval = self.gateway_keepalive.get();
        if interval.is_zero() { None } else { Some(interval) }
    }

    /// Checks whether gateways that report every `period` can support the threshold.
    ///
    /// One report may be lost, so two periods must fit into the threshold; by handshake they must
    /// fit into what `REKEY_AFTER_TIME` (120 s) leaves of it, since a busy peer shows no sign of life
    /// more often than that.
    ///
    /// # Errors
    ///
    /// [`PolicyWarning`], for the administrator: the policy still works, and may end sessions in
    /// use.
    pub fn check_statistics_period(self, period: Duration) -> Result<(), PolicyWarning> {
        if period <= self.max_statistics_period() {
            return Ok(());
        }
        let needed = period.saturating_mul(2).saturating_add(self.mode.renewal());
        Err(PolicyWarning {
            threshold: self.threshold(),
            period,
            max_period: self.max_statistics_period(),
            min_threshold: needed,
        })
    }

    fn max_statistics_period(self) -> Duration {
        self.threshold().saturating_sub(self.mode.renewal()) / 2
    }
}

/// By transfer, after 300 s.
impl Default for IdlePolicy {
    fn default() -> Self {
        Self {
            mode: IdleMode::Transfer,
            threshold: Millis::new(Self::DEFAULT_THRESHOLD),
            gateway_keepalive: Millis::new(Duration::ZERO),
        }
    }
}

/// A statistics period that cannot support the threshold.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "gateways report every {period:?}, which cannot support a peer disconnect threshold of \
     {threshold:?}: one lost report would end sessions in use; report at least every \
     {max_period:?}, or raise the threshold to {min_threshold:?}"
)]
pub struct PolicyWarning {
    /// The location's threshold.
    pub threshold: Duration,
    /// The gateway's statistics period.
    pub period: Duration,
    /// The longest period that supports the threshold.
    pub max_period: Duration,
    /// The shortest threshold that the period supports.
    pub min_threshold: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;
    use IdleMode::{Handshake, Transfer};

    #[test]
    fn a_threshold_is_as_long_as_its_mode_needs() {
        for (mode, min) in [(Transfer, secs(5)), (Handshake, secs(180))] {
            let given = min.saturating_sub(Duration::from_millis(1));
            let refused = Err(PolicyError::ThresholdTooShort { mode, given });
            assert_eq!(IdlePolicy::new(mode, given), refused);
            let policy = IdlePolicy::new(mode, min).unwrap();
            assert_eq!((policy.mode(), policy.threshold()), (mode, min));
        }
        assert!(IdlePolicy::new(Transfer, IdlePolicy::MAX_THRESHOLD).is_ok());
        let given = IdlePolicy::MAX_THRESHOLD + secs(1);
        let refused = Err(PolicyError::ThresholdTooLong { given });
        assert_eq!(IdlePolicy::new(Transfer, given), refused);
    }

    #[test]
    fn the_default_is_300_s_without_data() {
        let policy = IdlePolicy::default();
        assert_eq!((policy.mode(), policy.threshold()), (Transfer, secs(300)));
        assert_eq!(policy.gateway_keepalive(), None);
        let policy = policy.with_gateway_keepalive(secs(25));
        assert_eq!(policy.gateway_keepalive(), Some(secs(25)));
    }

    #[test]
    fn two_reports_must_fit_into_the_threshold() {
        let rows = [
            // mode, threshold, the longest period that supports it
            (Transfer, 300, 150),
            (Transfer, 60, 30),
            (Transfer, 5, 2),
            (Handshake, 180, 30),
            (Handshake, 300, 90),
        ];
        for (mode, threshold, longest) in rows {
            let policy = IdlePolicy::new(mode, secs(threshold)).unwrap();
            assert_eq!(policy.check_statistics_period(secs(longest)), Ok(()), "{mode} {threshold}");
            let warning = policy.check_statistics_period(secs(longest + 1)).unwrap_err();
            assert!(warning.max_period >= secs(longest) && warning.max_period < secs(longest + 1));
            let raised = IdlePolicy::new(mode, warning.min_threshold).unwrap();
            assert_eq!(raised.check_statistics_period(secs(longest + 1)), Ok(()));
        }
    }

    #[test]
    fn the_warning_says_what_to_do() {
        let policy = IdlePolicy::new(Transfer, secs(50)).unwrap();
        let warning = policy.check_statistics_period(secs(30)).unwrap_err();
        let text = warning.to_string();
        assert!(
            text.ends_with("report at least every 25s, or raise the threshold to 60s"),
            "{text}"
        );
    }

    #[test]
    fn modes_read_back() {
        for mode in [Transfer, Handshake] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert_eq!("".parse::<IdleMode>(), Err(PolicyError::UnknownIdleMode));
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }
}
