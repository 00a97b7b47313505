//! Wall-clock time as data.

use core::time::Duration;

/// A point in time: whole milliseconds since the Unix epoch, UTC.
///
/// Wall-clock, because it is stored, sent between hosts and compared with the kernel's handshake
/// times. It can step backwards; every subtraction here saturates.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(u64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const UNIX_EPOCH: Self = Self(0);

    /// Wraps milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_unix_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Returns milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_unix_millis(self) -> u64 {
        self.0
    }

    /// Returns whole seconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn as_unix_secs(self) -> u64 {
        self.0 / 1000
    }

    /// Returns `self + span`, or the last representable time.
    #[must_use]
    pub fn saturating_add(self, span: Duration) -> Self {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// Returns `self - span`, or the epoch.
    #[must_use]
    pub fn saturating_sub(self, span: Duration) -> Self {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(millis))
    }

    /// Returns how long before `self` `earlier` was; zero if it was not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_stops_at_its_ends() {
        let last = Timestamp::from_unix_millis(u64::MAX);
        assert_eq!(last.saturating_add(Duration::MAX), last);
        assert_eq!(Timestamp::UNIX_EPOCH.saturating_add(Duration::MAX), last);
        let second = Timestamp::from_unix_millis(1_000);
        assert_eq!(second.saturating_sub(Duration::MAX), Timestamp::UNIX_EPOCH);
        assert_eq!(second.saturating_sub(Duration::from_millis(1)).as_unix_millis(), 999);
    }

    #[test]
    fn a_span_is_never_negative() {
        let (early, late) = (Timestamp::from_unix_millis(500), Timestamp::from_unix_millis(1_999));
        assert_eq!(late.since(early), Duration::from_millis(1_499));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(late.as_unix_secs(), 1);
    }
}
