//! What the console's charts are drawn from: traffic by the minute, and what happened when.

use core::time::Duration;

use diesel::prelude::*;
use mfa_core::connect::EndReason;
use mfa_core::id::LocationId;
use mfa_core::time::Timestamp;

use crate::schema::{audit, session, traffic};
use crate::value::{from_count, from_millis, to_count, to_millis};
use crate::{Snapshot, StoreError, Tx};

/// The width of a bucket.
const BUCKET: i64 = 60_000;

/// Rows of the audit log that one chart looks at; a flood of refusals makes it a lower bound.
const REFUSALS: i64 = 20_000;

/// What a location's sessions carried in one minute.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Traffic {
    /// When the minute began.
    pub at: Timestamp,
    /// Bytes received from the peers.
    pub rx_bytes: u64,
    /// Bytes sent to the peers.
    pub tx_bytes: u64,
}

/// What happened in a location since some time.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Events {
    /// When sessions began.
    pub begun: Vec<Timestamp>,
    /// When codes were refused.
    pub refused: Vec<Timestamp>,
    /// When sessions ended because they were quiet.
    pub idle: Vec<Timestamp>,
}

impl Snapshot {
    /// Lists a location's minutes with traffic since `since`, oldest first.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn traffic(
        &mut self,
        location: LocationId,
        since: Timestamp,
    ) -> Result<Vec<Traffic>, StoreError> {
        let rows: Vec<(i64, i64, i64)> = traffic::table
            .filter(traffic::location_id.eq(location.get()))
            .filter(traffic::at.ge(to_millis(since)))
            .order(traffic::at.asc())
            .select((traffic::at, traffic::rx_bytes, traffic::tx_bytes))
            .load(&mut self.conn)?;
        let minute = |(at, rx, tx)| Traffic {
            at: from_millis(at),
            rx_bytes: from_count(rx),
            tx_bytes: from_count(tx),
        };
        Ok(rows.into_iter().map(minute).collect())
    }

    /// Lists when sessions began, codes were refused, and sessions went quiet, since `since`.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn events(&mut self, location: LocationId, since: Timestamp) -> Result<Events, StoreError> {
        let since = to_millis(since);
        let begun: Vec<i64> = session::table
            .filter(session::location_id.eq(location.get()))
            .filter(session::authorized_at.ge(since))
            .select(session::authorized_at)
            .load(&mut self.conn)?;
        let idle: Vec<Option<i64>> = session::table
            .filter(session::location_id.eq(location.get()))
            .filter(session::ended_at.ge(since))
            .filter(session::end_reason.eq(EndReason::Idle.code()))
            .select(session::ended_at)
            .load(&mut self.conn)?;
        let refused: Vec<(i64, String)> = audit::table
            .filter(audit::action.eq("challenge.refuse"))
            .filter(audit::at.ge(since))
            .order(audit::seq.desc())
            .limit(REFUSALS)
            .select((audit::at, audit::detail))
            .load(&mut self.conn)?;
        let here = |detail: &str| {
            let detail: Option<serde_json::Value> = serde_json::from_str(detail).ok();
            detail.and_then(|detail| detail.get("location")?.as_i64()) == Some(location.get())
        };
        Ok(Events {
            begun: begun.into_iter().map(from_millis).collect(),
            refused: refused
                .into_iter()
                .filter(|(_, detail)| here(detail))
                .map(|(at, _)| from_millis(at))
                .collect(),
            idle: idle.into_iter().flatten().map(from_millis).collect(),
        })
    }
}

impl Tx {
    /// Adds to the minute in which `now` lies. Not audited: nothing is decided by it.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn note_traffic(
        &mut self,
        location: LocationId,
        now: Timestamp,
        (rx, tx): (u64, u64),
    ) -> Result<(), StoreError> {
        let now = to_millis(now);
        let at = now.saturating_sub(now.rem_euclid(BUCKET));
        let place = traffic::table.find((location.get(), at));
        let changed = diesel::update(place)
            .set((
                traffic::rx_bytes.eq(traffic::rx_bytes + to_count(rx)),
                traffic::tx_bytes.eq(traffic::tx_bytes + to_count(tx)),
            ))
            .execute(&mut self.conn)?;
        // A location that was removed meanwhile has no traffic.
        if changed == 0 && self.location(location)?.is_some() {
            diesel::insert_into(traffic::table)
                .values((
                    traffic::location_id.eq(location.get()),
                    traffic::at.eq(at),
                    traffic::rx_bytes.eq(to_count(rx)),
                    traffic::tx_bytes.eq(to_count(tx)),
                ))
                .execute(&mut self.conn)?;
        }
        Ok(())
    }

    /// Forgets traffic older than `keep`. Returns how many minutes.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn forget_traffic(&mut self, now: Timestamp, keep: Duration) -> Result<usize, StoreError> {
        let old = traffic::table.filter(traffic::at.lt(to_millis(now.saturating_sub(keep))));
        Ok(diesel::delete(old).execute(&mut self.conn)?)
    }
}
