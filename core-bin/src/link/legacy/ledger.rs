//! What a gateway was told of each peer, and so what it must be told next.
//!
//! This protocol changes peers in place, and a pre-shared key changed in place leaves the old keys
//! alive for up to 180 s. So whatever is different is deleted, then created; what is equal is left
//! alone, since that would cost a live tunnel its keys.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mfa_wire::gateway::Peer;
use mfa_wire::legacy::{self, Update, UpdateType, update};
use wg_types::PublicKey;

/// What was written to one stream.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    told: BTreeMap<PublicKey, Mark>,
}

/// What tells one state of a peer from another. A pre-shared key changes with its session or its
/// generation only, so it need not be kept here.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Mark {
    session: i64,
    generation: u32,
    allowed_ips: Vec<String>,
    keepalive: u32,
}

impl Ledger {
    /// Says a peer for the first time on this stream. `changed`: it may be another than when the
    /// gateway last heard of it.
    pub(super) fn greet(&mut self, peer: &Peer, changed: bool) -> Vec<Update> {
        let Some((key, mark)) = read(peer) else { return Vec::new() };
        self.told.insert(key, mark);
        if changed {
            vec![delete(&key), about(UpdateType::Create, self::peer(peer))]
        } else {
            vec![about(UpdateType::Modify, self::peer(peer))]
        }
    }

    /// Says what a peer is now.
    pub(super) fn put(&mut self, peer: &Peer) -> Vec<Update> {
        let Some((key, mark)) = read(peer) else { return Vec::new() };
        let create = about(UpdateType::Create, self::peer(peer));
        match self.told.insert(key, mark.clone()) {
            Some(before) if before == mark => Vec::new(),
            Some(_) => vec![delete(&key), create],
            None => vec![create],
        }
    }

    /// Says that a peer must be gone, also if it was never told of.
    pub(super) fn remove(&mut self, key: &PublicKey) -> Update {
        self.told.remove(key);
        delete(key)
    }

    /// Lists the peers that were told of and are not among `there`.
    pub(super) fn missing_in(&self, there: &BTreeSet<PublicKey>) -> Vec<PublicKey> {
        self.told.keys().filter(|key| !there.contains(*key)).copied().collect()
    }

    /// Lists the peers that were told of.
    pub(super) fn keys(&self) -> BTreeSet<PublicKey> {
        self.told.keys().copied().collect()
    }
}

/// Puts a peer into this protocol's words.
pub(super) fn peer(peer: &Peer) -> legacy::Peer {
    legacy::Peer {
        pubkey: STANDARD.encode(&peer.public_key),
        allowed_ips: peer.allowed_ips.clone(),
        preshared_key: peer.preshared_key.as_ref().map(|psk| STANDARD.encode(psk)),
        keepalive_interval: (peer.persistent_keepalive > 0).then_some(peer.persistent_keepalive),
    }
}

/// Says that the interface itself is another.
pub(super) fn network(configuration: legacy::Configuration) -> Update {
    let update = update::Update::Network(configuration);
    Update { update_type: UpdateType::Modify.into(), update: Some(update) }
}

fn delete(key: &PublicKey) -> Update {
    about(UpdateType::Delete, legacy::Peer { pubkey: key.to_string(), ..legacy::Peer::default() })
}

fn about(what: UpdateType, peer: legacy::Peer) -> Update {
    Update { update_type: what.into(), update: Some(update::Update::Peer(peer)) }
}

fn read(peer: &Peer) -> Option<(PublicKey, Mark)> {
    let key = PublicKey::from_bytes(peer.public_key.as_slice().try_into().ok()?);
    let mark = Mark {
        session: peer.session_id,
        generation: peer.generation,
        allowed_ips: peer.allowed_ips.clone(),
        keepalive: peer.persistent_keepalive,
    };
    Some((key, mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: PublicKey = PublicKey::from_bytes([1; 32]);

    #[test]
    fn a_new_peer_is_created_and_an_equal_one_left_alone() {
        let mut ledger = Ledger::default();
        assert_eq!(kinds(&ledger.put(&peer_of(1, 1))), [UpdateType::Create]);
        assert!(ledger.put(&peer_of(1, 1)).is_empty());
    }

    #[test]
    fn another_session_or_key_is_deleted_before_it_is_created() {
        let mut ledger = Ledger::default();
        ledger.put(&peer_of(1, 1));
        let again = [UpdateType::Delete, UpdateType::Create];
        assert_eq!(kinds(&ledger.put(&peer_of(2, 1))), again);
        assert_eq!(kinds(&ledger.put(&peer_of(2, 2))), again);
    }

    #[test]
    fn a_greeting_touches_the_tunnel_only_of_who_may_have_changed() {
        let mut ledger = Ledger::default();
        assert_eq!(kinds(&ledger.greet(&peer_of(1, 1), false)), [UpdateType::Modify]);
        let again = [UpdateType::Delete, UpdateType::Create];
        assert_eq!(kinds(&ledger.greet(&peer_of(1, 1), true)), again);
        assert!(ledger.put(&peer_of(1, 1)).is_empty());
    }

    #[test]
    fn a_removed_peer_is_created_when_it_comes_back() {
        let mut ledger = Ledger::default();
        ledger.put(&peer_of(1, 1));
        assert_eq!(ledger.missing_in(&BTreeSet::new()), [KEY]);
        assert_eq!(kinds(&[ledger.remove(&KEY)]), [UpdateType::Delete]);
        assert!(ledger.keys().is_empty());
        assert_eq!(kinds(&ledger.put(&peer_of(1, 1))), [UpdateType::Create]);
    }

    #[test]
    fn keys_are_in_base64() {
        let said = peer(&peer_of(1, 1));
        assert_eq!(said.pubkey, KEY.to_string());
        assert_eq!(said.preshared_key.unwrap().len(), 44);
        assert_eq!(said.keepalive_interval, None);
    }

    fn peer_of(session_id: i64, generation: u32) -> Peer {
        Peer {
            public_key: KEY.as_bytes().to_vec(),
            allowed_ips: vec!["10.0.0.7/32".to_owned()],
            preshared_key: Some(vec![7; 32]),
            persistent_keepalive: 0,
            previous_psk_sha256: None,
            lifetime_left_millis: None,
            session_id,
            generation,
        }
    }

    fn kinds(updates: &[Update]) -> Vec<UpdateType> {
        updates.iter().map(Update::update_type).collect()
    }
}
