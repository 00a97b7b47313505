//! The one place that reads a clock; everything else takes the time as a parameter.

use std::time::{Instant, SystemTime};

/// Reads the wall clock, which handshakes and deadlines are told in.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// Reads the clock that never jumps, for the time a thing took.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn monotonic() -> Instant {
    Instant::now()
}
