//! When peers shook hands, told by a gateway whose clock may be wrong.
//!
//! The gateway reports the time of the last handshake by its own clock. That it *changed* is what
//! can be trusted: so a handshake is new when its time is another than before, and from then on it
//! ages by core's clock. A gateway whose clock is ahead can therefore not keep a session alive.

use core::time::Duration;
use std::collections::BTreeMap;

use mfa_core::time::Timestamp;
use wg_types::PublicKey;

/// Clocks that differ by less are taken to agree.
const AGREE: Duration = Duration::from_secs(60);

/// The last handshakes that one gateway reported.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    seen: BTreeMap<PublicKey, Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    /// As reported.
    seconds: u64,
    /// By core's clock.
    at: Timestamp,
}

impl Handshakes {
    /// Returns the age of a peer's last handshake, which the gateway says was at `seconds` since the
    /// Unix epoch; zero is never.
    pub(super) fn age(
        &mut self,
        peer: PublicKey,
        seconds: u64,
        now: Timestamp,
    ) -> Option<Duration> {
        if seconds == 0 {
            self.seen.remove(&peer);
            return None;
        }
        let said = Timestamp::from_unix_millis(seconds.saturating_mul(1000)).min(now);
        let at = match self.seen.get(&peer) {
            Some(seen) if seen.seconds == seconds => seen.at,
            // It is new; the gateway's word is good for how new if its clock seems right.
            Some(_) if now.since(said) > AGREE => now,
            Some(_) | None => said,
        };
        self.seen.insert(peer, Seen { seconds, at });
        Some(now.since(at))
    }

    /// Forgets peers that are no longer there.
    pub(super) fn retain(&mut self, there: impl Fn(&PublicKey) -> bool) {
        self.seen.retain(|peer, _| there(peer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PublicKey = PublicKey::from_bytes([1; 32]);

    #[test]
    fn with_a_right_clock_an_age_is_what_it_seems() {
        let mut handshakes = Handshakes::default();
        assert_eq!(age(&mut handshakes, 1000, 1010), Some(10));
        assert_eq!(age(&mut handshakes, 1000, 1040), Some(40));
        assert_eq!(age(&mut handshakes, 1120, 1125), Some(5));
    }

    #[test]
    fn a_gateway_from_the_future_cannot_keep_a_session_alive() {
        let mut handshakes = Handshakes::default();
        assert_eq!(age(&mut handshakes, 99_999, 1000), Some(0));
        assert_eq!(age(&mut handshakes, 99_999, 1300), Some(300));
    }

    #[test]
    fn a_gateway_from_the_past_does_not_end_a_session_in_use() {
        let mut handshakes = Handshakes::default();
        assert_eq!(age(&mut handshakes, 1000, 9000), Some(8000));
        assert_eq!(age(&mut handshakes, 1120, 9120), Some(0));
        assert_eq!(age(&mut handshakes, 1120, 9150), Some(30));
    }

    #[test]
    fn never_is_not_1970() {
        let mut handshakes = Handshakes::default();
        assert_eq!(age(&mut handshakes, 0, 1000), None);
        assert_eq!(age(&mut handshakes, 1000, 1000), Some(0));
        assert_eq!(age(&mut handshakes, 0, 1000), None);
    }

    #[test]
    fn times_beyond_all_times_do_not_overflow() {
        let mut handshakes = Handshakes::default();
        assert_eq!(age(&mut handshakes, u64::MAX, 1000), Some(0));
    }

    #[test]
    fn peers_that_left_are_forgotten() {
        let mut handshakes = Handshakes::default();
        age(&mut handshakes, 1000, 1000);
        handshakes.retain(|_| false);
        assert!(handshakes.seen.is_empty());
    }

    fn age(handshakes: &mut Handshakes, seconds: u64, now: u64) -> Option<u64> {
        let now = Timestamp::from_unix_millis(now * 1000);
        handshakes.age(PEER, seconds, now).map(|age| age.as_secs())
    }
}
