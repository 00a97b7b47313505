//! The audit log: one row for each change, in the change's own transaction, chained by hashes.
//!
//! Each row's hash is an HMAC over the row and the hash before it, with a key from the installation's root.
//! Who can write the database but does not know the key can cut the log back to an earlier state,
//! and nothing else, without being noticed.

use core::fmt;

use diesel::prelude::*;
use hmac::{Hmac, KeyInit as _, Mac as _};
use mfa_core::id::UserId;
use mfa_core::time::Timestamp;
use serde_json::Value;
use sha2::Sha256;

use crate::connection::AnyConnection;
use crate::roster::{escaped, lower};
use crate::schema::{audit, audit_head};
use crate::seal::RootKey;
use crate::value::{from_millis, to_digest, to_millis};
use crate::{Actor, By, Snapshot, StoreError, Tx};

const TABLE: &str = "audit";
const HEAD: i64 = 1;
/// Rows that [`Snapshot::verify_audit`] holds in memory at once.
const PAGE: i64 = 1000;
/// Rows that one statement inserts.
const AT_ONCE: usize = 500;

/// One entry of the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuditEntry {
    /// 1, 2, 3 … without gaps.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// Who, in the words of [`Actor`](crate::Actor).
    pub actor: String,
    /// What was done: `session.end`.
    pub action: String,
    /// To what: `session:7`.
    pub subject: String,
    /// More about it, a JSON object.
    pub detail: String,
    /// What chains it to the entries before it: who keeps one can tell later whether the log up to
    /// it is still the same.
    pub hash: Vec<u8>,
}

/// What the chain is checked with. It does not leave memory.
#[derive(Clone)]
pub struct AuditKey(Hmac<Sha256>);

impl AuditKey {
    /// Derives it from the root of all keys.
    #[must_use]
    pub fn derive(key: impl Into<RootKey>) -> Self {
        Self(hmac(&key.into()))
    }
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuditKey(..)")
    }
}

/// What a walk along the whole chain found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AuditVerdict {
    /// Every entry is as it was written, and none is missing.
    Whole {
        /// How many there are.
        entries: i64,
    },
    /// The entry `seq` is missing, or was changed, or does not follow the one before it.
    Broken {
        /// The first entry that is wrong.
        seq: i64,
    },
    /// The log ends before its recorded end.
    CutShort {
        /// The last entry that is there.
        last: i64,
        /// The last entry that was written.
        written: i64,
    },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct End {
    seq: i64,
    hash: [u8; 32],
}

impl End {
    const START: Self = Self { seq: 0, hash: [0; 32] };
}

/// Knows the key, and during a batch where the chain ends.
#[derive(Clone)]
pub(crate) struct Chain {
    key: Hmac<Sha256>,
    end: Option<End>,
    saved: Option<End>,
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chain(..)")
    }
}

/// Where the chain ended before a job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark(Option<End>);

impl Chain {
    pub(crate) fn new(key: &RootKey) -> Self {
        Self { key: hmac(key), end: None, saved: None }
    }

    /// Another process may have written since.
    pub(crate) const fn forget(&mut self) {
        self.end = None;
        self.saved = None;
    }

    pub(crate) const fn mark(&self) -> Mark {
        Mark(self.end)
    }

    pub(crate) fn reset(&mut self, mark: Mark) {
        self.end = mark.0.or(self.saved);
    }

    fn end(&mut self, conn: &mut AnyConnection) -> Result<End, StoreError> {
        if let Some(end) = self.end {
            return Ok(end);
        }
        let end = head(conn)?.unwrap_or(End::START);
        self.saved = Some(end);
        self.end = Some(end);
        Ok(end)
    }

    fn save(&mut self, conn: &mut AnyConnection) -> Result<(), StoreError> {
        let Some(end) = self.end.filter(|end| Some(*end) != self.saved) else { return Ok(()) };
        let row = (audit_head::seq.eq(end.seq), audit_head::hash.eq(end.hash.as_slice()));
        let changed = diesel::update(audit_head::table.find(HEAD)).set(row).execute(conn)?;
        if changed == 0 {
            let row = (audit_head::id.eq(HEAD), row.0, row.1);
            diesel::insert_into(audit_head::table).values(row).execute(conn)?;
        }
        Ok(())
    }
}

#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
fn hmac(key: &RootKey) -> Hmac<Sha256> {
    Hmac::new_from_slice(key.derive("audit").as_slice()).expect("HMAC takes any key")
}

fn head(conn: &mut AnyConnection) -> Result<Option<End>, StoreError> {
    let row: Option<(i64, Vec<u8>)> = audit_head::table
        .find(HEAD)
        .select((audit_head::seq, audit_head::hash))
        .get_result(conn)
        .optional()?;
    row.map(|(seq, hash)| Ok(End { seq, hash: to_digest(&hash, TABLE)? })).transpose()
}

#[derive(Insertable, Queryable, Selectable)]
#[diesel(table_name = audit)]
struct Row {
    seq: i64,
    at: i64,
    actor: String,
    action: String,
    subject: String,
    detail: String,
    previous: Vec<u8>,
    hash: Vec<u8>,
}

impl Row {
    fn digest(&self, key: &Hmac<Sha256>) -> [u8; 32] {
        let mut mac = key.clone();
        mac.update(&self.previous);
        mac.update(&self.seq.to_be_bytes());
        mac.update(&self.at.to_be_bytes());
        for text in [&self.actor, &self.action, &self.subject, &self.detail] {
            mac.update(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
            mac.update(text.as_bytes());
        }
        mac.finalize().into_bytes().into()
    }
}

impl Tx {
    /// Writes an entry. The functions that change something do so by themselves; this is for what
    /// only the caller knows, like a refused code.
    ///
    /// `action` is `noun.verb`; `detail` a JSON object, and holds no secret.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn audit(
        &mut self,
        by: By,
        action: &str,
        subject: impl fmt::Display,
        detail: &Value,
    ) -> Result<(), StoreError> {
        self.audit_all(by, action, [(subject.to_string(), detail.clone())])
    }

    /// Writes an entry for each subject of one action, in few statements.
    pub(crate) fn audit_all(
        &mut self,
        by: By,
        action: &str,
        entries: impl IntoIterator<Item = (String, Value)>,
    ) -> Result<(), StoreError> {
        let mut end = self.chain_end()?;
        let mut rows = Vec::new();
        for (subject, detail) in entries {
            let mut row = Row {
                seq: end.seq.saturating_add(1),
                at: to_millis(by.now),
                actor: by.actor.to_string(),
                action: action.to_owned(),
                subject,
                detail: detail.to_string(),
                previous: end.hash.to_vec(),
                hash: Vec::new(),
            };
            let hash = row.digest(&self.chain.key);
            row.hash = hash.to_vec();
            end = End { seq: row.seq, hash };
            rows.push(row);
        }
        match &mut self.conn {
            // Nothing travels: a statement that stays prepared is the quickest.
            AnyConnection::Sqlite(conn) => {
                for row in &rows {
                    diesel::insert_into(audit::table).values(row).execute(conn)?;
                }
            }
            AnyConnection::Postgres(conn) => {
                for some in rows.chunks(AT_ONCE) {
                    diesel::insert_into(audit::table).values(some).execute(conn)?;
                }
            }
        }
        self.chain.end = Some(end);
        Ok(())
    }

    fn chain_end(&mut self) -> Result<End, StoreError> {
        let (conn, chain) = self.parts();
        chain.end(conn)
    }

    /// Records where the chain ends, before a commit.
    pub(crate) fn save_chain(&mut self) -> Result<(), StoreError> {
        let (conn, chain) = self.parts();
        chain.save(conn)
    }
}

impl Snapshot {
    /// Lists the newest `limit` entries before `before` (`None`: of all), newest first.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn audit_entries(
        &mut self,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        let rows: Vec<Row> = audit::table
            .filter(audit::seq.lt(before.unwrap_or(i64::MAX)))
            .order(audit::seq.desc())
            .limit(limit)
            .select(Row::as_select())
            .load(&mut self.conn)?;
        Ok(rows.into_iter().map(AuditEntry::from).collect())
    }

    /// Lists the newest `limit` entries before `before` in whose words `search` occurs, or which
    /// are of `person`, by number: newest first.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn audit_search(
        &mut self,
        before: Option<i64>,
        search: &str,
        person: Option<UserId>,
        limit: i64,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        let pattern = format!("%{}%", escaped(&search.trim().to_lowercase()));
        // No word of the log is empty.
        let named = |actor: fn(UserId) -> Actor| {
            person.map_or_else(String::new, |person| actor(person).to_string())
        };
        let (admin, user) = (named(Actor::Admin), named(Actor::User));
        let rows: Vec<Row> = audit::table
            .filter(audit::seq.lt(before.unwrap_or(i64::MAX)))
            .filter(
                lower(audit::actor)
                    .like(pattern.clone())
                    .escape('\\')
                    .or(lower(audit::action).like(pattern.clone()).escape('\\'))
                    .or(lower(audit::subject).like(pattern.clone()).escape('\\'))
                    .or(lower(audit::detail).like(pattern).escape('\\'))
                    .or(audit::actor.eq(admin))
                    .or(audit::actor.eq(user.clone()))
                    .or(audit::subject.eq(user)),
            )
            .order(audit::seq.desc())
            .limit(limit)
            .select(Row::as_select())
            .load(&mut self.conn)?;
        Ok(rows.into_iter().map(AuditEntry::from).collect())
    }

    /// Lists the `limit` entries that follow `after`, oldest first; 0: from the beginning.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn audit_entries_after(
        &mut self,
        after: i64,
        limit: i64,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        let rows: Vec<Row> = audit::table
            .filter(audit::seq.gt(after))
            .order(audit::seq.asc())
            .limit(limit)
            .select(Row::as_select())
            .load(&mut self.conn)?;
        Ok(rows.into_iter().map(AuditEntry::from).collect())
    }

    /// Walks the whole chain and tells whether it is as it was written. `key` is
    /// [`Store::root`](crate::Store::root), or the installation's first master key.
    ///
    /// # Errors
    ///
    /// What the database reports; a broken chain is not an error.
    pub fn verify_audit(&mut self, key: impl Into<RootKey>) -> Result<AuditVerdict, StoreError> {
        self.verify_audit_by(&AuditKey::derive(key.into()))
    }

    /// As [`verify_audit`](Self::verify_audit), for who does not keep the root of all keys.
    ///
    /// # Errors
    ///
    /// What the database reports; a broken chain is not an error.
    pub fn verify_audit_by(&mut self, key: &AuditKey) -> Result<AuditVerdict, StoreError> {
        let mut end = End::START;
        loop {
            let rows: Vec<Row> = audit::table
                .filter(audit::seq.gt(end.seq))
                .order(audit::seq.asc())
                .limit(PAGE)
                .select(Row::as_select())
                .load(&mut self.conn)?;
            if rows.is_empty() {
                break;
            }
            for row in rows {
                let expected = end.seq.saturating_add(1);
                let hash = row.digest(&key.0);
                if row.seq != expected || row.previous != end.hash || row.hash != hash {
                    return Ok(AuditVerdict::Broken { seq: expected });
                }
                end = End { seq: expected, hash };
            }
        }
        let written = head(&mut self.conn)?.unwrap_or(End::START);
        Ok(if written == end {
            AuditVerdict::Whole { entries: end.seq }
        } else if written.seq > end.seq {
            AuditVerdict::CutShort { last: end.seq, written: written.seq }
        } else {
            AuditVerdict::Broken { seq: end.seq }
        })
    }
}

impl From<Row> for AuditEntry {
    fn from(row: Row) -> Self {
        Self {
            seq: row.seq,
            at: from_millis(row.at),
            actor: row.actor,
            action: row.action,
            subject: row.subject,
            detail: row.detail,
            hash: row.hash,
        }
    }
}
