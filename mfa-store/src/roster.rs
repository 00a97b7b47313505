//! Who is connected to a location: searched, sorted and paged by the database.

use diesel::prelude::*;
use mfa_core::id::{LocationId, SessionId};
use mfa_core::time::Timestamp;

use crate::schema::{device, session, user_account};
use crate::value::{from_count, from_millis, to_millis};
use crate::{SessionInfo, Snapshot, StoreError};

/// What of the roster is wanted.
#[derive(Clone, Debug)]
pub struct RosterQuery {
    /// A part of a login or of a device's name; empty: everyone.
    pub search: String,
    /// By what it is ordered.
    pub sort: RosterSort,
    /// Largest, newest or last first.
    pub descending: bool,
    /// How many rows to pass over.
    pub offset: i64,
    /// How many rows to return.
    pub limit: i64,
}

/// By what a roster is ordered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RosterSort {
    /// The login.
    User,
    /// The device's name.
    Device,
    /// When the session began.
    Since,
    /// When it ends at the latest.
    Left,
    /// Bytes received from the peer.
    Received,
    /// Bytes sent to the peer.
    Sent,
}

/// One who is connected.
#[derive(Clone, Debug)]
pub struct RosterEntry {
    /// The session.
    pub session: SessionInfo,
    /// The user's login.
    pub login: String,
    /// The device's name.
    pub device: String,
}

/// A page of a roster.
#[derive(Clone, Debug)]
pub struct Roster {
    /// How many are connected.
    pub connected: u64,
    /// How many of them fit the search.
    pub matching: u64,
    /// The page.
    pub entries: Vec<RosterEntry>,
}

diesel::define_sql_function! {
    /// Letters in lower case.
    fn lower(text: diesel::sql_types::Text) -> diesel::sql_types::Text;
}

impl Snapshot {
    /// Returns a page of the live sessions of a location.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn roster(
        &mut self,
        location: LocationId,
        query: &RosterQuery,
    ) -> Result<Roster, StoreError> {
        let live = || {
            session::table
                .inner_join(device::table)
                .inner_join(user_account::table.on(user_account::id.eq(session::user_id)))
                .filter(session::ended_at.is_null())
                .filter(session::location_id.eq(location.get()))
        };
        let pattern = format!("%{}%", escaped(&query.search.trim().to_lowercase()));
        let fits = || {
            user_account::login_folded
                .like(pattern.clone())
                .escape('\\')
                .or(lower(device::name).like(pattern.clone()).escape('\\'))
        };
        let connected: i64 = live().count().get_result(&mut self.conn)?;
        let matching: i64 = live().filter(fits()).count().get_result(&mut self.conn)?;
        let rows = live()
            .filter(fits())
            .select((session::id, user_account::login, device::name))
            .into_boxed();
        macro_rules! by {
            ($column:expr) => {
                if query.descending {
                    rows.order(($column.desc(), session::id.desc()))
                } else {
                    rows.order(($column.asc(), session::id.asc()))
                }
            };
        }
        let rows = match query.sort {
            RosterSort::User => by!(user_account::login_folded),
            RosterSort::Device => by!(device::name),
            RosterSort::Since => by!(session::authorized_at),
            RosterSort::Left => by!(session::lifetime_ends_at),
            RosterSort::Received => by!(session::rx_bytes),
            RosterSort::Sent => by!(session::tx_bytes),
        };
        let rows: Vec<(i64, String, String)> =
            rows.offset(query.offset).limit(query.limit).load(&mut self.conn)?;
        let mut entries = Vec::with_capacity(rows.len());
        for (id, login, device) in rows {
            if let Some(session) = self.session(SessionId::new(id))? {
                entries.push(RosterEntry { session, login, device });
            }
        }
        let (connected, matching) = (from_count(connected), from_count(matching));
        Ok(Roster { connected, matching, entries })
    }

    /// Lists the newest `limit` sessions of a user, live and ended, newest first.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn sessions_of(
        &mut self,
        user: mfa_core::id::UserId,
        limit: i64,
    ) -> Result<Vec<SessionInfo>, StoreError> {
        let ids: Vec<i64> = session::table
            .filter(session::user_id.eq(user.get()))
            .order(session::id.desc())
            .limit(limit)
            .select(session::id)
            .load(&mut self.conn)?;
        let mut sessions = Vec::with_capacity(ids.len());
        for id in ids {
            sessions.extend(self.session(SessionId::new(id))?);
        }
        Ok(sessions)
    }

    /// Lists a location's sessions that ended since `since`, latest first, at most `limit`.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn ended_sessions(
        &mut self,
        location: LocationId,
        since: Timestamp,
        limit: i64,
    ) -> Result<Vec<(SessionInfo, Timestamp)>, StoreError> {
        let ids: Vec<(i64, Option<i64>)> = session::table
            .filter(session::location_id.eq(location.get()))
            .filter(session::ended_at.ge(to_millis(since)))
            .order(session::ended_at.desc())
            .limit(limit)
            .select((session::id, session::ended_at))
            .load(&mut self.conn)?;
        let mut ended = Vec::with_capacity(ids.len());
        for (id, at) in ids {
            if let (Some(session), Some(at)) = (self.session(SessionId::new(id))?, at) {
                ended.push((session, from_millis(at)));
            }
        }
        Ok(ended)
    }
}

/// Makes a search text stand for itself in a LIKE.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '%' | '_' | '\\') {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn a_search_text_stands_for_itself() {
        assert_eq!(escaped(r"100%_\x"), r"100\%\_\\x");
    }
}
