//! A model of the kernel's WireGuard, for tests of what programs it.
//!
//! It does what Linux does, also where that surprises: an allowed IP moves from whatever peer had
//! it; an update of a missing peer succeeds and does nothing; a peer with the interface's own key is
//! ignored; counters go with the peer; 32 zero bytes are no pre-shared key. It moves no packets:
//! tests say what was heard with [`FakeInterface::hear`] and [`FakeInterface::shake_hands`].
//!
//! ```
//! use wg_netlink::WireGuard as _;
//! use wg_netlink::fake::FakeKernel;
//! use wg_types::{PeerConfig, PeerUpdate, PublicKey};
//!
//! let wg0 = FakeKernel::new().interface("wg0");
//! let alice = PublicKey::from_bytes([1; 32]);
//! wg0.apply(&[PeerUpdate::Put(PeerConfig::new(alice))])?;
//! wg0.hear(&alice, 148, 92);
//! assert_eq!(wg0.interface()?.peers[0].stats.rx_bytes, 148);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use ipnet::IpNet;
use wg_types::{Interface, InterfaceConfig, Peer, PeerStats, PeerUpdate, PresharedKey, PublicKey};

use crate::{ApplyError, Backend, Error, WireGuard};

mod device;

use device::Device;

/// A host's worth of interfaces. Clones are handles of the same.
#[derive(Clone, Debug, Default)]
pub struct FakeKernel {
    links: Arc<Mutex<BTreeMap<String, Device>>>,
}

impl FakeKernel {
    /// Starts with no interface.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Finds or creates an interface, as [`open`](crate::open) does.
    #[must_use]
    pub fn interface(&self, name: &str) -> FakeInterface {
        self.lock().entry(name.to_owned()).or_default();
        FakeInterface { kernel: self.clone(), name: name.to_owned() }
    }

    /// The names of the interfaces that there are.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Device>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One interface of a [`FakeKernel`]. Clones are handles of the same.
#[derive(Clone, Debug)]
pub struct FakeInterface {
    kernel: FakeKernel,
    name: String,
}

/// What a test finds out about an interface, beside what [`WireGuard`] shows.
impl FakeInterface {
    /// The next call of any kind fails so. Several are taken one after the other.
    pub fn fail_next(&self, error: Error) {
        let _ = self.with(|device| {
            device.faults.push_back(error);
            Ok(())
        });
    }

    /// Every update of `peer` is refused so, until [`accept`](Self::accept).
    pub fn refuse(&self, peer: PublicKey, error: Error) {
        let _ = self.with(|device| Ok(device.refuse.insert(peer, error)));
    }

    /// Ends what [`refuse`](Self::refuse) began.
    pub fn accept(&self, peer: &PublicKey) {
        let _ = self.with(|device| Ok(device.refuse.remove(peer)));
    }

    /// Adds to the counters of `peer`: bytes that came from it and went to it.
    pub fn hear(&self, peer: &PublicKey, rx_bytes: u64, tx_bytes: u64) {
        let _ = self.with(|device| {
            if let Some(peer) = device.peers.get_mut(peer) {
                peer.stats.rx_bytes += rx_bytes;
                peer.stats.tx_bytes += tx_bytes;
            }
            Ok(())
        });
    }

    /// Completes a handshake of `peer` at `now`, heard from `endpoint` if that is given.
    pub fn shake_hands(&self, peer: &PublicKey, now: SystemTime, endpoint: Option<SocketAddr>) {
        let _ = self.with(|device| {
            if let Some(peer) = device.peers.get_mut(peer) {
                peer.stats.last_handshake = Some(now);
                peer.config.endpoint = endpoint.or(peer.config.endpoint);
                peer.stats.endpoint = peer.config.endpoint;
            }
            Ok(())
        });
    }

    /// The pre-shared key of `peer`; `None`: it has none, or there is no such peer.
    #[must_use]
    pub fn psk(&self, peer: &PublicKey) -> Option<PresharedKey> {
        self.peer(peer).and_then(|peer| peer.config.preshared_key)
    }

    /// The peer as it stands.
    #[must_use]
    pub fn peer(&self, peer: &PublicKey) -> Option<Peer> {
        self.with(|device| Ok(device.peers.get(peer).map(|entry| entry.peer.clone())))
            .ok()
            .flatten()
    }

    /// The peer that a packet to `address` goes to, and that one from it must come from.
    #[must_use]
    pub fn peer_for(&self, address: IpAddr) -> Option<PublicKey> {
        self.with(|device| Ok(device.peers.holder(address))).ok().flatten()
    }

    /// What `set_addresses` was last given.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpNet> {
        self.with(|device| Ok(device.addresses.clone())).unwrap_or_default()
    }

    /// What `set_routes` was last given.
    #[must_use]
    pub fn routes(&self) -> Vec<IpNet> {
        self.with(|device| Ok(device.routes.clone())).unwrap_or_default()
    }

    /// Whether it is up.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.with(|device| Ok(device.up)).unwrap_or_default()
    }

    /// The MTU in bytes, once one was set.
    #[must_use]
    pub fn mtu(&self) -> Option<u32> {
        self.with(|device| Ok(device.mtu)).ok().flatten()
    }

    /// How many peer updates were ever taken: what was unchanged must not count.
    #[must_use]
    pub fn updates_taken(&self) -> usize {
        self.with(|device| Ok(device.updates_taken)).unwrap_or_default()
    }

    fn with<T>(&self, act: impl FnOnce(&mut Device) -> Result<T, Error>) -> Result<T, Error> {
        let mut links = self.kernel.lock();
        let missing = || Error::NoSuchInterface { name: self.name.clone() };
        links.get_mut(&self.name).ok_or_else(missing).and_then(act)
    }

    fn call<T>(&self, act: impl FnOnce(&mut Device) -> T) -> Result<T, Error> {
        self.with(|device| match device.faults.pop_front() {
            Some(fault) => Err(fault),
            None => Ok(act(device)),
        })
    }
}

impl WireGuard for FakeInterface {
    fn name(&self) -> &str {
        &self.name
    }

    fn backend(&self) -> Backend {
        Backend::Fake
    }

    fn configure(&self, config: &InterfaceConfig) -> Result<(), Error> {
        self.call(|device| device.configure(config))
    }

    fn set_addresses(&self, addresses: &[IpNet]) -> Result<(), Error> {
        self.call(|device| device.addresses = addresses.to_vec())
    }

    fn set_up(&self, mtu: Option<u32>) -> Result<(), Error> {
        self.call(|device| device.set_up(mtu))
    }

    fn set_routes(&self, routes: &[IpNet]) -> Result<(), Error> {
        self.call(|device| device.routes = routes.to_vec())
    }

    fn apply(&self, updates: &[PeerUpdate]) -> Result<(), ApplyError> {
        let refused = self
            .call(|device| device.apply(updates))
            .map_err(|error| ApplyError::stopped(updates.len(), 0, error))?;
        ApplyError::check(updates.len(), refused, None)
    }

    fn interface(&self) -> Result<Interface, Error> {
        self.call(|device| device.dump(&self.name))
    }

    fn stats(&self, visit: &mut dyn FnMut(&PeerStats)) -> Result<(), Error> {
        let interface = self.interface()?;
        interface.peers.iter().for_each(|peer| visit(&peer.stats));
        Ok(())
    }

    fn remove(&self) -> Result<(), Error> {
        match self.call(|_| ()) {
            Ok(()) | Err(Error::NoSuchInterface { .. }) => {}
            Err(error) => return Err(error),
        }
        self.kernel.lock().remove(&self.name);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wg_types::{AllowedIpsChange, PeerConfig, PrivateKey, PskChange};

    use super::*;

    const ALICE: PublicKey = PublicKey::from_bytes([1; 32]);
    const BOB: PublicKey = PublicKey::from_bytes([2; 32]);

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn put(key: PublicKey, allowed_ips: &[&str]) -> PeerUpdate {
        let allowed_ips = allowed_ips.iter().map(|text| net(text)).collect();
        PeerUpdate::Put(PeerConfig { allowed_ips, ..PeerConfig::new(key) })
    }

    fn wg0() -> FakeInterface {
        FakeKernel::new().interface("wg0")
    }

    #[test]
    fn an_allowed_ip_moves_to_the_peer_that_got_it_last() {
        let wg0 = wg0();
        wg0.apply(&[put(ALICE, &["10.0.0.1/32"]), put(BOB, &["10.0.0.1/32"])]).unwrap();
        assert_eq!(wg0.peer_for("10.0.0.1".parse().unwrap()), Some(BOB));
        assert_eq!(wg0.peer(&ALICE).unwrap().config.allowed_ips, []);
    }

    #[test]
    fn host_bits_of_an_allowed_ip_are_dropped() {
        let wg0 = wg0();
        wg0.apply(&[put(ALICE, &["10.0.0.7/24"])]).unwrap();
        assert_eq!(wg0.peer(&ALICE).unwrap().config.allowed_ips, [net("10.0.0.0/24")]);
    }

    #[test]
    fn an_update_of_a_missing_peer_does_nothing_and_succeeds() {
        let wg0 = wg0();
        wg0.apply(&[PeerUpdate::set_psk(ALICE, PresharedKey::from_bytes([7; 32]))]).unwrap();
        assert!(wg0.peer(&ALICE).is_none());
        assert_eq!(wg0.missing(&[BOB, ALICE]).unwrap(), [BOB, ALICE]);
    }

    #[test]
    fn a_psk_is_kept_cleared_or_set() {
        let wg0 = wg0();
        let psk = PresharedKey::from_bytes([7; 32]);
        let mut config = PeerConfig::new(ALICE);
        config.preshared_key = Some(psk.clone());
        let change = |psk| PeerUpdate::Update {
            public_key: ALICE,
            psk,
            allowed_ips: AllowedIpsChange::Keep,
            endpoint: None,
            persistent_keepalive: None,
        };
        wg0.apply(&[PeerUpdate::Put(config), change(PskChange::Keep)]).unwrap();
        assert!(wg0.psk(&ALICE).unwrap().same_as(&psk));
        wg0.apply(&[change(PskChange::Clear)]).unwrap();
        assert!(wg0.psk(&ALICE).is_none());
        wg0.apply(&[change(PskChange::Set(PresharedKey::from_bytes([0; 32])))]).unwrap();
        assert!(wg0.psk(&ALICE).is_none(), "zeros are no key");
        wg0.apply(&[change(PskChange::Set(psk)), put(ALICE, &[])]).unwrap();
        assert!(wg0.psk(&ALICE).is_none(), "a put without a key clears it");
    }

    #[test]
    fn counters_outlive_a_put_and_go_with_the_peer() {
        let wg0 = wg0();
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(9);
        wg0.apply(&[put(ALICE, &["10.0.0.1/32"])]).unwrap();
        wg0.hear(&ALICE, 100, 200);
        wg0.shake_hands(&ALICE, at, Some("192.0.2.1:51820".parse().unwrap()));
        wg0.apply(&[put(ALICE, &["10.0.0.2/32"])]).unwrap();
        let stats = wg0.peer(&ALICE).unwrap().stats;
        assert_eq!((stats.rx_bytes, stats.tx_bytes, stats.last_handshake), (100, 200, Some(at)));
        assert_eq!(stats.endpoint, Some("192.0.2.1:51820".parse().unwrap()));
        wg0.apply(&[PeerUpdate::Remove(ALICE), put(ALICE, &[])]).unwrap();
        let stats = wg0.peer(&ALICE).unwrap().stats;
        assert_eq!((stats.rx_bytes, stats.tx_bytes, stats.last_handshake), (0, 0, None));
    }

    #[test]
    fn nobody_is_a_peer_of_himself() {
        let wg0 = wg0();
        let key = PrivateKey::from_bytes([9; 32]);
        let own = key.public_key();
        wg0.apply(&[put(own, &[])]).unwrap();
        assert!(wg0.peer(&own).is_some());
        wg0.configure(&InterfaceConfig { private_key: Some(key), ..Default::default() }).unwrap();
        assert!(wg0.peer(&own).is_none(), "a key removes the peer of the same key");
        wg0.apply(&[put(own, &[])]).unwrap();
        assert!(wg0.peer(&own).is_none());
    }

    #[test]
    fn a_refused_update_does_not_stop_the_others() {
        let wg0 = wg0();
        wg0.refuse(ALICE, Error::NoBuffers);
        let error = wg0.apply(&[put(ALICE, &[]), put(BOB, &[])]).unwrap_err();
        assert_eq!(error.unapplied().collect::<Vec<_>>(), [0]);
        assert!(wg0.peer(&BOB).is_some());
        wg0.accept(&ALICE);
        wg0.apply(&[put(ALICE, &[])]).unwrap();
        wg0.fail_next(Error::Busy);
        let error = wg0.apply(&[PeerUpdate::Remove(ALICE)]).unwrap_err();
        assert_eq!(error.cause(), Some(&Error::Busy));
        assert!(wg0.peer(&ALICE).is_some());
    }

    #[test]
    fn a_removed_interface_is_gone_until_opened_again() {
        let kernel = FakeKernel::new();
        let wg0 = kernel.interface("wg0");
        wg0.apply(&[put(ALICE, &[])]).unwrap();
        wg0.remove().unwrap();
        wg0.remove().unwrap();
        let gone = Error::NoSuchInterface { name: "wg0".to_owned() };
        assert_eq!(wg0.interface().unwrap_err(), gone);
        assert_eq!(kernel.names(), Vec::<String>::new());
        assert_eq!(kernel.interface("wg0").interface().unwrap().peers.len(), 0);
    }

    #[test]
    fn a_dump_is_in_the_order_of_creation() {
        let wg0 = wg0();
        wg0.apply(&[put(BOB, &[]), put(ALICE, &[]), put(BOB, &["10.0.0.1/32"])]).unwrap();
        let keys: Vec<_> =
            wg0.interface().unwrap().peers.iter().map(|peer| peer.stats.public_key).collect();
        assert_eq!(keys, [BOB, ALICE]);
    }
}
