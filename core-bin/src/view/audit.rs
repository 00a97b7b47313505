//! Entries of the audit log.

use mfa_store::AuditEntry;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::time;

/// One change.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub struct AuditView {
    /// 1, 2, 3 … without gaps.
    pub seq: i64,
    /// When.
    pub at: String,
    /// Who: `cli`, `token:7`, `user:3` …
    pub actor: String,
    /// What was done: `session.end`.
    pub action: String,
    /// To what: `session:7`.
    pub subject: String,
    /// More about it.
    #[schema(value_type = Object)]
    pub detail: Value,
}

impl From<AuditEntry> for AuditView {
    fn from(entry: AuditEntry) -> Self {
        Self {
            seq: entry.seq,
            at: time(entry.at),
            actor: entry.actor,
            action: entry.action,
            subject: entry.subject,
            detail: serde_json::from_str(&entry.detail).unwrap_or(Value::Null),
        }
    }
}

/// One change, with its place in the chain.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = ChainedAuditEntry)]
pub struct ChainedView {
    /// The change.
    #[serde(flatten)]
    pub entry: AuditView,
    /// Over this entry and the one before it, in hexadecimal.
    pub hash: String,
}

impl From<AuditEntry> for ChainedView {
    fn from(entry: AuditEntry) -> Self {
        let hash = data_encoding::HEXLOWER.encode(&entry.hash);
        Self { entry: entry.into(), hash }
    }
}
