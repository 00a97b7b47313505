//! What a gateway can know of a peer's life.

use std::net::SocketAddr;
use std::time::SystemTime;

use crate::PublicKey;

/// One peer's counters as the interface reports them.
///
/// Both counters include handshakes (148 and 92 bytes) and keepalives (32 bytes), and fall to zero
/// when the peer is removed or the interface goes away.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PeerStats {
    /// Whom.
    pub public_key: PublicKey,
    /// Where the last authenticated packet came from; `None`: none was ever heard or configured.
    pub endpoint: Option<SocketAddr>,
    /// When the last handshake was completed, by this host's wall clock; `None`: never. On a
    /// kernel responder it moves with the first data under the new keys.
    pub last_handshake: Option<SystemTime>,
    /// Bytes received from the peer.
    pub rx_bytes: u64,
    /// Bytes sent to the peer.
    pub tx_bytes: u64,
}
