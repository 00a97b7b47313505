//! **idle** — statistics end a session, and so does its lifetime.
//!
//! Gateways' reports go to the tracker as they come. Each check period it is asked what has gone
//! quiet, what it saw is written down, and sessions that are over end, in one transaction, by the
//! store's one way to end a session.
//!
//! Several cores may serve one database, each with gateways of its own. So what one of them saw is
//! written down within seconds, each takes over what the others wrote, and the transaction that ends
//! a quiet session looks once more whether somebody has heard of it.
//!
//! What is decided is decided in [`Follower`]; here are the store and the time.

mod follower;
mod links;
mod outage;

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use mfa_core::connect::EndReason;
use mfa_core::id::{LocationId, SessionId};
use mfa_core::policy::{LinkLoss, OutageHold};
use mfa_core::time::Timestamp;
use mfa_store::{Actor, By, Location, Quiet, Snapshot, StoreError};
use tokio::sync::{mpsc, watch};

use super::{each, stopped};
use crate::app::App;
use crate::link::StatsReport;

pub use follower::{Follower, Found};
pub use links::{Link, Links};
pub use outage::{Outages, REPORTS_WITHIN};

/// How soon another core can know of a sign of life.
const NEWS: Duration = Duration::from_secs(2);

/// Follows every live session.
#[derive(Debug)]
pub struct IdleDriver {
    app: Arc<App>,
    follower: Follower,
    links: Links,
    outages: Outages,
    /// Until then gateways have the time to say what no core heard before this process.
    listening_until: Option<Timestamp>,
}

impl IdleDriver {
    /// Starts with no session; the first look takes over those that live.
    #[must_use]
    pub fn new(app: Arc<App>) -> Self {
        let (links, outages) = (Links::default(), Outages::default());
        Self { app, follower: Follower::new(), links, outages, listening_until: None }
    }

    /// Runs until core stops.
    pub async fn run(
        mut self,
        period: Duration,
        mut reports: mpsc::Receiver<StatsReport>,
        mut stop: watch::Receiver<bool>,
    ) {
        let (mut tick, mut news) = (each(period), each(NEWS));
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
                () = stopped(&mut stop) => break,
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
        let location = report.location;
        let revision = self.app.store.read(move |view| view.revision(location)).await?;
        if !self.follower.knows(location, revision) {
            self.look().await?;
        }
        let returning = self.outages.concerns(report.location);
        for peer in report.peers.iter().filter(|_| returning) {
            if let Some((id, _)) = self.follower.counted(report.location, peer.public_key)
                && let Some(quiet) = peer.quiet
            {
                let now = report.received_at;
                self.follower.handle_quiet(id, now.saturating_sub(quiet), now);
            }
        }
        self.follower.handle_report(report);
        for peer in &report.peers {
            if let Some((id, total)) = self.follower.counted(report.location, peer.public_key) {
                let returning = returning || self.listens(report.received_at);
                self.links.handle_report(id, report, peer, returning);
                let ago = |age| report.received_at.saturating_sub(age);
                self.app.live.heard(id, total, peer.endpoint, peer.handshake_age.map(ago));
            }
        }
        Ok(())
    }

    /// Ends what is over, and writes down what was seen.
    ///
    /// # Errors
    ///
    /// What the database reports; what was to be done is done at the next check.
    pub async fn check(&mut self, now: Timestamp) -> Result<(), StoreError> {
        self.look().await?;
        self.follower.handle_timeout(now);
        self.write_down().await?;
        // In an outage silence proves nothing; such a session is judged again at the next check.
        let waits = |id: &SessionId| {
            self.follower.location(*id).is_some_and(|place| self.outages.concerns(place))
        };
        let mut quiet = self.follower.quiet().clone();
        let waiting: Vec<_> =
            quiet.iter().filter(|(id, _)| waits(id)).map(|(id, at)| (*id, *at)).collect();
        quiet.retain(|id, _| !waits(id));
        let mut lost = self.links.lost(now);
        lost.retain(|(id, _)| !waits(id) && !self.listens(now));
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
                for &(session, last_heard) in &lost {
                    match tx.end_lost_session(by, session, last_heard)? {
                        Quiet::Ended => ended.push((session, EndReason::LinkLost)),
                        // What is written down of it is learnt at the next look.
                        Quiet::HeardSince(_) | Quiet::Over => {}
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
        self.follower.judged(&[heard, waiting].concat());
        for (session, reason) in ended {
            tracing::info!(%session, reason = reason.code(), "session ended");
            if let Some(location) = self.follower.ended(session) {
                self.app.registry.wake(location);
            }
        }
        Ok(())
    }

    /// Tells whether this process has begun so lately that a silence may be its own.
    fn listens(&self, now: Timestamp) -> bool {
        self.listening_until.is_none_or(|until| now < until)
    }

    /// Learns from the store which sessions live and by which policy.
    async fn look(&mut self) -> Result<(), StoreError> {
        let known = self.follower.known();
        let (mut found, links, places) =
            self.app.store.read(move |view| find(view, &known)).await?;
        for location in found.policies.keys() {
            let there = self.app.registry.elsewhere(*location).into_keys().collect();
            found.elsewhere.insert(*location, there);
        }
        self.follower.learn(found);
        if self.listening_until.is_none() {
            // What peers sent while no core listened shows in the second report from now.
            let until = self.app.clock.now().saturating_add(REPORTS_WITHIN);
            self.listening_until = Some(until);
            self.follower.spare(until);
        }
        self.links.learn(&links);
        self.outages.learn(places.holds, &places.heard, self.app.clock.now());
        self.app.live.retain(|session| self.follower.location(session).is_some());
        Ok(())
    }

    async fn write_down(&mut self) -> Result<(), StoreError> {
        let heard = self.links.news();
        if !heard.is_empty() {
            self.app.store.write(move |tx| tx.note_heard(&heard)).await?;
            self.links.written_down();
        }
        let news = self.follower.news();
        let told: Vec<SessionId> = news.iter().map(|one| one.session).collect();
        if !news.is_empty() {
            let (traffic, now) = (self.follower.traffic(&news), self.app.clock.now());
            self.app
                .store
                .write(move |tx| {
                    tx.note_activity(&news)?;
                    for (location, flow) in traffic.iter().filter(|(_, flow)| **flow != (0, 0)) {
                        tx.note_traffic(*location, now, *flow)?;
                    }
                    Ok::<_, StoreError>(())
                })
                .await?;
        }
        self.follower.written_down(&told);
        Ok(())
    }
}

/// What locations ask beside idleness.
struct Places {
    limits: BTreeMap<LocationId, LinkLoss>,
    holds: BTreeMap<LocationId, OutageHold>,
    /// When each gateway was last heard.
    heard: Vec<(LocationId, Timestamp)>,
}

type Learnt = (Found, Vec<Link>, Places);

fn find(view: &mut Snapshot, known: &[SessionId]) -> Result<Learnt, StoreError> {
    let locations = view.locations()?;
    let asked = || locations.iter().filter(|location| location.asks_mfa());
    let policy = |location: &Location| location.settings.policy;
    let gateways = view.gateways()?.into_iter();
    let places = Places {
        limits: asked().filter_map(|one| Some((one.id, policy(one).link_loss()?))).collect(),
        holds: asked().filter_map(|one| Some((one.id, policy(one).outage_hold()?))).collect(),
        heard: gateways
            .filter(|gateway| gateway.revoked.is_none())
            .filter_map(|gateway| Some((gateway.location, gateway.heard?)))
            .collect(),
    };
    let revisions = locations.iter().map(|location| (location.id, location.revision)).collect();
    let policies = locations
        .into_iter()
        .filter(Location::asks_mfa)
        .map(|location| (location.id, location.settings.policy.idle()))
        .collect();
    let (mut live, mut links, mut unknown) =
        (Vec::with_capacity(known.len()), Vec::new(), Vec::new());
    view.each_live_session(|session| {
        live.push((session.id, session.last_activity));
        if let Some(limit) = places.limits.get(&session.subject.location) {
            links.push(Link::of(&session, *limit));
        }
        if known.binary_search(&session.id).is_err() {
            unknown.push(session);
        }
    })?;
    let mut new = Vec::with_capacity(unknown.len());
    for session in unknown {
        if let Some(device) = view.device(session.subject.device)? {
            new.push((session, device.public_key));
        }
    }
    let elsewhere = BTreeMap::new();
    Ok((Found { live, new, revisions, policies, elsewhere }, links, places))
}
