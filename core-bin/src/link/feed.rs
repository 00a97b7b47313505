//! Decides what a gateway is sent next.
//!
//! Sans-IO: the stream's driver brings what happened, asks what is [due](Feed::due), reads it from
//! the store and says what it sent.
//!
//! ```text
//!              ┌────────────── an error, a resync: after a pause that doubles ──────────────┐
//!              ▼                                                                            │
//!   hello ─▶ snapshot due ──sent──▶ following ──woken──▶ changes due ──sent──▶ following ───┤
//!              ▲                                             │                              │
//!              └──────── the changes are not on record ──────┘          acknowledged ◀──────┘
//! ```
//!
//! Nothing queues up here: changes are read from the last *sent* revision when the stream can take
//! a message. A gateway that does not read costs nothing but its place.

use core::time::Duration;

/// The longest pause before a snapshot that follows trouble.
pub const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What to send next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Due {
    /// Nothing, for now.
    Nothing,
    /// All of it.
    Snapshot,
    /// What changed after `since`.
    Changes {
        /// The revision last sent.
        since: i64,
    },
}

/// The gateway acknowledged a revision that it was never sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NeverSent;

/// One stream's position in its location's revisions. All times are since the stream began.
#[derive(Debug, Default)]
pub struct Feed {
    /// The revision that the gateway has, once it has read everything; `None`: a snapshot is due.
    sent: Option<i64>,
    /// The highest revision ever sent on this stream.
    reached: Option<i64>,
    /// The store may have something after `sent`.
    woken: bool,
    /// Troubles since a snapshot was last acknowledged.
    troubles: u32,
    /// When the next snapshot may go.
    not_before: Duration,
    /// When the store is next worth asking.
    store_not_before: Duration,
}

impl Feed {
    /// Starts with a snapshot due.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that the store may have something new.
    pub const fn wake(&mut self) {
        self.woken = true;
    }

    /// Returns what to send at `at`.
    #[must_use]
    pub fn due(&self, at: Duration) -> Due {
        if at < self.store_not_before {
            return Due::Nothing;
        }
        match self.sent {
            None if at >= self.not_before => Due::Snapshot,
            Some(since) if self.woken => Due::Changes { since },
            None | Some(_) => Due::Nothing,
        }
    }

    /// Whether everything is sent that the store held at the last wake: what may be answered for.
    #[must_use]
    pub const fn is_current(&self) -> bool {
        self.sent.is_some() && !self.woken
    }

    /// Notes that a snapshot of `revision` is being sent, read from the store after the last wake.
    pub fn sent_snapshot(&mut self, revision: i64) {
        self.sent_up_to(revision);
    }

    /// Notes that everything up to `revision` is being sent, read from the store after the last
    /// wake. The same revision as before: there was nothing new.
    pub fn sent_up_to(&mut self, revision: i64) {
        self.sent = Some(revision);
        self.reached = self.reached.max(Some(revision));
        self.woken = false;
    }

    /// Notes that the changes since the last sent revision are not on record, or are too many.
    pub const fn changes_lost(&mut self) {
        self.sent = None;
    }

    /// Lets nothing be due until `until`, since the store cannot be read.
    pub const fn put_off(&mut self, until: Duration) {
        self.store_not_before = until;
    }

    /// Takes an acknowledgement. Returns the revision that the gateway now has.
    ///
    /// # Errors
    ///
    /// [`NeverSent`].
    pub fn acknowledged(&mut self, revision: i64) -> Result<i64, NeverSent> {
        if self.reached.is_none_or(|reached| revision > reached) {
            return Err(NeverSent);
        }
        self.troubles = 0;
        Ok(revision)
    }

    /// Takes a failed acknowledgement, or the gateway's wish for a snapshot.
    pub fn trouble(&mut self, at: Duration) {
        // 0, 1, 2, 4 … seconds: the first snapshot goes at once.
        let pause = match self.troubles {
            0 => Duration::ZERO,
            n => {
                Duration::from_secs(1).saturating_mul(1_u32.checked_shl(n - 1).unwrap_or(u32::MAX))
            }
        };
        self.troubles = self.troubles.saturating_add(1);
        self.sent = None;
        self.not_before = at.saturating_add(pause.min(PAUSE_MAX));
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_answers_for_nothing_that_it_has_not_looked_for() {
        let mut feed = Feed::new();
        assert!(!feed.is_current(), "nothing is sent");
        feed.sent_snapshot(7);
        assert!(feed.is_current());
        feed.wake();
        feed.put_off(at(5));
        assert!(!feed.is_current(), "the store cannot be read");
        feed.sent_up_to(7);
        assert!(feed.is_current());
        feed.trouble(at(5));
        assert!(!feed.is_current(), "the gateway has something else");
    }

    #[test]
    fn a_snapshot_comes_first_and_changes_after_a_wake() {
        let mut feed = Feed::new();
        assert_eq!(feed.due(at(0)), Due::Snapshot);
        feed.sent_snapshot(7);
        assert_eq!(feed.due(at(0)), Due::Nothing);
        feed.wake();
        assert_eq!(feed.due(at(0)), Due::Changes { since: 7 });
        feed.sent_up_to(9);
        assert_eq!(feed.due(at(0)), Due::Nothing);
    }

    #[test]
    fn changes_that_are_not_on_record_become_a_snapshot_at_once() {
        let mut feed = following(7);
        feed.wake();
        feed.changes_lost();
        assert_eq!(feed.due(at(0)), Due::Snapshot);
    }

    #[test]
    fn the_first_trouble_is_answered_at_once_and_repeated_ones_after_growing_pauses() {
        let mut feed = following(7);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            feed.trouble(at(1000));
            let pause = (0..100).find(|&s| feed.due(at(1000 + s)) == Due::Snapshot).unwrap();
            pauses.push(pause);
            feed.sent_snapshot(7);
        }
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 30, 30]);

        feed.acknowledged(7).unwrap();
        feed.trouble(at(2000));
        assert_eq!(feed.due(at(2000)), Due::Snapshot);
    }

    #[test]
    fn a_revision_that_was_never_sent_cannot_be_acknowledged() {
        let mut feed = Feed::new();
        assert_eq!(feed.acknowledged(0), Err(NeverSent));
        feed.sent_snapshot(7);
        assert_eq!(feed.acknowledged(8), Err(NeverSent));
        assert_eq!(feed.acknowledged(7), Ok(7));
        feed.trouble(at(0));
        assert_eq!(feed.acknowledged(7), Ok(7));
    }

    #[test]
    fn a_store_that_cannot_be_read_is_left_alone_for_a_while() {
        let mut feed = following(7);
        feed.wake();
        feed.put_off(at(1));
        assert_eq!(feed.due(at(0)), Due::Nothing);
        assert_eq!(feed.due(at(1)), Due::Changes { since: 7 });
    }

    #[test]
    fn many_troubles_do_not_overflow_the_pause() {
        let mut feed = following(1);
        for _ in 0..100 {
            feed.trouble(Duration::MAX);
        }
        assert_eq!(feed.due(Duration::MAX), Due::Snapshot);
    }

    fn following(revision: i64) -> Feed {
        let mut feed = Feed::new();
        feed.sent_snapshot(revision);
        feed
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }
}
