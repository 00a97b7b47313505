//! One WireGuard interface of a connection: brought up, watched, taken down.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use ipnet::IpNet;
use wg_netlink::{Error, WireGuard};
use wg_types::{InterfaceConfig, PeerConfig, PeerUpdate, PresharedKey, PrivateKey, PublicKey};

use crate::dns::Change;
use crate::host::{Backend, Host};
use crate::location::{Endpoint, Location};

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
        // A tunnel sleeps until something is sent into it.
        if let Some((from, to)) = knock(location) {
            host.send_empty(from, to);
        }
        let (mut dns, mut dns_error) = (None, None);
        if wanted.dns && !location.dns.is_empty() {
            match host.resolver().set(&wanted.interface, &location.dns, &location.search) {
                Ok(change) => dns = Some(change),
                Err(error) => dns_error = Some(error),
            }
        }
        Ok((Self { host, wireguard, peer: location.public_key, dns }, dns_error))
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

    /// Replaces the gateway's pre-shared key, which serves from the next handshake on. Only the
    /// kernel's WireGuard does that without losing the keys of the last one.
    ///
    /// # Errors
    ///
    /// The interface's own.
    pub fn set_psk(&self, psk: PresharedKey) -> Result<(), Error> {
        let update = PeerUpdate::set_psk(self.peer, psk);
        self.wireguard.apply(&[update]).map_err(|error| first_cause(&error))
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
        persistent_keepalive: location.keepalive,
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

/// Chooses where the first packet goes: somewhere that is routed into the tunnel.
fn knock(location: &Location) -> Option<(IpAddr, IpAddr)> {
    for network in &location.allowed_ips {
        let mut own = location.addresses.iter().map(IpNet::addr);
        let Some(from) = own.find(|own| own.is_ipv4() == network.addr().is_ipv4()) else {
            continue;
        };
        let to = match network {
            // Of everything, an address that nobody has (RFC 5737, RFC 3849).
            IpNet::V4(all) if all.prefix_len() == 0 => Some(Ipv4Addr::new(192, 0, 2, 1).into()),
            IpNet::V6(all) if all.prefix_len() == 0 => {
                Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into())
            }
            network => network.hosts().find(|host| *host != from),
        };
        if let Some(to) = to {
            return Some((from, to));
        }
    }
    None
}

async fn resolve(endpoint: &Endpoint) -> Result<SocketAddr, TunnelError> {
    let failed = |source| TunnelError::Resolve { endpoint: endpoint.clone(), source };
    let mut found =
        tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await.map_err(failed)?;
    found.next().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::location::tests::location;

    fn knocks(allowed_ips: &[&str]) -> Option<String> {
        let mut office = location(1, "office");
        office.allowed_ips = allowed_ips.iter().map(|text| text.parse().unwrap()).collect();
        knock(&office).map(|(from, to)| format!("{from} -> {to}"))
    }

    #[test]
    fn the_first_packet_goes_where_the_tunnel_leads() {
        assert_eq!(knocks(&["10.1.0.0/24"]).unwrap(), "10.1.0.7 -> 10.1.0.1");
        assert_eq!(knocks(&["10.1.0.7/32", "10.2.0.0/24"]).unwrap(), "10.1.0.7 -> 10.2.0.1");
        assert_eq!(knocks(&["10.1.0.6/31"]).unwrap(), "10.1.0.7 -> 10.1.0.6");
        assert_eq!(knocks(&["fd00::/64"]).unwrap(), "fd00::7 -> fd00::");
        assert_eq!(knocks(&["0.0.0.0/0", "::/0"]).unwrap(), "10.1.0.7 -> 192.0.2.1");
        assert_eq!(knocks(&["::/0"]).unwrap(), "fd00::7 -> 2001:db8::1");
        assert_eq!(knocks(&[]), None);
    }
}
