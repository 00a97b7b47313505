//! Which sessions' links are lost, between two looks at the store. Sans-IO.

use std::collections::{BTreeMap, BTreeSet};

use mfa_core::id::SessionId;
use mfa_core::idle::{Counters, Report};
use mfa_core::link::LinkTracker;
use mfa_core::policy::LinkLoss;
use mfa_core::time::Timestamp;
use mfa_store::SessionInfo;

use crate::link::{PeerReport, StatsReport};

/// Follows the links of sessions where a lost one is limited.
#[derive(Debug, Default)]
pub struct Links {
    tracker: LinkTracker,
    limits: BTreeMap<SessionId, LinkLoss>,
    /// Sessions about which something is to be written down.
    news: BTreeSet<SessionId>,
}

/// What the store says of a session's link.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    session: SessionId,
    limit: LinkLoss,
    /// When any core last heard of it.
    heard: Timestamp,
}

impl Link {
    /// Reads it; `limit` is its location's.
    #[must_use]
    pub fn of(session: &SessionInfo, limit: LinkLoss) -> Self {
        let heard = session.last_heard.max(Some(session.last_activity));
        Self { session: session.id, limit, heard: heard.unwrap_or(session.authorized) }
    }
}

impl Links {
    /// Takes over the links of the sessions that live where a lost one is limited.
    pub fn learn(&mut self, links: &[Link]) {
        let mut now = BTreeMap::new();
        for Link { session, limit, heard } in links {
            now.insert(*session, *limit);
            self.tracker.set_limit(*session, Some(*limit), *heard);
            self.tracker.heard_elsewhere(*session, *heard);
        }
        for gone in self.limits.keys().filter(|id| !now.contains_key(id)) {
            self.tracker.forget(*gone);
            self.news.remove(gone);
        }
        self.limits = now;
    }

    /// Takes what a gateway says of a session's peer. With `returning` core was away, and a handshake that
    /// it missed counts although the limit has passed.
    pub fn handle_report(
        &mut self,
        session: SessionId,
        report: &StatsReport,
        peer: &PeerReport,
        returning: bool,
    ) {
        if let Some(age) = peer.handshake_age.filter(|_| returning) {
            self.tracker.heard_elsewhere(session, report.received_at.saturating_sub(age));
        }
        let seen = Report {
            session,
            gateway: report.gateway,
            counters: Counters { rx_bytes: peer.rx_bytes, tx_bytes: peer.tx_bytes },
            handshake_age: peer.handshake_age,
            handshake_mark: peer.handshake_mark,
        };
        if self.tracker.handle_report(&seen, report.received_at) {
            self.news.insert(session);
        }
    }

    /// Returns what is to be written down: when sessions were last heard of.
    #[must_use]
    pub fn news(&self) -> Vec<(SessionId, Timestamp)> {
        self.news.iter().filter_map(|id| Some((*id, self.tracker.heard(*id)?))).collect()
    }

    /// Notes that this is written down, which are all [news](Self::news).
    pub fn written_down(&mut self) {
        self.news.clear();
    }

    /// Lists the sessions whose link is lost, and when each was last heard of.
    pub fn lost(&mut self, now: Timestamp) -> Vec<(SessionId, Timestamp)> {
        self.tracker.lost(now)
    }

    /// Notes that another core has heard of a session.
    pub fn heard_elsewhere(&mut self, session: SessionId, at: Timestamp) {
        self.tracker.heard_elsewhere(session, at);
    }
}
