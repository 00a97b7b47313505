//! Groups, as administrators handle them.

use mfa_store::{By, StoreError, Tx, User};

use super::name::{self, NameError};
use super::user::{self, UserError};

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// No such group.
    #[error("there is no group {0}")]
    NotFound(String),
    /// The name is taken.
    #[error("there is a group {0} already")]
    Taken(String),
    /// Its removal would change who may use a location: without any group it is open to everyone.
    #[error("the group {name} decides who may use {locations}; take it out there first")]
    InUse {
        /// The group.
        name: String,
        /// The names of the locations.
        locations: String,
    },
    /// The name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A person.
    #[error(transparent)]
    User(#[from] UserError),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Adds a group that nobody is in yet. Returns its name.
///
/// # Errors
///
/// [`GroupError::Taken`] or [`GroupError::Name`].
pub fn add(tx: &mut Tx, by: By, name: &str) -> Result<String, GroupError> {
    let name = name::word("group", name)?;
    match tx.add_group(by, &name) {
        Err(StoreError::Exists { .. }) => Err(GroupError::Taken(name)),
        added => Ok(added.map(|_| name)?),
    }
}

/// Gives a group another name; who is in it and what it opens stay. Returns the name.
///
/// # Errors
///
/// [`GroupError`].
pub fn rename(tx: &mut Tx, by: By, old: &str, new: &str) -> Result<String, GroupError> {
    let new = name::word("group", new)?;
    match tx.rename_group(by, old, &new) {
        Err(StoreError::Exists { .. }) => Err(GroupError::Taken(new)),
        Err(StoreError::Missing { .. }) => Err(GroupError::NotFound(old.to_owned())),
        done => Ok(done.map(|()| new)?),
    }
}

/// Removes a group that no location is for.
///
/// # Errors
///
/// [`GroupError::NotFound`], or [`GroupError::InUse`] with the locations.
pub fn remove(tx: &mut Tx, by: By, name: &str) -> Result<(), GroupError> {
    let missing = || GroupError::NotFound(name.to_owned());
    let id = tx.group_id(name)?.ok_or_else(missing)?;
    let locations = tx.locations_of_group(id)?.join(", ");
    if !locations.is_empty() {
        return Err(GroupError::InUse { name: name.to_owned(), locations });
    }
    Ok(tx.remove_group(by, name)?)
}

/// Puts people into a group, beside the groups that they are in. Returns how many were not in it.
///
/// # Errors
///
/// [`GroupError::NotFound`], or [`GroupError::User`] with the login that nobody has: then nobody was
/// put in.
pub fn put_in(tx: &mut Tx, by: By, name: &str, logins: &[String]) -> Result<usize, GroupError> {
    tx.group_id(name)?.ok_or_else(|| GroupError::NotFound(name.to_owned()))?;
    let mut new = 0_usize;
    for login in logins {
        let user = user::find(tx, login)?;
        let mut groups = tx.groups_of_user(user.id)?;
        if groups.iter().any(|group| group == name) {
            continue;
        }
        groups.push(name.to_owned());
        set(tx, by, &user, &groups)?;
        new = new.saturating_add(1);
    }
    Ok(new)
}

/// Takes somebody out of a group: sessions end in locations that no other group opens. Returns
/// whether the person was in it.
///
/// # Errors
///
/// [`GroupError::NotFound`] or [`GroupError::User`].
pub fn take_out(tx: &mut Tx, by: By, name: &str, login: &str) -> Result<bool, GroupError> {
    tx.group_id(name)?.ok_or_else(|| GroupError::NotFound(name.to_owned()))?;
    let user = user::find(tx, login)?;
    let before = tx.groups_of_user(user.id)?;
    let after: Vec<String> = before.iter().filter(|group| *group != name).cloned().collect();
    if after.len() == before.len() {
        return Ok(false);
    }
    set(tx, by, &user, &after)?;
    Ok(true)
}

fn set(tx: &mut Tx, by: By, user: &User, groups: &[String]) -> Result<(), StoreError> {
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    tx.set_user_groups(by, user.id, &groups)
}
