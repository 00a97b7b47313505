//! When a peer's link is lost, as a location sees it.

use core::num::NonZeroU16;
use core::time::Duration;

use super::PolicyError;

/// How long nothing at all may come from a peer, keepalives and handshakes included, before its session
/// ends.
///
/// Idleness asks whether somebody works, this asks whether the device is there. So it only means
/// something for clients with a keepalive, and where it is shorter than the idle threshold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LinkLoss(Duration);

impl LinkLoss {
    /// 2 min: four reports of gateways by default, and more than four keepalives of clients.
    pub const MIN: Duration = Duration::from_secs(120);

    /// 7 days.
    pub const MAX: Duration = Duration::from_secs(7 * 24 * 3600);

    /// Checks a limit.
    ///
    /// # Errors
    ///
    /// [`PolicyError::LinkLossOutOfRange`] below [`Self::MIN`] or above [`Self::MAX`].
    pub fn new(limit: Duration) -> Result<Self, PolicyError> {
        if limit < Self::MIN || limit > Self::MAX {
            return Err(PolicyError::LinkLossOutOfRange { given: limit });
        }
        Ok(Self(limit))
    }

    /// Checks that a client which has nothing to say is heard all the same: two of its keepalives fit
    /// into the limit, so that one of them may be lost. `None`: it sends no keepalives.
    ///
    /// # Errors
    ///
    /// [`PolicyError::LinkLossWithoutKeepalive`], [`PolicyError::LinkLossWithinKeepalives`].
    pub fn check_keepalive(self, keepalive: Option<NonZeroU16>) -> Result<(), PolicyError> {
        let every = keepalive.ok_or(PolicyError::LinkLossWithoutKeepalive)?;
        let keepalive = Duration::from_secs(every.get().into());
        if keepalive.saturating_mul(2) > self.0 {
            return Err(PolicyError::LinkLossWithinKeepalives { limit: self.0, keepalive });
        }
        Ok(())
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
    fn a_limit_is_within_its_range() {
        for good in [LinkLoss::MIN, LinkLoss::MAX] {
            assert_eq!(LinkLoss::new(good).map(LinkLoss::get), Ok(good));
        }
        let millisecond = Duration::from_millis(1);
        for given in [LinkLoss::MIN.saturating_sub(millisecond), LinkLoss::MAX + millisecond] {
            assert_eq!(LinkLoss::new(given), Err(PolicyError::LinkLossOutOfRange { given }));
        }
    }
    #[test]
    fn two_keepalives_fit_into_a_limit() {
        let (limit, seconds) = (LinkLoss::new(LinkLoss::MIN).unwrap(), NonZeroU16::new);
        assert_eq!(limit.check_keepalive(None), Err(PolicyError::LinkLossWithoutKeepalive));
        assert_eq!(limit.check_keepalive(seconds(60)), Ok(()));
        assert_eq!(
            limit.check_keepalive(seconds(61)),
            Err(PolicyError::LinkLossWithinKeepalives {
                limit: LinkLoss::MIN,
                keepalive: Duration::from_secs(61)
            })
        );
    }
}
