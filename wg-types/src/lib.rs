//! WireGuard's nouns: keys, peers, interfaces and their statistics.
//!
//! No IO, no clock, no random numbers. The words are those of the kernel's
//! `include/uapi/linux/wireguard.h`; programming a kernel with them is `wg-netlink`'s work.

pub mod interface;
pub mod key;
pub mod peer;
pub mod stats;
pub mod timers;
pub mod traffic;

pub use interface::{Interface, InterfaceConfig};
pub use key::{KeyError, PresharedKey, PrivateKey, PublicKey};
pub use peer::{AllowedIpsChange, Peer, PeerConfig, PeerUpdate, PskChange};
pub use stats::PeerStats;
