//! The state of one modelled interface, as `drivers/net/wireguard/netlink.c` changes it.

use core::num::{NonZeroU16, NonZeroU32};

use wg_types::{AllowedIpsChange, PskChange};

use super::{
    BTreeMap, Error, Interface, InterfaceConfig, IpAddr, IpNet, Peer, PeerConfig, PeerStats,
    PeerUpdate, PresharedKey, PublicKey, Refused, VecDeque,
};

/// The first port of the range from which the kernel chooses.
const FIRST_PORT: u16 = 32_768;

#[derive(Debug, Default)]
pub(super) struct Device {
    public_key: Option<PublicKey>,
    listen_port: u16,
    fwmark: Option<NonZeroU32>,
    peers: BTreeMap<PublicKey, (u64, Peer)>,
    next_peer: u64,
    owners: BTreeMap<IpNet, PublicKey>,
    pub(super) addresses: Vec<IpNet>,
    pub(super) routes: Vec<IpNet>,
    pub(super) up: bool,
    pub(super) mtu: Option<u32>,
    pub(super) faults: VecDeque<Error>,
    pub(super) refuse: BTreeMap<PublicKey, Error>,
    pub(super) updates_taken: usize,
}

impl Device {
    pub(super) fn configure(&mut self, config: &InterfaceConfig) {
        if let Some(key) = &config.private_key {
            let public_key = key.public_key();
            self.remove(&public_key);
            self.public_key = Some(public_key);
        }
        if let Some(port) = config.listen_port {
            self.listen_port = port;
            self.choose_port();
        }
        if let Some(fwmark) = config.fwmark {
            self.fwmark = NonZeroU32::new(fwmark);
        }
    }

    pub(super) fn set_up(&mut self, mtu: Option<u32>) {
        self.up = true;
        self.mtu = mtu.or(self.mtu);
        self.choose_port();
    }

    pub(super) fn peer_mut(&mut self, key: &PublicKey) -> Option<&mut Peer> {
        self.peers.get_mut(key).map(|(_, peer)| peer)
    }

    pub(super) fn peer_for(&self, address: IpAddr) -> Option<PublicKey> {
        let holders = self.owners.iter().filter(|(net, _)| net.contains(&address));
        holders.max_by_key(|(net, _)| net.prefix_len()).map(|(_, owner)| *owner)
    }

    pub(super) fn dump(&self, name: &str) -> Interface {
        let mut peers: Vec<_> = self.peers.values().collect();
        peers.sort_by_key(|(order, _)| *order);
        Interface {
            name: name.to_owned(),
            public_key: self.public_key,
            listen_port: self.listen_port,
            fwmark: self.fwmark,
            peers: peers.into_iter().map(|(_, peer)| peer.clone()).collect(),
        }
    }

    pub(super) fn apply(&mut self, updates: &[PeerUpdate]) -> Vec<Refused> {
        let mut refused = Vec::new();
        for (index, update) in updates.iter().enumerate() {
            let public_key = *update.public_key();
            if let Some(error) = self.refuse.get(&public_key) {
                refused.push(Refused { index, public_key, error: error.clone() });
            } else {
                self.updates_taken += 1;
                self.take(update);
            }
        }
        refused
    }

    fn take(&mut self, update: &PeerUpdate) {
        match update {
            PeerUpdate::Put(config) => self.put(config),
            PeerUpdate::Remove(key) => self.remove(key),
            PeerUpdate::Update { public_key, psk, allowed_ips, endpoint, persistent_keepalive } => {
                let Some(peer) = self.peer_mut(public_key) else { return };
                match psk {
                    PskChange::Keep => {}
                    PskChange::Clear => peer.config.preshared_key = None,
                    PskChange::Set(psk) => peer.config.preshared_key = some_unless_zero(psk),
                }
                peer.config.endpoint = endpoint.or(peer.config.endpoint);
                peer.stats.endpoint = peer.config.endpoint;
                if let Some(every) = persistent_keepalive {
                    let seconds = u16::try_from(every.as_secs()).unwrap_or(u16::MAX);
                    peer.config.persistent_keepalive = NonZeroU16::new(seconds);
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
        if self.public_key == Some(public_key) {
            return;
        }
        let order = self.next_peer;
        let (_, peer) = self.peers.entry(public_key).or_insert_with(|| {
            (order, Peer { config: PeerConfig::new(public_key), stats: silence(public_key) })
        });
        self.next_peer += 1;
        peer.config.preshared_key = config.preshared_key.as_ref().and_then(some_unless_zero);
        peer.config.endpoint = config.endpoint.or(peer.config.endpoint);
        peer.stats.endpoint = peer.config.endpoint;
        peer.config.persistent_keepalive = config.persistent_keepalive;
        self.replace_nets(public_key, &config.allowed_ips);
    }

    fn remove(&mut self, key: &PublicKey) {
        self.peers.remove(key);
        self.owners.retain(|_, owner| owner != key);
    }

    fn replace_nets(&mut self, key: PublicKey, nets: &[IpNet]) {
        if let Some(peer) = self.peer_mut(&key) {
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
            if let Some(peer) = self.peer_mut(&key) {
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
        if let Some(peer) = self.peer_mut(key) {
            peer.config.allowed_ips.retain(|held| *held != net);
        }
    }

    const fn choose_port(&mut self) {
        if self.up && self.listen_port == 0 {
            self.listen_port = FIRST_PORT;
        }
    }
}

const fn silence(public_key: PublicKey) -> PeerStats {
    PeerStats { public_key, endpoint: None, last_handshake: None, rx_bytes: 0, tx_bytes: 0 }
}

fn some_unless_zero(psk: &PresharedKey) -> Option<PresharedKey> {
    (psk.expose_secret() != &[0; 32]).then(|| psk.clone())
}
