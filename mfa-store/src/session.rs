//! Sessions: what a proven challenge bought, until it ends.

use std::collections::{BTreeMap, BTreeSet};

use diesel::prelude::*;
use mfa_core::challenge::Subject;
use mfa_core::connect::{EndReason, Session};
use mfa_core::id::{DeviceId, LocationId, SessionId, UserId};
use mfa_core::method::Method;
use mfa_core::rotate::PskGeneration;
use mfa_core::time::Timestamp;
use serde_json::json;
use wg_types::PresharedKey;

use crate::change::MOST;
use crate::schema::{device, session};
use crate::seal::Place;
use crate::value::{from_count, from_millis, to_count, to_key, to_millis};
use crate::{By, Snapshot, StoreError, Tx};

const TABLE: &str = "session";

/// Rows that one statement names. SQLite takes 32,766 parameters, PostgreSQL 65,535.
const AT_ONCE: usize = 1_000;

/// Which live sessions are meant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// This one.
    Session(SessionId),
    /// All of a device.
    Device(DeviceId),
    /// A device's in one location.
    DeviceAt(DeviceId, LocationId),
    /// All of a user's devices.
    User(UserId),
    /// A user's in one location.
    UserAt(UserId, LocationId),
    /// A user's that this method bought.
    UserMethod(UserId, Method),
    /// All of a location.
    Location(LocationId),
    /// A location's that this method bought.
    Method(LocationId, Method),
    /// Every one.
    All,
}

/// A session without its PSK.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionInfo {
    /// Names the session.
    pub id: SessionId,
    /// Whose, with what device, and where to.
    pub subject: Subject,
    /// How it was proved.
    pub method: Method,
    /// Which PSK it has, or had.
    pub generation: PskGeneration,
    /// When it began.
    pub authorized: Timestamp,
    /// When it ends at the latest.
    pub lifetime_ends: Timestamp,
    /// When a gateway first heard the peer.
    pub connected: Option<Timestamp>,
    /// The last sign of life; the beginning counts as one.
    pub last_activity: Timestamp,
    /// When the peer was last heard, be it a keepalive; `None`: nobody looks, or it was not yet.
    pub last_heard: Option<Timestamp>,
    /// When it ended, and why; `None`: it lives.
    pub ended: Option<(Timestamp, EndReason)>,
    /// Bytes that the gateways received from the peer.
    pub rx_bytes: u64,
    /// Bytes that the gateways sent to the peer.
    pub tx_bytes: u64,
}

impl SessionInfo {
    /// Describes a session that was just stored as `id`.
    #[must_use]
    pub fn begun(id: SessionId, new: &Session) -> Self {
        Self {
            id,
            subject: new.subject(),
            method: new.method(),
            generation: new.generation(),
            authorized: new.authorized(),
            lifetime_ends: new.lifetime_ends(),
            connected: None,
            last_activity: new.authorized(),
            last_heard: None,
            ended: None,
            rx_bytes: 0,
            tx_bytes: 0,
        }
    }
}

/// What gateways saw of a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Activity {
    /// Of which session.
    pub session: SessionId,
    /// The last sign of life.
    pub last_activity: Timestamp,
    /// Bytes received from the peer that were not noted yet, over all of this core's gateways.
    pub rx_added: u64,
    /// Bytes sent to the peer that were not noted yet, over all of this core's gateways.
    pub tx_added: u64,
}

/// What came of [`Tx::end_quiet_session`] and [`Tx::end_lost_session`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Quiet {
    /// It was live and has ended.
    Ended,
    /// Another core has heard of it at this time, so it goes on.
    HeardSince(Timestamp),
    /// It had ended already.
    Over,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = session)]
struct Row {
    id: i64,
    user_id: i64,
    device_id: i64,
    location_id: i64,
    method: String,
    generation: i64,
    authorized_at: i64,
    lifetime_ends_at: i64,
    connected_at: Option<i64>,
    active_at: i64,
    heard_at: Option<i64>,
    ended_at: Option<i64>,
    end_reason: Option<String>,
    rx_bytes: i64,
    tx_bytes: i64,
}

impl TryFrom<Row> for SessionInfo {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let corrupt = || StoreError::corrupt(TABLE);
        let reason = row.end_reason.as_deref().map(EndReason::from_code);
        Ok(Self {
            id: SessionId::new(row.id),
            subject: Subject {
                user: UserId::new(row.user_id),
                device: DeviceId::new(row.device_id),
                location: LocationId::new(row.location_id),
            },
            method: row.method.parse().map_err(|_| corrupt())?,
            generation: generation(row.generation)?,
            authorized: from_millis(row.authorized_at),
            lifetime_ends: from_millis(row.lifetime_ends_at),
            connected: row.connected_at.map(from_millis),
            last_activity: from_millis(row.active_at),
            last_heard: row.heard_at.map(from_millis),
            ended: match (row.ended_at, reason) {
                (None, _) => None,
                (Some(at), Some(Some(reason))) => Some((from_millis(at), reason)),
                (Some(_), _) => return Err(corrupt()),
            },
            rx_bytes: from_count(row.rx_bytes),
            tx_bytes: from_count(row.tx_bytes),
        })
    }
}

pub(crate) fn generation(number: i64) -> Result<PskGeneration, StoreError> {
    let number = u32::try_from(number).map_err(|_| StoreError::corrupt(TABLE))?;
    Ok(PskGeneration::new(number))
}

pub(crate) const fn psk_place(id: i64) -> Place {
    Place { table: TABLE, column: "psk", row: id }
}

/// Leaves the sessions of a scope.
macro_rules! within {
    ($rows:expr, $scope:expr) => {
        match $scope {
            Scope::Session(id) => $rows.filter(session::id.eq(id.get())),
            Scope::Device(id) => $rows.filter(session::device_id.eq(id.get())),
            Scope::DeviceAt(device, location) => $rows
                .filter(session::device_id.eq(device.get()))
                .filter(session::location_id.eq(location.get())),
            Scope::User(id) => $rows.filter(session::user_id.eq(id.get())),
            Scope::UserAt(user, location) => $rows
                .filter(session::user_id.eq(user.get()))
                .filter(session::location_id.eq(location.get())),
            Scope::UserMethod(user, method) => $rows
                .filter(session::user_id.eq(user.get()))
                .filter(session::method.eq(method.code())),
            Scope::Location(id) => $rows.filter(session::location_id.eq(id.get())),
            Scope::Method(location, method) => $rows
                .filter(session::location_id.eq(location.get()))
                .filter(session::method.eq(method.code())),
            Scope::All => $rows,
        }
    };
}

impl Snapshot {
    /// Returns the session `id`, live or ended.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn session(&mut self, id: SessionId) -> Result<Option<SessionInfo>, StoreError> {
        let row: Option<Row> = session::table
            .find(id.get())
            .select(Row::as_select())
            .get_result(&mut self.conn)
            .optional()?;
        row.map(SessionInfo::try_from).transpose()
    }

    /// Lists the live sessions of `scope`, oldest first.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn live_sessions(&mut self, scope: Scope) -> Result<Vec<SessionInfo>, StoreError> {
        let live = session::table.filter(session::ended_at.is_null()).into_boxed();
        let rows: Vec<Row> = within!(live, scope)
            .order(session::id.asc())
            .select(Row::as_select())
            .load(&mut self.conn)?;
        rows.into_iter().map(SessionInfo::try_from).collect()
    }

    /// Shows each live session, in the order of devices. They are never all in memory.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn each_live_session(
        &mut self,
        mut show: impl FnMut(SessionInfo),
    ) -> Result<(), StoreError> {
        let (mut device, mut location) = (-1, -1);
        loop {
            // As the index of live sessions has them.
            let after = session::device_id.gt(device).or(session::location_id.gt(location));
            let rows: Vec<Row> = session::table
                .filter(session::ended_at.is_null())
                .filter(session::device_id.ge(device))
                .filter(after)
                .order((session::device_id.asc(), session::location_id.asc()))
                .limit(i64::try_from(AT_ONCE).unwrap_or(i64::MAX))
                .select(Row::as_select())
                .load(&mut self.conn)?;
            let is_last = rows.len() < AT_ONCE;
            if let Some(last) = rows.last() {
                (device, location) = (last.device_id, last.location_id);
            }
            for row in rows {
                show(row.try_into()?);
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Counts the live sessions of `scope`.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn live_count(&mut self, scope: Scope) -> Result<usize, StoreError> {
        let live = session::table.filter(session::ended_at.is_null());
        let live = live.select(diesel::dsl::count_star()).into_boxed();
        let count: i64 = within!(live, scope).get_result(&mut self.conn)?;
        Ok(usize::try_from(count).unwrap_or_default())
    }

    /// Lists the newest `limit` sessions, live and ended, newest first.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn newest_sessions(&mut self, limit: i64) -> Result<Vec<SessionInfo>, StoreError> {
        let rows: Vec<Row> = session::table
            .order(session::id.desc())
            .limit(limit)
            .select(Row::as_select())
            .load(&mut self.conn)?;
        rows.into_iter().map(SessionInfo::try_from).collect()
    }

    /// Returns how a device's newest session in a location ended; `None` if there was none, or the
    /// newest one lives.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn last_ended_session(
        &mut self,
        device: DeviceId,
        location: LocationId,
    ) -> Result<Option<SessionInfo>, StoreError> {
        let row: Option<Row> = session::table
            .filter(session::device_id.eq(device.get()))
            .filter(session::location_id.eq(location.get()))
            .order(session::id.desc())
            .select(Row::as_select())
            .first(&mut self.conn)
            .optional()?;
        let newest = row.map(SessionInfo::try_from).transpose()?;
        Ok(newest.filter(|newest| newest.ended.is_some()))
    }

    /// Lists the live sessions whose lifetime is over at `now`.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn overdue_sessions(&mut self, now: Timestamp) -> Result<Vec<SessionId>, StoreError> {
        let ids: Vec<i64> = session::table
            .filter(session::ended_at.is_null())
            .filter(session::lifetime_ends_at.le(to_millis(now)))
            .select(session::id)
            .load(&mut self.conn)?;
        Ok(ids.into_iter().map(SessionId::new).collect())
    }

    /// Opens a live session's PSK; `None` if the session has ended or is unknown.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unsealable`] if somebody changed the stored key.
    pub fn session_psk(&mut self, id: SessionId) -> Result<Option<PresharedKey>, StoreError> {
        let sealed: Option<Option<Vec<u8>>> = session::table
            .find(id.get())
            .select(session::psk)
            .get_result(&mut self.conn)
            .optional()?;
        let Some(sealed) = sealed.flatten() else { return Ok(None) };
        let psk = self.seal.open_key(psk_place(id.get()), &sealed)?;
        Ok(Some(PresharedKey::from_bytes(*psk)))
    }

    pub(crate) fn users_with_session(
        &mut self,
        location: LocationId,
    ) -> Result<Vec<UserId>, StoreError> {
        let ids: Vec<i64> = session::table
            .filter(session::ended_at.is_null())
            .filter(session::location_id.eq(location.get()))
            .select(session::user_id)
            .distinct()
            .load(&mut self.conn)?;
        Ok(ids.into_iter().map(UserId::new).collect())
    }
}

impl Tx {
    /// Stores a new session with its PSK sealed. A live one of the same device in the same
    /// location ends first, as [`EndReason::Replaced`].
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] for a session that has ended, or one of a device that is gone.
    pub fn begin_session(&mut self, by: By, new: &Session) -> Result<SessionId, StoreError> {
        let Subject { user, device, location } = new.subject();
        let psk = new.psk().ok_or(StoreError::missing("live session"))?;
        let device_row = self.device(device)?.ok_or(StoreError::missing("device"))?;
        self.end_sessions(by, Scope::DeviceAt(device, location), EndReason::Replaced)?;
        let id: i64 = diesel::insert_into(session::table)
            .values((
                session::user_id.eq(user.get()),
                session::device_id.eq(device.get()),
                session::location_id.eq(location.get()),
                session::method.eq(new.method().code()),
                session::generation.eq(i64::from(new.generation().get())),
                session::authorized_at.eq(to_millis(new.authorized())),
                session::lifetime_ends_at.eq(to_millis(new.lifetime_ends())),
                session::active_at.eq(to_millis(new.authorized())),
                session::rx_bytes.eq(0),
                session::tx_bytes.eq(0),
            ))
            .returning(session::id)
            .get_result(&mut self.conn)?;
        let sealed = self.seal_in(psk_place(id), psk.expose_secret())?;
        diesel::update(session::table.find(id))
            .set(session::psk.eq(sealed))
            .execute(&mut self.conn)?;
        self.touch(location, Some(&device_row.public_key))?;
        let detail = json!({
            "user": user.get(),
            "device": device.get(),
            "location": location.get(),
            "method": new.method().code(),
        });
        self.audit(by, "session.begin", format_args!("session:{id}"), &detail)?;
        Ok(SessionId::new(id))
    }

    /// Extends a live session that was renewed by a fresh proof. Its peer stays as it is. Returns
    /// whether it was live.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn renew_session(
        &mut self,
        by: By,
        id: SessionId,
        method: Method,
        lifetime_ends: Timestamp,
    ) -> Result<bool, StoreError> {
        let live = session::table.find(id.get()).filter(session::ended_at.is_null());
        let renewed = diesel::update(live)
            .set((
                session::method.eq(method.code()),
                session::lifetime_ends_at.eq(to_millis(lifetime_ends)),
            ))
            .execute(&mut self.conn)?;
        if renewed > 0 {
            // Where gateways hold sessions while core is away, they must know the new end.
            if let Some(found) = self.session(id)?
                && let Some(place) = self.location(found.subject.location)?
                && place.settings.policy.outage_hold().is_some()
                && let Some(device) = self.device(found.subject.device)?
            {
                self.touch(place.id, Some(&device.public_key))?;
            }
            let detail = json!({ "method": method.code(), "until": to_millis(lifetime_ends) });
            self.audit(by, "session.renew", format_args!("session:{id}"), &detail)?;
        }
        Ok(renewed > 0)
    }

    /// Ends a session: wipes its PSK, and has its peer removed. Returns whether it was live.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn end_session(
        &mut self,
        by: By,
        id: SessionId,
        reason: EndReason,
    ) -> Result<bool, StoreError> {
        Ok(!self.end_sessions(by, Scope::Session(id), reason)?.is_empty())
    }

    /// Ends a session as [`EndReason::Idle`] unless somebody has heard of it after `last_activity`,
    /// which is the last sign of life that the caller knows of: the gateways of another core may
    /// have told that core of a later one.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn end_quiet_session(
        &mut self,
        by: By,
        id: SessionId,
        last_activity: Timestamp,
    ) -> Result<Quiet, StoreError> {
        let Some(found) = self.live_sessions(Scope::Session(id))?.pop() else {
            return Ok(Quiet::Over);
        };
        if found.last_activity > last_activity {
            return Ok(Quiet::HeardSince(found.last_activity));
        }
        let ended = self.end_session(by, id, EndReason::Idle)?;
        Ok(if ended { Quiet::Ended } else { Quiet::Over })
    }

    /// Ends a session as [`EndReason::LinkLost`] unless somebody has heard of its peer after `heard`,
    /// which is when the caller last did.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn end_lost_session(
        &mut self,
        by: By,
        id: SessionId,
        heard: Timestamp,
    ) -> Result<Quiet, StoreError> {
        let Some(found) = self.live_sessions(Scope::Session(id))?.pop() else {
            return Ok(Quiet::Over);
        };
        let later = found.last_heard.max(Some(found.last_activity)).filter(|at| *at > heard);
        if let Some(at) = later {
            return Ok(Quiet::HeardSince(at));
        }
        let ended = self.end_session(by, id, EndReason::LinkLost)?;
        Ok(if ended { Quiet::Ended } else { Quiet::Over })
    }

    /// Notes when peers were last heard, be it a keepalive. Only forwards, as
    /// [`note_activity`](Self::note_activity).
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn note_heard(&mut self, heard: &[(SessionId, Timestamp)]) -> Result<(), StoreError> {
        for (id, at) in heard {
            let at = to_millis(*at);
            let live = session::table.find(id.get()).filter(session::ended_at.is_null());
            let older = session::heard_at.is_null().or(session::heard_at.lt(at));
            diesel::update(live.filter(older))
                .set(session::heard_at.eq(at))
                .execute(&mut self.conn)?;
        }
        Ok(())
    }

    /// Ends all live sessions of `scope`. This is the one way in which sessions end, whatever the
    /// reason. Returns those that were live.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn end_sessions(
        &mut self,
        by: By,
        scope: Scope,
        reason: EndReason,
    ) -> Result<Vec<SessionId>, StoreError> {
        let live = self.live_sessions(scope)?;
        let mut places: BTreeMap<LocationId, Vec<&SessionInfo>> = BTreeMap::new();
        for one in &live {
            places.entry(one.subject.location).or_default().push(one);
        }
        for (location, live) in places {
            let revision = self.touch_ended(location, &live)?;
            for some in live.chunks(AT_ONCE) {
                let ids: Vec<i64> = some.iter().map(|one| one.id.get()).collect();
                diesel::update(session::table.filter(session::id.eq_any(ids)))
                    .set((
                        session::ended_at.eq(to_millis(by.now)),
                        session::end_reason.eq(reason.code()),
                        session::psk.eq(None::<Vec<u8>>),
                        session::next_psk.eq(None::<Vec<u8>>),
                        session::previous_psk_digest.eq(None::<Vec<u8>>),
                        session::end_revision.eq(revision),
                    ))
                    .execute(&mut self.conn)?;
            }
        }
        let entries = live.iter().map(|one| {
            let Subject { user, device, location } = one.subject;
            let detail = json!({
                "reason": reason.code(),
                "user": user.get(),
                "device": device.get(),
                "location": location.get(),
            });
            (format!("session:{}", one.id), detail)
        });
        self.audit_all(by, "session.end", entries)?;
        Ok(live.into_iter().map(|one| one.id).collect())
    }

    /// Notes what gateways saw of live sessions. Only forwards: an older sign of life changes
    /// nothing, and one of a session that has ended neither. Not audited: nothing is decided by it.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn note_activity(&mut self, seen: &[Activity]) -> Result<(), StoreError> {
        for one in seen {
            let at = to_millis(one.last_activity);
            let live = session::table.find(one.session.get()).filter(session::ended_at.is_null());
            diesel::update(live.filter(session::active_at.lt(at)))
                .set(session::active_at.eq(at))
                .execute(&mut self.conn)?;
            diesel::update(live.filter(session::connected_at.is_null()))
                .set(session::connected_at.eq(at))
                .execute(&mut self.conn)?;
            // Added and not set: each core knows its own gateways' bytes only.
            diesel::update(live)
                .set((
                    session::rx_bytes.eq(session::rx_bytes + to_count(one.rx_added)),
                    session::tx_bytes.eq(session::tx_bytes + to_count(one.tx_added)),
                ))
                .execute(&mut self.conn)?;
        }
        Ok(())
    }

    /// Forgets sessions that ended before `before`. Returns how many; the audit log keeps them.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn forget_ended_sessions(&mut self, before: Timestamp) -> Result<usize, StoreError> {
        Ok(diesel::delete(session::table.filter(session::ended_at.lt(to_millis(before))))
            .execute(&mut self.conn)?)
    }

    /// Has the gateways look at the devices of these sessions. Returns the location's revision.
    fn touch_ended(
        &mut self,
        location: LocationId,
        live: &[&SessionInfo],
    ) -> Result<i64, StoreError> {
        // Beyond this gateways get a snapshot anyway. Without any device it is the same.
        if live.len() > MOST {
            return self.touch(location, None);
        }
        let ids: Vec<i64> = live.iter().map(|one| one.subject.device.get()).collect();
        let mut keys = BTreeSet::new();
        for some in ids.chunks(AT_ONCE) {
            let found: Vec<Vec<u8>> = device::table
                .filter(device::id.eq_any(some))
                .select(device::public_key)
                .load(&mut self.conn)?;
            for key in found {
                keys.insert(to_key(&key, "device")?);
            }
        }
        let mut revision = None;
        for key in keys {
            revision = Some(self.touch(location, Some(&key))?);
        }
        revision.map_or_else(|| self.touch(location, None), Ok)
    }
}
