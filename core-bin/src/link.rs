//! Gateways: who is connected, what each has applied, what each reports.
//!
//! The flows know this much of gateways and no more: a [`Registry`] to wake and to wait on, and
//! [`StatsReport`]s that come out of a bounded channel.

mod registry;
mod stats;

pub use registry::{Applied, Attachment, Registry};
pub use stats::{PeerReport, STATS_QUEUE, StatsReport};
