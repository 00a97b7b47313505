//! Multi-factor authentication for kernel WireGuard: the libraries, for those who embed them.
//!
//! * [`mfa_core`]: factors, challenges, sessions, idleness and key rotation, without IO.
//! * [`wg_netlink`]: programs an interface's peers and reads their statistics.
//! * [`wg_types`]: the nouns that the two share.
//!
//! The folder `examples/` shows each use in under sixty lines.

pub use {mfa_core, wg_netlink, wg_types};
