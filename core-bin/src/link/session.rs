//! One gateway's stream: says what the gateway should have, and hears what it has.
//!
//! One task per stream. It may be cancelled at any point: the gateway dials again and takes a
//! snapshot. It ends when the gateway leaves, breaks the protocol, does not read, is revoked, or
//! core stops; the status says which.

use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use mfa_core::id::{GatewayId, LocationId, SessionId};
use mfa_core::time::Timestamp;
use mfa_store::{Cut, Passed};
use mfa_wire::gateway::{Ack, Change, FromGateway, Hello, Peer, Stats, ToGateway, from_gateway};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Status, Streaming};
use wg_types::PublicKey;

use super::feed::{Due, Feed};
use super::message::{self, Parts};
use super::pace::Pace;
use super::registry::{About, Call, Closing, Credential, ProcessId, Protocol, Seat};
use super::reports::Reports;
use super::stats::StatsReport;
use super::{Link, cores, desired};

/// Messages that wait for the transport. Small: what is not sent yet can still change.
pub(super) const OUTBOUND: usize = 4;

/// How long a gateway has to take core's last word.
const FAREWELL: Duration = Duration::from_secs(2);

/// How often a stream looks at the time.
const TICK: Duration = Duration::from_secs(1);

/// Pause after the store could not be read.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Heartbeats that wait to be answered; a gateway that sends more without reading loses the oldest.
const HEARTBEATS_MAX: usize = 16;

/// Unacknowledged messages that are remembered for the trail.
const SENT_MAX: usize = 1_024;

/// The longest text that is kept of what a gateway says of itself.
const TEXT_MAX: usize = 255;

/// Whose stream it is, as proved by its certificate and found in the store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub(super) gateway: GatewayId,
    pub(super) location: LocationId,
    pub(super) credential: Credential,
    /// When the proof ends.
    pub(super) until: Timestamp,
    pub(super) remote: std::net::SocketAddr,
}

/// Serves one stream until it ends.
pub(super) async fn serve(
    link: Arc<Link>,
    owner: Owner,
    mut inbound: Streaming<FromGateway>,
    outbound: mpsc::Sender<Result<ToGateway, Status>>,
) {
    let ended = run(&link, owner, &mut inbound, &outbound).await;
    let gateway = owner.gateway;
    match ended {
        Ok(()) => tracing::info!(%gateway, "the gateway left"),
        Err(status) => {
            let why = status.message();
            tracing::info!(%gateway, code = ?status.code(), why, "the gateway's stream ends");
            // A gateway that does not read cannot be told, and is not waited for long.
            drop(tokio::time::timeout(FAREWELL, outbound.send(Err(status))).await);
        }
    }
}

async fn run(
    link: &Link,
    owner: Owner,
    inbound: &mut Streaming<FromGateway>,
    outbound: &mpsc::Sender<Result<ToGateway, Status>>,
) -> Result<(), Status> {
    let hello = tokio::time::timeout(link.patience.hello, inbound.message());
    let hello = match hello.await {
        Ok(Ok(Some(FromGateway { message: Some(from_gateway::Message::Hello(hello)) }))) => hello,
        Ok(Ok(Some(_))) => return Err(Status::invalid_argument("a stream begins with a hello")),
        Ok(Ok(None)) => return Ok(()),
        Ok(Err(_broken)) => return Ok(()),
        Err(_elapsed) => return Err(Status::deadline_exceeded("no hello came")),
    };
    if hello.process_id.is_empty() || hello.process_id.len() > 64 {
        return Err(Status::invalid_argument("a process is named by 1 to 64 random bytes"));
    }
    let process = ProcessId(hello.process_id.clone());
    let taken = cores::take_seat(link, owner.gateway, owner.location, &process).await;
    let number = taken.map_err(closed)?;
    let mut session = Session::join(link, owner, hello)
        .inspect_err(|_| link.registry.give_back(owner.gateway, number))?;
    session.seat.recorded(number);
    let stopping = super::stopping(link.shutdown.clone());
    tokio::pin!(stopping);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            call = session.seat.called() => match call {
                Call::Look => session.wake(),
                Call::Close(why) => return Err(closed(why)),
            },
            () = &mut stopping => {
                return Err(Status::unavailable("core stops; dial again in a moment"));
            }
            message = inbound.message() => match message {
                Ok(Some(message)) => session.hear(message)?,
                Ok(None) | Err(_) => return Ok(()),
            },
            permit = outbound.reserve(), if session.has_something_to_say() => {
                let Ok(permit) = permit else { return Ok(()) };
                session.blocked_since = None;
                if let Some(message) = session.next_message().await {
                    permit.send(Ok(message));
                }
            }
            _now = tick.tick() => session.look_at_the_time(outbound.capacity())?,
        }
    }
}

/// What is said of a stream that must close.
pub(super) fn closed(why: Closing) -> Status {
    match why {
        Closing::Revoked => Status::permission_denied(
            "this gateway was disabled or deleted; enroll it again with a new token",
        ),
        Closing::CertificateSpent => Status::unauthenticated(
            "this certificate is no longer the gateway's; enroll it again with a new token",
        ),
        Closing::Superseded => superseded(),
        Closing::Redialled => Status::unavailable("this gateway has dialled again"),
    }
}

fn superseded() -> Status {
    Status::aborted(
        "another process runs with this gateway's identity and came later; stop one of the two",
    )
}

struct Session<'a> {
    link: &'a Link,
    owner: Owner,
    seat: Seat,
    began: Instant,
    feed: Feed,
    pace: Pace,
    reports: Reports,
    /// What the gateway has been given since the last snapshot began, and may report on.
    known: BTreeSet<PublicKey>,
    parts: Option<Parts>,
    heartbeats: VecDeque<u64>,
    /// What the gateway said it had applied before; zero once that was looked at.
    said_applied: u64,
    /// Since when the transport takes nothing.
    blocked_since: Option<Duration>,
    /// When the stream was last woken, and has not looked since.
    woken: Option<Timestamp>,
    /// What was sent and is not acknowledged yet, oldest first.
    sent: VecDeque<Sent>,
    /// What the gateway last left out, so that it is said once.
    left_out: String,
}

/// A revision on its way.
#[derive(Clone, Copy, Debug)]
struct Sent {
    revision: i64,
    committed: Timestamp,
    at: Timestamp,
}

impl<'a> Session<'a> {
    fn join(link: &'a Link, owner: Owner, hello: Hello) -> Result<Self, Status> {
        let about = About {
            version: shortened(hello.version),
            hostname: shortened(hello.hostname),
            backend: shortened(hello.backend),
            interface: shortened(hello.interface),
            remote: Some(owner.remote),
            protocol: Protocol::Own,
        };
        tracing::info!(
            gateway = %owner.gateway, location = %owner.location, remote = %owner.remote,
            version = about.version, hostname = about.hostname, backend = about.backend,
            "a gateway is connected"
        );
        let process = ProcessId(hello.process_id);
        let now = link.clock.now();
        let credential = owner.credential;
        let seat = link
            .registry
            .join(owner.location, owner.gateway, credential, &process, about, now)
            .map_err(|_fenced| superseded())?;
        Ok(Self {
            link,
            owner,
            seat,
            began: Instant::now(),
            feed: Feed::new(),
            pace: Pace::new(),
            reports: Reports::new(),
            known: BTreeSet::new(),
            parts: None,
            heartbeats: VecDeque::new(),
            said_applied: hello.applied_revision,
            blocked_since: None,
            woken: None,
            sent: VecDeque::new(),
            left_out: String::new(),
        })
    }

    fn wake(&mut self) {
        self.woken.get_or_insert_with(|| self.link.clock.now());
        self.feed.wake();
    }

    /// Notes what is sent, for the trail.
    fn note_sent(&mut self, revision: i64) {
        let at = self.link.clock.now();
        let committed = self.woken.take().unwrap_or(at);
        self.sent.push_back(Sent { revision, committed, at });
        if self.sent.len() > SENT_MAX {
            self.sent.pop_front();
        }
    }

    fn hear(&mut self, message: FromGateway) -> Result<(), Status> {
        let at = self.began.elapsed();
        if !self.pace.allows(at) {
            return Err(Status::resource_exhausted("this gateway sends too many messages"));
        }
        let now = self.link.clock.now();
        self.seat.heard(now);
        // An unknown message is a newer gateway's; it can be ignored, since core asked for nothing.
        let Some(message) = message.message else { return Ok(()) };
        match message {
            from_gateway::Message::Hello(_) => {
                return Err(Status::invalid_argument("a stream has one hello"));
            }
            from_gateway::Message::Ack(ack) => self.hear_ack(ack, at, now)?,
            from_gateway::Message::Cuts(cuts) => {
                let gateway = self.owner.gateway;
                let cuts = cuts.cuts.into_iter().take(message::PEERS_MAX);
                self.seat.cut(cuts.map(|cut| Cut {
                    session: SessionId::new(cut.session_id),
                    gateway,
                    rx_bytes: cut.rx_bytes,
                    tx_bytes: cut.tx_bytes,
                }));
            }
            from_gateway::Message::Stats(stats) => self.hear_stats(&stats, at, now),
            from_gateway::Message::Heartbeat(heartbeat) => {
                if self.heartbeats.len() >= HEARTBEATS_MAX {
                    self.heartbeats.pop_front();
                }
                self.heartbeats.push_back(heartbeat.number);
                // The answer says that core has nothing newer, so it looks first.
                self.feed.wake();
            }
            from_gateway::Message::Resync(resync) => {
                let (gateway, reason) = (self.owner.gateway, shortened(resync.reason));
                tracing::info!(%gateway, reason, "the gateway asks for a snapshot");
                self.start_again(at);
            }
        }
        Ok(())
    }

    fn hear_ack(&mut self, ack: Ack, at: Duration, now: Timestamp) -> Result<(), Status> {
        let gateway = self.owner.gateway;
        let revision = i64::try_from(ack.revision).unwrap_or(i64::MAX);
        if !ack.error.is_empty() {
            let error = shortened(ack.error);
            tracing::warn!(%gateway, revision, error, "the gateway could not apply a revision");
            self.start_again(at);
            return Ok(());
        }
        match self.feed.acknowledged(revision) {
            Ok(revision) => {
                self.seat.applied(revision);
                let ago = |micros| now.saturating_sub(Duration::from_micros(micros));
                let (applied, verified) =
                    (ago(ack.applied_age_micros), ago(ack.verified_age_micros));
                while let Some(sent) = self.sent.pop_front_if(|sent| sent.revision <= revision) {
                    self.seat.passed(Passed {
                        gateway,
                        location: self.owner.location,
                        revision: sent.revision,
                        committed: sent.committed,
                        sent: sent.at,
                        // A gateway may say anything, but not that it was quicker than core.
                        applied: applied.max(sent.at),
                        verified: verified.max(sent.at),
                    });
                }
                let left_out = shortened(ack.left_out);
                if left_out != self.left_out {
                    if !left_out.is_empty() {
                        tracing::warn!(%gateway, left_out, "the gateway had to leave peers out");
                    }
                    self.left_out = left_out;
                }
                Ok(())
            }
            Err(_never_sent) => Err(Status::invalid_argument(
                "a revision was acknowledged that was not sent on this stream",
            )),
        }
    }

    fn hear_stats(&mut self, stats: &Stats, at: Duration, now: Timestamp) {
        let (gateway, location) = (self.owner.gateway, self.owner.location);
        let checked = match self.reports.check(stats, &self.known, at) {
            Ok(checked) => checked,
            Err(refused) => {
                tracing::debug!(%gateway, number = stats.number, %refused, "a report is ignored");
                return;
            }
        };
        if checked.left_out > 0 {
            let left_out = checked.left_out;
            tracing::debug!(%gateway, left_out, "a report had entries that are not this gateway's");
        }
        let (strangers, healed) = (stats.strangers_removed, stats.peers_healed);
        if strangers > 0 || healed > 0 {
            tracing::warn!(
                %gateway, strangers, healed,
                "something else changes this gateway's WireGuard interface; it was put right"
            );
        }
        let report = StatsReport {
            gateway,
            location,
            received_at: now,
            period: checked.period,
            peers: checked.peers,
        };
        if self.link.stats.try_send(report).is_err() {
            tracing::warn!(%gateway, "a statistics report was dropped: too many wait");
        }
    }

    fn start_again(&mut self, at: Duration) {
        self.parts = None;
        self.feed.trouble(at);
    }

    fn has_something_to_say(&self) -> bool {
        self.may_answer()
            || self.parts.is_some()
            || self.feed.due(self.began.elapsed()) != Due::Nothing
    }

    /// Whether a heartbeat waits and core's state is known to the gateway. A core that cannot read
    /// its database must not keep a gateway's lease alive.
    fn may_answer(&self) -> bool {
        !self.heartbeats.is_empty() && self.parts.is_none() && self.feed.is_current()
    }

    /// Returns the next message. It is made of what the store holds now, not of what it held when
    /// the stream was woken.
    async fn next_message(&mut self) -> Option<ToGateway> {
        if self.may_answer() {
            return self.heartbeats.pop_front().map(message::heartbeat);
        }
        if let Some(parts) = &mut self.parts {
            match parts.next() {
                Some(part) => return Some(part),
                None => self.parts = None,
            }
        }
        let location = self.owner.location;
        let made = match self.feed.due(self.began.elapsed()) {
            Due::Nothing => return None,
            Due::Snapshot => self.make_snapshot(location).await,
            Due::Changes { since } => self.make_change(location, since).await,
        };
        made.unwrap_or_else(|error| {
            let gateway = self.owner.gateway;
            tracing::error!(%gateway, %error, "cannot read what the gateway should have");
            self.feed.put_off(self.began.elapsed().saturating_add(STORE_PAUSE));
            None
        })
    }

    async fn make_snapshot(
        &mut self,
        location: LocationId,
    ) -> Result<Option<ToGateway>, mfa_store::StoreError> {
        let all = desired::all(&self.link.store, location, self.link.clock.now()).await?;
        self.compare_with_hello(all.revision);
        self.known = all.keys;
        self.feed.sent_snapshot(all.revision);
        self.note_sent(all.revision);
        let mut parts = Parts::new(unsigned(all.revision), all.interface, all.peers.into_message());
        let first = parts.next();
        self.parts = Some(parts);
        Ok(first)
    }

    /// A gateway cannot be ahead of the store, unless the store was put back.
    fn compare_with_hello(&mut self, revision: i64) {
        let said = core::mem::take(&mut self.said_applied);
        if said > unsigned(revision) {
            tracing::warn!(
                gateway = %self.owner.gateway, said, revision,
                "the gateway has applied a later revision than the database has; if the database \
                 was restored from a backup, look whether sessions and devices are as they should be"
            );
        }
    }

    async fn make_change(
        &mut self,
        location: LocationId,
        since: i64,
    ) -> Result<Option<ToGateway>, mfa_store::StoreError> {
        match desired::since(&self.link.store, location, since, self.link.clock.now()).await? {
            desired::News::Everything => {
                self.feed.changes_lost();
                Ok(None)
            }
            desired::News::Peers { revision, peers, .. } if revision == since => {
                debug_assert!(peers.is_empty(), "peers change with the revision");
                self.feed.sent_up_to(revision);
                self.woken = None;
                Ok(None)
            }
            desired::News::Peers { revision, peers, removed } => {
                self.known.extend(peers.iter().filter_map(key_of));
                self.feed.sent_up_to(revision);
                self.note_sent(revision);
                Ok(Some(message::change(Change {
                    base_revision: unsigned(since),
                    revision: unsigned(revision),
                    peers: peers.into_message(),
                    removed: removed.iter().map(|key| key.as_bytes().to_vec()).collect(),
                })))
            }
        }
    }

    fn look_at_the_time(&mut self, room: usize) -> Result<(), Status> {
        if self.link.clock.now() >= self.owner.until {
            return Err(Status::unauthenticated("this gateway's certificate has expired"));
        }
        if room > 0 || !self.has_something_to_say() {
            self.blocked_since = None;
            return Ok(());
        }
        let at = self.began.elapsed();
        let since = *self.blocked_since.get_or_insert(at);
        if at.saturating_sub(since) >= self.link.patience.unread {
            return Err(Status::unavailable("this gateway does not read; dial again"));
        }
        Ok(())
    }
}

pub(super) fn key_of(peer: &Peer) -> Option<PublicKey> {
    peer.public_key.as_slice().try_into().ok().map(PublicKey::from_bytes)
}

/// The store counts from zero up.
fn unsigned(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or(0)
}

/// What a gateway says of itself goes into logs and lists: not too long, and nothing unprintable.
pub(super) fn shortened(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_MAX));
    text.retain(|c| !c.is_control());
    text
}
