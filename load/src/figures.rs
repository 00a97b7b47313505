//! Times of answers.

use core::fmt;
use core::time::Duration;

/// Times, sorted.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Takes times in any order.
    #[must_use]
    pub fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// How many.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.0.len()
    }

    /// The time that so many per mille stay below; zero if there are none.
    #[must_use]
    pub fn per_mille(&self, part: usize) -> Duration {
        let at = self.0.len().saturating_mul(part) / 1000;
        self.0.get(at.min(self.0.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |part| self.per_mille(part).as_secs_f64() * 1000.0;
        let (half, most, longest) = (millis(500), millis(990), millis(1000));
        write!(f, "p50 {half:.1} ms, p99 {most:.1} ms, longest {longest:.1} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_times_stays_below() {
        let times = Times::new((1..=100).rev().map(Duration::from_millis).collect());
        assert_eq!(times.per_mille(500), Duration::from_millis(51));
        assert_eq!(times.per_mille(990), Duration::from_millis(100));
        assert_eq!(Times::default().per_mille(990), Duration::ZERO);
    }
}
