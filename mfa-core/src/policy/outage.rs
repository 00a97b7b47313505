//! How long sessions outlive core's absence, where an administrator wants them to.

use core::time::Duration;

use super::PolicyError;

/// How long after a gateway last heard of core its peers' traffic may pass.
///
/// Without one it is the gateway's lease. With one, what only core can know in that time (that a user was
/// disabled, that an administrator ended the session) is not known to the gateway: it judges by the
/// session's lifetime and its idleness alone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OutageHold(Duration);

impl OutageHold {
    /// 2 min: more than the lease.
    pub const MIN: Duration = Duration::from_secs(120);

    /// 7 days.
    pub const MAX: Duration = Duration::from_secs(7 * 24 * 3600);

    /// Checks a hold.
    ///
    /// # Errors
    ///
    /// [`PolicyError::OutageHoldOutOfRange`] below [`Self::MIN`] or above [`Self::MAX`].
    pub fn new(hold: Duration) -> Result<Self, PolicyError> {
        if hold < Self::MIN || hold > Self::MAX {
            return Err(PolicyError::OutageHoldOutOfRange { given: hold });
        }
        Ok(Self(hold))
    }

    /// Returns the span.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_is_within_its_range() {
        for good in [OutageHold::MIN, OutageHold::MAX] {
            assert_eq!(OutageHold::new(good).map(OutageHold::get), Ok(good));
        }
        let millisecond = Duration::from_millis(1);
        for given in [OutageHold::MIN.saturating_sub(millisecond), OutageHold::MAX + millisecond] {
            assert_eq!(OutageHold::new(given), Err(PolicyError::OutageHoldOutOfRange { given }));
        }
    }
}
