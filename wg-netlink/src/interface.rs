//! The one trait that every backend has.

use core::fmt;
use std::collections::{BTreeSet, HashMap};

use ipnet::IpNet;
use wg_types::{Interface, InterfaceConfig, Peer, PeerConfig, PeerStats, PeerUpdate, PublicKey};

use crate::{ApplyError, Error, SetPeersError};

/// Where packets are encrypted.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Backend {
    /// In the kernel.
    Kernel,
    /// In this process, behind a TUN device.
    Userspace,
    /// Nowhere: a model of the kernel for tests.
    Fake,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Userspace => "userspace",
            Self::Fake => "fake",
        })
    }
}

/// Which backend to open.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Want {
    /// The kernel's if it has WireGuard, else userspace.
    #[default]
    Auto,
    /// The kernel's or none.
    Kernel,
    /// Userspace also where the kernel has WireGuard.
    Userspace,
}

/// One WireGuard interface.
///
/// Every call blocks for as long as the kernel takes, mostly microseconds, and may come from any
/// thread, also from one of an async runtime; there a call with many peers belongs on a blocking
/// thread. Calls on one interface take turns.
pub trait WireGuard: Send + Sync + fmt::Debug {
    /// The interface's name, such as `wg0`.
    fn name(&self) -> &str;

    /// Where its packets are encrypted.
    fn backend(&self) -> Backend;

    /// Sets the interface's key, port and mark. Peers are never touched.
    ///
    /// # Errors
    ///
    /// [`Error::PortInUse`], [`Error::NoSuchInterface`], [`Error::PermissionDenied`] and the
    /// system's other ones.
    fn configure(&self, config: &InterfaceConfig) -> Result<(), Error>;

    /// Makes these its addresses: missing ones are added, others removed. Link-local IPv6
    /// addresses that are not named stay.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchInterface`], [`Error::PermissionDenied`] and the system's other ones.
    fn set_addresses(&self, addresses: &[IpNet]) -> Result<(), Error>;

    /// Brings it up. `mtu` is in bytes; `None` leaves it (the kernel's default is 1420).
    ///
    /// # Errors
    ///
    /// [`Error::PortInUse`] if the listen port is taken, which shows only now;
    /// [`Error::NoSuchInterface`], [`Error::PermissionDenied`] and the system's other ones.
    fn set_up(&self, mtu: Option<u32>) -> Result<(), Error>;

    /// Makes these the routes into the interface, beside those that its addresses imply: missing
    /// ones are added, others removed. The interface must be up.
    ///
    /// A default route (`0.0.0.0/0`, `::/0`) goes into a table of its own, with a policy rule that
    /// keeps the interface's own marked packets out of it, as wg-quick does; a mark is set if there
    /// is none. No route loops back into the tunnel.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchInterface`], [`Error::PermissionDenied`] and the system's other ones.
    fn set_routes(&self, routes: &[IpNet]) -> Result<(), Error>;

    /// Applies updates in the order given, in as few messages as hold them.
    ///
    /// An update that is refused does not keep those after it from being applied.
    ///
    /// # Errors
    ///
    /// [`ApplyError`] says of each update what became of it.
    fn apply(&self, updates: &[PeerUpdate]) -> Result<(), ApplyError>;

    /// Reads everything but the private key.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`] if peers kept changing; [`Error::NoSuchInterface`],
    /// [`Error::PermissionDenied`] and the system's other ones.
    fn interface(&self) -> Result<Interface, Error>;

    /// Shows each peer's statistics, and reads nothing else.
    ///
    /// `visit` must not call this interface. It may see a peer twice if the dump had to be started
    /// anew; the later view is the right one.
    ///
    /// # Errors
    ///
    /// As [`interface`](Self::interface).
    fn stats(&self, visit: &mut dyn FnMut(&PeerStats)) -> Result<(), Error>;

    /// Deletes the interface with its addresses, routes and rules. Nothing happens if it is gone.
    ///
    /// # Errors
    ///
    /// [`Error::PermissionDenied`] and the system's other ones.
    fn remove(&self) -> Result<(), Error>;

    /// Shows each peer with what is configured and counted, one after the other, and keeps none: the
    /// way to look at 100,000 peers in the memory of one.
    ///
    /// `visit` must not call this interface. It may see peers twice if the dump had to be started
    /// anew; the later view is the right one.
    ///
    /// ```
    /// # use wg_netlink::WireGuard as _;
    /// # let wg0 = wg_netlink::fake::FakeKernel::new().interface("wg0");
    /// let mut locked = 0;
    /// wg0.peers(&mut |peer| locked += u32::from(peer.config.allowed_ips.is_empty()))?;
    /// assert_eq!(locked, 0);
    /// # Ok::<(), wg_netlink::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`interface`](Self::interface).
    fn peers(&self, visit: &mut dyn FnMut(&Peer)) -> Result<(), Error> {
        self.interface()?.peers.iter().for_each(visit);
        Ok(())
    }

    /// Removes all peers, then lets these in (`WGDEVICE_F_REPLACE_PEERS`). Every session, counter and
    /// handshake time of the interface is lost, also of peers that are in both:
    /// [`set_peers`](Self::set_peers) keeps them, and is the right call unless nothing is worth
    /// keeping.
    ///
    /// # Errors
    ///
    /// [`ApplyError`] says of each of `peers` what became of it. The old ones are gone unless the
    /// batch stopped before the first.
    fn replace_peers(&self, peers: &[PeerConfig]) -> Result<(), ApplyError> {
        let stopped = |error| ApplyError::stopped(peers.len(), 0, error);
        let mut gone = Vec::new();
        self.stats(&mut |peer| gone.push(PeerUpdate::Remove(peer.public_key))).map_err(stopped)?;
        self.apply(&gone)
            .map_err(|error| stopped(error.cause().cloned().unwrap_or(Error::Busy)))?;
        let puts: Vec<_> = peers.iter().cloned().map(PeerUpdate::Put).collect();
        self.apply(&puts)
    }

    /// Makes these the interface's peers, in the fewest updates: see [`diff`](crate::diff::diff).
    /// Sessions of peers that stay go on.
    ///
    /// # Errors
    ///
    /// The dump's error, or [`ApplyError`] about the updates that were found necessary.
    fn set_peers(&self, peers: &[PeerConfig]) -> Result<(), SetPeersError> {
        if peers.is_empty() {
            return Ok(self.replace_peers(peers)?);
        }
        let actual = self.interface()?.peers;
        Ok(self.apply(&crate::diff::diff(&actual, peers))?)
    }

    /// Collects what [`stats`](Self::stats) shows, each peer once.
    ///
    /// # Errors
    ///
    /// As [`stats`](Self::stats).
    fn all_stats(&self) -> Result<Vec<PeerStats>, Error> {
        let mut all: Vec<PeerStats> = Vec::new();
        let mut places: HashMap<PublicKey, usize> = HashMap::new();
        self.stats(&mut |peer| {
            let place = *places.entry(peer.public_key).or_insert(all.len());
            match all.get_mut(place) {
                Some(known) => *known = *peer,
                None => all.push(*peer),
            }
        })?;
        Ok(all)
    }

    /// Tells which of these peers the interface does not have, in the order given.
    ///
    /// [`PeerUpdate::Update`] of a missing peer does nothing and succeeds; who must know asks here.
    ///
    /// # Errors
    ///
    /// As [`stats`](Self::stats).
    fn missing(&self, of: &[PublicKey]) -> Result<Vec<PublicKey>, Error> {
        let mut missing: BTreeSet<_> = of.iter().copied().collect();
        self.stats(&mut |peer| {
            missing.remove(&peer.public_key);
        })?;
        Ok(of.iter().copied().filter(|key| missing.contains(key)).collect())
    }
}
