//! People, as administrators handle them.

use core::time::Duration;

use mfa_core::budget::{GuessKey, Lane};
use mfa_core::enroll::Enrollment;
use mfa_core::id::UserId;
use mfa_core::method::Method;
use mfa_core::time::Timestamp;
use mfa_core::token::TokenDigest;
use mfa_store::{By, Snapshot, StoreError, Tx, User, UserDetails};

use super::name::{self, NameError};

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// No such user.
    #[error("there is no user {0}; `core-bin user list` shows who there is")]
    NotFound(String),
    /// The login is taken.
    #[error("there is a user {0} already")]
    Taken(String),
    /// A name cannot be taken.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A disabled user cannot enroll.
    #[error("{0} is disabled; run `core-bin user enable {0}` first")]
    Disabled(String),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A user to add.
#[derive(Clone, Debug, Default)]
pub struct NewUser {
    /// The name to log in with.
    pub login: String,
    /// First and last name; empty: the login.
    pub name: String,
    /// Where codes are mailed to; empty: nowhere.
    pub email: String,
    /// Empty: none.
    pub phone: String,
    /// Whether this person administers.
    pub admin: bool,
    /// Groups to be in.
    pub groups: Vec<String>,
}

/// What to change of a user; `None` leaves a thing as it is.
#[derive(Clone, Debug, Default)]
pub struct UserChange {
    /// First and last name.
    pub name: Option<String>,
    /// Where codes are mailed to; empty: nowhere.
    pub email: Option<String>,
    /// Empty: none.
    pub phone: Option<String>,
    /// Whether this person administers.
    pub admin: Option<bool>,
}

/// Finds a user by login, in whatever case.
///
/// # Errors
///
/// [`UserError::NotFound`].
pub fn find(view: &mut Snapshot, login: &str) -> Result<User, UserError> {
    view.user_by_login(login)?.ok_or_else(|| UserError::NotFound(login.to_owned()))
}

/// Adds a user.
///
/// # Errors
///
/// [`UserError::Taken`] or [`UserError::Name`].
pub fn add(tx: &mut Tx, by: By, new: &NewUser) -> Result<User, UserError> {
    let login = name::word("user", &new.login)?;
    let name =
        if new.name.trim().is_empty() { login.clone() } else { name::label("user", &new.name)? };
    let details = UserDetails {
        email: name::email(&new.email)?,
        phone: optional_label("telephone", &new.phone)?,
        admin: new.admin,
        login,
        name,
    };
    let groups = groups(&new.groups)?;
    let id = match tx.add_user(by, &details) {
        Err(StoreError::Exists { .. }) => return Err(UserError::Taken(details.login)),
        id => id?,
    };
    if !groups.is_empty() {
        set_groups_of(tx, by, id, &groups)?;
    }
    tx.user(id)?.ok_or(UserError::NotFound(details.login))
}

/// Changes a user. With another address the e-mail method has to be set up again.
///
/// # Errors
///
/// [`UserError::NotFound`] or [`UserError::Name`].
pub fn set(tx: &mut Tx, by: By, login: &str, change: &UserChange) -> Result<User, UserError> {
    let user = find(tx, login)?;
    let mut details = user.details.clone();
    if let Some(name) = &change.name {
        details.name = name::label("user", name)?;
    }
    if let Some(email) = &change.email {
        details.email = name::email(email)?;
    }
    if let Some(phone) = &change.phone {
        details.phone = optional_label("telephone", phone)?;
    }
    if let Some(admin) = change.admin {
        details.admin = admin;
    }
    tx.set_user_details(by, user.id, &details)?;
    find(tx, login)
}

/// Puts a user into exactly these groups.
///
/// # Errors
///
/// [`UserError::NotFound`] or [`UserError::Name`].
pub fn set_groups(tx: &mut Tx, by: By, login: &str, names: &[String]) -> Result<User, UserError> {
    let user = find(tx, login)?;
    set_groups_of(tx, by, user.id, &groups(names)?)?;
    Ok(user)
}

/// Disables or enables a user. Returns whether that changed anything.
///
/// # Errors
///
/// [`UserError::NotFound`].
pub fn set_active(tx: &mut Tx, by: By, login: &str, on: bool) -> Result<bool, UserError> {
    let user = find(tx, login)?;
    Ok(if on { tx.enable_user(by, user.id)? } else { tx.disable_user(by, user.id)? })
}

/// Removes a user with devices, factors and sessions.
///
/// # Errors
///
/// [`UserError::NotFound`].
pub fn remove(tx: &mut Tx, by: By, login: &str) -> Result<User, UserError> {
    let user = find(tx, login)?;
    tx.remove_user(by, user.id)?;
    Ok(user)
}

/// Issues an enrollment; an older one that waits is worth nothing from now on.
///
/// # Errors
///
/// [`UserError::NotFound`] or [`UserError::Disabled`].
pub fn enroll(
    tx: &mut Tx,
    by: By,
    login: &str,
    token: TokenDigest,
    valid: Duration,
) -> Result<(User, Timestamp), UserError> {
    let user = find(tx, login)?;
    if !user.active {
        return Err(UserError::Disabled(user.details.login));
    }
    let enrollment = Enrollment::issue(user.id, token, valid, by.now);
    tx.add_enrollment(by, &enrollment)?;
    Ok((user, enrollment.deadline()))
}

/// Takes a method away from a user, with the sessions that it bought. Returns whether it was set up.
///
/// # Errors
///
/// [`UserError::NotFound`].
pub fn reset_method(tx: &mut Tx, by: By, login: &str, method: Method) -> Result<bool, UserError> {
    let user = find(tx, login)?;
    Ok(tx.reset_method(by, user.id, method)?)
}

/// Forgets a user's wrong codes, and so unlocks what they locked.
///
/// # Errors
///
/// [`UserError::NotFound`].
pub fn unlock(tx: &mut Tx, by: By, login: &str) -> Result<(), UserError> {
    let user = find(tx, login)?;
    for method in Method::ALL {
        for lane in [Lane::Proven, Lane::Stranger] {
            let mut budget = tx.guess_budget(GuessKey { user: user.id, method, lane })?;
            budget.clear();
            tx.save_guess_budget(&budget)?;
        }
    }
    let detail = serde_json::json!({});
    tx.audit(by, "user.unlock", format_args!("user:{}", user.id), &detail)?;
    Ok(())
}

/// Checks the names of groups.
pub(super) fn groups(names: &[String]) -> Result<Vec<String>, NameError> {
    names.iter().map(|name| name::word("group", name)).collect()
}

fn set_groups_of(tx: &mut Tx, by: By, user: UserId, groups: &[String]) -> Result<(), StoreError> {
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    tx.set_user_groups(by, user, &groups)
}

fn optional_label(what: &'static str, text: &str) -> Result<String, NameError> {
    if text.trim().is_empty() { Ok(String::new()) } else { name::label(what, text) }
}
