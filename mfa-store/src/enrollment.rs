//! Enrollments, as `mfa-core` made them.

use diesel::prelude::*;
use mfa_core::enroll::{Enrollment, EnrollmentParts, EnrollmentState};
use mfa_core::id::UserId;
use mfa_core::token::TokenDigest;
use serde_json::json;

use crate::schema::enrollment;
use crate::value::{from_millis, to_digest, to_millis};
use crate::{By, Snapshot, StoreError, Tx};

const TABLE: &str = "enrollment";

#[derive(AsChangeset, Insertable, Queryable, Selectable)]
#[diesel(table_name = enrollment, treat_none_as_null = true)]
struct Row {
    user_id: i64,
    token: Vec<u8>,
    session: Option<Vec<u8>>,
    deadline: i64,
    state: String,
    confirmed_at: Option<i64>,
}

impl From<&Enrollment> for Row {
    fn from(enrollment: &Enrollment) -> Self {
        let parts = enrollment.to_parts();
        let (session, confirmed_at) = match parts.state {
            EnrollmentState::Redeemed { session } => (Some(session.as_bytes().to_vec()), None),
            EnrollmentState::Confirmed { at } => (None, Some(to_millis(at))),
            EnrollmentState::Issued | EnrollmentState::Expired => (None, None),
        };
        Self {
            user_id: parts.user.get(),
            token: parts.token.as_bytes().to_vec(),
            session,
            deadline: to_millis(parts.deadline),
            state: parts.state.code().to_owned(),
            confirmed_at,
        }
    }
}

impl TryFrom<Row> for Enrollment {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let digest = |bytes: &[u8]| to_digest(bytes, TABLE).map(TokenDigest::from_bytes);
        let state = match (row.state.as_str(), &row.session, row.confirmed_at) {
            ("issued", None, None) => EnrollmentState::Issued,
            ("redeemed", Some(session), None) => {
                EnrollmentState::Redeemed { session: digest(session)? }
            }
            ("confirmed", _, Some(at)) => EnrollmentState::Confirmed { at: from_millis(at) },
            ("expired", _, _) => EnrollmentState::Expired,
            _ => return Err(StoreError::corrupt(TABLE)),
        };
        Ok(Self::from_parts(EnrollmentParts {
            user: UserId::new(row.user_id),
            token: digest(&row.token)?,
            deadline: from_millis(row.deadline),
            state,
        }))
    }
}

impl Snapshot {
    /// Returns the enrollment with this token.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn enrollment(&mut self, token: &TokenDigest) -> Result<Option<Enrollment>, StoreError> {
        let row: Option<Row> = enrollment::table
            .filter(enrollment::token.eq(token.as_bytes().as_slice()))
            .select(Row::as_select())
            .get_result(&mut self.conn)
            .optional()?;
        row.map(Enrollment::try_from).transpose()
    }

    /// Returns the redeemed enrollment with this session.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn enrollment_by_session(
        &mut self,
        session: &TokenDigest,
    ) -> Result<Option<Enrollment>, StoreError> {
        let row: Option<Row> = enrollment::table
            .filter(enrollment::session.eq(session.as_bytes().as_slice()))
            .select(Row::as_select())
            .get_result(&mut self.conn)
            .optional()?;
        row.map(Enrollment::try_from).transpose()
    }
}

impl Tx {
    /// Stores an enrollment that was just issued. Older ones of the user are worth nothing from now
    /// on.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn add_enrollment(&mut self, by: By, new: &Enrollment) -> Result<(), StoreError> {
        let user = new.user();
        let older = enrollment::table.filter(enrollment::user_id.eq(user.get()));
        diesel::delete(older).execute(&mut self.conn)?;
        diesel::insert_into(enrollment::table).values(Row::from(new)).execute(&mut self.conn)?;
        self.audit(by, "enrollment.issue", format_args!("user:{user}"), &json!({}))
    }

    /// Stores how far an enrollment got, if it is still in the state `from`. Returns whether it
    /// was: of two who redeem one token, one is told no.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn save_enrollment(
        &mut self,
        by: By,
        from: &EnrollmentState,
        changed: &Enrollment,
    ) -> Result<bool, StoreError> {
        let row = Row::from(changed);
        let user = changed.user();
        let unchanged = enrollment::table
            .filter(enrollment::token.eq(row.token.clone()))
            .filter(enrollment::state.eq(from.code()));
        if diesel::update(unchanged).set(&row).execute(&mut self.conn)? == 0 {
            return Ok(false);
        }
        let detail = json!({ "state": changed.state().code() });
        self.audit(by, "enrollment.change", format_args!("user:{user}"), &detail)?;
        Ok(true)
    }
}
