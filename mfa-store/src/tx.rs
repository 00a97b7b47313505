//! What a job of the store works with: a [`Snapshot`] to read, a [`Tx`] to change.
//!
//! The functions on both live beside their nouns: `user.rs`, `device.rs`, `location.rs` ….

use core::fmt;
use core::ops::{Deref, DerefMut};
use std::collections::BTreeMap;
use std::sync::Arc;

use mfa_core::id::{DeviceId, GatewayId, LocationId, UserId};
use mfa_core::time::Timestamp;

use crate::audit::Chain;
use crate::connection::AnyConnection;
use crate::seal::{KeyId, Sealer};

/// A consistent view of the whole state: everything read through one snapshot is of one moment.
pub struct Snapshot {
    pub(crate) conn: AnyConnection,
    pub(crate) seal: Arc<Sealer>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Snapshot(..)")
    }
}

/// A transaction: what it changes happens wholly or not at all, and no other one runs meanwhile,
/// in this process or elsewhere.
///
/// Everything that a [`Snapshot`] reads can be read here too, with this transaction's own changes.
pub struct Tx {
    view: Snapshot,
    pub(crate) chain: Chain,
    /// Locations whose revision this transaction has already moved.
    pub(crate) touched: BTreeMap<LocationId, i64>,
    /// Which key seals, once it was asked for.
    pub(crate) sealing: Option<KeyId>,
}

impl Tx {
    pub(crate) const fn new(view: Snapshot, chain: Chain) -> Self {
        Self { view, chain, touched: BTreeMap::new(), sealing: None }
    }

    pub(crate) const fn parts(&mut self) -> (&mut AnyConnection, &mut Chain) {
        (&mut self.view.conn, &mut self.chain)
    }
}

impl Deref for Tx {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.view
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Snapshot {
        &mut self.view
    }
}

impl fmt::Debug for Tx {
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
    /// A program through the REST API, by the number of its token.
    Token(i64),
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
            Self::Token(id) => write!(f, "token:{id}"),
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
