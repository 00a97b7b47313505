//! Decides when a session has gone quiet.
//!
//! Sans-IO: the caller brings the gateways' reports and the time. Feed one input, drain
//! [`poll_event`](IdleTracker::poll_event), wait until [`poll_timeout`](IdleTracker::poll_timeout),
//! repeat. Each input costs what is due, not what is live.

use core::num::NonZeroU64;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mutant::Mutant;
use wg_types::traffic::Window;

use crate::id::{GatewayId, SessionId};
use crate::policy::{IdleMode, IdlePolicy};
use crate::time::Timestamp;

pub use wg_types::traffic::Counters;

/// What one gateway says of one session's peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Report {
    /// Of whom.
    pub session: SessionId,
    /// Who says it.
    pub gateway: GatewayId,
    /// The peer's counters at that gateway.
    pub counters: Counters,
    /// How long ago the last handshake was completed when the report was made; `None`: never. An age
    /// and not a time: a gateway's clock is not trusted, and an age cannot lie in the future.
    pub handshake_age: Option<Duration>,
    /// Which handshake that was: its time by the gateway's own clock, in any unit, as it is only
    /// compared. The same mark is the same handshake, however old the report says it is: a report may
    /// take minutes to arrive. `None`: the gateway does not say; then bytes must have been counted since.
    pub handshake_mark: Option<NonZeroU64>,
}

/// What a [`Report`] was worth.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Observation {
    /// It shows a sign of life; the session's last activity is now this time.
    Active(Timestamp),
    /// It shows none.
    Quiet,
    /// The session is not followed: unknown, forgotten, or ended by this very report's lateness.
    NotFollowed,
}

/// What the tracker found out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IdleEvent {
    /// No gateway saw a sign of life within the threshold; the session must end. It is not followed
    /// any more.
    Idle {
        /// The session to end.
        session: SessionId,
        /// The last sign of life.
        last_activity: Timestamp,
    },
}

/// Follows the activity of every live session.
///
/// ```
/// use core::time::Duration;
/// use mfa_core::id::{GatewayId, SessionId};
/// use mfa_core::idle::{Counters, IdleEvent, IdleTracker, Observation, Report};
/// use mfa_core::policy::IdlePolicy;
/// use mfa_core::time::Timestamp;
///
/// let start = Timestamp::from_unix_millis(1_700_000_000_000);
/// let after = |secs| start.saturating_add(Duration::from_secs(secs));
/// let mut tracker = IdleTracker::new();
/// tracker.track(SessionId::new(1), IdlePolicy::default(), start); // 300 s without user data
///
/// let report = |rx_bytes, tx_bytes| Report {
///     session: SessionId::new(1),
///     gateway: GatewayId::new(1),
///     counters: Counters { rx_bytes, tx_bytes },
///     handshake_age: Some(Duration::from_secs(20)),
///     handshake_mark: None,
/// };
/// // A handshake and a ping, and then nothing but keepalives.
/// assert_eq!(tracker.handle_report(&report(276, 220), after(30)), Observation::Active(after(30)));
/// assert_eq!(tracker.handle_report(&report(308, 220), after(60)), Observation::Quiet);
/// assert_eq!(tracker.poll_timeout(), Some(after(330)));
///
/// tracker.handle_timeout(after(330));
/// let idle = IdleEvent::Idle { session: SessionId::new(1), last_activity: after(30) };
/// assert_eq!(tracker.poll_event(), Some(idle));
/// ```
#[derive(Debug, Default)]
pub struct IdleTracker {
    /// Boxed: a tree's nodes are half empty, and there are many sessions.
    sessions: BTreeMap<SessionId, Box<Followed>>,
    /// One entry per session, ordered by when it is due.
    deadlines: BTreeSet<(Timestamp, SessionId)>,
    events: VecDeque<IdleEvent>,
}

#[derive(Debug)]
struct Followed {
    policy: IdlePolicy,
    last_activity: Timestamp,
    /// What each gateway last reported. A location has few gateways, so a list beats a map.
    seen: Vec<Seen>,
    /// From which counters a gateway is judged that has not reported yet.
    origin: Option<Timestamp>,
    /// It is not found quiet before.
    spared_until: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    gateway: GatewayId,
    counters: Counters,
    handshake_mark: Option<NonZeroU64>,
    at: Timestamp,
}

impl Seen {
    const fn new(report: &Report, at: Timestamp) -> Self {
        let Report { gateway, counters, handshake_mark, .. } = *report;
        Self { gateway, counters, handshake_mark, at }
    }

    /// Tells whether no handshake can have been between what was seen and this report.
    fn same_handshake(&self, report: &Report) -> bool {
        match self.handshake_mark.zip(report.handshake_mark) {
            Some((before, now)) if !mutant::on(Mutant::UnmarkedHandshake) => before == now,
            Some(_) | None => self.counters == report.counters,
        }
    }
}

impl IdleTracker {
    /// Starts with no session.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins to follow a new session; it counts as active at `now`, and its counters start at
    /// zero on every gateway, because a login always makes a new peer.
    pub fn track(&mut self, session: SessionId, policy: IdlePolicy, now: Timestamp) {
        self.insert(session, policy, now, Some(now));
    }

    /// Goes on to follow a session after a restart. `last_activity` is what the store has; its
    /// counters are unknown, so each gateway's first report is only remembered.
    pub fn resume(&mut self, session: SessionId, policy: IdlePolicy, last_activity: Timestamp) {
        self.insert(session, policy, last_activity, None);
    }

    /// Does not find a session quiet before `until`: for a caller that has only begun to listen. What
    /// is heard until then counts, although the threshold may have passed meanwhile.
    ///
    /// ```
    /// # use core::time::Duration;
    /// # use mfa_core::id::SessionId;
    /// # use mfa_core::idle::IdleTracker;
    /// # use mfa_core::policy::IdlePolicy;
    /// # use mfa_core::time::Timestamp;
    /// let start = Timestamp::from_unix_millis(1_700_000_000_000);
    /// let ago = |secs| start.saturating_sub(Duration::from_secs(secs));
    /// let mut tracker = IdleTracker::new();
    /// tracker.resume(SessionId::new(1), IdlePolicy::default(), ago(310)); // 300 s without user data
    /// let until = start.saturating_add(Duration::from_secs(120));
    /// tracker.spare(SessionId::new(1), until);
    /// assert_eq!(tracker.poll_timeout(), Some(until));
    /// ```
    pub fn spare(&mut self, session: SessionId, until: Timestamp) {
        if let Some(followed) = self.sessions.get_mut(&session) {
            self.deadlines.remove(&(followed.deadline(), session));
            followed.spared_until = until;
            self.deadlines.insert((followed.deadline(), session));
        }
    }

    /// Adds to a [resumed](Self::resume) session what a gateway has told already, at `at` and somewhere
    /// else. Its next report is judged from there.
    pub fn recall(&mut self, report: &Report, at: Timestamp) {
        if let Some(followed) = self.sessions.get_mut(&report.session) {
            followed.seen.retain(|seen| seen.gateway != report.gateway);
            followed.add(Seen::new(report, at));
        }
    }

    /// Takes over that another core heard of the session at `at`. Gateways that have not reported
    /// here yet may have counted for that core, so their first report is only remembered.
    ///
    /// A session whose deadline has passed here is not followed any more, and is not revived.
    pub fn heard_elsewhere(&mut self, session: SessionId, at: Timestamp) {
        let Some(followed) = self.sessions.get_mut(&session) else { return };
        followed.origin = None;
        if at > followed.last_activity {
            self.deadlines.remove(&(followed.deadline(), session));
            followed.last_activity = at;
            self.deadlines.insert((followed.deadline(), session));
        }
    }

    /// Judges a session by another policy from now on.
    pub fn set_policy(&mut self, session: SessionId, policy: IdlePolicy) {
        if let Some(followed) = self.sessions.get_mut(&session) {
            self.deadlines.remove(&(followed.deadline(), session));
            followed.policy = policy;
            self.deadlines.insert((followed.deadline(), session));
        }
    }

    /// Stops following a session, because it has ended for another reason.
    pub fn forget(&mut self, session: SessionId) {
        if let Some(followed) = self.sessions.remove(&session) {
            self.deadlines.remove(&(followed.deadline(), session));
        }
    }

    /// Returns how many sessions are followed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Tells whether no session is followed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Returns a session's last sign of life; `None` if it is not followed.
    #[must_use]
    pub fn last_activity(&self, session: SessionId) -> Option<Timestamp> {
        self.sessions.get(&session).map(|followed| followed.last_activity)
    }

    /// Takes a gateway's report that arrived at `now`.
    ///
    /// Data is dated by the report that tells of it, so a session is ended up to one statistics
    /// period late, never early. A report that comes at or after the deadline revives nothing.
    pub fn handle_report(&mut self, report: &Report, now: Timestamp) -> Observation {
        let session = report.session;
        let Some(followed) = self.sessions.get_mut(&session) else {
            return Observation::NotFollowed;
        };
        let deadline = followed.deadline();
        if now >= deadline && !mutant::on(Mutant::LateRevival) {
            self.handle_timeout(now);
            return Observation::NotFollowed;
        }
        match followed.observe(report, now) {
            Some(active) => {
                followed.last_activity = active;
                self.deadlines.remove(&(deadline, session));
                self.deadlines.insert((followed.deadline(), session));
                Observation::Active(active)
            }
            None => Observation::Quiet,
        }
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) is next worth calling; `None`: not
    /// before another session is followed.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Moves time forward and ends what has been quiet for too long.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        while let Some((deadline, session)) = self.deadlines.first().copied() {
            if now < deadline {
                break;
            }
            self.deadlines.pop_first();
            if let Some(followed) = self.sessions.remove(&session) {
                let last_activity = followed.last_activity;
                self.events.push_back(IdleEvent::Idle { session, last_activity });
            }
        }
    }

    /// Returns the next event, oldest deadline first.
    pub fn poll_event(&mut self) -> Option<IdleEvent> {
        self.events.pop_front()
    }

    fn insert(
        &mut self,
        session: SessionId,
        policy: IdlePolicy,
        last_activity: Timestamp,
        origin: Option<Timestamp>,
    ) {
        self.forget(session);
        let (seen, spared_until) = (Vec::new(), Timestamp::UNIX_EPOCH);
        let followed = Followed { policy, last_activity, seen, origin, spared_until };
        self.deadlines.insert((followed.deadline(), session));
        self.sessions.insert(session, Box::new(followed));
    }
}

impl Followed {
    fn deadline(&self) -> Timestamp {
        self.last_activity.saturating_add(self.policy.threshold()).max(self.spared_until)
    }

    /// Adds a gateway: nearly always the only one, and there are many sessions.
    fn add(&mut self, seen: Seen) {
        self.seen.reserve_exact(1);
        self.seen.push(seen);
    }

    /// Returns the new last activity if the report shows one that is later than the old.
    fn observe(&mut self, report: &Report, now: Timestamp) -> Option<Timestamp> {
        let before = self.remember(report, now);
        let active = match self.policy.mode() {
            IdleMode::Handshake if mutant::on(Mutant::FutureHandshake) => {
                now.saturating_add(report.handshake_age?)
            }
            // Its age is that of when the report was made, which may have taken long to arrive.
            IdleMode::Handshake if before.is_some_and(|seen| seen.same_handshake(report)) => {
                return None;
            }
            IdleMode::Handshake => now.saturating_sub(report.handshake_age?),
            IdleMode::Transfer => {
                let before = before?;
                let window = Window {
                    added: report.counters.since(before.counters),
                    length: now.since(before.at),
                    handshake_age: report.handshake_age,
                    gateway_keepalive: self.policy.gateway_keepalive(),
                };
                window.carries_data().then_some(now)?
            }
        };
        (active > self.last_activity).then_some(active)
    }

    /// Keeps what the gateway says; returns what it said before.
    fn remember(&mut self, report: &Report, now: Timestamp) -> Option<Seen> {
        let told = Seen::new(report, now);
        if let Some(seen) = self.seen.iter_mut().find(|seen| seen.gateway == report.gateway) {
            return Some(core::mem::replace(seen, told));
        }
        self.add(told);
        let anyway = mutant::on(Mutant::RestartIsActive).then_some(Timestamp::UNIX_EPOCH);
        let zero = Report { counters: Counters::ZERO, handshake_mark: None, ..*report };
        self.origin.or(anyway).map(|origin| Seen::new(&zero, origin))
    }
}

#[cfg(test)]
mod tests;
