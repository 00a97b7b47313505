//! Revisions: what the gateways of a location must learn of.
//!
//! A transaction that changes what gateways should have *touches* the location: its revision grows
//! by one, and a row says which peer that was about. Gateways that know revision r need the present
//! truth about the peers touched since r; if that cannot be told any more, everything.

use std::collections::BTreeSet;

use diesel::prelude::*;
use mfa_core::id::LocationId;
use wg_types::PublicKey;

use crate::schema::{location, location_change};
use crate::value::to_key;
use crate::{Snapshot, StoreError, Tx};

const TABLE: &str = "location_change";
/// Revisions of a location that are remembered.
const KEPT: i64 = 10_000;
/// Every so many revisions the older ones are forgotten.
const PRUNE_EVERY: i64 = 256;
/// Touched peers beyond which a snapshot is the shorter answer.
pub(crate) const MOST: usize = 5_000;

/// What happened since a revision.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Changes {
    /// The location's revision now.
    pub revision: i64,
    /// What its gateways must look at.
    pub touched: Touched,
}

/// What gateways must look at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Touched {
    /// Everything: the interface changed, the range is forgotten or too big, or the revision asked
    /// for is not one of this database.
    Everything,
    /// These peers; none if nothing happened.
    Peers(BTreeSet<PublicKey>),
}

impl Snapshot {
    /// Returns a location's revision; `None` if there is no such location.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn revision(&mut self, location: LocationId) -> Result<Option<i64>, StoreError> {
        Ok(location::table
            .find(location.get())
            .select(location::revision)
            .get_result(&mut self.conn)
            .optional()?)
    }

    /// Tells what happened in a location since `revision`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] without that location.
    pub fn changes_since(
        &mut self,
        location: LocationId,
        revision: i64,
    ) -> Result<Changes, StoreError> {
        let bounds: Option<(i64, i64)> = location::table
            .find(location.get())
            .select((location::revision, location::pruned_revision))
            .get_result(&mut self.conn)
            .optional()?;
        let (now, pruned) = bounds.ok_or(StoreError::missing("location"))?;
        if revision < pruned || revision > now {
            return Ok(Changes { revision: now, touched: Touched::Everything });
        }
        let rows: Vec<Option<Vec<u8>>> = location_change::table
            .filter(location_change::location_id.eq(location.get()))
            .filter(location_change::revision.gt(revision))
            .order(location_change::revision.desc())
            .limit(i64::try_from(MOST).unwrap_or(i64::MAX).saturating_add(1))
            .select(location_change::public_key)
            .load(&mut self.conn)?;
        let too_many = rows.len() > MOST;
        if too_many || rows.iter().any(Option::is_none) {
            return Ok(Changes { revision: now, touched: Touched::Everything });
        }
        let peers: Result<_, _> = rows.iter().flatten().map(|key| to_key(key, TABLE)).collect();
        Ok(Changes { revision: now, touched: Touched::Peers(peers?) })
    }
}

impl Tx {
    /// Says that the gateways of a location must look at `peer`; `None`: at everything. Returns the
    /// location's new revision. The functions that change peers do this by themselves.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] without that location.
    pub fn touch(
        &mut self,
        location: LocationId,
        peer: Option<&PublicKey>,
    ) -> Result<i64, StoreError> {
        let revision = match self.touched.get(&location) {
            Some(revision) => *revision,
            None => self.next_revision(location)?,
        };
        diesel::insert_into(location_change::table)
            .values((
                location_change::location_id.eq(location.get()),
                location_change::revision.eq(revision),
                location_change::public_key.eq(peer.map(|key| key.as_bytes().as_slice())),
            ))
            .execute(&mut self.conn)?;
        Ok(revision)
    }

    fn next_revision(&mut self, location: LocationId) -> Result<i64, StoreError> {
        let revision: Option<i64> = diesel::update(location::table.find(location.get()))
            .set(location::revision.eq(location::revision + 1))
            .returning(location::revision)
            .get_result(&mut self.conn)
            .optional()?;
        let revision = revision.ok_or(StoreError::missing("location"))?;
        self.touched.insert(location, revision);
        if revision.rem_euclid(PRUNE_EVERY) == 0 && revision > KEPT {
            self.prune(location, revision.saturating_sub(KEPT))?;
        }
        Ok(revision)
    }

    fn prune(&mut self, location: LocationId, through: i64) -> Result<(), StoreError> {
        diesel::update(location::table.find(location.get()))
            .set(location::pruned_revision.eq(through))
            .execute(&mut self.conn)?;
        diesel::delete(
            location_change::table
                .filter(location_change::location_id.eq(location.get()))
                .filter(location_change::revision.le(through)),
        )
        .execute(&mut self.conn)?;
        Ok(())
    }
}
