//! The machine: where interfaces are made and name servers set. Tests and demonstrations bring
//! another one.

use core::fmt;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;

use serde::{Deserialize, Serialize};
use wg_netlink::{Error, Want, WireGuard};

use crate::dns::{Dns, Resolver};

/// What a connect needs of the machine.
pub trait Host: Send + Sync + fmt::Debug {
    /// Tells early, before a code is spent, whether interfaces can be made at all.
    ///
    /// # Errors
    ///
    /// [`Error::PermissionDenied`] without `CAP_NET_ADMIN`.
    fn may_create(&self) -> Result<(), Error>;

    /// Tells whether there is an interface of this name.
    fn exists(&self, interface: &str) -> bool;

    /// Opens an interface, or creates it.
    ///
    /// # Errors
    ///
    /// Those of [`wg_netlink::open`].
    fn open(&self, interface: &str, backend: Backend) -> Result<Box<dyn WireGuard>, Error>;

    /// Sends one packet without content, to wake a tunnel. It may get lost.
    fn send_empty(&self, from: IpAddr, to: IpAddr);

    /// What sets name servers.
    fn resolver(&self) -> &dyn Resolver;
}

/// Where packets are to be encrypted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// In the kernel if it has WireGuard, else in this process.
    #[default]
    Auto,
    /// In the kernel.
    Kernel,
    /// In this process.
    Userspace,
}

impl From<Backend> for Want {
    fn from(backend: Backend) -> Self {
        match backend {
            Backend::Auto => Self::Auto,
            Backend::Kernel => Self::Kernel,
            Backend::Userspace => Self::Userspace,
        }
    }
}

/// The machine that this process runs on.
#[derive(Debug, Default)]
pub struct ThisMachine {
    dns: Dns,
    /// Whether interfaces can be made, where another process of ours makes them.
    elsewhere: Option<bool>,
}

impl ThisMachine {
    /// This machine for a process that is about to drop its privileges, and starts others, which
    /// have what this one has now.
    #[must_use]
    pub fn before_dropping_privileges() -> Self {
        Self { dns: Dns::default(), elsewhere: net_admin() }
    }
}

fn net_admin() -> Option<bool> {
    has_net_admin(&std::fs::read_to_string("/proc/self/status").unwrap_or_default())
}

impl Host for ThisMachine {
    fn may_create(&self) -> Result<(), Error> {
        match self.elsewhere.or_else(net_admin) {
            Some(false) => Err(Error::PermissionDenied { doing: "create a network interface" }),
            // Unknown: creating it will tell.
            Some(true) | None => Ok(()),
        }
    }

    fn exists(&self, interface: &str) -> bool {
        Path::new("/sys/class/net").join(interface).exists()
    }

    fn open(&self, interface: &str, backend: Backend) -> Result<Box<dyn WireGuard>, Error> {
        wg_netlink::open(interface, backend.into())
    }

    fn send_empty(&self, from: IpAddr, to: IpAddr) {
        // Bound to the tunnel's address, it can only go that way. Whatever fails here, the next
        // packet of anybody wakes the tunnel too.
        if let Ok(socket) = UdpSocket::bind((from, 0)) {
            let _ = socket.send_to(&[], (to, DISCARD));
        }
    }

    fn resolver(&self) -> &dyn Resolver {
        &self.dns
    }
}

/// The port of a service that throws everything away (RFC 863).
const DISCARD: u16 = 9;

/// Reads the effective capabilities of `/proc/PID/status`; `None`: they are not told.
fn has_net_admin(status: &str) -> Option<bool> {
    const CAP_NET_ADMIN: u32 = 12;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let held = u64::from_str_radix(line.trim(), 16).ok()?;
    Some(held & (1 << CAP_NET_ADMIN) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_proc() {
        let status = |caps: &str| format!("Name:\tx\nCapEff:\t{caps}\nCapBnd:\t0\n");
        assert_eq!(has_net_admin(&status("000001ffffffffff")), Some(true));
        assert_eq!(has_net_admin(&status("0000000000001000")), Some(true));
        assert_eq!(has_net_admin(&status("000001ffffffefff")), Some(false));
        assert_eq!(has_net_admin("Name:\tx\n"), None);
    }
}
