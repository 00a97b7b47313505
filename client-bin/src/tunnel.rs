//! One WireGuard interface of a connection: brought up, watched, taken down.

use core::num::NonZeroU16;
use core::time::Duration;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use wg_netlink::{Error, WireGuard};
use wg_types::{
    AllowedIpsChange, InterfaceConfig, PeerConfig, PeerUpdate, PresharedKey, PrivateKey, PskChange,
    PublicKey,
};

use crate::dns::Change;
use crate::host::{Backend, Host};
use crate::location::{Endpoint, Location};

/// Makes the interface send at once, where the location has no keepalive of its own. It is taken
/// away after the first handshake.
const KNOCK: Option<NonZeroU16> = NonZeroU16::new(1);

/// What to bring up.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The interface's name.
    pub interface: String,
    /// Where packets are to be encrypted.
    pub backend: Backend,
    /// Set the location's name servers.
    pub dns: bool,
}

/// An interface that is up.
#[derive(Debug)]
pub struct Tunnel {
    host: Arc<dyn Host>,
    wireguard: Box<dyn WireGuard>,
    peer: PublicKey,
    keepalive: Option<NonZeroU16>,
    dns: Option<Change>,
}

/// What the interface counts and saw.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Link {
    /// When the last handshake was completed; `None`: never.
    pub last_handshake: Option<SystemTime>,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// The gateway's address.
    pub endpoint: Option<SocketAddr>,
}

/// Why there is no interface.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The gateway's name has no address.
    #[error(
        "cannot find the address of the gateway {endpoint} ({source}). Check this machine's network connection"
    )]
    Resolve {
        /// The location's endpoint.
        endpoint: Endpoint,
        /// What the resolver said.
        source: io::Error,
    },
    /// Something has the name already.
    #[error(
        "there is an interface {0} already. If it is left from this client, `client-bin disconnect` removes it; else choose another name with --interface"
    )]
    Taken(String),
    /// The system refused.
    #[error("{0}")]
    WireGuard(#[from] Error),
}

impl Tunnel {
    /// Makes the interface, and removes it again if any step fails. Name servers that cannot be set
    /// are no failure: the second part of the answer then says so.
    ///
    /// # Errors
    ///
    /// [`TunnelError`].
    pub async fn up(
        host: Arc<dyn Host>,
        wanted: &Wanted,
        location: &Location,
        key: &PrivateKey,
        psk: Option<&PresharedKey>,
    ) -> Result<(Self, Option<io::Error>), TunnelError> {
        let endpoint = resolve(&location.endpoint).await?;
        if host.exists(&wanted.interface) {
            return Err(TunnelError::Taken(wanted.interface.clone()));
        }
        let wireguard = host.open(&wanted.interface, wanted.backend)?;
        if let Err(error) = prepare(&*wireguard, location, key, psk, endpoint) {
            // The first error is the one to tell.
            let _ = wireguard.remove();
            return Err(error.into());
        }
        let (mut dns, mut dns_error) = (None, None);
        if wanted.dns && !location.dns.is_empty() {
            match host.resolver().set(&wanted.interface, &location.dns, &location.search) {
                Ok(change) => dns = Some(change),
                Err(error) => dns_error = Some(error),
            }
        }
        let (peer, keepalive) = (location.public_key, location.keepalive);
        Ok((Self { host, wireguard, peer, keepalive, dns }, dns_error))
    }

    /// The interface's name.
    #[must_use]
    pub fn interface(&self) -> &str {
        self.wireguard.name()
    }

    /// Where its packets are encrypted: `kernel` or `userspace`.
    #[must_use]
    pub fn backend(&self) -> String {
        self.wireguard.backend().to_string()
    }

    /// How name servers were set; `None`: they were not.
    #[must_use]
    pub const fn dns(&self) -> Option<&Change> {
        self.dns.as_ref()
    }

    /// The mark of its packets, which keeps what carries it out of the tunnel.
    ///
    /// # Errors
    ///
    /// The interface's own.
    pub fn mark(&self) -> Result<Option<core::num::NonZeroU32>, Error> {
        Ok(self.wireguard.interface()?.fwmark)
    }

    /// Reads what the interface saw.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchInterface`] if somebody removed it.
    pub fn link(&self) -> Result<Link, Error> {
        link(&*self.wireguard, &self.peer)
    }

    /// Goes back to the location's own keepalive, once the first handshake is done.
    ///
    /// # Errors
    ///
    /// The interface's own.
    pub fn settle(&self) -> Result<(), Error> {
        if self.keepalive.is_some() {
            return Ok(());
        }
        let quiet = PeerUpdate::Update {
            public_key: self.peer,
            psk: PskChange::Keep,
            allowed_ips: AllowedIpsChange::Keep,
            endpoint: None,
            persistent_keepalive: Some(Duration::ZERO),
        };
        self.wireguard.apply(&[quiet]).map_err(|error| first_cause(&error))
    }

    /// Removes the interface and takes the name servers back.
    ///
    /// # Errors
    ///
    /// The first thing that failed, after all was tried.
    pub fn down(&self) -> Result<(), DownError> {
        take_down(&*self.host, self.interface(), self.dns.as_ref(), || self.wireguard.remove())
    }
}

/// What was left behind.
#[derive(Debug, thiserror::Error)]
pub enum DownError {
    /// The interface.
    #[error("the interface could not be removed: {0}")]
    Interface(#[from] Error),
    /// The name servers.
    #[error("the name servers could not be set back: {0}. Look at /etc/resolv.conf")]
    Dns(io::Error),
}

/// Cleans up after a process that died: takes name servers back and removes the interface, if it
/// still has this device's key or none yet. An interface of somebody else's is left alone.
///
/// # Errors
///
/// The first thing that failed, after all was tried.
pub fn clean_up(
    host: &dyn Host,
    interface: &str,
    dns: Option<&Change>,
    key: &PublicKey,
) -> Result<(), DownError> {
    take_down(host, interface, dns, || {
        if !host.exists(interface) {
            return Ok(());
        }
        let left = host.open(interface, Backend::Auto)?;
        match left.interface()?.public_key {
            Some(other) if other != *key => Ok(()),
            _ => left.remove(),
        }
    })
}

fn take_down(
    host: &dyn Host,
    interface: &str,
    dns: Option<&Change>,
    remove: impl FnOnce() -> Result<(), Error>,
) -> Result<(), DownError> {
    let dns = match dns {
        Some(change) => host.resolver().restore(interface, change),
        None => Ok(()),
    };
    remove()?;
    dns.map_err(DownError::Dns)
}

/// Reads what an interface saw of `peer`; zeros if it does not have it.
///
/// # Errors
///
/// The interface's own.
pub fn link(wireguard: &dyn WireGuard, peer: &PublicKey) -> Result<Link, Error> {
    let mut link = Link::default();
    wireguard.stats(&mut |stats| {
        if stats.public_key == *peer {
            link = Link {
                last_handshake: stats.last_handshake,
                rx_bytes: stats.rx_bytes,
                tx_bytes: stats.tx_bytes,
                endpoint: stats.endpoint,
            };
        }
    })?;
    Ok(link)
}

fn prepare(
    wireguard: &dyn WireGuard,
    location: &Location,
    key: &PrivateKey,
    psk: Option<&PresharedKey>,
    endpoint: SocketAddr,
) -> Result<(), Error> {
    wireguard.configure(&InterfaceConfig {
        private_key: Some(key.clone()),
        listen_port: None,
        fwmark: None,
    })?;
    let peer = PeerConfig {
        public_key: location.public_key,
        preshared_key: psk.cloned(),
        endpoint: Some(endpoint),
        persistent_keepalive: location.keepalive.or(KNOCK),
        allowed_ips: location.allowed_ips.clone(),
    };
    wireguard.apply(&[PeerUpdate::Put(peer)]).map_err(|error| first_cause(&error))?;
    wireguard.set_addresses(&location.addresses)?;
    wireguard.set_up(location.mtu)?;
    wireguard.set_routes(&location.allowed_ips)
}

fn first_cause(error: &wg_netlink::ApplyError) -> Error {
    error.cause().cloned().unwrap_or(Error::NoAnswer { doing: "set the gateway" })
}

async fn resolve(endpoint: &Endpoint) -> Result<SocketAddr, TunnelError> {
    let failed = |source| TunnelError::Resolve { endpoint: endpoint.clone(), source };
    let mut found =
        tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await.map_err(failed)?;
    found.next().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
}
