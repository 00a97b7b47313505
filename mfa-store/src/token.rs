//! Tokens that are good once: for a gateway, or for the first set-up.

use diesel::prelude::*;
use mfa_core::id::GatewayId;
use mfa_core::time::Timestamp;
use mfa_core::token::TokenDigest;
use serde_json::json;

use crate::schema::one_use_token;
use crate::value::to_millis;
use crate::{By, StoreError, Tx};

/// What a token is good for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TokenPurpose {
    /// This gateway gets its certificate.
    Gateway(GatewayId),
    /// The first administrator is set up.
    Setup,
}

impl TokenPurpose {
    const GATEWAY: &str = "gateway";
    const SETUP: &str = "setup";

    const fn code(self) -> &'static str {
        match self {
            Self::Gateway(_) => Self::GATEWAY,
            Self::Setup => Self::SETUP,
        }
    }

    const fn gateway(self) -> Option<i64> {
        match self {
            Self::Gateway(id) => Some(id.get()),
            Self::Setup => None,
        }
    }
}

/// What came of spending a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Spent {
    /// It was good, and is used up now.
    Good(TokenPurpose),
    /// Somebody used it before.
    Used,
    /// Its time was over.
    Expired,
    /// There is no such token.
    Unknown,
}

impl Tx {
    /// Stores a token. Others for the same gateway are worth nothing from now on.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn add_token(
        &mut self,
        by: By,
        purpose: TokenPurpose,
        token: &TokenDigest,
        expires: Timestamp,
    ) -> Result<(), StoreError> {
        if let TokenPurpose::Gateway(gateway) = purpose {
            self.forget_gateway_tokens(gateway)?;
        }
        diesel::insert_into(one_use_token::table)
            .values((
                one_use_token::purpose.eq(purpose.code()),
                one_use_token::digest.eq(token.as_bytes().as_slice()),
                one_use_token::gateway_id.eq(purpose.gateway()),
                one_use_token::created_at.eq(to_millis(by.now)),
                one_use_token::expires_at.eq(to_millis(expires)),
            ))
            .execute(&mut self.conn)?;
        let detail = json!({ "purpose": purpose.code(), "gateway": purpose.gateway() });
        self.audit(by, "token.add", "token", &detail)
    }

    /// Uses up a token, by compare-and-set: of many who come with one token, one gets
    /// [`Spent::Good`].
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn spend_token(&mut self, by: By, token: &TokenDigest) -> Result<Spent, StoreError> {
        let this = one_use_token::digest.eq(token.as_bytes().as_slice());
        let row: Option<(String, Option<i64>, i64, Option<i64>)> = one_use_token::table
            .filter(this)
            .select((
                one_use_token::purpose,
                one_use_token::gateway_id,
                one_use_token::expires_at,
                one_use_token::used_at,
            ))
            .get_result(&mut self.conn)
            .optional()?;
        let Some((purpose, gateway, expires, used)) = row else { return Ok(Spent::Unknown) };
        let purpose = match (purpose.as_str(), gateway) {
            (TokenPurpose::GATEWAY, Some(id)) => TokenPurpose::Gateway(GatewayId::new(id)),
            (TokenPurpose::SETUP, None) => TokenPurpose::Setup,
            _ => return Err(StoreError::corrupt("one_use_token")),
        };
        if used.is_some() {
            return Ok(Spent::Used);
        }
        if expires <= to_millis(by.now) {
            return Ok(Spent::Expired);
        }
        let unused = one_use_token::table.filter(this).filter(one_use_token::used_at.is_null());
        let changed = diesel::update(unused)
            .set(one_use_token::used_at.eq(to_millis(by.now)))
            .execute(&mut self.conn)?;
        if changed == 0 {
            return Ok(Spent::Used);
        }
        let detail = json!({ "purpose": purpose.code(), "gateway": purpose.gateway() });
        self.audit(by, "token.spend", "token", &detail)?;
        Ok(Spent::Good(purpose))
    }

    /// Forgets the tokens with which a gateway could enroll.
    pub(crate) fn forget_gateway_tokens(&mut self, gateway: GatewayId) -> Result<(), StoreError> {
        let older = one_use_token::table.filter(one_use_token::gateway_id.eq(gateway.get()));
        diesel::delete(older).execute(&mut self.conn)?;
        Ok(())
    }

    /// Forgets tokens that were over before `before`. Returns how many.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn forget_tokens(&mut self, before: Timestamp) -> Result<usize, StoreError> {
        let old = one_use_token::table.filter(one_use_token::expires_at.lt(to_millis(before)));
        Ok(diesel::delete(old).execute(&mut self.conn)?)
    }
}
