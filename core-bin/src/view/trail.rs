//! How the end of a session reached the gateways, and how long ends took.

use std::collections::BTreeMap;

use mfa_core::id::SessionId;
use mfa_core::time::Timestamp;
use mfa_store::{Snapshot, StoreError};
use serde::Serialize;
use utoipa::ToSchema;

use super::time;

/// What one gateway did about the end of a session.
#[derive(Clone, Debug)]
pub struct TrailStep {
    /// The gateway's name.
    pub gateway: String,
    /// The revision with which it was sent.
    pub revision: i64,
    /// When core's link learnt of it.
    pub committed: Timestamp,
    /// When it was given to the gateway's stream.
    pub sent: Timestamp,
    /// When the gateway's kernel had taken it.
    pub applied: Timestamp,
    /// When a dump of that kernel showed it.
    pub verified: Timestamp,
    /// Bytes received from the peer and sent to it when it was cut, if the gateway said so.
    pub last: Option<(u64, u64)>,
}

/// Returns what became of a session's end, gateway by gateway; nothing while it lives.
///
/// # Errors
///
/// What the database reports.
pub fn trail(view: &mut Snapshot, id: SessionId) -> Result<Vec<TrailStep>, StoreError> {
    let trail = view.trail(id)?;
    let mut steps = Vec::with_capacity(trail.passed.len());
    for passed in trail.passed {
        let cut = trail.cuts.iter().find(|cut| cut.gateway == passed.gateway);
        let name = view.gateway(passed.gateway)?.map(|gateway| gateway.name);
        steps.push(TrailStep {
            gateway: name.unwrap_or_else(|| format!("gateway {}", passed.gateway)),
            revision: passed.revision,
            committed: passed.committed,
            sent: passed.sent,
            applied: passed.applied,
            verified: passed.verified,
            last: cut.map(|cut| (cut.rx_bytes, cut.tx_bytes)),
        });
    }
    Ok(steps)
}

/// What one gateway did about the end of a session.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = TrailStep)]
pub struct StepView {
    /// The gateway.
    pub gateway: String,
    /// The revision with which it was sent.
    pub revision: i64,
    /// When core's link learnt of it.
    pub committed_at: String,
    /// When it was given to the gateway's stream.
    pub sent_at: String,
    /// When the gateway's kernel had taken it.
    pub applied_at: String,
    /// When a dump of that kernel showed it.
    pub verified_at: String,
    /// Bytes received from the peer when it was cut.
    pub rx_bytes: Option<u64>,
    /// Bytes sent to the peer when it was cut.
    pub tx_bytes: Option<u64>,
}

impl From<&TrailStep> for StepView {
    fn from(step: &TrailStep) -> Self {
        Self {
            gateway: step.gateway.clone(),
            revision: step.revision,
            committed_at: time(step.committed),
            sent_at: time(step.sent),
            applied_at: time(step.applied),
            verified_at: time(step.verified),
            rx_bytes: step.last.map(|last| last.0),
            tx_bytes: step.last.map(|last| last.1),
        }
    }
}

/// How long ends took, from the decision to the dump of a gateway's kernel that showed it.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = EndDelays)]
pub struct Delays {
    /// How many ends on gateways are on record.
    pub count: u64,
    /// Milliseconds within which half were done; absent without any.
    pub p50_millis: Option<u64>,
    /// Milliseconds within which 99 % were done.
    pub p99_millis: Option<u64>,
    /// Milliseconds of the longest.
    pub longest_millis: Option<u64>,
}

impl Delays {
    /// Sums up how many ends took how many milliseconds.
    #[must_use]
    pub fn of(delays: &BTreeMap<u64, u64>) -> Self {
        Self {
            count: delays.values().fold(0, |sum, count| sum.saturating_add(*count)),
            p50_millis: quantile(delays, 50),
            p99_millis: quantile(delays, 99),
            longest_millis: delays.keys().next_back().copied(),
        }
    }
}

/// The delay within which `percent` of 100 ends were done; `None` without an end.
fn quantile(delays: &BTreeMap<u64, u64>, percent: u64) -> Option<u64> {
    let count: u64 = delays.values().sum();
    let enough = count.saturating_mul(percent).div_ceil(100);
    let mut so_far = 0_u64;
    delays.iter().find_map(|(delay, count)| {
        so_far = so_far.saturating_add(*count);
        (so_far >= enough).then_some(*delay)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_and_most_are_counted_from_the_shortest() {
        let delays = Delays::of(&BTreeMap::from([(4, 2), (100, 1), (200_000, 1)]));
        assert_eq!((delays.count, delays.p50_millis), (4, Some(4)));
        assert_eq!((delays.p99_millis, delays.longest_millis), (Some(200_000), Some(200_000)));
        assert_eq!(Delays::of(&BTreeMap::new()).p50_millis, None);
    }
}
