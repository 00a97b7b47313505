//! The gateway: programs WireGuard as core says.
//!
//! It knows peers, not people: no user, no factor, no code ever comes here. Core sends the desired
//! state of one interface with a revision; the gateway makes the kernel equal to it, looks again,
//! and only then acknowledges.
//!
//! [`enroll`](enroll::enroll) makes a host a gateway, once; [`Gateway`] runs it. On the way from
//! core to the kernel: [`control`] has the line, [`desired`] reads what is said, [`kernel`] has the
//! interface, [`program`] makes it so, [`reconcile`] finds out what differs.

pub mod assembly;
pub mod backoff;
pub mod channel;
pub mod cli;
pub(crate) mod clock;
pub mod config;
pub mod control;
pub mod desired;
pub mod enroll;
pub mod files;
pub mod gateway;
pub mod hold;
pub(crate) mod host;
pub mod identity;
#[cfg(test)]
mod journeys;
pub mod kernel;
pub mod lease;
pub mod program;
pub mod reconcile;
pub(crate) mod rng;
pub mod stats;
pub mod status;
pub(crate) mod systemd;
#[cfg(test)]
pub(crate) mod testing;
pub mod tls;

pub use config::Config;
pub use gateway::{Gateway, RunError};
