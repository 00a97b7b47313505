//! What core is told of each peer.

use core::time::Duration;
use std::time::SystemTime;

use mfa_wire::gateway as wire;
use wg_types::{Peer, PeerStats, PublicKey};

use crate::desired::Desired;
use crate::program::Check;

/// A longer report is sent in parts.
const PEERS_A_MESSAGE: usize = 4000;

/// Tells of each peer in the kernel that core wants.
#[must_use]
pub fn of_peers(found: &[Peer], desired: &Desired, now: SystemTime) -> Vec<wire::PeerStats> {
    let wanted = |peer: &&Peer| desired.peers().contains_key(&peer.config.public_key);
    found.iter().filter(wanted).map(|peer| of_peer(&peer.stats, now)).collect()
}

/// Adds for how long each peer has shown no sign of life, as far as that is known.
pub fn add_quiet(peers: &mut [wire::PeerStats], quiet: impl Fn(&PublicKey) -> Option<Duration>) {
    for peer in peers {
        let key = peer.public_key.as_slice().try_into().ok().map(PublicKey::from_bytes);
        peer.quiet_millis = key
            .and_then(|key| quiet(&key))
            .map(|quiet| u64::try_from(quiet.as_millis()).unwrap_or(u64::MAX));
    }
}

/// Puts a check into messages: one also if there is no peer.
#[must_use]
pub fn report(check: Check, number: u64, period: Duration) -> Vec<wire::Stats> {
    let mut rest = check.peers.into_iter();
    let parts = rest.len().div_ceil(PEERS_A_MESSAGE).max(1);
    let mut messages: Vec<_> = (0..)
        .take(parts)
        .map(|part| wire::Stats {
            number,
            peers: rest.by_ref().take(PEERS_A_MESSAGE).collect(),
            period_millis: u32::try_from(period.as_millis()).unwrap_or(u32::MAX),
            part,
            ..wire::Stats::default()
        })
        .collect();
    if let Some(first) = messages.first_mut() {
        first.strangers_removed = check.drift.strangers_removed;
        first.peers_healed = check.drift.peers_healed;
    }
    messages
}

/// Handshakes are told by age: the clocks of two hosts differ. One in the future is new.
fn of_peer(stats: &PeerStats, now: SystemTime) -> wire::PeerStats {
    let age = stats.last_handshake.map(|at| now.duration_since(at).unwrap_or_default());
    let since_1970 = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).ok();
    let mark = stats.last_handshake.and_then(since_1970).map(|at| at.as_nanos());
    wire::PeerStats {
        public_key: stats.public_key.as_bytes().to_vec(),
        rx_bytes: stats.rx_bytes,
        tx_bytes: stats.tx_bytes,
        handshake_age_millis: age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        endpoint: stats.endpoint.map(|endpoint| endpoint.to_string()).unwrap_or_default(),
        quiet_millis: None,
        handshake_mark: mark.and_then(|nanos| u64::try_from(nanos).ok()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Drift;
    use crate::testing::key;

    fn at(secs: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(secs)
    }

    fn stats(last_handshake: Option<SystemTime>) -> PeerStats {
        PeerStats {
            public_key: key(1),
            endpoint: Some("192.0.2.1:4500".parse().unwrap()),
            last_handshake,
            rx_bytes: 5,
            tx_bytes: 6,
        }
    }

    #[test]
    fn a_handshake_is_told_by_its_age_and_never_is_not_1970() {
        assert_eq!(of_peer(&stats(Some(at(58))), at(100)).handshake_age_millis, Some(42_000));
        assert_eq!(of_peer(&stats(Some(at(101))), at(100)).handshake_age_millis, Some(0));
        assert_eq!(of_peer(&stats(Some(at(58))), at(100)).handshake_mark, 58_000_000_000);
        assert_eq!(of_peer(&stats(None), at(100)).handshake_age_millis, None);
        assert_eq!(of_peer(&stats(None), at(100)).handshake_mark, 0);
        assert_eq!(of_peer(&stats(None), at(100)).endpoint, "192.0.2.1:4500");
    }

    #[test]
    fn a_report_without_peers_is_one_message() {
        let drift = Drift { strangers_removed: 3, peers_healed: 2, interfaces_remade: 0 };
        let messages = report(Check { peers: vec![], drift }, 9, Duration::from_secs(30));
        assert_eq!(messages.len(), 1);
        assert_eq!((messages[0].number, messages[0].period_millis), (9, 30_000));
        assert_eq!((messages[0].strangers_removed, messages[0].peers_healed), (3, 2));
    }

    #[test]
    fn a_long_report_comes_in_parts_that_count_drift_once() {
        let peers = vec![of_peer(&stats(None), at(0)); 8001];
        let drift = Drift { strangers_removed: 1, peers_healed: 1, interfaces_remade: 1 };
        let messages = report(Check { peers, drift }, 9, Duration::from_secs(30));
        let parts: Vec<_> = messages.iter().map(|message| (message.part, message.number)).collect();
        assert_eq!(parts, [(0, 9), (1, 9), (2, 9)]);
        assert_eq!(messages[2].peers.len(), 1);
        assert_eq!(messages.iter().map(|message| message.strangers_removed).sum::<u32>(), 1);
    }
}
