//! The gateways' side of core: their listener, one stream each, and who is connected.
//!
//! It reads desired state from the store and says it; it never decides who may connect. The flows
//! know this much of it and no more: a [`Registry`] to wake and to wait on, and [`StatsReport`]s
//! that come out of a bounded channel.

pub mod feed;
pub mod pace;
pub mod registry;
pub mod reports;
pub mod stats;

pub use registry::{Applied, Registry};
pub use stats::{PeerReport, STATS_QUEUE, StatsReport};
