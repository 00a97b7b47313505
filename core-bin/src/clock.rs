//! The only place that reads the clock.

use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use mfa_core::time::Timestamp;

/// Tells the time. Clones of a manual clock are one clock.
#[derive(Clone, Debug)]
pub struct Clock(Kind);

#[derive(Clone, Debug)]
enum Kind {
    System,
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The host's wall clock.
    #[must_use]
    pub const fn system() -> Self {
        Self(Kind::System)
    }

    /// A clock that stands still until it is [`advance`](Self::advance)d, for tests and the demo.
    #[must_use]
    pub fn manual(start: Timestamp) -> Self {
        Self(Kind::Manual(Arc::new(AtomicU64::new(start.as_unix_millis()))))
    }

    /// Returns the time.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the place that reads the clock")]
    pub fn now(&self) -> Timestamp {
        let millis = match &self.0 {
            Kind::Manual(millis) => millis.load(Ordering::SeqCst),
            Kind::System => SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .ok()
                .and_then(|since| u64::try_from(since.as_millis()).ok())
                .unwrap_or(0),
        };
        Timestamp::from_unix_millis(millis)
    }

    /// Moves a manual clock forward; the host's clock is left alone.
    pub fn advance(&self, span: Duration) {
        if let Kind::Manual(millis) = &self.0 {
            let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
            // The closure always returns Some, so this never fails.
            let _ = millis.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| {
                Some(now.saturating_add(span))
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_a_manual_clock_move_together() {
        let clock = Clock::manual(Timestamp::from_unix_millis(1_000));
        let other = clock.clone();
        clock.advance(Duration::from_secs(2));
        assert_eq!(other.now(), Timestamp::from_unix_millis(3_000));
    }
}
