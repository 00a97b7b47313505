//! Rotations: the next PSK of a live session, beside the one in force.
//!
//! Every function takes many sessions, so that ten thousand rotations are a handful of
//! transactions. None is in the audit log: nothing is decided by them, and a session's end, also one
//! because the client took no new key, is there.

use diesel::prelude::*;
use mfa_core::id::{LocationId, SessionId};
use mfa_core::rotate::{PskGeneration, Rotation, RotationState};
use mfa_core::time::Timestamp;
use sha2::{Digest as _, Sha256};
use wg_types::PresharedKey;

use crate::schema::{device, session};
use crate::session::{generation, psk_place};
use crate::value::{from_millis, to_key, to_millis};
use crate::{Snapshot, StoreError, Tx};

const TABLE: &str = "session";
/// Ids in one statement; `SQLite` takes 32,766 values.
const IDS: usize = 1_000;

/// A rotation that is under way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RotationInfo {
    /// Of which session.
    pub session: SessionId,
    /// Where to.
    pub location: LocationId,
    /// How far it is.
    pub rotation: Rotation,
    /// The location's revision that gives the new PSK to gateways; `None`: the client lacks it yet.
    pub revision: Option<i64>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = session)]
struct Row {
    id: i64,
    location_id: i64,
    generation: i64,
    next_staged_at: Option<i64>,
    next_set_at: Option<i64>,
    next_proven_at: Option<i64>,
    next_revision: Option<i64>,
}

impl TryFrom<Row> for RotationInfo {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let staged = row.next_staged_at.ok_or(StoreError::corrupt(TABLE))?;
        let state = match (row.next_set_at, row.next_proven_at) {
            (_, Some(_)) => RotationState::Proven,
            (Some(_), None) => RotationState::Set,
            (None, None) => RotationState::Staged,
        };
        let to = generation(row.generation)?.next();
        Ok(Self {
            session: SessionId::new(row.id),
            location: LocationId::new(row.location_id),
            rotation: Rotation::from_parts(to, from_millis(staged), state),
            revision: row.next_revision,
        })
    }
}

impl Snapshot {
    /// Lists at most `limit` live sessions of a location whose client can take another PSK, whose
    /// own has been in force since `since` or longer, and that are not being rotated; the oldest
    /// first.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn due_for_rotation(
        &mut self,
        location: LocationId,
        since: Timestamp,
        limit: i64,
    ) -> Result<Vec<SessionId>, StoreError> {
        let ids: Vec<i64> = session::table
            .filter(session::ended_at.is_null())
            .filter(session::next_psk.is_null())
            .filter(session::location_id.eq(location.get()))
            .filter(session::psk_since.le(to_millis(since)))
            .order(session::psk_since.asc())
            .limit(limit)
            .select(session::id)
            .load(&mut self.conn)?;
        Ok(ids.into_iter().map(SessionId::new).collect())
    }

    /// Lists the rotations that are under way, of all locations.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn rotations(&mut self) -> Result<Vec<RotationInfo>, StoreError> {
        let rows: Vec<Row> = session::table
            .filter(session::next_psk.is_not_null())
            .order(session::id.asc())
            .select(Row::as_select())
            .load(&mut self.conn)?;
        rows.into_iter().map(RotationInfo::try_from).collect()
    }

    /// Returns the rotation of a live session; `None`: none is under way.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn rotation(&mut self, id: SessionId) -> Result<Option<RotationInfo>, StoreError> {
        let row: Option<Row> = session::table
            .find(id.get())
            .filter(session::next_psk.is_not_null())
            .select(Row::as_select())
            .get_result(&mut self.conn)
            .optional()?;
        row.map(RotationInfo::try_from).transpose()
    }

    /// Opens the next PSK of a live session; `None`: no rotation is under way.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unsealable`] if somebody changed the stored key.
    pub fn next_psk(&mut self, id: SessionId) -> Result<Option<PresharedKey>, StoreError> {
        let sealed: Option<Option<Vec<u8>>> = session::table
            .find(id.get())
            .select(session::next_psk)
            .get_result(&mut self.conn)
            .optional()?;
        let Some(sealed) = sealed.flatten() else { return Ok(None) };
        let psk = self.seal.open_key(psk_place(id.get()), &sealed)?;
        Ok(Some(PresharedKey::from_bytes(*psk)))
    }
}

impl Tx {
    /// Notes that the client of a live session can take another PSK. Returns whether that is new.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn can_rotate(&mut self, id: SessionId) -> Result<bool, StoreError> {
        let live = session::table
            .find(id.get())
            .filter(session::ended_at.is_null())
            .filter(session::psk_since.is_null());
        let changed = diesel::update(live)
            .set(session::psk_since.eq(session::authorized_at.nullable()))
            .execute(&mut self.conn)?;
        Ok(changed > 0)
    }

    /// Puts the next PSK beside the one in force, for each session that still lives and is not
    /// being rotated. No gateway hears of it. Returns how many were staged.
    ///
    /// The keys are 32 bytes each of a cryptographically secure generator, never used before.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn stage_rotations(
        &mut self,
        new: &[(SessionId, PresharedKey)],
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let mut staged = 0;
        for (id, psk) in new {
            let sealed = self.seal_in(psk_place(id.get()), psk.expose_secret())?;
            let free = session::table
                .find(id.get())
                .filter(session::ended_at.is_null())
                .filter(session::next_psk.is_null());
            staged += diesel::update(free)
                .set((session::next_psk.eq(sealed), session::next_staged_at.eq(to_millis(now))))
                .execute(&mut self.conn)?;
        }
        Ok(staged)
    }

    /// Notes what clients say: which generation each has set, and with which it saw a handshake. What
    /// a client has just set its location's gateways are to have from now on. Returns how many said
    /// something new.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn note_rotations(
        &mut self,
        said: &[(SessionId, PskGeneration, PskGeneration)],
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let mut news = 0;
        for (id, set, proven) in said {
            let Some(RotationInfo { location, mut rotation, revision, .. }) = self.rotation(*id)?
            else {
                continue;
            };
            if !rotation.handle_client(*set, *proven) {
                continue;
            }
            news += 1;
            let row = session::table.find(id.get());
            if revision.is_none() {
                let key: Vec<u8> = session::table
                    .inner_join(device::table)
                    .filter(session::id.eq(id.get()))
                    .select(device::public_key)
                    .get_result(&mut self.conn)?;
                let revision = self.touch(location, Some(&to_key(&key, "device")?))?;
                // Not before: until now gateways are given this one, beside the digest of the one before it.
                let current = self.session_psk(*id)?.ok_or(StoreError::corrupt(TABLE))?;
                let digest = Sha256::digest(current.expose_secret());
                diesel::update(row)
                    .set((
                        session::next_set_at.eq(to_millis(now)),
                        session::next_revision.eq(revision),
                        session::previous_psk_digest.eq(digest.as_slice()),
                    ))
                    .execute(&mut self.conn)?;
            }
            if rotation.state() == RotationState::Proven {
                diesel::update(row)
                    .set(session::next_proven_at.eq(to_millis(now)))
                    .execute(&mut self.conn)?;
            }
        }
        Ok(news)
    }

    /// Makes the next PSK the session's own, for each that is proven. Gateways have it already, so
    /// that no revision moves. Returns how many were promoted.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn promote_rotations(&mut self, ids: &[SessionId]) -> Result<usize, StoreError> {
        let mut promoted = 0;
        for ids in ids.chunks(IDS) {
            let ids: Vec<i64> = ids.iter().map(|id| id.get()).collect();
            let proven = session::table
                .filter(session::id.eq_any(ids))
                .filter(session::next_psk.is_not_null())
                .filter(session::next_proven_at.is_not_null());
            promoted += diesel::update(proven)
                .set((
                    session::psk.eq(session::next_psk),
                    session::psk_since.eq(session::next_staged_at),
                    session::generation.eq(session::generation + 1),
                    session::next_psk.eq(None::<Vec<u8>>),
                    session::next_staged_at.eq(None::<i64>),
                    session::next_set_at.eq(None::<i64>),
                    session::next_proven_at.eq(None::<i64>),
                    session::next_revision.eq(None::<i64>),
                ))
                .execute(&mut self.conn)?;
        }
        Ok(promoted)
    }
}
