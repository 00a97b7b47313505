//! The gateway: programs WireGuard as core says.
//!
//! It knows peers, not people: no user, no factor, no code ever comes here. Core sends the desired
//! state of one interface with a revision; the gateway makes the kernel equal to it, looks again,
//! and only then acknowledges.

pub mod assembly;
pub mod backoff;
pub mod desired;
pub mod program;
pub mod reconcile;
pub mod stats;
#[cfg(test)]
pub(crate) mod testing;
