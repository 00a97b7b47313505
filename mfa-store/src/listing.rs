//! Lists for people to look at: searched, sorted and cut into pages by the database.

use diesel::dsl::count_star;
use diesel::prelude::*;
use mfa_core::id::{DeviceId, LocationId, SessionId, UserId};
use wg_types::PublicKey;

use crate::roster::{escaped, lower};
use crate::schema::{device, location, session, user_account, user_group, user_group_member};
use crate::value::from_count;
use crate::{Device, SessionInfo, Snapshot, StoreError, User};

/// Which part of a list is wanted.
#[derive(Clone, Debug)]
pub struct ListQuery<S> {
    /// A part of what names an entry; empty: all.
    pub search: String,
    /// By what it is ordered.
    pub sort: S,
    /// Largest, newest or last first.
    pub descending: bool,
    /// How many rows to pass over.
    pub offset: i64,
    /// How many rows to return.
    pub limit: i64,
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct Listing<T> {
    /// How many entries fit the search.
    pub matching: u64,
    /// The page.
    pub entries: Vec<T>,
}

/// By what users are ordered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UserSort {
    /// The login.
    Login,
    /// First and last name.
    Name,
    /// The address.
    Email,
    /// When the person was added.
    Added,
    /// Its number.
    Id,
}

/// By what devices are ordered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DeviceSort {
    /// The device's name.
    Name,
    /// Its owner's login.
    User,
    /// When it was added.
    Added,
    /// When it was last heard.
    Heard,
    /// Its number.
    Id,
}

/// By what sessions are ordered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SessionSort {
    /// When the session began.
    Since,
    /// The user's login.
    User,
    /// The device's name.
    Device,
    /// The location's name.
    Location,
    /// The last activity.
    Active,
    /// When it ends at the latest.
    Left,
    /// Bytes received from the peer.
    Received,
    /// Bytes sent to the peer.
    Sent,
}

/// Which sessions are listed.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionFilter {
    /// Only those that live.
    pub live: bool,
    /// Only this person's.
    pub user: Option<UserId>,
    /// Only this location's.
    pub location: Option<LocationId>,
}

/// A group, with how many are in it and what it opens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupSummary {
    /// Its name, which is what names it.
    pub name: String,
    /// How many are in it.
    pub members: u64,
    /// The names of the locations that are for it, among others.
    pub locations: Vec<String>,
}

fn pattern(search: &str) -> String {
    format!("%{}%", escaped(&search.trim().to_lowercase()))
}

/// Orders boxed rows by a column, equal ones by id.
macro_rules! by {
    ($rows:expr, $query:expr, $column:expr, $id:expr) => {
        if $query.descending {
            $rows.order(($column.desc(), $id.desc()))
        } else {
            $rows.order(($column.asc(), $id.asc()))
        }
    };
}

/// Leaves those sessions that a filter lets through.
macro_rules! only {
    ($rows:expr, $filter:expr) => {{
        let mut rows = $rows;
        if $filter.live {
            rows = rows.filter(session::ended_at.is_null());
        }
        if let Some(user) = $filter.user {
            rows = rows.filter(session::user_id.eq(user.get()));
        }
        if let Some(place) = $filter.location {
            rows = rows.filter(session::location_id.eq(place.get()));
        }
        rows
    }};
}

impl Snapshot {
    /// Returns a page of the users, of all or of the members of a group. Searched are login, name
    /// and address.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn user_list(
        &mut self,
        query: &ListQuery<UserSort>,
        group: Option<&str>,
    ) -> Result<Listing<User>, StoreError> {
        let members = |group: &str| {
            user_group_member::table
                .inner_join(user_group::table)
                .filter(user_group::name.eq(group.to_owned()))
                .select(user_group_member::user_id)
        };
        let pattern = pattern(&query.search);
        let fits = || {
            user_account::table.filter(
                user_account::login_folded
                    .like(pattern.clone())
                    .escape('\\')
                    .or(lower(user_account::name).like(pattern.clone()).escape('\\'))
                    .or(lower(user_account::email).like(pattern.clone()).escape('\\')),
            )
        };
        let mut counted = fits().select(count_star()).into_boxed();
        let mut rows = fits().select(user_account::id).into_boxed();
        if let Some(group) = group {
            counted = counted.filter(user_account::id.eq_any(members(group)));
            rows = rows.filter(user_account::id.eq_any(members(group)));
        }
        let matching: i64 = counted.get_result(&mut self.conn)?;
        let id = user_account::id;
        let rows = match query.sort {
            UserSort::Login => by!(rows, query, user_account::login_folded, id),
            UserSort::Name => by!(rows, query, user_account::name, id),
            UserSort::Email => by!(rows, query, user_account::email, id),
            UserSort::Added => by!(rows, query, user_account::created_at, id),
            UserSort::Id if query.descending => rows.order(id.desc()),
            UserSort::Id => rows.order(id.asc()),
        };
        let ids: Vec<i64> = rows.offset(query.offset).limit(query.limit).load(&mut self.conn)?;
        let mut entries = Vec::with_capacity(ids.len());
        for id in ids {
            entries.extend(self.user(UserId::new(id))?);
        }
        Ok(Listing { matching: from_count(matching), entries })
    }

    /// Returns a page of the devices, everyone's or one person's, each with its owner's login.
    /// Searched are both names, and a whole public key.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn device_list(
        &mut self,
        query: &ListQuery<DeviceSort>,
        owner: Option<UserId>,
    ) -> Result<Listing<(Device, String)>, StoreError> {
        let pattern = pattern(&query.search);
        let key = query.search.trim().parse::<PublicKey>().ok();
        let key = key.map_or_else(Vec::new, |key| key.as_bytes().to_vec());
        let fits = || {
            device::table.inner_join(user_account::table).filter(
                user_account::login_folded
                    .like(pattern.clone())
                    .escape('\\')
                    .or(lower(device::name).like(pattern.clone()).escape('\\'))
                    .or(device::public_key.eq(key.clone())),
            )
        };
        let mut counted = fits().select(count_star()).into_boxed();
        let mut rows = fits().select((device::id, user_account::login)).into_boxed();
        if let Some(owner) = owner {
            counted = counted.filter(device::user_id.eq(owner.get()));
            rows = rows.filter(device::user_id.eq(owner.get()));
        }
        let matching: i64 = counted.get_result(&mut self.conn)?;
        let id = device::id;
        let rows = match query.sort {
            DeviceSort::Name => by!(rows, query, device::name, id),
            DeviceSort::User => by!(rows, query, user_account::login_folded, id),
            DeviceSort::Added => by!(rows, query, device::created_at, id),
            DeviceSort::Heard => by!(rows, query, device::polled_at, id),
            DeviceSort::Id if query.descending => rows.order(id.desc()),
            DeviceSort::Id => rows.order(id.asc()),
        };
        let rows: Vec<(i64, String)> =
            rows.offset(query.offset).limit(query.limit).load(&mut self.conn)?;
        let mut entries = Vec::with_capacity(rows.len());
        for (id, login) in rows {
            if let Some(device) = self.device(DeviceId::new(id))? {
                entries.push((device, login));
            }
        }
        Ok(Listing { matching: from_count(matching), entries })
    }

    /// Returns a page of the sessions that `filter` lets through, each with the names of its user,
    /// device and location. Searched are the names.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn session_list(
        &mut self,
        query: &ListQuery<SessionSort>,
        filter: &SessionFilter,
    ) -> Result<Listing<(SessionInfo, [String; 3])>, StoreError> {
        let pattern = pattern(&query.search);
        let fits = || {
            session::table
                .inner_join(device::table)
                .inner_join(user_account::table.on(user_account::id.eq(session::user_id)))
                .inner_join(location::table)
                .filter(
                    user_account::login_folded
                        .like(pattern.clone())
                        .escape('\\')
                        .or(lower(device::name).like(pattern.clone()).escape('\\'))
                        .or(lower(location::name).like(pattern.clone()).escape('\\')),
                )
        };
        let matching: i64 = if query.search.trim().is_empty() {
            only!(session::table.select(count_star()).into_boxed(), filter)
                .get_result(&mut self.conn)?
        } else {
            only!(fits().select(count_star()).into_boxed(), filter).get_result(&mut self.conn)?
        };
        let names = (session::id, user_account::login, device::name, location::name);
        let rows = only!(fits().select(names).into_boxed(), filter);
        let id = session::id;
        let rows = match query.sort {
            // Ids are given in the order in which sessions begin.
            SessionSort::Since if query.descending => rows.order(id.desc()),
            SessionSort::Since => rows.order(id.asc()),
            SessionSort::User => by!(rows, query, user_account::login_folded, id),
            SessionSort::Device => by!(rows, query, device::name, id),
            SessionSort::Location => by!(rows, query, location::name, id),
            SessionSort::Active => by!(rows, query, session::active_at, id),
            SessionSort::Left => by!(rows, query, session::lifetime_ends_at, id),
            SessionSort::Received => by!(rows, query, session::rx_bytes, id),
            SessionSort::Sent => by!(rows, query, session::tx_bytes, id),
        };
        let rows: Vec<(i64, String, String, String)> =
            rows.offset(query.offset).limit(query.limit).load(&mut self.conn)?;
        let mut entries = Vec::with_capacity(rows.len());
        for (id, login, device, location) in rows {
            if let Some(session) = self.session(SessionId::new(id))? {
                entries.push((session, [login, device, location]));
            }
        }
        Ok(Listing { matching: from_count(matching), entries })
    }

    /// Returns a page of the groups by name, or turned round. Searched is the name.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn group_list(
        &mut self,
        query: &ListQuery<()>,
    ) -> Result<Listing<GroupSummary>, StoreError> {
        let pattern = pattern(&query.search);
        let fits =
            || user_group::table.filter(lower(user_group::name).like(pattern.clone()).escape('\\'));
        let matching: i64 = fits().count().get_result(&mut self.conn)?;
        let rows = fits().into_boxed();
        let rows = if query.descending {
            rows.order(user_group::name.desc())
        } else {
            rows.order(user_group::name.asc())
        };
        let rows: Vec<(i64, String)> =
            rows.offset(query.offset).limit(query.limit).load(&mut self.conn)?;
        let mut entries = Vec::with_capacity(rows.len());
        for (id, name) in rows {
            let members: i64 = user_group_member::table
                .filter(user_group_member::group_id.eq(id))
                .count()
                .get_result(&mut self.conn)?;
            let locations = self.locations_of_group(id)?;
            entries.push(GroupSummary { name, members: from_count(members), locations });
        }
        Ok(Listing { matching: from_count(matching), entries })
    }
}
