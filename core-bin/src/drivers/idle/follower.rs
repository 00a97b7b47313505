//! What is known of live sessions between two looks at the store. Sans-IO.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use mfa_core::id::{GatewayId, LocationId, SessionId};
use mfa_core::idle::{Counters, IdleEvent, IdleTracker, Observation, Report};
use mfa_core::policy::IdlePolicy;
use mfa_core::time::Timestamp;
use mfa_store::{Activity, SessionInfo};
use mutant::Mutant;
use wg_types::PublicKey;

use crate::link::StatsReport;

/// Follows every live session.
#[derive(Debug, Default)]
pub struct Follower {
    tracker: IdleTracker,
    /// Boxed: a tree's nodes are half empty, and there are many sessions.
    followed: BTreeMap<SessionId, Box<Followed>>,
    by_peer: BTreeMap<(LocationId, PublicKey), SessionId>,
    /// Sessions about which something is to be written down.
    news: BTreeSet<SessionId>,
    /// Quiet sessions that are still to be ended, and when this core last heard of each.
    quiet: BTreeMap<SessionId, Timestamp>,
    policies: BTreeMap<LocationId, IdlePolicy>,
    /// The statistics periods that were complained of.
    warned: BTreeSet<(LocationId, Duration)>,
    /// As of which revision of each location the sessions are known.
    revisions: BTreeMap<LocationId, i64>,
    /// False until the sessions of before this process have been taken over.
    started: bool,
}

#[derive(Debug)]
struct Followed {
    peer: (LocationId, PublicKey),
    /// What each gateway last counted. A location has few, and there are many sessions.
    seen: Vec<(GatewayId, Counters)>,
    /// The sum over this core's gateways and their restarts.
    total: Counters,
    /// How much of the sum has been written down.
    told: Counters,
    /// A gateway that has not reported yet counts from zero: its peer is new.
    fresh: bool,
    /// Gateways that were connected to another core since they last reported here. That one has what
    /// they counted meanwhile.
    elsewhere: Box<[GatewayId]>,
}

impl Followed {
    /// Keeps what a gateway counted last, and returns what that was before.
    fn remember(&mut self, gateway: GatewayId, now: Counters) -> Option<Counters> {
        if let Some((_, counted)) = self.seen.iter_mut().find(|(seen, _)| *seen == gateway) {
            return Some(core::mem::replace(counted, now));
        }
        self.seen.reserve_exact(1);
        self.seen.push((gateway, now));
        None
    }

    /// Tells whether a gateway has been at another core since it last reported here; this report ends it.
    fn comes_back(&mut self, gateway: GatewayId) -> bool {
        let was = self.elsewhere.contains(&gateway);
        if was {
            let others = self.elsewhere.iter().filter(|at| **at != gateway);
            self.elsewhere = others.copied().collect();
        }
        was
    }

    /// Returns whether anything was added.
    fn count(&mut self, gateway: GatewayId, now: Counters) -> bool {
        let before = match self.remember(gateway, now) {
            Some(before) => before,
            None if self.fresh => Counters::ZERO,
            // Taken over from before this process: the store has what was counted then.
            None => return false,
        };
        // A counter that fell was restarted with its peer.
        let added = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        self.total = Counters {
            rx_bytes: self.total.rx_bytes.saturating_add(added(now.rx_bytes, before.rx_bytes)),
            tx_bytes: self.total.tx_bytes.saturating_add(added(now.tx_bytes, before.tx_bytes)),
        };
        self.total != self.told
    }
}

/// What the store says of the sessions now.
#[derive(Debug, Default)]
pub struct Found {
    /// The live ones, and when any core last heard of each.
    pub live: Vec<(SessionId, Timestamp)>,
    /// Those that were not [known](Follower::known), with their devices' keys.
    pub new: Vec<(SessionInfo, PublicKey)>,
    /// The locations' revisions: each begin and each end of a session raises one.
    pub revisions: BTreeMap<LocationId, i64>,
    /// What the locations with MFA ask.
    pub policies: BTreeMap<LocationId, IdlePolicy>,
    /// The gateways that are connected to other cores.
    pub elsewhere: BTreeMap<LocationId, BTreeSet<GatewayId>>,
}

impl Found {
    /// When any core last heard of a session; `None`: it does not live.
    fn heard(&self, session: SessionId) -> Option<Timestamp> {
        let place = self.live.binary_search_by_key(&session, |(id, _)| *id).ok()?;
        self.live.get(place).map(|(_, heard)| *heard)
    }
}

impl Follower {
    /// Starts with no session; the first [`Found`] says which to take over.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the sessions that are followed, in order.
    #[must_use]
    pub fn known(&self) -> Vec<SessionId> {
        self.followed.keys().copied().collect()
    }

    /// Tells whether all that the store has of a location's sessions is known, when its revision is
    /// this. Else a report could be taken for one of a session that another core has replaced.
    #[must_use]
    pub fn knows(&self, location: LocationId, revision: Option<i64>) -> bool {
        self.revisions.get(&location).copied() == revision
    }

    /// Returns the session of a peer, and all that was counted of it here.
    #[must_use]
    pub fn counted(&self, location: LocationId, key: PublicKey) -> Option<(SessionId, Counters)> {
        let session = *self.by_peer.get(&(location, key))?;
        Some((session, self.followed.get(&session)?.total))
    }

    /// Adds up by location what is to be written down: bytes received and sent.
    #[must_use]
    pub fn traffic(&self, news: &[Activity]) -> BTreeMap<LocationId, (u64, u64)> {
        let mut traffic: BTreeMap<LocationId, (u64, u64)> = BTreeMap::new();
        for one in news {
            if let Some(followed) = self.followed.get(&one.session) {
                let flow = traffic.entry(followed.peer.0).or_default();
                flow.0 = flow.0.saturating_add(one.rx_added);
                flow.1 = flow.1.saturating_add(one.tx_added);
            }
        }
        traffic
    }

    /// Takes over what the store says.
    pub fn learn(&mut self, mut found: Found) {
        found.live.sort_unstable_by_key(|(id, _)| *id);
        let gone = self.followed.keys().filter(|id| found.heard(**id).is_none());
        for session in gone.copied().collect::<Vec<_>>() {
            // What has just gone quiet still waits to be ended.
            if !self.quiet.contains_key(&session) {
                self.forget(session);
            }
        }
        for (id, followed) in &mut self.followed {
            let known = self.tracker.last_activity(*id);
            if let Some((heard, known)) = found.heard(*id).zip(known)
                && heard > known
            {
                followed.fresh = false;
                self.tracker.heard_elsewhere(*id, heard);
            }
            let location = followed.peer.0;
            if let Some(policy) = found.policies.get(&location)
                && self.policies.get(&location) != Some(policy)
            {
                self.tracker.set_policy(*id, *policy);
            }
        }
        self.policies = core::mem::take(&mut found.policies);
        // What a report's lateness ended here may have been heard of elsewhere; it is judged anew.
        let quiet = self.quiet.iter().filter_map(|(id, judged_by)| {
            let heard = found.heard(*id).filter(|heard| heard > judged_by)?;
            Some((*id, heard))
        });
        for (session, heard) in quiet.collect::<Vec<_>>() {
            self.quiet.remove(&session);
            self.revive(session, heard);
        }
        for (session, key) in found.new {
            if let Some(policy) = self.policies.get(&session.subject.location).copied() {
                self.follow(&session, key, policy);
            }
        }
        for followed in self.followed.values_mut() {
            for gateway in found.elsewhere.get(&followed.peer.0).into_iter().flatten() {
                if !followed.elsewhere.contains(gateway) {
                    followed.elsewhere = [&*followed.elsewhere, &[*gateway]].concat().into();
                }
            }
        }
        self.revisions = found.revisions;
        self.started = true;
    }

    /// Tells nobody who was followed so far quiet before `until`: gateways have until then to say what
    /// was not heard before this process.
    pub fn spare(&mut self, until: Timestamp) {
        for session in self.followed.keys() {
            self.tracker.spare(*session, until);
        }
    }

    /// Takes one gateway's report.
    pub fn handle_report(&mut self, report: &StatsReport) {
        self.check_period(report);
        for peer in &report.peers {
            let Some(&session) = self.by_peer.get(&(report.location, peer.public_key)) else {
                continue;
            };
            let counters = Counters { rx_bytes: peer.rx_bytes, tx_bytes: peer.tx_bytes };
            let seen = Report {
                session,
                gateway: report.gateway,
                counters,
                handshake_age: peer.handshake_age,
                handshake_mark: peer.handshake_mark,
            };
            if let Some(followed) = self.followed.get_mut(&session)
                && followed.comes_back(report.gateway)
                && !mutant::on(Mutant::CountedTwice)
            {
                // It has moved here; the store has what it told the other core.
                followed.remember(report.gateway, counters);
                self.tracker.recall(&seen, report.received_at);
            }
            if let Some(followed) = self.followed.get_mut(&session)
                && followed.count(report.gateway, counters)
            {
                self.news.insert(session);
            }
            match self.tracker.handle_report(&seen, report.received_at) {
                Observation::Active(_) => drop(self.news.insert(session)),
                Observation::Quiet | Observation::NotFollowed => {}
            }
        }
        self.collect();
    }

    /// Takes a gateway's own judgement of a peer, in a location that comes out of an outage: what core
    /// could not hear counts although the threshold has passed meanwhile. A silence as long as the
    /// threshold revives nobody.
    pub fn handle_quiet(&mut self, session: SessionId, active: Timestamp, now: Timestamp) {
        let Some(policy) = self.policy(session) else { return };
        let silence = now.since(active);
        let known = self.quiet.get(&session).copied();
        let known = known.or_else(|| self.tracker.last_activity(session));
        if silence >= policy.threshold() || known.is_none_or(|known| active <= known) {
            return;
        }
        if self.quiet.remove(&session).is_some() {
            self.revive(session, active);
        } else {
            self.tracker.heard_elsewhere(session, active);
        }
        self.news.insert(session);
    }

    /// Returns the location of a session that is followed.
    #[must_use]
    pub fn location(&self, session: SessionId) -> Option<LocationId> {
        self.followed.get(&session).map(|followed| followed.peer.0)
    }

    /// Moves time forward.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.tracker.handle_timeout(now);
        self.collect();
    }

    /// Returns what is to be written down.
    #[must_use]
    pub fn news(&self) -> Vec<Activity> {
        let news = self.news.iter().filter_map(|id| {
            // Without a byte from the peer there is nothing to tell.
            let followed = self.followed.get(id)?;
            let last_activity = self.tracker.last_activity(*id)?;
            let (total, told) = (followed.total, followed.told);
            let rx_added = total.rx_bytes.saturating_sub(told.rx_bytes);
            let tx_added = total.tx_bytes.saturating_sub(told.tx_bytes);
            let heard = total.rx_bytes > 0 || !followed.fresh;
            heard.then_some(Activity { session: *id, last_activity, rx_added, tx_added })
        });
        news.collect()
    }

    /// Notes that this is written down, which are all [news](Self::news).
    pub fn written_down(&mut self, told: &[SessionId]) {
        for session in told {
            if let Some(followed) = self.followed.get_mut(session) {
                followed.told = followed.total;
            }
        }
        self.news.clear();
    }

    /// Returns the quiet sessions, which are to be ended, and when this core last heard of each.
    #[must_use]
    pub const fn quiet(&self) -> &BTreeMap<SessionId, Timestamp> {
        &self.quiet
    }

    /// Notes what came of the quiet sessions: that another core has heard of these since.
    pub fn judged(&mut self, heard: &[(SessionId, Timestamp)]) {
        self.quiet.clear();
        for (session, at) in heard {
            self.revive(*session, *at);
        }
    }

    /// By what a session is judged.
    fn policy(&self, session: SessionId) -> Option<IdlePolicy> {
        self.policies.get(&self.location(session)?).copied()
    }

    fn revive(&mut self, session: SessionId, heard: Timestamp) {
        if let Some(policy) = self.policy(session)
            && let Some(followed) = self.followed.get_mut(&session)
        {
            followed.fresh = false;
            self.tracker.resume(session, policy, heard);
        }
    }

    /// Notes that a session has ended; returns its location if it was followed.
    pub fn ended(&mut self, session: SessionId) -> Option<LocationId> {
        self.forget(session).map(|followed| followed.peer.0)
    }

    fn follow(&mut self, session: &SessionInfo, key: PublicKey, policy: IdlePolicy) {
        let peer = (session.subject.location, key);
        // One that another core has heard of already is none whose counters begin at zero.
        let fresh = self.started && session.last_activity <= session.authorized;
        if fresh {
            self.tracker.track(session.id, policy, session.authorized);
        } else {
            self.tracker.resume(session.id, policy, session.last_activity);
        }
        let (total, told) = (Counters::ZERO, Counters::ZERO);
        let (seen, elsewhere) = (Vec::new(), Box::default());
        self.by_peer.insert(peer, session.id);
        let followed = Followed { peer, seen, total, told, fresh, elsewhere };
        self.followed.insert(session.id, Box::new(followed));
    }

    fn forget(&mut self, session: SessionId) -> Option<Box<Followed>> {
        self.tracker.forget(session);
        self.news.remove(&session);
        let followed = self.followed.remove(&session)?;
        // A newer session may have taken the peer's place.
        if self.by_peer.get(&followed.peer) == Some(&session) {
            self.by_peer.remove(&followed.peer);
        }
        Some(followed)
    }

    fn collect(&mut self) {
        while let Some(IdleEvent::Idle { session, last_activity }) = self.tracker.poll_event() {
            self.quiet.insert(session, last_activity);
        }
    }

    /// Complains once of a gateway that reports too seldom for its location's threshold.
    fn check_period(&mut self, report: &StatsReport) {
        let Some(policy) = self.policies.get(&report.location) else { return };
        if report.period.is_zero() {
            return;
        }
        if let Err(warning) = policy.check_statistics_period(report.period)
            && self.warned.insert((report.location, report.period))
        {
            tracing::warn!(location = %report.location, gateway = %report.gateway, "{warning}");
        }
    }
}

#[cfg(test)]
mod tests {
    use mfa_core::challenge::Subject;
    use mfa_core::id::{DeviceId, UserId};
    use mfa_core::method::Method;
    use mfa_core::rotate::PskGeneration;

    use super::*;
    use crate::link::PeerReport;

    const PARIS: LocationId = LocationId::new(1);
    const SESSION: SessionId = SessionId::new(7);
    const ALICE: PublicKey = PublicKey::from_bytes([9; 32]);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_millis(1_700_000_000_000).saturating_add(Duration::from_secs(seconds))
    }

    /// The store has one session, which began now, and was heard of then.
    fn found(new: bool, heard: u64, elsewhere: &[i64]) -> Found {
        let info = SessionInfo {
            id: SESSION,
            subject: Subject { user: UserId::new(1), device: DeviceId::new(1), location: PARIS },
            method: Method::Totp,
            generation: PskGeneration::FIRST,
            authorized: at(0),
            lifetime_ends: at(90_000),
            connected: None,
            last_activity: at(heard),
            last_heard: None,
            ended: None,
            rx_bytes: 0,
            tx_bytes: 0,
        };
        let elsewhere = elsewhere.iter().copied().map(GatewayId::new).collect();
        Found {
            live: vec![(SESSION, at(heard))],
            new: if new { vec![(info, ALICE)] } else { Vec::new() },
            revisions: BTreeMap::new(),
            policies: [(PARIS, IdlePolicy::default())].into(),
            elsewhere: [(PARIS, elsewhere)].into(),
        }
    }

    fn report(gateway: i64, seconds: u64, rx_bytes: u64) -> StatsReport {
        let peer = PeerReport {
            public_key: ALICE,
            rx_bytes,
            tx_bytes: 0,
            handshake_age: None,
            handshake_mark: None,
            endpoint: None,
            quiet: None,
        };
        StatsReport {
            gateway: GatewayId::new(gateway),
            location: PARIS,
            received_at: at(seconds),
            period: Duration::from_secs(30),
            peers: vec![peer],
        }
    }

    /// Both cores heard of the session, this one last; then the other one's gateway moves here.
    #[test]
    fn what_a_gateway_told_another_core_does_not_count_again() {
        let mut follower = Follower::new();
        follower.learn(Found::default());
        follower.learn(found(true, 0, &[2]));
        follower.handle_report(&report(1, 31, 50_000));
        let told = follower.news();
        assert_eq!((told[0].last_activity, told[0].rx_added), (at(31), 50_000));
        follower.written_down(&[SESSION]);
        follower.learn(found(false, 31, &[2]));

        follower.learn(found(false, 31, &[]));
        follower.handle_report(&report(2, 200, 70_000));
        assert_eq!(follower.news(), [], "nothing new was heard");

        follower.handle_report(&report(2, 230, 120_001));
        let told = follower.news();
        assert_eq!((told[0].last_activity, told[0].rx_added), (at(230), 50_001));
    }

    #[test]
    fn a_new_session_counts_from_zero_at_a_gateway_that_was_always_here() {
        let mut follower = Follower::new();
        follower.learn(Found::default());
        follower.learn(found(true, 0, &[]));

        follower.handle_report(&report(2, 31, 70_000));

        let told = follower.news();
        assert_eq!((told[0].last_activity, told[0].rx_added), (at(31), 70_000));
    }
}
