//! Tokens of the REST API.

use mfa_store::{ApiToken, Snapshot, StoreError};
use serde::Serialize;
use utoipa::ToSchema;

use super::time;
use crate::flows::api_token::Scopes;

/// A token, without its secret.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Token)]
pub struct TokenView {
    /// Names the token for ever, and in the audit log.
    pub id: i64,
    /// What it is for.
    pub name: String,
    /// On whose behalf it acts; absent: the installation's own.
    pub user: Option<String>,
    /// What it may do.
    pub scopes: Vec<&'static str>,
    /// When it was made.
    pub created_at: String,
    /// From when on it is worth nothing.
    pub expires_at: String,
    /// When it was last used, to the minute.
    pub last_used_at: Option<String>,
}

impl TokenView {
    /// Lists `tokens`.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn all(view: &mut Snapshot, tokens: Vec<ApiToken>) -> Result<Vec<Self>, StoreError> {
        let mut all = Vec::with_capacity(tokens.len());
        for token in tokens {
            let user = token.user.map(|id| view.user(id)).transpose()?.flatten();
            all.push(Self {
                id: token.id,
                user: user.map(|user| user.details.login),
                scopes: Scopes::stored(&token.scopes).codes(),
                created_at: time(token.created),
                expires_at: time(token.expires),
                last_used_at: token.used.map(time),
                name: token.name,
            });
        }
        Ok(all)
    }
}
