//! The protocol's timers and sizes: what decides when a change takes effect.
//!
//! Source: the WireGuard paper, sections 5.4 and 6.1, and the kernel's
//! `drivers/net/wireguard/messages.h`.

use core::time::Duration;

/// An initiator that sends makes new keys once its keys are this old.
pub const REKEY_AFTER_TIME: Duration = Duration::from_secs(120);

/// Nobody accepts a packet under keys of this age.
pub const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);

/// An initiation that got no answer is sent again after this time.
pub const REKEY_TIMEOUT: Duration = Duration::from_secs(5);

/// Who received data and has nothing to send answers with a keepalive after this time.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// An initiator gives up after it has tried for this long.
pub const REKEY_ATTEMPT_TIME: Duration = Duration::from_secs(90);

/// Bytes that a handshake initiation adds to a peer's counters.
pub const INITIATION_BYTES: u64 = 148;

/// Bytes that a handshake response adds to a peer's counters.
pub const RESPONSE_BYTES: u64 = 92;

/// Bytes that a keepalive (a data message without data) adds to a peer's counters.
pub const KEEPALIVE_BYTES: u64 = 32;

/// The most peers that one kernel interface holds (`MAX_PEERS_PER_DEVICE`).
pub const MAX_PEERS: usize = 1 << 20;
