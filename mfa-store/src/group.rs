//! Groups of people: a location may be for some of them only.

use diesel::prelude::*;
use mfa_core::connect::EndReason;
use mfa_core::id::{LocationId, UserId};
use serde_json::json;

use crate::schema::{location, location_group, user_group, user_group_member};
use crate::session::Scope;
use crate::{By, Snapshot, StoreError, Tx};

const NAME_TAKEN: StoreError = StoreError::Exists { what: "group" };

/// A group with those in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Group {
    /// Its name, which is what names it.
    pub name: String,
    /// Who is in it.
    pub members: Vec<UserId>,
}

impl Snapshot {
    /// Lists all groups by name.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn groups(&mut self) -> Result<Vec<Group>, StoreError> {
        let rows: Vec<(i64, String)> =
            user_group::table.order(user_group::name.asc()).load(&mut self.conn)?;
        let mut groups = Vec::with_capacity(rows.len());
        for (id, name) in rows {
            let members: Vec<i64> = user_group_member::table
                .filter(user_group_member::group_id.eq(id))
                .order(user_group_member::user_id.asc())
                .select(user_group_member::user_id)
                .load(&mut self.conn)?;
            groups.push(Group { name, members: members.into_iter().map(UserId::new).collect() });
        }
        Ok(groups)
    }

    /// Returns the number of the group of this name.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn group_id(&mut self, name: &str) -> Result<Option<i64>, StoreError> {
        Ok(user_group::table
            .filter(user_group::name.eq(name))
            .select(user_group::id)
            .get_result(&mut self.conn)
            .optional()?)
    }

    /// Lists the names of the locations that are for a group, among others.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn locations_of_group(&mut self, group: i64) -> Result<Vec<String>, StoreError> {
        Ok(location_group::table
            .inner_join(location::table.on(location::id.eq(location_group::location_id)))
            .filter(location_group::group_id.eq(group))
            .order(location::name.asc())
            .select(location::name)
            .load(&mut self.conn)?)
    }

    /// Lists the names of a user's groups.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn groups_of_user(&mut self, user: UserId) -> Result<Vec<String>, StoreError> {
        Ok(user_group_member::table
            .inner_join(user_group::table)
            .filter(user_group_member::user_id.eq(user.get()))
            .order(user_group::name.asc())
            .select(user_group::name)
            .load(&mut self.conn)?)
    }

    /// Lists the names of the groups that may use a location. None: everyone may.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn groups_of_location(&mut self, location: LocationId) -> Result<Vec<String>, StoreError> {
        Ok(location_group::table
            .inner_join(user_group::table)
            .filter(location_group::location_id.eq(location.get()))
            .order(user_group::name.asc())
            .select(user_group::name)
            .load(&mut self.conn)?)
    }

    /// Tells whether a user's groups let the user use a location. Whether the user is active is
    /// another question.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn may_use(&mut self, user: UserId, location: LocationId) -> Result<bool, StoreError> {
        // One row for each group that may, with its membership of the user or none.
        let same_group = location_group::group_id.eq(user_group_member::group_id);
        let members: Vec<Option<i64>> = location_group::table
            .left_join(
                user_group_member::table
                    .on(same_group.and(user_group_member::user_id.eq(user.get()))),
            )
            .filter(location_group::location_id.eq(location.get()))
            .select(user_group_member::user_id.nullable())
            .load(&mut self.conn)?;
        Ok(members.is_empty() || members.iter().any(Option::is_some))
    }

    /// Returns the groups that alone may use a location; `None`: everyone may.
    pub(crate) fn limited_to(
        &mut self,
        location: LocationId,
    ) -> Result<Option<Vec<i64>>, StoreError> {
        let groups: Vec<i64> = location_group::table
            .filter(location_group::location_id.eq(location.get()))
            .select(location_group::group_id)
            .load(&mut self.conn)?;
        Ok(Some(groups).filter(|groups| !groups.is_empty()))
    }
}

impl Tx {
    /// Puts a user into exactly these groups; a group that does not exist is made. Sessions and
    /// peers in locations that the user may no longer use end.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] without that user, [`StoreError::NoFreeAddress`] if a location that
    /// the user may use now is full.
    pub fn set_user_groups(
        &mut self,
        by: By,
        user: UserId,
        groups: &[&str],
    ) -> Result<(), StoreError> {
        self.user(user)?.ok_or(StoreError::missing("user"))?;
        let before = self.location_ids_of(user)?;
        diesel::delete(user_group_member::table.filter(user_group_member::user_id.eq(user.get())))
            .execute(&mut self.conn)?;
        for id in self.group_ids(groups)? {
            diesel::insert_into(user_group_member::table)
                .values((
                    user_group_member::user_id.eq(user.get()),
                    user_group_member::group_id.eq(id),
                ))
                .execute(&mut self.conn)?;
        }
        let detail = json!({ "groups": groups });
        self.audit(by, "user.groups", format_args!("user:{user}"), &detail)?;

        let after = self.location_ids_of(user)?;
        for lost in before.difference(&after) {
            let scope = Scope::UserAt(user, *lost);
            self.end_sessions(by, scope, EndReason::AccessRemoved)?;
        }
        for device in self.devices_of(user)? {
            self.give_addresses(by, &device)?;
            for location in before.symmetric_difference(&after) {
                self.touch(*location, Some(&device.public_key))?;
            }
        }
        for location in before.symmetric_difference(&after) {
            self.bump_config(*location)?;
        }
        Ok(())
    }

    /// Adds a group that nobody is in yet.
    ///
    /// # Errors
    ///
    /// [`StoreError::Exists`] if there is one of this name.
    pub fn add_group(&mut self, by: By, name: &str) -> Result<i64, StoreError> {
        if self.group_id(name)?.is_some() {
            return Err(NAME_TAKEN);
        }
        let id: i64 = diesel::insert_into(user_group::table)
            .values(user_group::name.eq(name))
            .returning(user_group::id)
            .get_result(&mut self.conn)?;
        self.audit(by, "group.add", format_args!("group:{id}"), &json!({ "name": name }))?;
        Ok(id)
    }

    /// Gives a group another name. Who is in it and what it opens stay.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] without that group, [`StoreError::Exists`] if there is one of the new
    /// name.
    pub fn rename_group(&mut self, by: By, old: &str, new: &str) -> Result<(), StoreError> {
        let id = self.group_id(old)?.ok_or(StoreError::missing("group"))?;
        if self.group_id(new)?.is_some_and(|other| other != id) {
            return Err(NAME_TAKEN);
        }
        diesel::update(user_group::table.find(id))
            .set(user_group::name.eq(new))
            .execute(&mut self.conn)?;
        let detail = json!({ "name": new, "before": old });
        self.audit(by, "group.rename", format_args!("group:{id}"), &detail)
    }

    /// Removes a group that no location is for: nobody loses access by it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] without that group, [`StoreError::InUse`] while a location is for it.
    pub fn remove_group(&mut self, by: By, name: &str) -> Result<(), StoreError> {
        let id = self.group_id(name)?.ok_or(StoreError::missing("group"))?;
        if !self.locations_of_group(id)?.is_empty() {
            return Err(StoreError::InUse { what: "group" });
        }
        diesel::delete(user_group_member::table.filter(user_group_member::group_id.eq(id)))
            .execute(&mut self.conn)?;
        diesel::delete(user_group::table.find(id)).execute(&mut self.conn)?;
        self.audit(by, "group.remove", format_args!("group:{id}"), &json!({ "name": name }))
    }

    /// Returns the ids of the groups of these names, without doubles, and makes those that are
    /// missing.
    pub(crate) fn group_ids(&mut self, names: &[&str]) -> Result<Vec<i64>, StoreError> {
        let mut ids = Vec::with_capacity(names.len());
        for name in names {
            let known: Option<i64> = user_group::table
                .filter(user_group::name.eq(*name))
                .select(user_group::id)
                .get_result(&mut self.conn)
                .optional()?;
            ids.push(match known {
                Some(id) => id,
                None => diesel::insert_into(user_group::table)
                    .values(user_group::name.eq(*name))
                    .returning(user_group::id)
                    .get_result(&mut self.conn)?,
            });
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }
}
