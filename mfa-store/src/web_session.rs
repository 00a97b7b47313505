//! What browsers hold: signed-in sessions, sign-ins half done, and links that reset a password.
//!
//! All are opaque tokens of which only the digest is stored. When one is over is decided by who
//! reads it; a sweep forgets it later.

use diesel::prelude::*;
use mfa_core::factor::CodeDigest;
use mfa_core::id::UserId;
use mfa_core::time::Timestamp;
use mfa_core::token::TokenDigest;
use serde_json::json;

use crate::schema::web_session;
use crate::value::{from_millis, to_digest, to_millis};
use crate::{By, Snapshot, StoreError, Tx};

const TABLE: &str = "web_session";

/// What a token is good for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WebStage {
    /// To set a new password, once.
    Reset,
    /// To prove a factor: the password was right.
    Password,
    /// To use the pages.
    Open,
}

impl WebStage {
    const ALL: [Self; 3] = [Self::Reset, Self::Password, Self::Open];

    /// Returns the word for the store and the audit log.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Password => "password",
            Self::Open => "open",
        }
    }
}

/// A browser's session, or what leads to one.
#[derive(Clone, Copy, Debug)]
pub struct WebSession {
    /// Names it, for lists.
    pub id: i64,
    /// Whose.
    pub user: UserId,
    /// What it is good for.
    pub stage: WebStage,
    /// When it began.
    pub created: Timestamp,
    /// The last request, to the minute.
    pub seen: Timestamp,
    /// When a factor was last proved; the beginning for a stage that has none yet.
    pub proved: Timestamp,
    /// When it is over at the latest.
    pub expires: Timestamp,
    /// The keyed digest of a code that was mailed.
    pub mailed_code: Option<CodeDigest>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = web_session)]
struct Row {
    id: i64,
    user_id: i64,
    stage: String,
    created_at: i64,
    seen_at: i64,
    proved_at: i64,
    expires_at: i64,
    mailed_code: Option<Vec<u8>>,
}

impl TryFrom<Row> for WebSession {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let stage = WebStage::ALL.into_iter().find(|stage| stage.code() == row.stage);
        let code = row.mailed_code.map(|code| to_digest(&code, TABLE)).transpose()?;
        Ok(Self {
            id: row.id,
            user: UserId::new(row.user_id),
            stage: stage.ok_or_else(|| StoreError::corrupt(TABLE))?,
            created: from_millis(row.created_at),
            seen: from_millis(row.seen_at),
            proved: from_millis(row.proved_at),
            expires: from_millis(row.expires_at),
            mailed_code: code.map(CodeDigest::from_bytes),
        })
    }
}

impl Snapshot {
    /// Returns the session with this token, in whatever stage.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn web_session(&mut self, token: &TokenDigest) -> Result<Option<WebSession>, StoreError> {
        let row: Option<Row> = web_session::table
            .filter(web_session::digest.eq(token.as_bytes().as_slice()))
            .select(Row::as_select())
            .get_result(&mut self.conn)
            .optional()?;
        row.map(WebSession::try_from).transpose()
    }

    /// Lists a user's signed-in browsers, newest first.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn web_sessions_of(&mut self, user: UserId) -> Result<Vec<WebSession>, StoreError> {
        let rows: Vec<Row> = web_session::table
            .filter(web_session::user_id.eq(user.get()))
            .filter(web_session::stage.eq(WebStage::Open.code()))
            .order(web_session::id.desc())
            .select(Row::as_select())
            .load(&mut self.conn)?;
        rows.into_iter().map(WebSession::try_from).collect()
    }
}

impl Tx {
    /// Stores a new session; `id` of `new` is not looked at.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn add_web_session(
        &mut self,
        by: By,
        token: &TokenDigest,
        new: &WebSession,
    ) -> Result<(), StoreError> {
        diesel::insert_into(web_session::table)
            .values((
                web_session::digest.eq(token.as_bytes().as_slice()),
                web_session::user_id.eq(new.user.get()),
                web_session::stage.eq(new.stage.code()),
                web_session::created_at.eq(to_millis(new.created)),
                web_session::seen_at.eq(to_millis(new.seen)),
                web_session::proved_at.eq(to_millis(new.proved)),
                web_session::expires_at.eq(to_millis(new.expires)),
                web_session::mailed_code.eq(new.mailed_code.map(|code| code.as_bytes().to_vec())),
            ))
            .execute(&mut self.conn)?;
        let detail = json!({ "stage": new.stage.code() });
        self.audit(by, "web.begin", format_args!("user:{}", new.user), &detail)
    }

    /// Sets the digest of the mailed code that a sign-in waits for.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn set_web_code(&mut self, id: i64, code: Option<CodeDigest>) -> Result<(), StoreError> {
        diesel::update(web_session::table.find(id))
            .set(web_session::mailed_code.eq(code.map(|code| code.as_bytes().to_vec())))
            .execute(&mut self.conn)?;
        Ok(())
    }

    /// Sets what the next signature or new passkey of a session has to answer, until when.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn set_web_challenge(
        &mut self,
        id: i64,
        challenge: &[u8; 32],
        until: Timestamp,
    ) -> Result<(), StoreError> {
        diesel::update(web_session::table.find(id))
            .set((
                web_session::challenge.eq(challenge.as_slice()),
                web_session::challenge_until.eq(to_millis(until)),
            ))
            .execute(&mut self.conn)?;
        Ok(())
    }

    /// Takes the challenge of a session: it is answered once, rightly or not. `None` if there is
    /// none, or its time is over.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn take_web_challenge(
        &mut self,
        id: i64,
        now: Timestamp,
    ) -> Result<Option<[u8; 32]>, StoreError> {
        let row: Option<(Option<Vec<u8>>, Option<i64>)> = web_session::table
            .find(id)
            .select((web_session::challenge, web_session::challenge_until))
            .get_result(&mut self.conn)
            .optional()?;
        let Some((Some(challenge), Some(until))) = row else { return Ok(None) };
        diesel::update(web_session::table.find(id))
            .set((
                web_session::challenge.eq(None::<Vec<u8>>),
                web_session::challenge_until.eq(None::<i64>),
            ))
            .execute(&mut self.conn)?;
        let challenge = to_digest(&challenge, TABLE)?;
        Ok((now < from_millis(until)).then_some(challenge))
    }

    /// Notes a request. Not audited: nothing is decided by it.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn note_web_session(&mut self, id: i64, seen: Timestamp) -> Result<(), StoreError> {
        diesel::update(web_session::table.find(id))
            .set(web_session::seen_at.eq(to_millis(seen)))
            .execute(&mut self.conn)?;
        Ok(())
    }

    /// Ends one session of a user. Returns whether there was one, so of two that use up one token,
    /// one is told no.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn end_web_session(&mut self, by: By, user: UserId, id: i64) -> Result<bool, StoreError> {
        let this = web_session::table.find(id).filter(web_session::user_id.eq(user.get()));
        if diesel::delete(this).execute(&mut self.conn)? == 0 {
            return Ok(false);
        }
        self.audit(by, "web.end", format_args!("user:{user}"), &json!({}))?;
        Ok(true)
    }

    /// Ends all of a user's sessions but `keep`. Returns how many.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn end_web_sessions(
        &mut self,
        by: By,
        user: UserId,
        keep: Option<i64>,
    ) -> Result<usize, StoreError> {
        let others = web_session::table
            .filter(web_session::user_id.eq(user.get()))
            .filter(web_session::id.ne(keep.unwrap_or(-1)));
        let ended = diesel::delete(others).execute(&mut self.conn)?;
        if ended > 0 {
            let detail = json!({ "ended": ended });
            self.audit(by, "web.end", format_args!("user:{user}"), &detail)?;
        }
        Ok(ended)
    }

    /// Forgets sessions that were over before `before`. Returns how many.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn forget_web_sessions(&mut self, before: Timestamp) -> Result<usize, StoreError> {
        let old = web_session::table.filter(web_session::expires_at.lt(to_millis(before)));
        Ok(diesel::delete(old).execute(&mut self.conn)?)
    }
}
