//! How much a gateway may say.

use core::time::Duration;

/// Messages that may come at once: what a gateway has to say after a long silence.
const BURST: u32 = 2_000;

/// Messages a second in the long run: an acknowledgement of each login of a morning's storm, with
/// room to spare.
const RATE: u32 = 500;

/// Counts one stream's messages. All times are since the stream began.
#[derive(Debug)]
pub struct Pace {
    left: u32,
    refilled: Duration,
}

impl Pace {
    /// Starts with the whole burst to spend.
    #[must_use]
    pub const fn new() -> Self {
        Self { left: BURST, refilled: Duration::ZERO }
    }

    /// Counts a message that came at `at`. Returns whether it may be heard.
    pub fn allows(&mut self, at: Duration) -> bool {
        let waited = at.saturating_sub(self.refilled);
        let earned = waited.as_millis().saturating_mul(u128::from(RATE)) / 1000;
        if let Ok(earned @ 1..) = u32::try_from(earned) {
            self.left = self.left.saturating_add(earned).min(BURST);
            self.refilled = at;
        }
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allowed
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_after_the_burst() {
        let mut pace = Pace::new();
        let heard = (0..50_000).filter(|_| pace.allows(Duration::ZERO)).count();
        assert_eq!(heard, 2_000);
    }

    #[test]
    fn a_storm_of_logins_is_heard_for_hours() {
        let mut pace = Pace::new();
        let refused = (0..1_000_000_u64).find(|n| !pace.allows(Duration::from_millis(n * 2)));
        assert_eq!(refused, None);
    }

    #[test]
    fn small_steps_of_time_earn_as_much_as_large_ones() {
        let mut pace = Pace::new();
        while pace.allows(Duration::ZERO) {}
        let heard =
            (1..=10_000_u64).filter(|n| pace.allows(Duration::from_micros(n * 100))).count();
        assert!((490..=510).contains(&heard), "{heard}");
    }
}
