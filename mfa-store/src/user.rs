//! People.

use diesel::prelude::*;
use mfa_core::connect::EndReason;
use mfa_core::id::UserId;
use mfa_core::method::Method;
use mfa_core::time::Timestamp;
use serde_json::json;

use crate::schema::user_account;
use crate::session::Scope;
use crate::value::{from_millis, to_millis};
use crate::{By, Snapshot, StoreError, Tx};

/// What is known of a person and may be changed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct UserDetails {
    /// The name to log in with; unique, whatever the case of its letters.
    pub login: String,
    /// First and last name.
    pub name: String,
    /// Where codes are mailed to; empty: nowhere.
    pub email: String,
    /// Empty: none.
    pub phone: String,
    /// Whether this person administers wg-mfa.
    pub admin: bool,
}

/// A person.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct User {
    /// Names the person.
    pub id: UserId,
    /// What may be changed.
    pub details: UserDetails,
    /// Whether the person may use anything.
    pub active: bool,
    /// Whether the person has a password.
    pub has_password: bool,
    /// When the person was added.
    pub created: Timestamp,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = user_account)]
struct Row {
    id: i64,
    login: String,
    name: String,
    email: String,
    phone: String,
    password_hash: Option<String>,
    active: bool,
    admin: bool,
    created_at: i64,
}

impl From<Row> for User {
    fn from(row: Row) -> Self {
        Self {
            id: UserId::new(row.id),
            details: UserDetails {
                login: row.login,
                name: row.name,
                email: row.email,
                phone: row.phone,
                admin: row.admin,
            },
            active: row.active,
            has_password: row.password_hash.is_some(),
            created: from_millis(row.created_at),
        }
    }
}

const LOGIN_TAKEN: StoreError = StoreError::Exists { what: "login" };

/// One person, one login, however it is typed.
fn fold(login: &str) -> String {
    login.trim().to_lowercase()
}

impl Snapshot {
    /// Returns the user `id`.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn user(&mut self, id: UserId) -> Result<Option<User>, StoreError> {
        let row: Option<Row> = user_account::table
            .find(id.get())
            .select(Row::as_select())
            .get_result(&mut self.conn)
            .optional()?;
        Ok(row.map(User::from))
    }

    /// Returns the user who logs in as `login`, in whatever case.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn user_by_login(&mut self, login: &str) -> Result<Option<User>, StoreError> {
        let row: Option<Row> = user_account::table
            .filter(user_account::login_folded.eq(fold(login)))
            .select(Row::as_select())
            .get_result(&mut self.conn)
            .optional()?;
        Ok(row.map(User::from))
    }

    /// Lists all users by login.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn users(&mut self) -> Result<Vec<User>, StoreError> {
        let rows: Vec<Row> = user_account::table
            .order(user_account::login_folded.asc())
            .select(Row::as_select())
            .load(&mut self.conn)?;
        Ok(rows.into_iter().map(User::from).collect())
    }

    /// Returns the user's password hash in PHC format; `None`: the user has no password.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn password_hash(&mut self, id: UserId) -> Result<Option<String>, StoreError> {
        let hash: Option<Option<String>> = user_account::table
            .find(id.get())
            .select(user_account::password_hash)
            .get_result(&mut self.conn)
            .optional()?;
        Ok(hash.flatten())
    }
}

impl Tx {
    /// Adds a user, active and without a password.
    ///
    /// # Errors
    ///
    /// [`StoreError::Exists`] if the login is taken.
    pub fn add_user(&mut self, by: By, details: &UserDetails) -> Result<UserId, StoreError> {
        if self.user_by_login(&details.login)?.is_some() {
            return Err(LOGIN_TAKEN);
        }
        let id: i64 = diesel::insert_into(user_account::table)
            .values((
                user_account::login.eq(details.login.trim()),
                user_account::login_folded.eq(fold(&details.login)),
                user_account::name.eq(&details.name),
                user_account::email.eq(&details.email),
                user_account::phone.eq(&details.phone),
                user_account::active.eq(true),
                user_account::admin.eq(details.admin),
                user_account::created_at.eq(to_millis(by.now)),
            ))
            .returning(user_account::id)
            .get_result(&mut self.conn)?;
        self.audit(by, "user.add", format_args!("user:{id}"), &describe(details))?;
        Ok(UserId::new(id))
    }

    /// Changes what is known of a user. Another e-mail address takes the e-mail method away until it
    /// is confirmed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Exists`] if the new login is taken, [`StoreError::Missing`] without that user.
    pub fn set_user_details(
        &mut self,
        by: By,
        id: UserId,
        details: &UserDetails,
    ) -> Result<(), StoreError> {
        let before = self.user(id)?.ok_or(StoreError::missing("user"))?.details;
        if self.user_by_login(&details.login)?.is_some_and(|other| other.id != id) {
            return Err(LOGIN_TAKEN);
        }
        diesel::update(user_account::table.find(id.get()))
            .set((
                user_account::login.eq(details.login.trim()),
                user_account::login_folded.eq(fold(&details.login)),
                user_account::name.eq(&details.name),
                user_account::email.eq(&details.email),
                user_account::phone.eq(&details.phone),
                user_account::admin.eq(details.admin),
            ))
            .execute(&mut self.conn)?;
        if before.email != details.email {
            // A mailbox was confirmed, not a person.
            self.reset_method(by, id, Method::Email)?;
        }
        self.audit(by, "user.change", format_args!("user:{id}"), &describe(details))
    }

    /// Stores a password hash in PHC format; `None` takes the password away.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] without that user.
    pub fn set_password_hash(
        &mut self,
        by: By,
        id: UserId,
        hash: Option<&str>,
    ) -> Result<(), StoreError> {
        let changed = diesel::update(user_account::table.find(id.get()))
            .set(user_account::password_hash.eq(hash))
            .execute(&mut self.conn)?;
        if changed == 0 {
            return Err(StoreError::missing("user"));
        }
        let detail = json!({ "password": hash.is_some() });
        self.audit(by, "user.password", format_args!("user:{id}"), &detail)
    }

    /// Lets a disabled user in again. Returns whether that changed anything.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn enable_user(&mut self, by: By, id: UserId) -> Result<bool, StoreError> {
        if !self.set_active(id, true)? {
            return Ok(false);
        }
        self.touch_devices_of(id)?;
        self.audit(by, "user.enable", format_args!("user:{id}"), &json!({}))?;
        Ok(true)
    }

    /// Shuts a user out: no login, no session, no peer in any location. Returns whether that
    /// changed anything.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn disable_user(&mut self, by: By, id: UserId) -> Result<bool, StoreError> {
        if !self.set_active(id, false)? {
            return Ok(false);
        }
        self.end_sessions(by, Scope::User(id), EndReason::UserDisabled)?;
        self.touch_devices_of(id)?;
        self.audit(by, "user.disable", format_args!("user:{id}"), &json!({}))?;
        Ok(true)
    }

    /// Removes a user with devices, factors and sessions. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn remove_user(&mut self, by: By, id: UserId) -> Result<bool, StoreError> {
        let Some(user) = self.user(id)? else { return Ok(false) };
        for device in self.devices_of(id)? {
            self.remove_device(by, device.id)?;
        }
        diesel::delete(user_account::table.find(id.get())).execute(&mut self.conn)?;
        let detail = json!({ "login": user.details.login });
        self.audit(by, "user.remove", format_args!("user:{id}"), &detail)?;
        Ok(true)
    }

    fn set_active(&mut self, id: UserId, active: bool) -> Result<bool, StoreError> {
        let other = user_account::table.find(id.get()).filter(user_account::active.ne(active));
        let changed =
            diesel::update(other).set(user_account::active.eq(active)).execute(&mut self.conn)?;
        Ok(changed > 0)
    }

    fn touch_devices_of(&mut self, user: UserId) -> Result<(), StoreError> {
        for device in self.devices_of(user)? {
            self.touch_device(&device)?;
        }
        Ok(())
    }
}

fn describe(details: &UserDetails) -> serde_json::Value {
    json!({
        "login": details.login,
        "name": details.name,
        "email": details.email,
        "admin": details.admin,
    })
}
