//! The only reader of clocks in this crate; everything else is told the time.

use core::time::Duration;
use std::time::SystemTime;

use rustix::time::{ClockId, Timespec, clock_gettime};
use tokio::time::Instant;

/// The monotonic time: for timers and ages.
#[must_use]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// As [`now`], but it goes on while the host is suspended: for leases. Only to be compared with itself.
///
/// The kernel's timers stand still in a suspend, and so does the monotonic time; core's word ages.
#[must_use]
pub(crate) fn boot() -> Instant {
    now() + suspended()
}

/// How long the host has been suspended since it was started, to the millisecond.
#[must_use]
pub(crate) fn suspended() -> Duration {
    // Read last, so that what passes between the two is no suspend; the rest is rounded away.
    let boot = since_start(clock_gettime(ClockId::Boottime));
    let awake = since_start(clock_gettime(ClockId::Monotonic));
    let millis = boot.saturating_sub(awake).as_millis();
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

fn since_start(time: Timespec) -> Duration {
    Duration::try_from(time).unwrap_or_default()
}

/// The wall-clock time: to turn the kernel's handshake times into ages, and for certificates.
#[expect(clippy::disallowed_methods, reason = "this is the module that reads clocks")]
#[must_use]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspend_only_adds_to_the_time() {
        let before = now() + suspended();
        assert!(boot() + Duration::from_millis(1) >= before);
    }
}
