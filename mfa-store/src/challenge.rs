//! Challenges, as `mfa-core` made them.

use diesel::prelude::*;
use mfa_core::budget::Lane;
use mfa_core::challenge::{Challenge, ChallengeParts, ChallengeState, Question, Subject};
use mfa_core::factor::CodeDigest;
use mfa_core::id::{DeviceId, LocationId, UserId};
use mfa_core::method::Method;
use mfa_core::time::Timestamp;
use mfa_core::token::TokenDigest;
use serde_json::json;

use crate::schema::challenge;
use crate::value::{from_millis, to_digest, to_millis};
use crate::{By, Snapshot, StoreError, Tx};

const TABLE: &str = "challenge";

#[derive(Insertable, Queryable, Selectable)]
#[diesel(table_name = challenge)]
struct Row {
    token: Vec<u8>,
    user_id: i64,
    device_id: i64,
    location_id: i64,
    lane: String,
    method: String,
    code_digest: Option<Vec<u8>>,
    started_at: i64,
    expires_at: i64,
    tries: i32,
    state: String,
}

impl From<&Challenge> for Row {
    fn from(challenge: &Challenge) -> Self {
        let parts = challenge.to_parts();
        let Subject { user, device, location } = parts.subject;
        Self {
            token: parts.token.as_bytes().to_vec(),
            user_id: user.get(),
            device_id: device.get(),
            location_id: location.get(),
            lane: parts.lane.code().to_owned(),
            method: parts.question.method().code().to_owned(),
            code_digest: match parts.question {
                Question::Totp => None,
                Question::Email(digest) => Some(digest.as_bytes().to_vec()),
            },
            started_at: to_millis(parts.started),
            expires_at: to_millis(parts.expires),
            tries: parts.tries.into(),
            state: parts.state.code().to_owned(),
        }
    }
}

impl TryFrom<Row> for Challenge {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let corrupt = || StoreError::corrupt(TABLE);
        let question = match (row.method.parse(), row.code_digest) {
            (Ok(Method::Totp), None) => Question::Totp,
            (Ok(Method::Email), Some(digest)) => {
                Question::Email(CodeDigest::from_bytes(to_digest(&digest, TABLE)?))
            }
            _ => return Err(corrupt()),
        };
        Ok(Self::from_parts(ChallengeParts {
            token: TokenDigest::from_bytes(to_digest(&row.token, TABLE)?),
            subject: Subject {
                user: UserId::new(row.user_id),
                device: DeviceId::new(row.device_id),
                location: LocationId::new(row.location_id),
            },
            lane: Lane::from_code(&row.lane).ok_or_else(corrupt)?,
            question,
            started: from_millis(row.started_at),
            expires: from_millis(row.expires_at),
            tries: u8::try_from(row.tries).map_err(|_| corrupt())?,
            state: ChallengeState::from_code(&row.state).ok_or_else(corrupt)?,
        }))
    }
}

impl Snapshot {
    /// Returns the challenge with this token.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn challenge(&mut self, token: &TokenDigest) -> Result<Option<Challenge>, StoreError> {
        let row: Option<Row> = challenge::table
            .filter(challenge::token.eq(token.as_bytes().as_slice()))
            .select(Row::as_select())
            .get_result(&mut self.conn)
            .optional()?;
        row.map(Challenge::try_from).transpose()
    }

    /// Lists a device's pending challenges of one lane, oldest first.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn pending_challenges(
        &mut self,
        device: DeviceId,
        lane: Lane,
    ) -> Result<Vec<Challenge>, StoreError> {
        let rows: Vec<Row> = challenge::table
            .filter(challenge::device_id.eq(device.get()))
            .filter(challenge::state.eq(ChallengeState::Pending.code()))
            .filter(challenge::lane.eq(lane.code()))
            .order(challenge::id.asc())
            .select(Row::as_select())
            .load(&mut self.conn)?;
        rows.into_iter().map(Challenge::try_from).collect()
    }
}

impl Tx {
    /// Stores a new challenge.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn add_challenge(&mut self, by: By, new: &Challenge) -> Result<(), StoreError> {
        diesel::insert_into(challenge::table).values(Row::from(new)).execute(&mut self.conn)?;
        let Subject { user, device, location } = new.subject();
        let detail = json!({
            "device": device.get(),
            "location": location.get(),
            "method": new.method().code(),
            "lane": new.lane().code(),
        });
        self.audit(by, "challenge.start", format_args!("user:{user}"), &detail)
    }

    /// Stores how far a challenge got: its tries, and its state. Returns whether it was still
    /// pending; if not, nothing is changed. So of two that verify one challenge, one is told no.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn save_challenge(&mut self, changed: &Challenge) -> Result<bool, StoreError> {
        let parts = changed.to_parts();
        let pending = challenge::table
            .filter(challenge::token.eq(parts.token.as_bytes().as_slice()))
            .filter(challenge::state.eq(ChallengeState::Pending.code()));
        let changed = diesel::update(pending)
            .set((
                challenge::tries.eq(i32::from(parts.tries)),
                challenge::state.eq(parts.state.code()),
            ))
            .execute(&mut self.conn)?;
        Ok(changed > 0)
    }

    /// Forgets challenges that were over before `before`. Returns how many.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn forget_challenges(&mut self, before: Timestamp) -> Result<usize, StoreError> {
        let old = challenge::table.filter(challenge::expires_at.lt(to_millis(before)));
        Ok(diesel::delete(old).execute(&mut self.conn)?)
    }
}
