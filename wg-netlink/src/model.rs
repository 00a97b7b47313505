//! What peer updates mean, as the kernel's `drivers/net/wireguard/netlink.c` carries them out.
//!
//! The fake kernel is made of it, and the userspace backend finds out with it what to ask of a
//! WireGuard that knows less.

use core::num::NonZeroU16;
use std::collections::BTreeMap;
#[cfg(any(test, feature = "fake"))]
use std::net::IpAddr;

use ipnet::IpNet;
use wg_types::{
    AllowedIpsChange, Peer, PeerConfig, PeerStats, PeerUpdate, PresharedKey, PskChange, PublicKey,
};

use crate::kernel::encode::keepalive_seconds;

/// The peers of one interface, and who holds which allowed IP.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peers {
    own_key: Option<PublicKey>,
    entries: BTreeMap<PublicKey, Entry>,
    next: u64,
    owners: BTreeMap<IpNet, PublicKey>,
}

/// A peer, and the number of its creation: another number, another life.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) life: u64,
    pub(crate) peer: Peer,
}

impl Peers {
    /// Starts with what an interface has.
    #[cfg(feature = "userspace")]
    pub(crate) fn of(own_key: Option<PublicKey>, peers: Vec<Peer>) -> Self {
        let mut all = Self { own_key, ..Self::default() };
        for mut peer in peers {
            let nets = core::mem::take(&mut peer.config.allowed_ips);
            let key = peer.config.public_key;
            all.insert(peer);
            all.add_nets(key, &nets);
        }
        all
    }

    /// Sets the interface's own key, which no peer can have.
    #[cfg(any(test, feature = "fake"))]
    pub(crate) fn set_own_key(&mut self, key: PublicKey) {
        self.remove(&key);
        self.own_key = Some(key);
    }

    /// One peer.
    pub(crate) fn get(&self, key: &PublicKey) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// One peer, to be changed.
    pub(crate) fn get_mut(&mut self, key: &PublicKey) -> Option<&mut Peer> {
        self.entries.get_mut(key).map(|entry| &mut entry.peer)
    }

    /// All peers, in the order of their creation.
    #[cfg(any(test, feature = "fake"))]
    pub(crate) fn to_vec(&self) -> Vec<Peer> {
        let mut entries: Vec<_> = self.entries.values().collect();
        entries.sort_by_key(|entry| entry.life);
        entries.into_iter().map(|entry| entry.peer.clone()).collect()
    }

    /// Every peer's key.
    #[cfg(feature = "userspace")]
    pub(crate) fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.entries.keys()
    }

    /// The peer with the longest allowed IP that `address` is in.
    #[cfg(any(test, feature = "fake"))]
    pub(crate) fn holder(&self, address: IpAddr) -> Option<PublicKey> {
        let holders = self.owners.iter().filter(|(net, _)| net.contains(&address));
        holders.max_by_key(|(net, _)| net.prefix_len()).map(|(_, owner)| *owner)
    }

    /// Carries one update out.
    pub(crate) fn apply(&mut self, update: &PeerUpdate) {
        match update {
            PeerUpdate::Put(config) => self.put(config),
            PeerUpdate::Remove(key) => self.remove(key),
            PeerUpdate::Update { public_key, psk, allowed_ips, endpoint, persistent_keepalive } => {
                let Some(peer) = self.get_mut(public_key) else { return };
                match psk {
                    PskChange::Keep => {}
                    PskChange::Clear => peer.config.preshared_key = None,
                    PskChange::Set(psk) => peer.config.preshared_key = some_unless_zero(psk),
                }
                peer.config.endpoint = endpoint.or(peer.config.endpoint);
                peer.stats.endpoint = peer.config.endpoint;
                if let Some(every) = persistent_keepalive {
                    peer.config.persistent_keepalive = NonZeroU16::new(keepalive_seconds(*every));
                }
                match allowed_ips {
                    AllowedIpsChange::Keep => {}
                    AllowedIpsChange::Replace(nets) => self.replace_nets(*public_key, nets),
                    AllowedIpsChange::Add(nets) => self.add_nets(*public_key, nets),
                    AllowedIpsChange::Remove(nets) => self.remove_nets(*public_key, nets),
                }
            }
        }
    }

    fn put(&mut self, config: &PeerConfig) {
        let public_key = config.public_key;
        if !self.entries.contains_key(&public_key) {
            if self.own_key == Some(public_key) {
                return;
            }
            self.insert(Peer { config: PeerConfig::new(public_key), stats: silence(public_key) });
        }
        let Some(peer) = self.get_mut(&public_key) else { return };
        peer.config.preshared_key = config.preshared_key.as_ref().and_then(some_unless_zero);
        peer.config.endpoint = config.endpoint.or(peer.config.endpoint);
        peer.stats.endpoint = peer.config.endpoint;
        peer.config.persistent_keepalive = config.persistent_keepalive;
        self.replace_nets(public_key, &config.allowed_ips);
    }

    fn insert(&mut self, peer: Peer) {
        let life = self.next;
        self.next += 1;
        self.entries.insert(peer.config.public_key, Entry { life, peer });
    }

    fn remove(&mut self, key: &PublicKey) {
        self.entries.remove(key);
        self.owners.retain(|_, owner| owner != key);
    }

    fn replace_nets(&mut self, key: PublicKey, nets: &[IpNet]) {
        if let Some(peer) = self.get_mut(&key) {
            peer.config.allowed_ips.clear();
        }
        self.owners.retain(|_, owner| *owner != key);
        self.add_nets(key, nets);
    }

    fn add_nets(&mut self, key: PublicKey, nets: &[IpNet]) {
        for net in nets.iter().map(IpNet::trunc) {
            match self.owners.insert(net, key) {
                Some(owner) if owner == key => continue,
                Some(owner) => self.forget(&owner, net),
                None => {}
            }
            if let Some(peer) = self.get_mut(&key) {
                peer.config.allowed_ips.push(net);
            }
        }
    }

    fn remove_nets(&mut self, key: PublicKey, nets: &[IpNet]) {
        for net in nets.iter().map(IpNet::trunc) {
            if self.owners.get(&net) == Some(&key) {
                self.owners.remove(&net);
                self.forget(&key, net);
            }
        }
    }

    fn forget(&mut self, key: &PublicKey, net: IpNet) {
        if let Some(peer) = self.get_mut(key) {
            peer.config.allowed_ips.retain(|held| *held != net);
        }
    }
}

const fn silence(public_key: PublicKey) -> PeerStats {
    PeerStats { public_key, endpoint: None, last_handshake: None, rx_bytes: 0, tx_bytes: 0 }
}

fn some_unless_zero(psk: &PresharedKey) -> Option<PresharedKey> {
    (psk.expose_secret() != &[0; 32]).then(|| psk.clone())
}
