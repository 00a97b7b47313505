//! How the end of a session reached the gateways, step by step, for who must prove that it did.

use std::collections::BTreeMap;

use diesel::prelude::*;
use mfa_core::id::{GatewayId, LocationId, SessionId};
use mfa_core::time::Timestamp;

use crate::schema::{gateway_trail, session, session_cut};
use crate::value::{from_count, from_millis, to_count, to_millis};
use crate::{Snapshot, StoreError, Tx};

/// A gateway was sent something, and has acknowledged it. It covers every revision of the location
/// after the one that the gateway acknowledged before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Passed {
    /// Which gateway.
    pub gateway: GatewayId,
    /// Of which location.
    pub location: LocationId,
    /// The revision that was sent.
    pub revision: i64,
    /// When core's link learnt that it was committed.
    pub committed: Timestamp,
    /// When it was given to the gateway's stream.
    pub sent: Timestamp,
    /// When the gateway's kernel had taken it.
    pub applied: Timestamp,
    /// When a dump of that kernel showed it.
    pub verified: Timestamp,
}

/// What a gateway's kernel had counted of a session's peer when it was cut.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cut {
    /// Whose peer.
    pub session: SessionId,
    /// In which gateway.
    pub gateway: GatewayId,
    /// Bytes received from the peer.
    pub rx_bytes: u64,
    /// Bytes sent to the peer.
    pub tx_bytes: u64,
}

/// What became of a session's end.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Trail {
    /// The first acknowledgement of each gateway that covers the end.
    pub passed: Vec<Passed>,
    /// The last counters, where the gateway had the peer and said so.
    pub cuts: Vec<Cut>,
}

type PassedRow = (i64, i64, i64, i64, i64, i64, i64);

impl From<PassedRow> for Passed {
    fn from((gateway, location, revision, committed, sent, applied, verified): PassedRow) -> Self {
        Self {
            gateway: GatewayId::new(gateway),
            location: LocationId::new(location),
            revision,
            committed: from_millis(committed),
            sent: from_millis(sent),
            applied: from_millis(applied),
            verified: from_millis(verified),
        }
    }
}

impl Snapshot {
    /// Returns what became of a session's end; empty while it lives.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn trail(&mut self, id: SessionId) -> Result<Trail, StoreError> {
        let end: Option<(i64, Option<i64>)> = session::table
            .find(id.get())
            .select((session::location_id, session::end_revision))
            .get_result(&mut self.conn)
            .optional()?;
        let Some((location, Some(revision))) = end else { return Ok(Trail::default()) };
        let mut passed: Vec<Passed> = Vec::new();
        // Each gateway's acknowledgements are in order, so its first one covers the end.
        for row in self.passed_from(LocationId::new(location), revision)? {
            if passed.last().is_none_or(|last| last.gateway != row.gateway) {
                passed.push(row);
            }
        }
        let cuts: Vec<(i64, i64, i64)> = session_cut::table
            .filter(session_cut::session_id.eq(id.get()))
            .order(session_cut::gateway_id.asc())
            .select((session_cut::gateway_id, session_cut::rx_bytes, session_cut::tx_bytes))
            .load(&mut self.conn)?;
        let cuts = cuts.into_iter().map(|(gateway, rx, tx)| Cut {
            session: id,
            gateway: GatewayId::new(gateway),
            rx_bytes: from_count(rx),
            tx_bytes: from_count(tx),
        });
        Ok(Trail { passed, cuts: cuts.collect() })
    }

    fn passed_from(
        &mut self,
        location: LocationId,
        revision: i64,
    ) -> Result<Vec<Passed>, StoreError> {
        let rows: Vec<PassedRow> = gateway_trail::table
            .filter(gateway_trail::location_id.eq(location.get()))
            .filter(gateway_trail::revision.ge(revision))
            .order((gateway_trail::gateway_id.asc(), gateway_trail::revision.asc()))
            .load(&mut self.conn)?;
        Ok(rows.into_iter().map(Passed::from).collect())
    }

    /// Lists what a gateway acknowledged last, newest first and at most `limit` times.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn acknowledged(
        &mut self,
        gateway: GatewayId,
        limit: i64,
    ) -> Result<Vec<Passed>, StoreError> {
        let rows: Vec<PassedRow> = gateway_trail::table
            .filter(gateway_trail::gateway_id.eq(gateway.get()))
            .order(gateway_trail::revision.desc())
            .limit(limit)
            .load(&mut self.conn)?;
        Ok(rows.into_iter().map(Passed::from).collect())
    }

    /// Tells how long ends took, of all sessions that are still on record: milliseconds from the
    /// decision to the dump of a gateway's kernel that showed it, and how many took so long. Each
    /// gateway counts for itself.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn end_delays(&mut self) -> Result<BTreeMap<u64, u64>, StoreError> {
        type Ends = Vec<(i64, Option<i64>, Option<i64>, i64)>;
        let ends: Ends = session::table
            .filter(session::end_revision.is_not_null())
            .group_by((session::location_id, session::end_revision, session::ended_at))
            .select((
                session::location_id,
                session::end_revision,
                session::ended_at,
                diesel::dsl::count_star(),
            ))
            .load(&mut self.conn)?;
        let passed: Vec<(i64, i64, i64, i64)> = gateway_trail::table
            .select((
                gateway_trail::location_id,
                gateway_trail::gateway_id,
                gateway_trail::revision,
                gateway_trail::verified_at,
            ))
            .load(&mut self.conn)?;
        let mut gateways: BTreeMap<(i64, i64), BTreeMap<i64, i64>> = BTreeMap::new();
        for (location, gateway, revision, verified) in passed {
            gateways.entry((location, gateway)).or_default().insert(revision, verified);
        }
        let mut delays = BTreeMap::new();
        for (location, revision, ended, count) in ends {
            let (Some(revision), Some(ended)) = (revision, ended) else { continue };
            for (_, verified) in gateways.range((location, i64::MIN)..=(location, i64::MAX)) {
                let Some((_, at)) = verified.range(revision..).next() else { continue };
                let count_so_far: &mut u64 =
                    delays.entry(from_count(at.saturating_sub(ended).max(0))).or_default();
                *count_so_far = count_so_far.saturating_add(from_count(count));
            }
        }
        Ok(delays)
    }
}

impl Tx {
    /// Notes that a gateway acknowledged. Not audited: nothing is decided by it.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn note_passed(&mut self, passed: &Passed) -> Result<(), StoreError> {
        let known = gateway_trail::table.find((passed.gateway.get(), passed.revision));
        if diesel::select(diesel::dsl::exists(known)).get_result(&mut self.conn)? {
            return Ok(());
        }
        let row = (
            gateway_trail::gateway_id.eq(passed.gateway.get()),
            gateway_trail::location_id.eq(passed.location.get()),
            gateway_trail::revision.eq(passed.revision),
            gateway_trail::committed_at.eq(to_millis(passed.committed)),
            gateway_trail::sent_at.eq(to_millis(passed.sent)),
            gateway_trail::applied_at.eq(to_millis(passed.applied)),
            gateway_trail::verified_at.eq(to_millis(passed.verified)),
        );
        diesel::insert_into(gateway_trail::table).values(row).execute(&mut self.conn)?;
        Ok(())
    }

    /// Notes last counters. What is said of a session that is not known, or lives, is left out.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn note_cut(&mut self, location: LocationId, cut: &Cut) -> Result<(), StoreError> {
        let ended: Option<i64> = session::table
            .find(cut.session.get())
            .filter(session::location_id.eq(location.get()))
            .select(session::ended_at)
            .first::<Option<i64>>(&mut self.conn)
            .optional()?
            .flatten();
        let known = session_cut::table.find((cut.session.get(), cut.gateway.get()));
        if ended.is_none()
            || diesel::select(diesel::dsl::exists(known)).get_result(&mut self.conn)?
        {
            return Ok(());
        }
        diesel::insert_into(session_cut::table)
            .values((
                session_cut::session_id.eq(cut.session.get()),
                session_cut::gateway_id.eq(cut.gateway.get()),
                session_cut::rx_bytes.eq(to_count(cut.rx_bytes)),
                session_cut::tx_bytes.eq(to_count(cut.tx_bytes)),
            ))
            .execute(&mut self.conn)?;
        Ok(())
    }

    /// Forgets acknowledgements from before `before`.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn forget_trail(&mut self, before: Timestamp) -> Result<usize, StoreError> {
        let old = gateway_trail::table.filter(gateway_trail::verified_at.lt(to_millis(before)));
        Ok(diesel::delete(old).execute(&mut self.conn)?)
    }
}
