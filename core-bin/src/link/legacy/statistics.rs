//! The statistics of a gateway of another make: one message per peer, of peers that changed only.

use core::num::NonZeroU64;
use core::time::Duration;
use std::collections::BTreeMap;

use mfa_wire::legacy::{PeerStats, StatsUpdate, stats_update};
use tokio::time::MissedTickBehavior;
use tonic::Streaming;
use wg_types::PublicKey;

use super::{Guest, lock};
use crate::link::stats::{PeerReport, StatsReport};
use crate::link::{Link, reports};

/// Messages are gathered for so long into one report.
const GATHER: Duration = Duration::from_secs(1);

/// Messages that are read in that time. More wait, and the gateway with them.
const MESSAGES_MAX: u32 = 20_000;

/// Hears until the gateway ends the stream or core stops. A message that is not understood, or is
/// about a peer that this gateway was not told of, is left out; the stream never fails for it.
pub(super) async fn hear(link: &Link, guest: &Guest, mut messages: Streaming<StatsUpdate>) {
    let stopping = crate::link::stopping(link.shutdown.clone());
    tokio::pin!(stopping);
    let mut gather = tokio::time::interval(GATHER);
    gather.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut gathered = BTreeMap::new();
    let mut left = MESSAGES_MAX;
    loop {
        tokio::select! {
            () = &mut stopping => break,
            _now = gather.tick() => {
                left = MESSAGES_MAX;
                hand_over(link, guest, &mut gathered);
            }
            message = messages.message(), if left > 0 => {
                left = left.saturating_sub(1);
                let Ok(Some(message)) = message else { break };
                if let Some(stats_update::Payload::PeerStats(stats)) = message.payload {
                    gather_one(link, guest, &stats, &mut gathered);
                }
            }
        }
    }
    hand_over(link, guest, &mut gathered);
}

fn gather_one(
    link: &Link,
    guest: &Guest,
    stats: &PeerStats,
    gathered: &mut BTreeMap<PublicKey, PeerReport>,
) {
    let Ok(public_key) = stats.public_key.parse::<PublicKey>() else { return };
    let now = link.clock.now();
    let mut memory = lock(&guest.memory);
    if !memory.known.contains(&public_key) {
        return;
    }
    let age = memory.handshakes.age(public_key, stats.latest_handshake, now);
    let report = PeerReport {
        public_key,
        // The gateway's view: it downloads what the peer sends.
        rx_bytes: stats.download,
        tx_bytes: stats.upload,
        handshake_age: age.map(reports::clamped),
        handshake_mark: NonZeroU64::new(stats.latest_handshake),
        endpoint: stats.endpoint.parse().ok(),
        quiet: None,
    };
    gathered.insert(public_key, report);
}

fn hand_over(link: &Link, guest: &Guest, gathered: &mut BTreeMap<PublicKey, PeerReport>) {
    if gathered.is_empty() {
        return;
    }
    let gateway = guest.gateway.id;
    let report = StatsReport {
        gateway,
        location: guest.gateway.location,
        received_at: link.clock.now(),
        period: Duration::ZERO,
        peers: core::mem::take(gathered).into_values().collect(),
    };
    if link.stats.try_send(report).is_err() {
        tracing::warn!(%gateway, "a statistics report was dropped: too many wait");
    }
}
