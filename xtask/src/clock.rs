//! The only reader of a clock in here.

use std::time::{Duration, Instant};

/// Measures how long something takes, by the wall.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is the clock of the chores")]
        let now = Instant::now();
        Self(now)
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}
