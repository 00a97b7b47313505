//! Compares what was acknowledged with what the database holds.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use mfa_core::id::SessionId;
use mfa_store::{AuditEntry, AuditVerdict, Scope, SessionInfo, Store, StoreError};
use serde_json::Value;

use crate::storm::{Outcome, Try};
use crate::world::World;

/// Entries that are read at once.
const PAGE: i64 = 5_000;

/// What is known of a world so far.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The last entry of the audit log that was read.
    seq: i64,
    /// Whose each session is that ever began.
    begun: BTreeMap<i64, i64>,
    /// How many sessions each person began.
    sessions: BTreeMap<i64, usize>,
    /// Which codes each person ever sent.
    sent: BTreeMap<i64, BTreeSet<u64>>,
    /// What was acknowledged: the session for each code.
    acknowledged: BTreeMap<(i64, u64), i64>,
}

impl Ledger {
    /// How many logins were acknowledged, and are there.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// How many sessions ever began: those acknowledged, and those whose answer was lost.
    #[must_use]
    pub fn begun(&self) -> usize {
        self.begun.len()
    }

    /// Checks new tries against the database, and what must always be true.
    ///
    /// * Every acknowledged login has its session, of its person, and its entry in the audit log.
    /// * No code was acknowledged twice, and nobody has more sessions than codes that were sent: no
    ///   step was accepted twice, also not by a login whose answer was lost.
    /// * A device has one live session at most.
    ///
    /// # Errors
    ///
    /// The first of these that does not hold.
    pub async fn check(&mut self, store: &Store, world: &World, tries: &[Try]) -> Result<()> {
        self.read(store).await?;
        let mut new = Vec::new();
        for one in tries {
            let Some(person) = world.people.get(one.person) else { continue };
            let user = person.user.get();
            self.sent.entry(user).or_default().insert(one.step);
            let Outcome::Begun(session) = one.outcome else { continue };
            new.push((session, user));
            let other = self.acknowledged.insert((user, one.step), session);
            ensure!(
                other.is_none(),
                "user {user} was let in twice with the code of step {}: {other:?} and {session}",
                one.step
            );
            ensure!(
                self.begun.get(&session) == Some(&user),
                "session {session} of user {user} was acknowledged; the audit log has it for {:?}",
                self.begun.get(&session)
            );
        }
        let ids: Vec<i64> = new.iter().map(|(session, _)| *session).collect();
        ensure!(
            ids.iter().collect::<BTreeSet<_>>().len() == ids.len(),
            "one session was acknowledged twice: {ids:?}"
        );
        let rows: Result<Vec<Option<SessionInfo>>, StoreError> = store
            .read(move |view| ids.iter().map(|id| view.session(SessionId::new(*id))).collect())
            .await;
        for ((session, user), row) in new.iter().zip(rows?) {
            let there = row.as_ref().map(|row| row.subject.user.get());
            ensure!(there == Some(*user), "session {session} of user {user} is lost: {row:?}");
        }
        for (user, sessions) in &self.sessions {
            let sent = self.sent.get(user).map_or(0, BTreeSet::len);
            ensure!(*sessions <= sent, "user {user} sent {sent} codes and has {sessions} sessions");
        }
        let live: Result<_, StoreError> = store.read(|view| view.live_sessions(Scope::All)).await;
        let live = live?;
        let devices: BTreeSet<_> = live.iter().map(|row| row.subject.device).collect();
        ensure!(devices.len() == live.len(), "a device has two live sessions");
        Ok(())
    }

    /// Walks the whole audit log.
    ///
    /// # Errors
    ///
    /// When it is not whole.
    pub async fn verify(&self, store: &Store, world: &World) -> Result<()> {
        let key = world.key();
        let verdict: Result<_, StoreError> = store.read(move |view| view.verify_audit(&key)).await;
        let verdict = verdict?;
        ensure!(matches!(verdict, AuditVerdict::Whole { .. }), "the audit log: {verdict:?}");
        Ok(())
    }

    async fn read(&mut self, store: &Store) -> Result<()> {
        loop {
            let after = self.seq;
            let page: Result<Vec<AuditEntry>, StoreError> =
                store.read(move |view| view.audit_entries_after(after, PAGE)).await;
            let page = page?;
            let Some(last) = page.last() else { return Ok(()) };
            self.seq = last.seq;
            for entry in page.iter().filter(|entry| entry.action == "session.begin") {
                let detail: Value = serde_json::from_str(&entry.detail)?;
                let user = detail.get("user").and_then(Value::as_i64).unwrap_or_default();
                let session: i64 =
                    entry.subject.strip_prefix("session:").unwrap_or_default().parse()?;
                let other = self.begun.insert(session, user);
                ensure!(other.is_none(), "session {session} began twice");
                let count = self.sessions.entry(user).or_default();
                *count = count.saturating_add(1);
            }
        }
    }
}
