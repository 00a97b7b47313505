//! Tokens of programs that use the REST API: stored as digests, found by them.

use diesel::prelude::*;
use mfa_core::id::UserId;
use mfa_core::time::Timestamp;
use mfa_core::token::TokenDigest;
use serde_json::json;

use crate::schema::api_token;
use crate::value::{from_millis, to_millis};
use crate::{By, Snapshot, StoreError, Tx};

/// Uses closer together than this are noted once: a note is a write.
const NOTE_EACH_MILLIS: u64 = 60_000;

/// A token without its secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApiToken {
    /// Names the token; never given out twice.
    pub id: i64,
    /// What it is for; unique.
    pub name: String,
    /// On whose behalf it acts; `None`: the installation's own.
    pub user: Option<UserId>,
    /// What it may do, in the words of whoever made it.
    pub scopes: String,
    /// When it was made.
    pub created: Timestamp,
    /// From when on it is worth nothing.
    pub expires: Timestamp,
    /// When it was last used, to the minute; `None`: never.
    pub used: Option<Timestamp>,
}

/// A token to add.
#[derive(Clone, Debug)]
pub struct NewApiToken {
    /// What it is for.
    pub name: String,
    /// Finds it.
    pub digest: TokenDigest,
    /// On whose behalf it acts.
    pub user: Option<UserId>,
    /// What it may do.
    pub scopes: String,
    /// From when on it is worth nothing.
    pub expires: Timestamp,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = api_token)]
struct Row {
    id: i64,
    name: String,
    user_id: Option<i64>,
    scopes: String,
    created_at: i64,
    expires_at: i64,
    used_at: Option<i64>,
}

impl From<Row> for ApiToken {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            name: row.name,
            user: row.user_id.map(UserId::new),
            scopes: row.scopes,
            created: from_millis(row.created_at),
            expires: from_millis(row.expires_at),
            used: row.used_at.map(from_millis),
        }
    }
}

impl Snapshot {
    /// Returns the token with this digest, whether or not its time is over.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn api_token(&mut self, digest: &TokenDigest) -> Result<Option<ApiToken>, StoreError> {
        let row: Option<Row> = api_token::table
            .filter(api_token::digest.eq(digest.as_bytes().as_slice()))
            .select(Row::as_select())
            .get_result(&mut self.conn)
            .optional()?;
        Ok(row.map(ApiToken::from))
    }

    /// Returns the token of this name.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn api_token_by_name(&mut self, name: &str) -> Result<Option<ApiToken>, StoreError> {
        let row: Option<Row> = api_token::table
            .filter(api_token::name.eq(name))
            .select(Row::as_select())
            .get_result(&mut self.conn)
            .optional()?;
        Ok(row.map(ApiToken::from))
    }

    /// Lists all tokens by name.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn api_tokens(&mut self) -> Result<Vec<ApiToken>, StoreError> {
        let rows: Vec<Row> = api_token::table
            .order(api_token::name.asc())
            .select(Row::as_select())
            .load(&mut self.conn)?;
        Ok(rows.into_iter().map(ApiToken::from).collect())
    }
}

impl Tx {
    /// Adds a token.
    ///
    /// # Errors
    ///
    /// [`StoreError::Exists`] if the name is taken, [`StoreError::Missing`] without its user.
    pub fn add_api_token(&mut self, by: By, new: &NewApiToken) -> Result<ApiToken, StoreError> {
        if self.api_token_by_name(&new.name)?.is_some() {
            return Err(StoreError::Exists { what: "token" });
        }
        if let Some(user) = new.user {
            self.user(user)?.ok_or(StoreError::missing("user"))?;
        }
        let id: i64 = diesel::insert_into(api_token::table)
            .values((
                api_token::name.eq(&new.name),
                api_token::digest.eq(new.digest.as_bytes().as_slice()),
                api_token::user_id.eq(new.user.map(UserId::get)),
                api_token::scopes.eq(&new.scopes),
                api_token::created_at.eq(to_millis(by.now)),
                api_token::expires_at.eq(to_millis(new.expires)),
            ))
            .returning(api_token::id)
            .get_result(&mut self.conn)?;
        let detail = json!({
            "name": new.name,
            "scopes": new.scopes,
            "user": new.user.map(UserId::get),
        });
        self.audit(by, "token.add", format_args!("token:{id}"), &detail)?;
        self.api_token_by_name(&new.name)?.ok_or(StoreError::missing("token"))
    }

    /// Removes a token: it is worth nothing from now on. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn remove_api_token(&mut self, by: By, id: i64) -> Result<bool, StoreError> {
        let removed = diesel::delete(api_token::table.find(id)).execute(&mut self.conn)?;
        if removed == 0 {
            return Ok(false);
        }
        self.audit(by, "token.remove", format_args!("token:{id}"), &json!({}))?;
        Ok(true)
    }

    /// Notes that a token is used, once a minute. Not audited: what is done with it is.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn note_api_token(&mut self, id: i64, now: Timestamp) -> Result<(), StoreError> {
        diesel::update(api_token::table.find(id))
            .set(api_token::used_at.eq(to_millis(now)))
            .execute(&mut self.conn)?;
        Ok(())
    }
}

impl ApiToken {
    /// Tells whether a use at `now` is worth a note.
    #[must_use]
    pub fn is_news(&self, now: Timestamp) -> bool {
        self.used.is_none_or(|used| now.since(used).as_millis() >= u128::from(NOTE_EACH_MILLIS))
    }
}
