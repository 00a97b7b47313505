//! What gateways said of live sessions most recently, for people to look at.
//!
//! In memory only: the store keeps what is decided by. A restarted core knows again after one
//! statistics period. Nothing here is believed: endpoints and handshakes are the gateways' claims.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mfa_core::id::SessionId;
use mfa_core::idle::Counters;
use mfa_core::time::Timestamp;
use tokio::sync::{Semaphore, watch};

/// Samples of a sparkline: a quarter of an hour of reports.
const SAMPLES: usize = 30;
/// Browsers that may watch at once.
const WATCHERS: usize = 64;

/// The latest of every live session.
#[derive(Debug)]
pub struct Live {
    /// Boxed: a tree's nodes are half empty, and there are many sessions.
    sessions: Mutex<BTreeMap<SessionId, Box<Seen>>>,
    news: watch::Sender<u64>,
    /// One permit for each browser that watches.
    pub watchers: std::sync::Arc<Semaphore>,
}

/// What was last seen of a session.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Where the peer was last heard from.
    pub endpoint: Option<SocketAddr>,
    /// When the last handshake was completed.
    pub handshake: Option<Timestamp>,
    /// KiB between one report and the next, rounded up, oldest first.
    pub samples: Samples,
    /// Everything counted so far.
    pub total: Counters,
}

/// The latest numbers of something, in one piece: each live session has them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Samples {
    all: [u32; SAMPLES],
    len: usize,
}

impl Samples {
    /// Adds one; the oldest makes room for it if need be.
    fn push(&mut self, sample: u32) {
        if self.len == SAMPLES {
            self.all.rotate_left(1);
        } else {
            self.len += 1;
        }
        if let Some(last) = self.as_slice_mut().last_mut() {
            *last = sample;
        }
    }

    /// Returns them, oldest first.
    #[must_use]
    pub fn as_slice(&self) -> &[u32] {
        self.all.get(..self.len).unwrap_or_default()
    }

    fn as_slice_mut(&mut self) -> &mut [u32] {
        self.all.get_mut(..self.len).unwrap_or_default()
    }
}

impl Default for Live {
    fn default() -> Self {
        Self {
            sessions: Mutex::default(),
            news: watch::Sender::new(0),
            watchers: std::sync::Arc::new(Semaphore::new(WATCHERS)),
        }
    }
}

impl Seen {
    fn first(total: Counters) -> Self {
        Self { total, ..Self::default() }
    }
}

impl Live {
    /// Notes a report about a session; `total` is what was counted so far.
    pub fn heard(
        &self,
        session: SessionId,
        total: Counters,
        endpoint: Option<SocketAddr>,
        handshake: Option<Timestamp>,
    ) {
        let mut sessions = self.lock();
        let seen = sessions.entry(session).or_insert_with(|| Box::new(Seen::first(total)));
        let sum = |counters: Counters| counters.rx_bytes.saturating_add(counters.tx_bytes);
        let added = sum(total).saturating_sub(sum(seen.total)).div_ceil(1024);
        seen.samples.push(u32::try_from(added).unwrap_or(u32::MAX));
        seen.total = total;
        seen.endpoint = endpoint.or(seen.endpoint);
        seen.handshake = handshake.max(seen.handshake);
        drop(sessions);
        self.news.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Forgets all sessions but those that live.
    pub fn retain(&self, lives: impl Fn(SessionId) -> bool) {
        self.lock().retain(|id, _| lives(*id));
    }

    /// Returns what was last seen of a session.
    #[must_use]
    pub fn seen(&self, session: SessionId) -> Seen {
        self.lock().get(&session).map(|seen| Seen::clone(seen)).unwrap_or_default()
    }

    /// Returns a number that changes whenever something was heard.
    #[must_use]
    pub fn news(&self) -> u64 {
        *self.news.borrow()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SessionId, Box<Seen>>> {
        // Each change leaves the map whole, so a panic elsewhere does not spoil it.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_holds_what_came_between_reports_and_no_more_than_its_samples() {
        let live = Live::default();
        let id = SessionId::new(1);
        for total in 0..40_u64 {
            let total = Counters { rx_bytes: total * 10_000, tx_bytes: 0 };
            live.heard(id, total, None, None);
        }
        let seen = live.seen(id);
        assert_eq!((seen.samples.as_slice(), seen.total.rx_bytes), (&[10; SAMPLES][..], 390_000));
        live.retain(|_| false);
        assert!(live.seen(id).samples.as_slice().is_empty());
    }
}
