//! Checks what a gateway reports before anybody believes it.
//!
//! A report is a claim. It can be late, repeated, about peers of other locations, or come from a
//! gateway that lies; what passes here is well formed, of this location, and new.

use core::num::NonZeroU64;
use core::time::Duration;
use std::collections::BTreeSet;

use mfa_wire::gateway::{PeerStats, Stats};
use wg_types::PublicKey;

use super::stats::PeerReport;

/// The most peers in one message.
pub const PEERS_MAX: usize = 4_000;

/// The most messages that one report may be split into: a full kernel interface (2^20 peers).
const PARTS_MAX: u32 = 263;

/// The shortest period that is served.
pub const PERIOD_MIN: Duration = Duration::from_secs(1);

/// An age beyond this says "long ago" just as well, and cannot overflow a time.
const AGE_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Why a report is not believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refused {
    /// It has been heard, or is older than one that has.
    #[error("it is not newer than the last one")]
    NotNew,
    /// It comes before half a period has passed.
    #[error("it comes before half a period has passed")]
    TooSoon,
    /// More peers than a message may carry.
    #[error("it has more than {PEERS_MAX} peers")]
    TooLong,
}

/// What is left of a message after the checks.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// The peers of this location.
    pub peers: Vec<PeerReport>,
    /// The gateway's period, at least [`PERIOD_MIN`].
    pub period: Duration,
    /// Entries left out: malformed, or about peers that the gateway was not given.
    pub left_out: usize,
}

/// The reports of one stream so far. All times are since the stream began.
#[derive(Debug, Default)]
pub struct Reports {
    last: Option<Last>,
}

#[derive(Debug)]
struct Last {
    number: u64,
    part: u32,
    began: Duration,
}

impl Reports {
    /// Starts with none heard.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Checks one message that came at `at`; `known` are the peers that the gateway was given.
    ///
    /// # Errors
    ///
    /// [`Refused`]; the message is then to be ignored.
    pub fn check(
        &mut self,
        stats: &Stats,
        known: &BTreeSet<PublicKey>,
        at: Duration,
    ) -> Result<Checked, Refused> {
        let period = Duration::from_millis(stats.period_millis.into()).max(PERIOD_MIN);
        if stats.peers.len() > PEERS_MAX || stats.part >= PARTS_MAX {
            return Err(Refused::TooLong);
        }
        match &self.last {
            Some(last) if stats.part > 0 => {
                if stats.number != last.number || stats.part != last.part.saturating_add(1) {
                    return Err(Refused::NotNew);
                }
            }
            None if stats.part > 0 => return Err(Refused::NotNew),
            Some(last) if stats.number <= last.number => return Err(Refused::NotNew),
            Some(last) if at.saturating_sub(last.began) < period / 2 => {
                return Err(Refused::TooSoon);
            }
            Some(_) | None => {}
        }
        let began = match &self.last {
            Some(last) if stats.part > 0 => last.began,
            Some(_) | None => at,
        };
        self.last = Some(Last { number: stats.number, part: stats.part, began });

        let peers: Vec<PeerReport> =
            stats.peers.iter().filter_map(|peer| checked(peer, known)).collect();
        let left_out = stats.peers.len().saturating_sub(peers.len());
        Ok(Checked { peers, period, left_out })
    }
}

fn checked(peer: &PeerStats, known: &BTreeSet<PublicKey>) -> Option<PeerReport> {
    let public_key = PublicKey::from_bytes(peer.public_key.as_slice().try_into().ok()?);
    known.contains(&public_key).then(|| PeerReport {
        public_key,
        rx_bytes: peer.rx_bytes,
        tx_bytes: peer.tx_bytes,
        handshake_age: peer.handshake_age_millis.map(Duration::from_millis).map(clamped),
        handshake_mark: NonZeroU64::new(peer.handshake_mark),
        endpoint: peer.endpoint.parse().ok(),
        quiet: peer.quiet_millis.map(Duration::from_millis).map(clamped),
    })
}

/// Limits an age, so that no arithmetic on times overflows.
#[must_use]
pub fn clamped(age: Duration) -> Duration {
    age.min(AGE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(30);

    #[test]
    fn a_report_passes_as_it_is() {
        let mut reports = Reports::new();
        let mut stats = stats(1, &[1]);
        stats.peers[0].handshake_age_millis = Some(1500);
        stats.peers[0].handshake_mark = 7;
        stats.peers[0].endpoint = "192.0.2.7:51820".to_owned();
        let checked = reports.check(&stats, &known(), at(0)).unwrap();
        let expected = PeerReport {
            public_key: key(1),
            rx_bytes: 10,
            tx_bytes: 20,
            handshake_age: Some(Duration::from_millis(1500)),
            handshake_mark: NonZeroU64::new(7),
            endpoint: Some("192.0.2.7:51820".parse().unwrap()),
            quiet: None,
        };
        assert_eq!(checked.peers, [expected]);
        assert_eq!((checked.period, checked.left_out), (PERIOD, 0));
    }

    #[test]
    fn an_empty_report_passes_because_it_is_the_heartbeat() {
        let checked = Reports::new().check(&stats(1, &[]), &known(), at(0)).unwrap();
        assert!(checked.peers.is_empty());
    }

    #[test]
    fn peers_that_the_gateway_was_not_given_are_left_out() {
        let checked = Reports::new().check(&stats(1, &[1, 9, 2]), &known(), at(0)).unwrap();
        let keys: Vec<_> = checked.peers.iter().map(|peer| peer.public_key).collect();
        assert_eq!(keys, [key(1), key(2)]);
        assert_eq!(checked.left_out, 1);
    }

    #[test]
    fn entries_without_a_key_of_32_bytes_are_left_out() {
        let mut stats = stats(1, &[1, 2]);
        stats.peers[0].public_key.pop();
        let checked = Reports::new().check(&stats, &known(), at(0)).unwrap();
        assert_eq!((checked.peers.len(), checked.left_out), (1, 1));
    }

    #[test]
    fn numbers_only_grow() {
        let mut reports = Reports::new();
        let mut check = |number, seconds| {
            reports.check(&stats(number, &[1]), &known(), at(seconds)).map(|_| ())
        };
        assert_eq!(check(5, 0), Ok(()));
        assert_eq!(check(5, 30), Err(Refused::NotNew));
        assert_eq!(check(4, 60), Err(Refused::NotNew));
        assert_eq!(check(6, 90), Ok(()));
    }

    #[test]
    fn one_report_a_period_is_heard_and_a_flood_is_not() {
        let mut reports = Reports::new();
        let heard = (0..1000_u64)
            .filter(|n| reports.check(&stats(*n, &[1]), &known(), at(n / 100)).is_ok())
            .count();
        assert_eq!(heard, 1);
        // One that is late lets the next come early.
        assert!(reports.check(&stats(2000, &[1]), &known(), at(45)).is_ok());
        assert!(reports.check(&stats(2001, &[1]), &known(), at(60)).is_ok());
    }

    #[test]
    fn a_period_of_nothing_is_no_way_around_the_limit() {
        let mut reports = Reports::new();
        let heard = (0..1000_u32)
            .filter(|n| {
                let mut stats = stats((*n).into(), &[1]);
                stats.period_millis = 0;
                reports.check(&stats, &known(), Duration::from_millis((*n).into())).is_ok()
            })
            .count();
        assert_eq!(heard, 2);
    }

    #[test]
    fn parts_of_one_report_are_heard_in_order_and_once() {
        let mut reports = Reports::new();
        let mut check = |number, part, seconds| {
            let stats = Stats { part, ..stats(number, &[1]) };
            reports.check(&stats, &known(), at(seconds)).map(|_| ())
        };
        assert_eq!(check(1, 1, 0), Err(Refused::NotNew));
        assert_eq!(check(1, 0, 0), Ok(()));
        assert_eq!(check(1, 1, 0), Ok(()));
        assert_eq!(check(1, 1, 0), Err(Refused::NotNew));
        assert_eq!(check(1, 3, 0), Err(Refused::NotNew));
        assert_eq!(check(2, 2, 0), Err(Refused::NotNew));
        assert_eq!(check(1, 2, 14), Ok(()));
        assert_eq!(check(2, 0, 15), Ok(()));
    }

    #[test]
    fn ages_beyond_all_times_are_limited() {
        let mut stats = stats(1, &[1]);
        stats.peers[0].handshake_age_millis = Some(u64::MAX);
        let checked = Reports::new().check(&stats, &known(), at(0)).unwrap();
        assert_eq!(checked.peers[0].handshake_age, Some(AGE_MAX));
    }

    #[test]
    fn a_message_with_too_many_peers_is_refused_whole() {
        let mut stats = stats(1, &[]);
        stats.peers = vec![PeerStats::default(); PEERS_MAX + 1];
        assert_eq!(Reports::new().check(&stats, &known(), at(0)), Err(Refused::TooLong));
    }

    fn stats(number: u64, peers: &[u8]) -> Stats {
        let peer = |n: &u8| PeerStats {
            public_key: key(*n).as_bytes().to_vec(),
            rx_bytes: 10,
            tx_bytes: 20,
            ..PeerStats::default()
        };
        let peers = peers.iter().map(peer).collect();
        Stats { number, peers, period_millis: 30_000, ..Stats::default() }
    }

    fn known() -> BTreeSet<PublicKey> {
        [key(1), key(2)].into()
    }

    fn key(n: u8) -> PublicKey {
        PublicKey::from_bytes([n; 32])
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }
}
