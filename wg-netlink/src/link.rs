//! The life of an interface beside WireGuard: creation, addresses, MTU, up, deletion; routes and
//! rules are in [`routes`].
//!
//! Through `rtnetlink`, whose calls are async: they run to their end on a thread made for each, so
//! that they may be called from any thread. They are rare.

use core::future::Future;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::thread;

use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkWireguard, new_connection};
use tokio::runtime::{Builder, Runtime};

use crate::Error;

pub mod routes;

/// The longest name of an interface (`IFNAMSIZ` without the zero at its end).
const NAME_MAX: usize = 15;

/// A conversation with the kernel about the interfaces of one network namespace.
pub struct Links {
    /// `None` only while this is dropped.
    runtime: Option<Runtime>,
    handle: Handle,
}

/// An interface that was found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Link {
    /// Its number, which no other gets while it lives.
    pub index: u32,
    /// What it is.
    pub kind: LinkKind,
}

/// What an interface is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LinkKind {
    /// The kernel's WireGuard.
    WireGuard,
    /// A TUN device, which a userspace WireGuard may be behind.
    Tun,
    /// Anything else.
    Other,
}

impl Links {
    /// Opens a socket in the calling thread's network namespace, where it stays.
    ///
    /// # Errors
    ///
    /// [`Error::Os`].
    pub fn open() -> Result<Self, Error> {
        let opened = || -> io::Result<Self> {
            let runtime = Builder::new_current_thread().enable_io().build()?;
            let context = runtime.enter();
            let (connection, handle, _) = new_connection()?;
            drop(context);
            runtime.spawn(connection);
            Ok(Self { runtime: Some(runtime), handle })
        };
        opened().map_err(|error| os_error(&error, "open a route netlink socket"))
    }

    /// Looks an interface up; `None`: there is none of this name.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn find(&self, name: &str) -> Result<Option<Link>, Error> {
        let request = self.handle.link().get().match_name(name.to_owned());
        let found =
            self.run("look for an interface", async move { request.execute().try_next().await });
        match found {
            Ok(message) => Ok(message.as_ref().map(Link::from)),
            Err(Error::Os { code: libc::ENODEV, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates an interface of the kernel's WireGuard.
    ///
    /// # Errors
    ///
    /// [`Error::NameTaken`], [`Error::NoWireGuard`], [`Error::PermissionDenied`] and the system's
    /// other ones.
    pub fn create_wireguard(&self, name: &str) -> Result<(), Error> {
        let request = self.handle.link().add(LinkWireguard::new(name).build());
        let created = self.run("create an interface", async move { request.execute().await });
        created.map_err(|error| match error {
            Error::Os { code: libc::EEXIST, .. } => Error::NameTaken { name: name.to_owned() },
            Error::Os { code: libc::EOPNOTSUPP, .. } => Error::NoWireGuard,
            error => error,
        })
    }

    /// Deletes an interface; nothing happens if there is none of this name.
    ///
    /// # Errors
    ///
    /// [`Error::PermissionDenied`] and the system's other ones.
    pub fn delete(&self, name: &str) -> Result<(), Error> {
        let Some(link) = self.find(name)? else { return Ok(()) };
        let request = self.handle.link().del(link.index);
        match self.run("delete an interface", async move { request.execute().await }) {
            Err(Error::Os { code: libc::ENODEV, .. }) => Ok(()),
            done => done,
        }
    }

    /// Sets the MTU, if one is given, and brings the interface up.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchInterface`], [`Error::PermissionDenied`] and the system's other ones.
    pub fn set_up(&self, name: &str, mtu: Option<u32>) -> Result<(), Error> {
        let link = self.existing(name)?;
        let mut message: LinkMessageBuilder<LinkUnspec> = LinkUnspec::new_with_index(link.index);
        if let Some(mtu) = mtu {
            message = message.mtu(mtu);
        }
        let request = self.handle.link().set(message.up().build());
        self.run("bring the interface up", async move { request.execute().await })
    }

    /// Makes these the interface's addresses; link-local IPv6 addresses that are not named stay.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchInterface`], [`Error::PermissionDenied`] and the system's other ones.
    pub fn set_addresses(&self, name: &str, addresses: &[IpNet]) -> Result<(), Error> {
        let link = self.existing(name)?;
        let wanted: BTreeSet<IpNet> = addresses.iter().copied().collect();
        for (message, address) in self.addresses(link)? {
            if !wanted.contains(&address) && !is_link_local(&address.addr()) {
                let request = self.handle.address().del(message);
                let gone = self.run("remove an address", async move { request.execute().await });
                // With an IPv4 address those go that are in the same network and came after it.
                ignore(gone, libc::EADDRNOTAVAIL)?;
            }
        }
        let present: BTreeSet<IpNet> =
            self.addresses(link)?.into_iter().map(|(_, address)| address).collect();
        for address in wanted.difference(&present) {
            let (ip, prefix) = (address.addr(), address.prefix_len());
            let request = self.handle.address().add(link.index, ip, prefix);
            let added = self.run("add an address", async move { request.execute().await });
            ignore(added, libc::EEXIST)?;
        }
        Ok(())
    }

    fn addresses(&self, link: Link) -> Result<Vec<(AddressMessage, IpNet)>, Error> {
        let request = self.handle.address().get().set_link_index_filter(link.index);
        let found: Vec<_> =
            self.run("read addresses", async move { request.execute().try_collect().await })?;
        Ok(found
            .into_iter()
            .filter_map(|message| own_address(&message).map(|address| (message, address)))
            .collect())
    }

    fn existing(&self, name: &str) -> Result<Link, Error> {
        self.find(name)?.ok_or_else(|| Error::NoSuchInterface { name: name.to_owned() })
    }

    /// Runs a request to its end on a thread of its own, which may block also where the caller's
    /// belongs to an async runtime.
    fn run<T: Send>(
        &self,
        doing: &'static str,
        request: impl Future<Output = Result<T, rtnetlink::Error>> + Send,
    ) -> Result<T, Error> {
        let Some(runtime) = &self.runtime else { return Err(Error::NoAnswer { doing }) };
        let done = thread::scope(|scope| {
            let thread = thread::Builder::new().name("wg-netlink".to_owned());
            let running = thread.spawn_scoped(scope, || runtime.block_on(request));
            let running = running.map_err(|error| os_error(&error, doing))?;
            running.join().map_err(|_| Error::NoAnswer { doing })
        })?;
        done.map_err(|error| link_error(&error, doing))
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Allowed in an async context, where waiting for it would panic.
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Links")
    }
}

impl From<&LinkMessage> for Link {
    fn from(message: &LinkMessage) -> Self {
        let infos = message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => Some(infos),
            _ => None,
        });
        let kind = infos.into_iter().flatten().find_map(|info| match info {
            LinkInfo::Kind(InfoKind::Wireguard) => Some(LinkKind::WireGuard),
            LinkInfo::Kind(InfoKind::Tun) => Some(LinkKind::Tun),
            LinkInfo::Kind(_) => Some(LinkKind::Other),
            _ => None,
        });
        Self { index: message.header.index, kind: kind.unwrap_or(LinkKind::Other) }
    }
}

/// Refuses what cannot name an interface.
///
/// # Errors
///
/// [`Error::BadName`].
pub fn check_name(name: &str) -> Result<(), Error> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || "_=+.-".contains(c);
    let is_bad = name.is_empty()
        || name.len() > NAME_MAX
        || name == "."
        || name == ".."
        || !name.chars().all(is_good);
    if is_bad { Err(Error::BadName { name: name.to_owned() }) } else { Ok(()) }
}

fn own_address(message: &AddressMessage) -> Option<IpNet> {
    // On a point-to-point link ADDRESS is the other end's and LOCAL is ours.
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    });
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(ip) => Some(*ip),
        _ => None,
    });
    IpNet::new(local.or(address)?, message.header.prefix_len).ok()
}

const fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn ignore(done: Result<(), Error>, errno: i32) -> Result<(), Error> {
    match done {
        Err(Error::Os { code, .. }) if code == errno => Ok(()),
        done => done,
    }
}

pub(crate) fn os_error(error: &io::Error, doing: &'static str) -> Error {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => Error::PermissionDenied { doing },
        code => Error::Os { doing, code: code.unwrap_or(libc::EIO) },
    }
}

fn link_error(error: &rtnetlink::Error, doing: &'static str) -> Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => os_error(&message.to_io(), doing),
        _ => Error::NoAnswer { doing },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_interface_can_have_are_refused() {
        for name in ["", ".", "..", "a/b", "a b", "sixteen-letters-", "wg\0", "wgü"] {
            assert_eq!(check_name(name), Err(Error::BadName { name: name.to_owned() }));
        }
        for name in ["wg0", "a", "fifteen-letters", "wg_1.2+3=4"] {
            assert_eq!(check_name(name), Ok(()));
        }
    }
}
