//! Puts desired state into messages, none longer than a megabyte.
//!
//! Each peer is some 120 bytes with both address families, so 4,000 are half a megabyte.

use mfa_wire::codec::Wipe as _;
use mfa_wire::gateway::{
    Change, Heartbeat, InterfaceConfig, Peer, Snapshot, ToGateway, to_gateway,
};

/// The most peers in one message.
pub const PEERS_MAX: usize = 4_000;

/// A snapshot on its way: what has not been sent of it yet. Keys are wiped if it is dropped.
pub struct Parts {
    revision: u64,
    interface: Option<InterfaceConfig>,
    peers: std::vec::IntoIter<Peer>,
    next: u32,
}

impl Parts {
    /// Begins with the first part.
    #[must_use]
    pub fn new(revision: u64, interface: InterfaceConfig, peers: Vec<Peer>) -> Self {
        Self { revision, interface: Some(interface), peers: peers.into_iter(), next: 0 }
    }
}

impl Iterator for Parts {
    type Item = ToGateway;

    fn next(&mut self) -> Option<ToGateway> {
        // The first part is sent even if it has no peer.
        if self.interface.is_none() && self.peers.len() == 0 {
            return None;
        }
        let part = self.next;
        self.next = part.saturating_add(1);
        let interface = self.interface.take();
        let peers = self.peers.by_ref().take(PEERS_MAX).collect();
        let last = self.peers.len() == 0;
        let snapshot = Snapshot { revision: self.revision, interface, peers, part, last };
        Some(to_gateway::Message::Snapshot(snapshot).into_message())
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        if let Some(interface) = &mut self.interface {
            interface.wipe();
        }
        for mut peer in self.peers.by_ref() {
            peer.wipe();
        }
    }
}

impl core::fmt::Debug for Parts {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Parts").field("revision", &self.revision).finish_non_exhaustive()
    }
}

/// Answers a heartbeat.
#[must_use]
pub fn heartbeat(number: u64) -> ToGateway {
    to_gateway::Message::Heartbeat(Heartbeat { number }).into_message()
}

/// Says what became of the peers touched since `base_revision`.
#[must_use]
pub fn change(change: Change) -> ToGateway {
    to_gateway::Message::Change(change).into_message()
}

trait IntoMessage {
    fn into_message(self) -> ToGateway;
}

impl IntoMessage for to_gateway::Message {
    fn into_message(self) -> ToGateway {
        ToGateway { message: Some(self) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_without_peers_is_one_part() {
        let parts = parts(0);
        assert_eq!(parts, [(0, true, 0, true)]);
    }

    #[test]
    fn a_long_snapshot_is_split_and_only_its_end_is_the_last_part() {
        assert_eq!(parts(4_000), [(0, true, 4_000, true)]);
        assert_eq!(parts(4_001), [(0, true, 4_000, false), (1, false, 1, true)]);
        let long = parts(50_000);
        assert_eq!(long.len(), 13);
        assert_eq!(long.iter().map(|part| part.2).sum::<usize>(), 50_000);
        assert_eq!(long.iter().filter(|part| part.3).count(), 1);
    }

    #[test]
    fn no_part_is_longer_than_a_megabyte() {
        let peer = Peer {
            public_key: vec![1; 32],
            allowed_ips: vec!["100.100.100.100/32".into(), format!("{}/128", "ffff:".repeat(8))],
            preshared_key: Some(vec![2; 32]),
            persistent_keepalive: 65_535,
            previous_psk_sha256: None,
            lifetime_left_millis: Some(u64::MAX),
            session_id: i64::MAX,
            generation: u32::MAX,
        };
        let interface = InterfaceConfig::default();
        let mut parts = Parts::new(u64::MAX, interface, vec![peer; PEERS_MAX]);
        let length = prost::Message::encoded_len(&parts.next().unwrap());
        assert!((1..1 << 20).contains(&length), "{length}");
    }

    /// Number, whether it has the interface, peers, whether it is the last.
    fn parts(peers: usize) -> Vec<(u32, bool, usize, bool)> {
        Parts::new(7, InterfaceConfig::default(), vec![Peer::default(); peers])
            .map(|message| match message.message {
                Some(to_gateway::Message::Snapshot(snapshot)) => {
                    assert_eq!(snapshot.revision, 7);
                    let has_interface = snapshot.interface.is_some();
                    (snapshot.part, has_interface, snapshot.peers.len(), snapshot.last)
                }
                _ => panic!("not a snapshot"),
            })
            .collect()
    }
}
