//! What gateways report of their peers.

use core::time::Duration;

use mfa_core::id::{GatewayId, LocationId};
use mfa_core::time::Timestamp;
use wg_types::PublicKey;

/// Reports that may wait for the idle driver. Beyond it a gateway's task waits too: a report is a
/// level, so a late one is as good as the next.
pub const STATS_QUEUE: usize = 256;

/// One gateway's view of its peers at one moment.
#[derive(Clone, Debug)]
pub struct StatsReport {
    /// Who reports.
    pub gateway: GatewayId,
    /// The location it serves.
    pub location: LocationId,
    /// When core received the report, by core's clock.
    pub received_at: Timestamp,
    /// The gateway's statistics period.
    pub period: Duration,
    /// Its peers.
    pub peers: Vec<PeerReport>,
}

/// One peer's counters. A claim: a compromised gateway can report anything.
#[derive(Clone, Copy, Debug)]
pub struct PeerReport {
    /// Whom.
    pub public_key: PublicKey,
    /// Bytes received from the peer, since it was added there.
    pub rx_bytes: u64,
    /// Bytes sent to the peer, since it was added there.
    pub tx_bytes: u64,
    /// How long before the report the last handshake was completed; `None`: never.
    pub handshake_age: Option<Duration>,
}
