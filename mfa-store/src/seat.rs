//! Seats: which gateway is connected to which of the cores on this database.
//!
//! The stream is in one core's memory; the seat is how the others know of it. A core that has not
//! beaten for a while is dead, and so are its seats. Not audited: nothing is decided by them that a
//! gateway could not undo by dialling again.

use std::collections::BTreeSet;

use diesel::prelude::*;
use mfa_core::id::{GatewayId, LocationId};

use crate::schema::{core_process, gateway_seat};
use crate::seal::KeyId;
use crate::{Snapshot, StoreError, Tx};

const TABLE: &str = "gateway_seat";

/// Names a core's process: random bytes of its start.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct CoreId(pub [u8; 16]);

/// A gateway that is connected to some core.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GatewaySeat {
    /// Which gateway.
    pub gateway: GatewayId,
    /// Where it serves.
    pub location: LocationId,
    /// To which core.
    pub core: CoreId,
    /// To which of its streams.
    pub stream: i64,
    /// How its process names itself; empty: it does not.
    pub process: Vec<u8>,
    /// What it has applied; `None`: nothing on this stream yet.
    pub applied: Option<i64>,
}

/// Who has a seat.
#[derive(Queryable, Selectable)]
#[diesel(table_name = gateway_seat)]
struct Holder {
    core_id: Vec<u8>,
    process: Vec<u8>,
    shut_out: Option<Vec<u8>>,
}

/// What came of [`Tx::take_seat`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SeatTaken {
    /// The seat is this stream's.
    Yes,
    /// A newer process with the gateway's identity is connected to another core.
    ShutOut,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = gateway_seat)]
struct Row {
    gateway_id: i64,
    location_id: i64,
    core_id: Vec<u8>,
    stream: i64,
    process: Vec<u8>,
    applied_revision: Option<i64>,
}

impl TryFrom<Row> for GatewaySeat {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            gateway: GatewayId::new(row.gateway_id),
            location: LocationId::new(row.location_id),
            core: core_id(&row.core_id)?,
            stream: row.stream,
            process: row.process,
            applied: row.applied_revision,
        })
    }
}

pub(crate) fn core_id(bytes: &[u8]) -> Result<CoreId, StoreError> {
    bytes.try_into().map(CoreId).map_err(|_| StoreError::corrupt(TABLE))
}

impl Snapshot {
    /// Lists the cores that have said that they live, each with its beat: a number that grows for
    /// as long as it does.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn cores(&mut self) -> Result<Vec<(CoreId, i64)>, StoreError> {
        let columns = (core_process::id, core_process::beat);
        let rows: Vec<(Vec<u8>, i64)> = core_process::table.select(columns).load(&mut self.conn)?;
        rows.into_iter().map(|(id, beat)| Ok((core_id(&id)?, beat))).collect()
    }

    /// Lists all seats, those of dead cores too.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn seats(&mut self) -> Result<Vec<GatewaySeat>, StoreError> {
        let rows: Vec<Row> = gateway_seat::table.select(Row::as_select()).load(&mut self.conn)?;
        rows.into_iter().map(GatewaySeat::try_from).collect()
    }
}

impl Tx {
    /// Says that `core` lives, and which master key is the newest that it has, which is returned.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn beat(&mut self, core: CoreId) -> Result<KeyId, StoreError> {
        let key = self.newest_key()?;
        let key_id = core_process::key_id.eq(i64::from(key.get()));
        let row = core_process::table.find(core.0.as_slice());
        let changed = diesel::update(row)
            .set((core_process::beat.eq(core_process::beat + 1), key_id))
            .execute(&mut self.conn)?;
        if changed == 0 {
            diesel::insert_into(core_process::table)
                .values((core_process::id.eq(core.0.as_slice()), core_process::beat.eq(1), key_id))
                .execute(&mut self.conn)?;
        }
        Ok(key)
    }

    /// Forgets cores that are dead or stop, with their seats.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn forget_cores(&mut self, cores: &[CoreId]) -> Result<(), StoreError> {
        for core in cores {
            diesel::delete(core_process::table.find(core.0.as_slice())).execute(&mut self.conn)?;
        }
        Ok(())
    }

    /// Gives a gateway's seat to a new stream. Whoever had it is told by finding it taken.
    ///
    /// `living` are the cores that live. The process that an earlier call has shut out stays out for
    /// as long as the newer one is connected to one of them.
    ///
    /// # Errors
    ///
    /// What the database reports; also that the gateway or its location is gone.
    pub fn take_seat(
        &mut self,
        new: &GatewaySeat,
        living: &BTreeSet<CoreId>,
    ) -> Result<SeatTaken, StoreError> {
        self.beat_once(new.core)?;
        let id = new.gateway.get();
        let before: Option<Holder> = gateway_seat::table
            .find(id)
            .select(Holder::as_select())
            .get_result(&mut self.conn)
            .optional()?;
        let mut shut_out = None;
        if let Some(Holder { core_id: core, process, shut_out: shut }) = before {
            let connected = living.contains(&core_id(&core)?);
            if process != new.process && !new.process.is_empty() {
                if connected && shut.as_ref() == Some(&new.process) {
                    return Ok(SeatTaken::ShutOut);
                }
                shut_out = connected.then_some(process);
            } else {
                shut_out = shut.filter(|_| connected);
            }
            diesel::delete(gateway_seat::table.find(id)).execute(&mut self.conn)?;
        }
        diesel::insert_into(gateway_seat::table)
            .values((
                gateway_seat::gateway_id.eq(id),
                gateway_seat::location_id.eq(new.location.get()),
                gateway_seat::core_id.eq(new.core.0.as_slice()),
                gateway_seat::stream.eq(new.stream),
                gateway_seat::process.eq(&new.process),
                gateway_seat::shut_out.eq(shut_out),
                gateway_seat::applied_revision.eq(new.applied),
            ))
            .execute(&mut self.conn)?;
        Ok(SeatTaken::Yes)
    }

    /// Notes what the gateway of a seat has applied, if the seat is still that stream's.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn note_seat(&mut self, seat: &GatewaySeat) -> Result<(), StoreError> {
        let own = gateway_seat::table
            .find(seat.gateway.get())
            .filter(gateway_seat::core_id.eq(seat.core.0.as_slice()))
            .filter(gateway_seat::stream.eq(seat.stream));
        diesel::update(own)
            .set(gateway_seat::applied_revision.eq(seat.applied))
            .execute(&mut self.conn)?;
        Ok(())
    }

    /// Gives a seat up, if it is still that stream's.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn leave_seat(
        &mut self,
        core: CoreId,
        gateway: GatewayId,
        stream: i64,
    ) -> Result<(), StoreError> {
        let own = gateway_seat::table
            .find(gateway.get())
            .filter(gateway_seat::core_id.eq(core.0.as_slice()))
            .filter(gateway_seat::stream.eq(stream));
        diesel::delete(own).execute(&mut self.conn)?;
        Ok(())
    }

    /// Says that `core` lives, unless it has.
    fn beat_once(&mut self, core: CoreId) -> Result<(), StoreError> {
        let row = core_process::table.find(core.0.as_slice());
        let known: i64 = row.count().get_result(&mut self.conn)?;
        if known == 0 { self.beat(core).map(drop) } else { Ok(()) }
    }
}
