//! What core wants the interface to be: read from its messages, checked, and kept whole.
//!
//! A [`Desired`] is made by a snapshot and moved on by changes. A peer that no interface could
//! hold is left out, so that it cannot keep the others from being programmed; it is named in
//! [`Desired::refusal`] until core takes it back. What is in the kernel is not known here: see
//! [`reconcile`](crate::reconcile).

use core::num::NonZeroU16;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use mfa_wire::gateway as wire;
use wg_types::{PeerConfig, PresharedKey, PrivateKey, PublicKey};
use zeroize::Zeroizing;

use crate::hold::Terms;

/// Names a peer's pre-shared key without telling it: equal marks, equal keys.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SessionMark {
    /// Core's number of the session; zero: a peer without one, in a location without MFA.
    pub session: i64,
    /// Which of the session's pre-shared keys.
    pub generation: u32,
}

/// One peer as it must be.
#[derive(Clone, Debug)]
pub struct DesiredPeer {
    /// What to configure. It never has an endpoint: that is the peer's to tell.
    pub config: PeerConfig,
    /// Which session it belongs to.
    pub mark: SessionMark,
    /// SHA-256 of the session's pre-shared key before this one; `None`: there was none.
    pub previous: Option<[u8; 32]>,
    /// How long its session lasts at most, from when core said so; `None`: it has been
    /// [taken over](Desired::take_lifetimes), or core does not say.
    lifetime_left: Option<Duration>,
}

/// The interface as it must be, without its peers.
#[derive(Clone, Debug)]
pub struct DesiredInterface {
    /// What people call the network.
    pub location: String,
    /// The key that all gateways of the location share.
    pub private_key: PrivateKey,
    /// Its public half.
    pub public_key: PublicKey,
    /// The UDP port.
    pub listen_port: u16,
    /// Its addresses with the length of their networks.
    pub addresses: Vec<IpNet>,
    /// In bytes; `None`: the system's choice.
    pub mtu: Option<u32>,
    /// Whether a peer needs a session.
    pub mfa_required: bool,
    /// How often core wants statistics; `None`: as this gateway is set.
    pub statistics_period: Option<Duration>,
    /// How its sessions outlive core's absence; `None`: as long as the lease.
    pub hold: Option<Terms>,
}

/// The whole of what core wants, as of one revision.
#[derive(Debug)]
pub struct Desired {
    revision: u64,
    interface: DesiredInterface,
    /// Boxed: a tree's nodes are a third empty, and there are many peers.
    peers: BTreeMap<PublicKey, Box<DesiredPeer>>,
    /// What peers have: a kernel gives each network to one peer only, silently.
    taken: BTreeSet<IpNet>,
    refused: BTreeMap<Vec<u8>, Refusal>,
}

/// Why a message of core's was not taken over.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DesiredError {
    /// The interface's part is missing or cannot be read.
    #[error("core's description of the interface is not usable: {0}")]
    Interface(&'static str),
    /// The change builds on a revision that this gateway has not seen.
    #[error("a change from revision {base} came while revision {have} is the newest known here")]
    Gap {
        /// What the change builds on.
        base: u64,
        /// What is known here; zero: nothing.
        have: u64,
    },
    /// The message is older than what is known.
    #[error("revision {given} was refused: revision {have} is known already")]
    Older {
        /// What came.
        given: u64,
        /// What is known here.
        have: u64,
    },
}

/// Why a peer was left out.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Not 32 bytes, all zero, or the interface's own.
    #[error("its public key is not one that a peer can have")]
    PublicKey,
    /// Not 32 bytes.
    #[error("its pre-shared key is not 32 bytes")]
    PresharedKey,
    /// A location with MFA has no peers without one.
    #[error("it has no session or no pre-shared key, and this location requires MFA")]
    NoSession,
    /// Not a network, or one that another peer has.
    #[error("{0} is not a network that it can have")]
    AllowedIps(&'static str),
    /// More than 65,535 seconds.
    #[error("its keepalive interval is too long")]
    Keepalive,
}

impl Desired {
    /// Reads a snapshot.
    ///
    /// # Errors
    ///
    /// [`DesiredError::Interface`] if the interface's part is unusable. A peer that is unusable is
    /// left out instead.
    pub fn from_snapshot(snapshot: wire::Snapshot) -> Result<Self, DesiredError> {
        let interface = snapshot.interface.ok_or(DesiredError::Interface("it is missing"))?;
        let mut desired = Self {
            revision: snapshot.revision,
            interface: read_interface(interface)?,
            peers: BTreeMap::new(),
            taken: BTreeSet::new(),
            refused: BTreeMap::new(),
        };
        for peer in snapshot.peers {
            desired.put(peer);
        }
        Ok(desired)
    }

    /// Moves on by a change and returns whom it touched.
    ///
    /// A change states what each of its peers is now, so one that overlaps with what is known is
    /// as good as one that follows it.
    ///
    /// # Errors
    ///
    /// [`DesiredError::Gap`] if the change builds on a later revision than the known one,
    /// [`DesiredError::Older`] if it ends at an earlier one. Nothing has changed then.
    pub fn change(&mut self, change: wire::Change) -> Result<BTreeSet<PublicKey>, DesiredError> {
        let have = self.revision;
        if change.base_revision > have {
            return Err(DesiredError::Gap { base: change.base_revision, have });
        }
        if change.revision < have {
            return Err(DesiredError::Older { given: change.revision, have });
        }
        // All leave before any enters, so that an address can move from one peer to another.
        let keys = change.peers.iter().map(|peer| &peer.public_key).chain(&change.removed);
        let mut touched = BTreeSet::new();
        for key in keys {
            self.refused.remove(key);
            if let Some(key) = public_key(key) {
                self.take(&key);
                touched.insert(key);
            }
        }
        for peer in change.peers {
            self.put(peer);
        }
        self.revision = change.revision;
        Ok(touched)
    }

    /// Takes all peers out, and with them the revision: no change can build on this.
    pub fn clear(&mut self) {
        self.revision = 0;
        self.peers.clear();
        self.taken.clear();
        self.refused.clear();
    }

    /// Takes one peer out, until core says something of it again.
    pub fn hold_out(&mut self, key: &PublicKey) {
        self.take(key);
    }

    /// Hands over how long sessions last from now on, where core has just said it.
    pub fn take_lifetimes(&mut self) -> Vec<(PublicKey, Duration)> {
        let peers = self.peers.iter_mut();
        peers.filter_map(|(key, peer)| Some((*key, peer.lifetime_left.take()?))).collect()
    }

    /// The revision that this is.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// The interface without its peers.
    #[must_use]
    pub const fn interface(&self) -> &DesiredInterface {
        &self.interface
    }

    /// The peers, by their keys.
    #[must_use]
    pub const fn peers(&self) -> &BTreeMap<PublicKey, Box<DesiredPeer>> {
        &self.peers
    }

    /// The networks that peers have and the interface's addresses do not imply: those need routes.
    #[must_use]
    pub fn routes(&self) -> Vec<IpNet> {
        let implied = |net: &IpNet| self.interface.addresses.iter().any(|own| own.contains(net));
        self.taken.iter().filter(|net| !implied(net)).copied().collect()
    }

    /// Tells of the peers that were left out, in words; `None` if there are none.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        let (key, why) = self.refused.first_key_value()?;
        let name = public_key_text(key);
        let others = match self.refused.len() {
            1 => String::new(),
            more => format!(" (and {} others were left out)", more - 1),
        };
        Some(format!("the peer {name} was left out: {why}{others}"))
    }

    fn put(&mut self, peer: wire::Peer) {
        let key = peer.public_key.clone();
        // What was said of it before is over, also if this cannot be used.
        if let Some(key) = public_key(&key) {
            self.take(&key);
        }
        match self.read_peer(peer) {
            Ok(peer) => {
                self.taken.extend(&peer.config.allowed_ips);
                self.peers.insert(peer.config.public_key, Box::new(peer));
            }
            Err(refusal) => {
                self.refused.insert(key, refusal);
            }
        }
    }

    fn take(&mut self, key: &PublicKey) {
        if let Some(old) = self.peers.remove(key) {
            for net in &old.config.allowed_ips {
                self.taken.remove(net);
            }
        }
    }

    fn read_peer(&self, peer: wire::Peer) -> Result<DesiredPeer, Refusal> {
        let psk = peer.preshared_key.map(Zeroizing::new);
        // Core refuses weak keys when a device is enrolled; to look at each again would take a
        // curve operation a peer. A kernel silently ignores a peer with the interface's own key.
        let public_key = public_key(&peer.public_key)
            .filter(|key| *key != self.interface.public_key && key.as_bytes() != &[0; 32])
            .ok_or(Refusal::PublicKey)?;
        let mut config = PeerConfig::new(public_key);
        if let Some(psk) = psk {
            let bytes = Zeroizing::new(psk.as_slice().try_into().or(Err(Refusal::PresharedKey))?);
            // To the kernel zero bytes are no pre-shared key.
            config.preshared_key = (*bytes != [0; 32]).then(|| PresharedKey::from_bytes(*bytes));
        }
        let mark = SessionMark { session: peer.session_id, generation: peer.generation };
        let sealed = config.preshared_key.is_some() && mark.session != 0;
        if self.interface.mfa_required && !sealed {
            return Err(Refusal::NoSession);
        }
        let keepalive = u16::try_from(peer.persistent_keepalive).or(Err(Refusal::Keepalive))?;
        config.persistent_keepalive = NonZeroU16::new(keepalive);
        config.allowed_ips.reserve_exact(peer.allowed_ips.len());
        for text in &peer.allowed_ips {
            let net: IpNet = text.parse().or(Err(Refusal::AllowedIps("one of its entries")))?;
            let net = net.trunc();
            if self.taken.contains(&net) {
                return Err(Refusal::AllowedIps("what another peer has"));
            }
            config.allowed_ips.push(net);
        }
        config.allowed_ips.sort_unstable();
        config.allowed_ips.dedup();
        // One that cannot be read names no key.
        let previous = peer.previous_psk_sha256.and_then(|text| text.try_into().ok());
        let lifetime_left = peer.lifetime_left_millis.map(Duration::from_millis);
        Ok(DesiredPeer { config, mark, previous, lifetime_left })
    }
}

fn read_interface(interface: wire::InterfaceConfig) -> Result<DesiredInterface, DesiredError> {
    let key = Zeroizing::new(interface.private_key);
    let key = Zeroizing::new(
        key.as_slice()
            .try_into()
            .or(Err(DesiredError::Interface("its private key is not 32 bytes")))?,
    );
    let listen_port = u16::try_from(interface.listen_port)
        .or(Err(DesiredError::Interface("its port is above 65535")))?;
    let addresses = interface
        .addresses
        .iter()
        .map(|text| text.parse())
        .collect::<Result<Vec<IpNet>, _>>()
        .or(Err(DesiredError::Interface("one of its addresses is none")))?;
    let period = u64::from(interface.statistics_period_millis);
    let hold = (interface.outage_hold_millis > 0).then(|| Terms {
        limit: Duration::from_millis(interface.outage_hold_millis),
        threshold: Duration::from_millis(interface.idle_threshold_millis),
        by_handshake: interface.idle_by_handshake,
    });
    let private_key = PrivateKey::from_bytes(*key);
    Ok(DesiredInterface {
        location: interface.location_name,
        public_key: private_key.public_key(),
        private_key,
        listen_port,
        addresses,
        mtu: Some(interface.mtu).filter(|&mtu| mtu != 0),
        mfa_required: interface.mfa_required,
        statistics_period: Some(Duration::from_millis(period)).filter(|period| !period.is_zero()),
        hold,
    })
}

fn public_key(bytes: &[u8]) -> Option<PublicKey> {
    bytes.try_into().ok().map(PublicKey::from_bytes)
}

fn public_key_text(bytes: &[u8]) -> String {
    public_key(bytes)
        .map_or_else(|| format!("with a key of {} bytes", bytes.len()), |key| key.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{key, peer, snapshot};

    #[test]
    fn a_change_adds_replaces_and_removes() {
        let mut desired =
            Desired::from_snapshot(snapshot(7, [peer(1, 1, 1), peer(2, 2, 1)])).unwrap();

        let touched = desired
            .change(wire::Change {
                base_revision: 7,
                revision: 9,
                peers: vec![peer(1, 5, 1), peer(3, 3, 1)],
                removed: vec![key(2).as_bytes().to_vec()],
            })
            .unwrap();

        assert_eq!(desired.revision(), 9);
        assert_eq!(touched, BTreeSet::from([key(1), key(2), key(3)]));
        let sessions: Vec<_> =
            desired.peers().iter().map(|(key, peer)| (*key, peer.mark.session)).collect();
        let mut expected = [(key(1), 5), (key(3), 3)];
        expected.sort_unstable();
        assert_eq!(sessions, expected);
    }

    #[test]
    fn a_change_that_leaves_a_gap_or_goes_back_changes_nothing() {
        let mut desired = Desired::from_snapshot(snapshot(7, [peer(1, 1, 1)])).unwrap();
        let mut change = wire::Change { base_revision: 8, revision: 9, ..Default::default() };
        change.removed.push(key(1).as_bytes().to_vec());

        assert_eq!(desired.change(change.clone()), Err(DesiredError::Gap { base: 8, have: 7 }));
        change.base_revision = 5;
        change.revision = 6;
        assert_eq!(desired.change(change), Err(DesiredError::Older { given: 6, have: 7 }));
        assert!(desired.peers().contains_key(&key(1)));
    }

    #[test]
    fn an_address_can_move_from_one_peer_to_another_within_a_change() {
        let mut desired =
            Desired::from_snapshot(snapshot(1, [peer(1, 1, 1), peer(2, 2, 1)])).unwrap();
        let mut one = peer(1, 1, 1);
        let mut two = peer(2, 2, 1);
        core::mem::swap(&mut one.allowed_ips, &mut two.allowed_ips);

        desired
            .change(wire::Change {
                base_revision: 1,
                revision: 2,
                peers: vec![one, two],
                ..Default::default()
            })
            .unwrap();

        assert_eq!(desired.refusal(), None);
        assert_eq!(desired.peers().len(), 2);
    }

    #[test]
    fn an_unusable_peer_is_left_out_and_named_until_core_takes_it_back() {
        let mut twin = peer(2, 2, 1);
        twin.allowed_ips = peer(1, 1, 1).allowed_ips;
        let mut desired = Desired::from_snapshot(snapshot(1, [peer(1, 1, 1), twin])).unwrap();

        assert_eq!(desired.peers().len(), 1);
        let said = desired.refusal().unwrap();
        assert!(said.contains(&key(2).to_string()), "{said}");

        let removed = vec![key(2).as_bytes().to_vec()];
        desired
            .change(wire::Change { base_revision: 1, revision: 2, removed, ..Default::default() })
            .unwrap();
        assert_eq!(desired.refusal(), None);
    }

    #[test]
    fn every_kind_of_unusable_peer_is_refused() {
        type Spoil = fn(&mut wire::Peer);
        let cases: [(Spoil, Refusal); 8] = [
            (|peer| peer.public_key = vec![0; 32], Refusal::PublicKey),
            (|peer| peer.public_key = vec![1; 31], Refusal::PublicKey),
            (|peer| peer.public_key = crate::testing::own_key().to_vec(), Refusal::PublicKey),
            (|peer| peer.preshared_key = Some(vec![1; 31]), Refusal::PresharedKey),
            (|peer| peer.preshared_key = None, Refusal::NoSession),
            (|peer| peer.preshared_key = Some(vec![0; 32]), Refusal::NoSession),
            (|peer| peer.session_id = 0, Refusal::NoSession),
            (|peer| peer.persistent_keepalive = 65_536, Refusal::Keepalive),
        ];
        for (spoil, refusal) in cases {
            let mut spoilt = peer(1, 1, 1);
            spoil(&mut spoilt);
            let key = spoilt.public_key.clone();
            let desired = Desired::from_snapshot(snapshot(1, [spoilt])).unwrap();
            assert_eq!(desired.refused.get(&key), Some(&refusal));
            assert!(desired.peers().is_empty());
        }
    }

    #[test]
    fn only_networks_outside_the_interfaces_own_need_routes() {
        let mut site = peer(1, 1, 1);
        site.allowed_ips.push("192.168.7.0/24".into());
        let desired = Desired::from_snapshot(snapshot(1, [site])).unwrap();
        assert_eq!(desired.routes(), ["192.168.7.0/24".parse::<IpNet>().unwrap()]);
    }

    #[test]
    fn an_interface_that_cannot_be_read_is_an_error() {
        let mut bad = snapshot(1, []);
        bad.interface.as_mut().unwrap().private_key.pop();
        assert!(matches!(Desired::from_snapshot(bad), Err(DesiredError::Interface(_))));
        let none = wire::Snapshot { interface: None, ..snapshot(1, []) };
        assert!(matches!(Desired::from_snapshot(none), Err(DesiredError::Interface(_))));
    }
}
