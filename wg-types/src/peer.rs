//! A peer as configured, and changes to it.

use core::num::NonZeroU16;
use core::time::Duration;
use std::net::SocketAddr;

use ipnet::IpNet;

use crate::{PeerStats, PresharedKey, PublicKey};

/// Everything that is configured of one peer: a desired state, not a change.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// The peer's identity.
    pub public_key: PublicKey,
    /// `None`: no pre-shared key.
    pub preshared_key: Option<PresharedKey>,
    /// Where to send to; `None` until the peer has been heard.
    pub endpoint: Option<SocketAddr>,
    /// Seconds between keepalives; `None`: off, the kernel's default.
    pub persistent_keepalive: Option<NonZeroU16>,
    /// Source addresses accepted from the peer and routed to it. Empty: the peer is *locked*; it
    /// shakes hands, but no packet passes in either direction.
    pub allowed_ips: Vec<IpNet>,
}

impl PeerConfig {
    /// Starts with a peer that has no pre-shared key, endpoint, keepalive or allowed IPs.
    #[must_use]
    pub const fn new(public_key: PublicKey) -> Self {
        Self {
            public_key,
            preshared_key: None,
            endpoint: None,
            persistent_keepalive: None,
            allowed_ips: Vec::new(),
        }
    }
}

/// What happens to a pre-shared key.
#[derive(Clone, Debug, Default)]
pub enum PskChange {
    /// Stays as it is (the attribute is absent).
    #[default]
    Keep,
    /// Is removed (32 zero bytes).
    Clear,
    /// Becomes this one, from the next handshake on. Keys already agreed serve until
    /// [`REJECT_AFTER_TIME`](crate::timers::REJECT_AFTER_TIME).
    Set(PresharedKey),
}

/// What happens to a peer's allowed IPs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum AllowedIpsChange {
    /// Stay as they are.
    #[default]
    Keep,
    /// Become exactly these (`WGPEER_F_REPLACE_ALLOWEDIPS`). An empty list locks the peer.
    Replace(Vec<IpNet>),
    /// These are added. The kernel takes each from whatever peer had it.
    Add(Vec<IpNet>),
    /// These are taken away. Before Linux 6.16 the kernel has no such flag.
    Remove(Vec<IpNet>),
}

/// One change to one peer, in the terms of the kernel's `WG_CMD_SET_DEVICE`.
#[derive(Clone, Debug)]
pub enum PeerUpdate {
    /// Makes the peer be exactly this: created if absent, allowed IPs replaced, an absent
    /// pre-shared key cleared. Session keys and counters of an existing peer stay.
    Put(PeerConfig),
    /// Changes what is not `Keep` or `None` of a peer that exists (`WGPEER_F_UPDATE_ONLY`); for a
    /// peer that does not, the kernel does nothing and reports success.
    Update {
        /// Whom.
        public_key: PublicKey,
        /// The pre-shared key.
        psk: PskChange,
        /// The allowed IPs.
        allowed_ips: AllowedIpsChange,
        /// A new endpoint.
        endpoint: Option<SocketAddr>,
        /// A new keepalive interval; zero turns it off.
        persistent_keepalive: Option<Duration>,
    },
    /// Removes the peer with its session keys and counters (`WGPEER_F_REMOVE_ME`). Nothing happens
    /// if it is not there.
    Remove(PublicKey),
}

impl PeerUpdate {
    /// Replaces the pre-shared key of a peer that exists.
    #[must_use]
    pub const fn set_psk(public_key: PublicKey, psk: PresharedKey) -> Self {
        Self::Update {
            public_key,
            psk: PskChange::Set(psk),
            allowed_ips: AllowedIpsChange::Keep,
            endpoint: None,
            persistent_keepalive: None,
        }
    }

    /// Cuts the peer's traffic at once by taking all allowed IPs away; the cheapest cut there is.
    #[must_use]
    pub const fn lock(public_key: PublicKey) -> Self {
        Self::unlock(public_key, Vec::new())
    }

    /// Lets the peer's traffic pass again.
    #[must_use]
    pub const fn unlock(public_key: PublicKey, allowed_ips: Vec<IpNet>) -> Self {
        Self::Update {
            public_key,
            psk: PskChange::Keep,
            allowed_ips: AllowedIpsChange::Replace(allowed_ips),
            endpoint: None,
            persistent_keepalive: None,
        }
    }

    /// Whom it is about.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        match self {
            Self::Put(config) => &config.public_key,
            Self::Update { public_key, .. } | Self::Remove(public_key) => public_key,
        }
    }
}

/// One peer as the kernel has it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// What is configured. The endpoint is the one last heard, if the peer has roamed.
    pub config: PeerConfig,
    /// What was counted.
    pub stats: PeerStats,
}
