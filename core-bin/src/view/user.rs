//! People and groups.

use mfa_core::method::Method;
use mfa_store::{GroupSummary, Scope, Snapshot, StoreError, User};
use serde::Serialize;
use utoipa::ToSchema;

use super::time;

/// A person.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = User)]
pub struct UserView {
    /// Names the person for ever.
    pub id: i64,
    /// The name to log in with.
    pub login: String,
    /// First and last name.
    pub name: String,
    /// Where codes are mailed to; empty: nowhere.
    pub email: String,
    /// Empty: none.
    pub phone: String,
    /// Whether the person administers wg-mfa.
    pub admin: bool,
    /// Whether the person may use anything.
    pub active: bool,
    /// When the person was added.
    pub created_at: String,
    /// How many devices are enrolled.
    pub devices: usize,
    /// The methods that are set up.
    pub methods: Vec<&'static str>,
    /// The groups the person is in.
    pub groups: Vec<String>,
    /// How many sessions are live.
    pub sessions: usize,
}

/// A group.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Group)]
pub struct GroupView {
    /// What names it.
    pub name: String,
    /// How many are in it.
    pub members: u64,
    /// The locations that are for it, among others.
    pub locations: Vec<String>,
}

impl UserView {
    /// Gathers what there is to say of a user.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn of(view: &mut Snapshot, user: User) -> Result<Self, StoreError> {
        let (id, details) = (user.id, user.details);
        Ok(Self {
            id: id.get(),
            login: details.login,
            name: details.name,
            email: details.email,
            phone: details.phone,
            admin: details.admin,
            active: user.active,
            created_at: time(user.created),
            devices: view.devices_of(id)?.len(),
            methods: view.enabled_methods(id)?.iter().map(Method::code).collect(),
            groups: view.groups_of_user(id)?,
            sessions: view.live_count(Scope::User(id))?,
        })
    }
}

impl From<GroupSummary> for GroupView {
    fn from(GroupSummary { name, members, locations }: GroupSummary) -> Self {
        Self { name, members, locations }
    }
}
