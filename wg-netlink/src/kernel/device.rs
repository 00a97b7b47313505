//! The kernel's side of the trait.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use wg_types::{Interface, InterfaceConfig, Peer, PeerConfig, PeerStats, PeerUpdate};

use super::channel::Channel;
use super::socket::KernelSocket;
use crate::link::{LinkKind, Links, os_error};
use crate::{ApplyError, Backend, Error, WireGuard};

/// An interface of the kernel's WireGuard. It outlives this handle and the process; only
/// [`remove`](WireGuard::remove) deletes it.
#[derive(Debug)]
pub struct KernelInterface {
    name: String,
    links: Links,
    channel: Mutex<Channel<KernelSocket>>,
}

impl KernelInterface {
    /// Finds the interface, or creates it, in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// [`Error::NoWireGuard`], [`Error::NameTaken`], [`Error::PermissionDenied`] and the system's
    /// other ones.
    pub fn open(name: &str) -> Result<Self, Error> {
        let socket =
            KernelSocket::open().map_err(|error| os_error(&error, "open a netlink socket"))?;
        let channel = Channel::open(socket, name)?;
        let links = Links::open()?;
        match links.find(name)? {
            Some(link) if link.kind == LinkKind::WireGuard => {}
            Some(_) => return Err(Error::NameTaken { name: name.to_owned() }),
            None => links.create_wireguard(name)?,
        }
        Ok(Self { name: name.to_owned(), links, channel: Mutex::new(channel) })
    }

    fn channel(&self) -> MutexGuard<'_, Channel<KernelSocket>> {
        // A panic of a caller's visitor leaves an answer half read, which the next request skips.
        self.channel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The interface's mark, without its peers being kept.
    fn fwmark(&self) -> Result<Option<u32>, Error> {
        Ok(self.channel().device()?.fwmark.map(core::num::NonZeroU32::get))
    }
}

impl WireGuard for KernelInterface {
    fn name(&self) -> &str {
        &self.name
    }

    fn backend(&self) -> Backend {
        Backend::Kernel
    }

    fn configure(&self, config: &InterfaceConfig) -> Result<(), Error> {
        self.channel().configure(config)
    }

    fn set_addresses(&self, addresses: &[IpNet]) -> Result<(), Error> {
        self.links.set_addresses(&self.name, addresses)
    }

    fn set_up(&self, mtu: Option<u32>) -> Result<(), Error> {
        match self.links.set_up(&self.name, mtu) {
            Err(Error::Os { code: libc::EADDRINUSE, .. }) => {
                Err(Error::PortInUse { port: self.channel().device()?.listen_port })
            }
            done => done,
        }
    }

    fn set_routes(&self, routes: &[IpNet]) -> Result<(), Error> {
        let is_default = |net: &IpNet| net.prefix_len() == 0;
        let mark = match self.fwmark()? {
            Some(mark) => mark,
            None => self.links.choose_mark(&self.name)?,
        };
        if routes.iter().any(is_default) {
            self.configure(&InterfaceConfig { fwmark: Some(mark), ..Default::default() })?;
        }
        self.links.set_routes(&self.name, routes, mark)
    }

    fn apply(&self, updates: &[PeerUpdate]) -> Result<(), ApplyError> {
        self.channel().apply(updates)
    }

    fn replace_peers(&self, peers: &[PeerConfig]) -> Result<(), ApplyError> {
        self.channel().replace_peers(peers)
    }

    fn peers(&self, visit: &mut dyn FnMut(&Peer)) -> Result<(), Error> {
        self.channel().peers(visit)
    }

    fn interface(&self) -> Result<Interface, Error> {
        self.channel().interface()
    }

    fn stats(&self, visit: &mut dyn FnMut(&PeerStats)) -> Result<(), Error> {
        self.channel().stats(visit)
    }

    fn remove(&self) -> Result<(), Error> {
        match self.fwmark() {
            Ok(Some(mark)) => self.links.remove_all_rules(mark)?,
            Ok(None) | Err(Error::NoSuchInterface { .. }) => {}
            Err(error) => return Err(error),
        }
        self.links.delete(&self.name)
    }
}
