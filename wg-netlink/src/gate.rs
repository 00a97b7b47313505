//! A lease that the kernel holds: traffic of an interface passes only while somebody keeps
//! renewing it.
//!
//! nftables has sets whose elements carry a timeout. The gate is one such set with at most one
//! element, the interface's name, and rules that drop what goes in or out of the interface while the
//! element is absent. When the process that renews it is killed, stopped or cut off, the kernel
//! removes the element on time and the gate is shut, without any process having to act.
//!
//! ```text
//! table inet wg-mfa-wg0 {
//!     set open { type ifname; flags timeout; }
//!     chain input   { type filter hook input priority -5;   iifname "wg0" iifname != @open drop; }
//!     chain output  { type filter hook output priority -5;  oifname "wg0" oifname != @open drop; }
//!     chain forward { type filter hook forward priority -5; both of them }
//! }
//! ```
//!
//! A drop in any chain is final, so rules that accept established connections elsewhere do not
//! outweigh it. The table has a name of its own and touches no other.
//!
//! ```no_run
//! use std::time::Duration;
//! use wg_netlink::gate::Gate;
//!
//! let mut gate = Gate::new("wg0")?;
//! gate.ensure()?; // shut, unless a lease of an earlier process still runs
//! gate.renew(Duration::from_secs(90))?;
//! assert!(gate.remaining()?.is_some());
//! # Ok::<(), wg_netlink::gate::GateError>(())
//! ```
//!
//! Source: `include/uapi/linux/netfilter/nf_tables.h`.

mod encode;
mod socket;

use core::fmt;
use core::time::Duration;
use std::io;

use self::encode::{Batch, Hook, Match};
use self::socket::NftSocket;

/// Rules in a whole gate: one each for input and output, two for forward.
const RULES: usize = 4;

/// Why the gate could not be set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// No interface can have this name.
    #[error("{name:?} cannot name an interface; use 1 to 15 characters")]
    BadName {
        /// The refused name.
        name: String,
    },
    /// The process may not change the firewall (EPERM).
    #[error("not permitted to change nftables; run as root or with the capability CAP_NET_ADMIN")]
    PermissionDenied,
    /// The kernel has no nftables, or not for `inet` tables.
    #[error("this kernel has no nftables; load it with `modprobe nf_tables`")]
    NoNftables,
    /// The gate's table, set or chain is not there: somebody removed it. [`Gate::ensure`] it again.
    #[error("the gate's nftables table is gone; somebody flushed the ruleset")]
    Gone,
    /// Any other error.
    #[error("the kernel refused the gate: {0}")]
    Os(#[source] io::Error),
}

impl From<io::Error> for GateError {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(1) => Self::PermissionDenied,
            Some(2) => Self::Gone,
            // EPROTONOSUPPORT, EOPNOTSUPP, EAFNOSUPPORT
            Some(93 | 95 | 97) => Self::NoNftables,
            _ => Self::Os(error),
        }
    }
}

/// The gate of one interface.
pub struct Gate {
    interface: String,
    table: String,
    socket: NftSocket,
}

impl Gate {
    /// Prepares the gate of `interface`; the interface need not exist. Changes nothing yet.
    ///
    /// # Errors
    ///
    /// [`GateError::BadName`]; [`GateError::NoNftables`] if there is no netfilter netlink.
    pub fn new(interface: &str) -> Result<Self, GateError> {
        let valid = (1..16).contains(&interface.len())
            && interface.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
        if !valid {
            return Err(GateError::BadName { name: interface.to_owned() });
        }
        Ok(Self {
            interface: interface.to_owned(),
            table: format!("wg-mfa-{interface}"),
            socket: NftSocket::open()?,
        })
    }

    /// Builds the gate or repairs it, in one transaction. A lease that runs goes on running; where
    /// there is none, the gate is shut when this returns.
    ///
    /// # Errors
    ///
    /// Any but [`GateError::Gone`].
    pub fn ensure(&mut self) -> Result<(), GateError> {
        let mut batch = Batch::new(&self.table);
        batch.table();
        batch.timeout_set();
        for hook in [Hook::Input, Hook::Output, Hook::Forward] {
            batch.chain(hook);
            batch.flush(hook);
        }
        batch.drop_unless_open(Hook::Input, Match::Incoming, &self.interface);
        batch.drop_unless_open(Hook::Output, Match::Outgoing, &self.interface);
        batch.drop_unless_open(Hook::Forward, Match::Incoming, &self.interface);
        batch.drop_unless_open(Hook::Forward, Match::Outgoing, &self.interface);
        Ok(self.socket.commit(batch)?)
    }

    /// Opens the gate until `lease` from now, whatever was left before. Whole milliseconds; less
    /// than one shuts it.
    ///
    /// # Errors
    ///
    /// [`GateError::Gone`] if the gate was never built or somebody removed it; then nothing holds
    /// traffic back until [`ensure`](Self::ensure).
    pub fn renew(&mut self, lease: Duration) -> Result<(), GateError> {
        let millis = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        if millis == 0 {
            return self.shut();
        }
        let mut batch = Batch::new(&self.table);
        // To add an element again does not extend it, so it is removed in between; it must exist
        // to be removed, so it is added first.
        batch.add_element(&self.interface, millis);
        batch.remove_element(&self.interface);
        batch.add_element(&self.interface, millis);
        Ok(self.socket.commit(batch)?)
    }

    /// Shuts the gate at once.
    ///
    /// # Errors
    ///
    /// As [`renew`](Self::renew).
    pub fn shut(&mut self) -> Result<(), GateError> {
        let mut batch = Batch::new(&self.table);
        batch.add_element(&self.interface, 1000);
        batch.remove_element(&self.interface);
        Ok(self.socket.commit(batch)?)
    }

    /// How long the gate stays open by itself; `None`: it is shut.
    ///
    /// # Errors
    ///
    /// [`GateError::Gone`] if there is no gate, so nothing is held back.
    pub fn remaining(&mut self) -> Result<Option<Duration>, GateError> {
        let request = encode::dump_elements(&self.table);
        Ok(self.socket.dump(&request)?.iter().find_map(|bytes| encode::expiration(bytes)))
    }

    /// Whether the kernel has the gate with all its rules.
    ///
    /// # Errors
    ///
    /// [`GateError::PermissionDenied`] and the like; a missing gate is `Ok(false)`.
    pub fn is_whole(&mut self) -> Result<bool, GateError> {
        let rules = match self.socket.dump(&encode::dump_rules(&self.table)) {
            Ok(rules) => rules.len(),
            Err(error) if error.raw_os_error() == Some(2) => 0,
            Err(error) => return Err(error.into()),
        };
        Ok(rules == RULES && self.remaining().is_ok())
    }

    /// Takes the gate away: from now on nothing is held back.
    ///
    /// # Errors
    ///
    /// Any but [`GateError::Gone`], which is what was wanted.
    pub fn remove(&mut self) -> Result<(), GateError> {
        let mut batch = Batch::new(&self.table);
        batch.table();
        batch.remove_table();
        Ok(self.socket.commit(batch)?)
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("interface", &self.interface).finish_non_exhaustive()
    }
}
