//! How long to wait before the next attempt: doubling, with jitter, for ever.

use core::time::Duration;

/// A doubling wait between two bounds.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts at `first` and never exceeds `longest`.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// Returns the next wait: between half and all of the current step, by `jitter` in
    /// `0.0..=1.0`. So gateways that lost core together do not return together.
    pub fn wait(&mut self, jitter: f64) -> Duration {
        let step = self.next;
        self.next = step.saturating_mul(2).min(self.longest);
        step.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }

    /// Forgets the failures: something went well.
    pub const fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_again_after_success() {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));

        let waits: Vec<_> = (0..9).map(|_| backoff.wait(1.0).as_millis()).collect();
        backoff.reset();

        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
        assert_eq!(backoff.wait(1.0).as_millis(), 500);
    }

    #[test]
    fn jitter_takes_away_at_most_half() {
        let fresh = || Backoff::new(Duration::from_secs(1), Duration::from_secs(1));
        assert_eq!(fresh().wait(0.0), Duration::from_millis(500));
        assert_eq!(fresh().wait(0.5), Duration::from_millis(750));
        assert_eq!(fresh().wait(f64::INFINITY), Duration::from_secs(1));
    }
}
