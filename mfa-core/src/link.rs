//! Decides whose link is lost: from whom nothing has come for too long, be it a keepalive.
//!
//! Sans-IO, as [`idle`](crate::idle) is. That one asks whether somebody works; this one, whether the
//! device is there at all.

use std::collections::BTreeMap;

use crate::id::{GatewayId, SessionId};
use crate::idle::Report;
use crate::policy::LinkLoss;
use crate::time::Timestamp;

/// Follows the links of sessions in locations that limit a lost one.
#[derive(Debug, Default)]
pub struct LinkTracker {
    sessions: BTreeMap<SessionId, Followed>,
}

#[derive(Debug)]
struct Followed {
    limit: LinkLoss,
    heard: Timestamp,
    /// Bytes that each gateway has received of the peer.
    received: Vec<(GatewayId, u64)>,
    /// A limit that has passed stays passed, whatever comes late.
    lost: bool,
}

impl LinkTracker {
    /// Starts with no session.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins to follow a session that was last heard of at `heard`; its beginning counts as a sign.
    pub fn track(&mut self, session: SessionId, limit: LinkLoss, heard: Timestamp) {
        let followed = Followed { limit, heard, received: Vec::new(), lost: false };
        self.sessions.insert(session, followed);
    }

    /// Judges a session by another limit from now on; `None`: by none.
    pub fn set_limit(&mut self, session: SessionId, limit: Option<LinkLoss>, heard: Timestamp) {
        match (limit, self.sessions.get_mut(&session)) {
            (Some(limit), Some(followed)) => followed.limit = limit,
            (Some(limit), None) => self.track(session, limit, heard),
            (None, _) => self.forget(session),
        }
    }

    /// Stops following a session.
    pub fn forget(&mut self, session: SessionId) {
        self.sessions.remove(&session);
    }

    /// Takes a gateway's report that arrived at `now`; tells whether it is a new sign of the peer. A
    /// gateway's first report is only remembered, but for the handshake in it.
    pub fn handle_report(&mut self, report: &Report, now: Timestamp) -> bool {
        let Some(followed) = self.sessions.get_mut(&report.session) else { return false };
        if followed.is_lost(now) {
            return false;
        }
        let received = report.counters.rx_bytes;
        let seen = followed.received.iter_mut().find(|(gateway, _)| *gateway == report.gateway);
        let sign = if let Some((_, before)) = seen {
            // Without a byte since there was no handshake, whatever its age says: that is of when the
            // report was made, which may have taken long to arrive.
            let grew = core::mem::replace(before, received) != received && received > 0;
            grew.then_some(now)
        } else {
            followed.received.push((report.gateway, received));
            report.handshake_age.map(|age| now.saturating_sub(age))
        };
        followed.hear(sign)
    }

    /// Takes over that the peer was heard of elsewhere.
    pub fn heard_elsewhere(&mut self, session: SessionId, at: Timestamp) {
        if let Some(followed) = self.sessions.get_mut(&session)
            && followed.hear(Some(at))
        {
            followed.lost = false;
        }
    }

    /// Returns when a session was last heard of; `None` if it is not followed.
    #[must_use]
    pub fn heard(&self, session: SessionId) -> Option<Timestamp> {
        self.sessions.get(&session).map(|followed| followed.heard)
    }

    /// Lists the sessions whose link is lost at `now`, and when each was last heard of.
    pub fn lost(&mut self, now: Timestamp) -> Vec<(SessionId, Timestamp)> {
        let lost = self.sessions.iter_mut().filter_map(|(session, followed)| {
            followed.is_lost(now).then_some((*session, followed.heard))
        });
        lost.collect()
    }
}

impl Followed {
    fn is_lost(&mut self, now: Timestamp) -> bool {
        self.lost |= now >= self.heard.saturating_add(self.limit.get());
        self.lost
    }

    fn hear(&mut self, sign: Option<Timestamp>) -> bool {
        let later = sign.filter(|sign| *sign > self.heard);
        self.heard = later.unwrap_or(self.heard);
        later.is_some()
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::idle::Counters;

    const ALICE: SessionId = SessionId::new(1);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_millis(1_700_000_000_000).saturating_add(Duration::from_secs(seconds))
    }

    fn report(gateway: i64, rx_bytes: u64, handshake_age: Option<u64>) -> Report {
        Report {
            session: ALICE,
            gateway: GatewayId::new(gateway),
            counters: Counters { rx_bytes, tx_bytes: 9999 },
            handshake_age: handshake_age.map(Duration::from_secs),
            handshake_mark: None,
        }
    }

    fn tracker() -> LinkTracker {
        let mut tracker = LinkTracker::new();
        tracker.track(ALICE, LinkLoss::new(Duration::from_secs(120)).unwrap(), at(0));
        tracker
    }

    #[test]
    fn keepalives_keep_the_link_for_ever() {
        let mut tracker = tracker();
        for n in 0..1000 {
            tracker.handle_report(&report(1, 148 + 32 * n, None), at(30 * n));
            assert_eq!(tracker.lost(at(30 * n)), [], "{n}");
        }
    }

    #[test]
    fn what_the_gateway_sends_is_no_sign_of_the_peer() {
        let mut tracker = tracker();
        for n in 0..4 {
            assert!(!tracker.handle_report(&report(1, 148, None), at(30 * n)));
        }
        assert_eq!(tracker.lost(at(119)), []);
        assert_eq!(tracker.lost(at(120)), [(ALICE, at(0))]);
    }

    #[test]
    fn a_handshake_is_a_sign_of_the_time_at_which_it_was() {
        let mut tracker = tracker();
        assert!(tracker.handle_report(&report(1, 148, Some(20)), at(100)));
        assert_eq!(tracker.heard(ALICE), Some(at(80)));
        assert!(!tracker.handle_report(&report(2, 148, Some(90)), at(110)), "an older one");
        assert!(!tracker.handle_report(&report(1, 148, Some(50)), at(180)), "50 s on its way");
        assert_eq!(tracker.lost(at(200)), [(ALICE, at(80))]);
    }

    #[test]
    fn any_gateway_that_hears_the_peer_counts() {
        let mut tracker = tracker();
        for n in 0..10 {
            tracker.handle_report(&report(1, 148, None), at(30 * n));
            tracker.handle_report(&report(2, 32 * n, None), at(30 * n));
        }
        assert_eq!(tracker.lost(at(389)), []);
        assert_eq!(tracker.lost(at(390)), [(ALICE, at(270))]);
    }

    #[test]
    fn a_late_report_revives_nothing() {
        let mut tracker = tracker();
        tracker.handle_report(&report(1, 148, None), at(0));
        assert!(!tracker.handle_report(&report(1, 5000, Some(0)), at(120)));
        assert_eq!(tracker.lost(at(120)), [(ALICE, at(0))]);
    }

    #[test]
    fn a_limit_can_come_and_go() {
        let mut tracker = tracker();
        tracker.set_limit(ALICE, None, at(0));
        assert_eq!((tracker.lost(at(9999)), tracker.heard(ALICE)), (Vec::new(), None));
        let longer = LinkLoss::new(Duration::from_secs(300)).unwrap();
        tracker.set_limit(ALICE, Some(longer), at(10));
        assert_eq!(tracker.lost(at(309)), []);
        tracker.heard_elsewhere(ALICE, at(200));
        assert_eq!(tracker.lost(at(499)), []);
        assert_eq!(tracker.lost(at(500)), [(ALICE, at(200))]);
    }
}
