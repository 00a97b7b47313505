//! The only reader of clocks in this crate; everything else is told the time.

use std::time::SystemTime;

use tokio::time::Instant;

/// The monotonic time: for timers and ages.
#[must_use]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The wall-clock time: to turn the kernel's handshake times into ages, and for certificates.
#[expect(clippy::disallowed_methods, reason = "this is the module that reads clocks")]
#[must_use]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}
