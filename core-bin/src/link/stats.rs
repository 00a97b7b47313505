//! What gateways report of their peers, once it has been checked.

use core::num::NonZeroU64;
use core::time::Duration;
use std::net::SocketAddr;

use mfa_core::id::{GatewayId, LocationId};
use mfa_core::time::Timestamp;
use wg_types::PublicKey;

/// Reports that may wait for the idle driver. Beyond it reports are dropped, with a warning: a
/// report is a level, so the next one says all that the lost one did.
pub const STATS_QUEUE: usize = 1024;

/// One gateway's view of its peers, or of some of them, at one moment.
#[derive(Clone, Debug)]
pub struct StatsReport {
    /// Who reports.
    pub gateway: GatewayId,
    /// The location it serves; all peers are of this location.
    pub location: LocationId,
    /// When core received the report, by core's clock.
    pub received_at: Timestamp,
    /// The gateway's statistics period; zero: unknown.
    pub period: Duration,
    /// Its peers. A peer that is missing was not seen: that is no sign of life.
    pub peers: Vec<PeerReport>,
}

/// One peer's counters. A claim: a compromised gateway can report anything.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PeerReport {
    /// Whom.
    pub public_key: PublicKey,
    /// Bytes received from the peer, since it was added there.
    pub rx_bytes: u64,
    /// Bytes sent to the peer, since it was added there.
    pub tx_bytes: u64,
    /// How long before the report the last handshake was completed; `None`: never.
    pub handshake_age: Option<Duration>,
    /// Which handshake that was: its time by the gateway's own clock; `None`: not said.
    pub handshake_mark: Option<NonZeroU64>,
    /// Where the peer was last heard from; `None`: nowhere yet.
    pub endpoint: Option<SocketAddr>,
    /// For how long the gateway has seen no sign of life, by its own judgement; `None`: it does not judge.
    pub quiet: Option<Duration>,
}
