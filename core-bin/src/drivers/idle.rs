//! **idle** — statistics end a session, and so does its lifetime.
//!
//! Gateways' reports go to the tracker as they come. Each check period it is asked what has gone
//! quiet, what it saw is written down, and sessions that are over end, in one transaction, by the
//! store's one way to end a session.
//!
//! Several cores may serve one database, each with gateways of its own. So what one of them saw is
//! written down within seconds, each takes over what the others wrote, and the transaction that ends
//! a quiet session looks once more whether somebody has heard of it.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mfa_core::connect::EndReason;
use mfa_core::id::{GatewayId, LocationId, SessionId};
use mfa_core::idle::{Counters, IdleEvent, IdleTracker, Observation, Report};
use mfa_core::policy::IdlePolicy;
use mfa_core::time::Timestamp;
use mfa_store::{Activity, Actor, By, Location, Quiet, Scope, SessionInfo, Snapshot, StoreError};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use wg_types::PublicKey;

use crate::app::App;
use crate::link::StatsReport;

/// How soon another core can know of a sign of life.
const NEWS: Duration = Duration::from_secs(2);

/// Follows every live session.
#[derive(Debug)]
pub struct IdleDriver {
    app: Arc<App>,
    tracker: IdleTracker,
    followed: BTreeMap<SessionId, Followed>,
    by_peer: BTreeMap<(LocationId, PublicKey), SessionId>,
    /// Sessions about which something is to be written down.
    news: BTreeSet<SessionId>,
    /// Quiet sessions that are still to be ended, and when this core last heard of each.
    quiet: BTreeMap<SessionId, Timestamp>,
    policies: BTreeMap<LocationId, IdlePolicy>,
    /// The statistics periods that were complained of.
    warned: BTreeSet<(LocationId, Duration)>,
    /// False until the sessions of before this process have been taken over.
    started: bool,
}

#[derive(Debug)]
struct Followed {
    peer: (LocationId, PublicKey),
    policy: IdlePolicy,
    /// What each gateway last counted.
    seen: BTreeMap<GatewayId, Counters>,
    /// The sum over this core's gateways and their restarts.
    total: Counters,
    /// How much of the sum has been written down.
    told: Counters,
    /// A gateway that has not reported yet counts from zero: its peer is new.
    fresh: bool,
}

impl Followed {
    /// Returns whether anything was added.
    fn count(&mut self, gateway: GatewayId, now: Counters) -> bool {
        let before = match self.seen.insert(gateway, now) {
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
struct Found {
    /// The live ones, and when any core last heard of each.
    live: BTreeMap<SessionId, Timestamp>,
    new: Vec<(SessionInfo, PublicKey)>,
    policies: BTreeMap<LocationId, IdlePolicy>,
}

impl IdleDriver {
    /// Starts with no session; the first look takes over those that live.
    #[must_use]
    pub fn new(app: Arc<App>) -> Self {
        Self {
            app,
            tracker: IdleTracker::new(),
            followed: BTreeMap::new(),
            by_peer: BTreeMap::new(),
            news: BTreeSet::new(),
            quiet: BTreeMap::new(),
            policies: BTreeMap::new(),
            warned: BTreeSet::new(),
            started: false,
        }
    }

    /// Runs until core stops.
    pub async fn run(
        mut self,
        period: Duration,
        mut reports: mpsc::Receiver<StatsReport>,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut tick = tokio::time::interval(period);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut news = tokio::time::interval(NEWS);
        news.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                report = reports.recv() => match report {
                    Some(report) => self.handle_report(&report).await,
                    None => break,
                },
                _ = tick.tick() => {
                    let now = self.app.clock.now();
                    self.check(now).await
                }
                _ = news.tick() => self.write_down().await,
                () = told(&mut stop) => break,
            };
            if let Err(error) = done {
                // Nothing is lost: what was not done is done at the next check.
                tracing::error!(%error, "the check of sessions failed; it is tried again");
            }
        }
        if let Err(error) = self.write_down().await {
            tracing::warn!(%error, "the sessions' last activity was not written down");
        }
    }

    /// Takes one gateway's report.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub async fn handle_report(&mut self, report: &StatsReport) -> Result<(), StoreError> {
        let known = |key: &PublicKey| self.by_peer.contains_key(&(report.location, *key));
        if !report.peers.iter().all(|peer| known(&peer.public_key)) {
            self.look().await?;
        }
        self.check_period(report);
        for peer in &report.peers {
            let Some(&session) = self.by_peer.get(&(report.location, peer.public_key)) else {
                continue;
            };
            let counters = Counters { rx_bytes: peer.rx_bytes, tx_bytes: peer.tx_bytes };
            if let Some(followed) = self.followed.get_mut(&session)
                && followed.count(report.gateway, counters)
            {
                self.news.insert(session);
            }
            let seen = Report {
                session,
                gateway: report.gateway,
                counters,
                handshake_age: peer.handshake_age,
            };
            match self.tracker.handle_report(&seen, report.received_at) {
                Observation::Active(_) => drop(self.news.insert(session)),
                Observation::Quiet | Observation::NotFollowed => {}
            }
        }
        self.collect();
        Ok(())
    }

    /// Ends what is over, and writes down what was seen.
    ///
    /// # Errors
    ///
    /// What the database reports; what was to be done is done at the next check.
    pub async fn check(&mut self, now: Timestamp) -> Result<(), StoreError> {
        self.look().await?;
        self.tracker.handle_timeout(now);
        self.collect();
        self.write_down().await?;
        let quiet = self.quiet.clone();
        let (ended, heard) = self
            .app
            .store
            .write(move |tx| {
                let by = By::new(Actor::System, now);
                let (mut ended, mut heard) = (Vec::new(), Vec::new());
                for (session, last_activity) in &quiet {
                    match tx.end_quiet_session(by, *session, *last_activity)? {
                        Quiet::Ended => ended.push((*session, EndReason::Idle)),
                        Quiet::HeardSince(at) => heard.push((*session, at)),
                        Quiet::Over => {}
                    }
                }
                for session in tx.overdue_sessions(now)? {
                    if tx.end_session(by, session, EndReason::Lifetime)? {
                        ended.push((session, EndReason::Lifetime));
                    }
                }
                Ok::<_, StoreError>((ended, heard))
            })
            .await?;
        self.quiet.clear();
        for (session, at) in heard {
            if let Some(followed) = self.followed.get_mut(&session) {
                followed.fresh = false;
                self.tracker.resume(session, followed.policy, at);
            }
        }
        for (session, reason) in ended {
            tracing::info!(%session, reason = reason.code(), "session ended");
            if let Some(followed) = self.forget(session) {
                self.app.registry.wake(followed.peer.0);
            }
        }
        Ok(())
    }

    /// Learns from the store which sessions live and by which policy.
    async fn look(&mut self) -> Result<(), StoreError> {
        let known: BTreeSet<SessionId> = self.followed.keys().copied().collect();
        let found = self.app.store.read(move |view| find(view, &known)).await?;
        let gone = self.followed.keys().filter(|id| !found.live.contains_key(id));
        for session in gone.copied().collect::<Vec<_>>() {
            // What has just gone quiet still waits to be ended.
            if !self.quiet.contains_key(&session) {
                self.forget(session);
            }
        }
        for (id, followed) in &mut self.followed {
            let known = self.tracker.last_activity(*id);
            if let Some((heard, known)) = found.live.get(id).zip(known)
                && *heard > known
            {
                followed.fresh = false;
                self.tracker.heard_elsewhere(*id, *heard);
            }
            if let Some(policy) = found.policies.get(&followed.peer.0)
                && *policy != followed.policy
            {
                followed.policy = *policy;
                self.tracker.set_policy(*id, *policy);
            }
        }
        for (session, key) in found.new {
            if let Some(policy) = found.policies.get(&session.subject.location) {
                self.follow(&session, key, *policy);
            }
        }
        self.policies = found.policies;
        self.started = true;
        Ok(())
    }

    fn follow(&mut self, session: &SessionInfo, key: PublicKey, policy: IdlePolicy) {
        let peer = (session.subject.location, key);
        if self.started {
            self.tracker.track(session.id, policy, session.authorized);
        } else {
            self.tracker.resume(session.id, policy, session.last_activity);
        }
        let (total, told) = (Counters::ZERO, Counters::ZERO);
        let (seen, fresh) = (BTreeMap::new(), self.started);
        self.by_peer.insert(peer, session.id);
        self.followed.insert(session.id, Followed { peer, policy, seen, total, told, fresh });
    }

    fn forget(&mut self, session: SessionId) -> Option<Followed> {
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

    async fn write_down(&mut self) -> Result<(), StoreError> {
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
        let news: Vec<Activity> = news.collect();
        if !news.is_empty() {
            let told: Vec<SessionId> = news.iter().map(|one| one.session).collect();
            self.app.store.write(move |tx| tx.note_activity(&news)).await?;
            for session in told {
                if let Some(followed) = self.followed.get_mut(&session) {
                    followed.told = followed.total;
                }
            }
        }
        self.news.clear();
        Ok(())
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

fn find(view: &mut Snapshot, known: &BTreeSet<SessionId>) -> Result<Found, StoreError> {
    let locations = view.locations()?;
    let policies = locations
        .into_iter()
        .filter(Location::asks_mfa)
        .map(|location| (location.id, location.settings.policy.idle()))
        .collect();
    let sessions = view.live_sessions(Scope::All)?;
    let live = sessions.iter().map(|session| (session.id, session.last_activity)).collect();
    let mut new = Vec::new();
    for session in sessions {
        if known.contains(&session.id) {
            continue;
        }
        if let Some(device) = view.device(session.subject.device)? {
            new.push((session, device.public_key));
        }
    }
    Ok(Found { live, new, policies })
}

async fn told(stop: &mut watch::Receiver<bool>) {
    // An error: who could stop core is gone, so it stops.
    let _ = stop.wait_for(|stop| *stop).await;
}
