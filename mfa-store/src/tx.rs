//! What a job of the store works with: a [`Snapshot`] to read, a [`Tx`] to change.
//!
//! The functions on both live beside their nouns: `user.rs`, `device.rs`, `location.rs` ….

use core::fmt;
use core::ops::{Deref, DerefMut};
use std::collections::BTreeMap;

use mfa_core::id::{DeviceId, GatewayId, LocationId, UserId};
use mfa_core::time::Timestamp;

use crate::audit::Chain;
use crate::connection::AnyConnection;
use crate::seal::Sealer;

/// A consistent view of the whole state: everything read through one snapshot is of one moment.
pub struct Snapshot<'a> {
    pub(crate) conn: &'a mut AnyConnection,
    pub(crate) seal: &'a Sealer,
}

impl fmt::Debug for Snapshot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Snapshot(..)")
    }
}

/// A transaction: what it changes happens wholly or not at all, and no other one runs meanwhile,
/// in this process or elsewhere.
///
/// Everything that a [`Snapshot`] reads can be read here too, with this transaction's own changes.
pub struct Tx<'a> {
    view: Snapshot<'a>,
    pub(crate) chain: &'a mut Chain,
    /// Locations whose revision this transaction has already moved.
    pub(crate) touched: BTreeMap<LocationId, i64>,
}

impl<'a> Tx<'a> {
    pub(crate) const fn new(
        conn: &'a mut AnyConnection,
        seal: &'a Sealer,
        chain: &'a mut Chain,
    ) -> Self {
        Self { view: Snapshot { conn, seal }, chain, touched: BTreeMap::new() }
    }

    pub(crate) const fn parts(&mut self) -> (&mut AnyConnection, &mut Chain) {
        (self.view.conn, self.chain)
    }
}

impl<'a> Deref for Tx<'a> {
    type Target = Snapshot<'a>;

    fn deref(&self) -> &Snapshot<'a> {
        &self.view
    }
}

impl<'a> DerefMut for Tx<'a> {
    fn deref_mut(&mut self) -> &mut Snapshot<'a> {
        &mut self.view
    }
}

impl fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tx(..)")
    }
}

/// Who changes something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Actor {
    /// The server itself: a deadline passed, a sweep ran.
    System,
    /// A person with a shell on the server.
    Cli,
    /// An administrator through the API.
    Admin(UserId),
    /// A person through the API.
    User(UserId),
    /// A device through the API.
    Device(DeviceId),
    /// A gateway through its link.
    Gateway(GatewayId),
}

/// Prints the words of the audit log: `system`, `cli`, `user:7` ….
impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::Cli => f.write_str("cli"),
            Self::Admin(id) => write!(f, "admin:{id}"),
            Self::User(id) => write!(f, "user:{id}"),
            Self::Device(id) => write!(f, "device:{id}"),
            Self::Gateway(id) => write!(f, "gateway:{id}"),
        }
    }
}

/// Who does it, and when. Each function that changes something takes one and writes it into the
/// audit log with the change.
#[derive(Clone, Copy, Debug)]
pub struct By {
    /// Who.
    pub actor: Actor,
    /// When; also the time that the change itself is stored with.
    pub now: Timestamp,
}

impl By {
    /// Says that `actor` acts at `now`.
    #[must_use]
    pub const fn new(actor: Actor, now: Timestamp) -> Self {
        Self { actor, now }
    }
}
