//! The task that keeps the line to core: dials, listens, answers, and dials again for ever.
//!
//! ```text
//!  connecting ──▶ connected ──silence, end, error──▶ waiting ──▶ connecting
//! ```
//!
//! Core being away is no reason to touch the kernel; only core's own word is. The task may be
//! dropped at any time: what it had not passed on comes again with the next stream's snapshot.

use core::future::Future;
use core::pin::{Pin, pin};
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use mfa_wire::gateway as wire;
use mfa_wire::gateway::from_gateway::Message as Outbound;
use mfa_wire::gateway::gateway_client::GatewayClient;
use mfa_wire::gateway::to_gateway::Message as Inbound;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::assembly::Assembly;
use crate::backoff::Backoff;
use crate::channel::{ConnectError, connect};
use crate::config::Config;
use crate::identity::{self, Identity, IdentityError, Key};
use crate::kernel::{Command, Progress, Report};
use crate::program::Update;
use crate::{clock, enroll, rng, stats, systemd, tls};

const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_LONGEST: Duration = Duration::from_secs(30);

/// How long to leave a core alone that does not want this gateway, or has a newer one of its name.
const UNWANTED: Duration = Duration::from_secs(60);

/// How long core may take to open a stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// How many heartbeats may stay unanswered.
const UNANSWERED: u32 = 3;

/// How many heartbeats are remembered. An answer to an older one would be of no use.
const UNANSWERED_KEPT: usize = 16;

/// How long after a failed renewal the next is tried.
const RENEW_AGAIN: Duration = Duration::from_secs(600);

/// Cuts in one message; see the protocol.
const CUTS_MAX: usize = 4_000;

/// Core may be this many messages behind: a report on 200,000 peers is 50 parts.
const OUTGOING: usize = 64;

/// How the line is, for who asks.
#[derive(Clone, Debug)]
pub(crate) struct LinkStatus {
    pub(crate) state: LinkState,
    pub(crate) since: SystemTime,
    pub(crate) last_heard: Option<SystemTime>,
    /// Why the last connection ended, or did not come about.
    pub(crate) error: Option<String>,
    pub(crate) certificate_ends: Option<SystemTime>,
}

/// Where in its circle the line is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// Dialling.
    Connecting,
    /// Core has accepted the stream.
    Connected,
    /// Until the next attempt.
    Waiting,
}

/// What the task is made of.
pub(crate) struct Link {
    pub(crate) config: Arc<Config>,
    /// "kernel" or "userspace".
    pub(crate) backend: String,
    pub(crate) process_id: [u8; 16],
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) reports: mpsc::Receiver<Report>,
    pub(crate) progress: watch::Receiver<Progress>,
    pub(crate) status: watch::Sender<LinkStatus>,
}

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    #[error("{}", words(.0))]
    Status(#[from] Status),
    #[error("core closed the connection")]
    Closed,
    #[error("core was silent for {0:?}")]
    Silent(Duration),
    #[error("core does not read what it is sent")]
    Slow,
    #[error("the certificate was renewed")]
    Renewed,
    #[error("the gateway stops")]
    Stopping,
}

impl Link {
    /// Runs until the kernel's task is gone.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::new(BACKOFF_FIRST, BACKOFF_LONGEST);
        loop {
            self.enter(LinkState::Connecting, None);
            let ended = self.connection(&mut backoff).await;
            let (wait, order) = match &ended {
                Ended::Stopping => return,
                Ended::Renewed => (Duration::ZERO, None),
                Ended::Status(status) => match status.code() {
                    Code::Aborted => (UNWANTED, Some(Command::StandDown)),
                    Code::PermissionDenied => (UNWANTED, Some(Command::Dismiss)),
                    Code::Unauthenticated => (UNWANTED, Some(Command::Distrust)),
                    _ => (backoff.wait(rng::jitter()), None),
                },
                _ => (backoff.wait(rng::jitter()), None),
            };
            tracing::warn!("{ended}; the next attempt is in {:.1} s", wait.as_secs_f64());
            self.enter(LinkState::Waiting, Some(ended.to_string()));
            if let Some(order) = order {
                let sent = draining(&mut self.reports, self.commands.send(order)).await;
                if sent.is_err() {
                    return;
                }
            }
            draining(&mut self.reports, sleep(wait)).await;
        }
    }

    /// One connection from dialling to its end.
    async fn connection(&mut self, backoff: &mut Backoff) -> Ended {
        let opened = self.open();
        match opened.await {
            Ok(stream) => self.converse(stream, backoff).await,
            Err(ended) => ended,
        }
    }

    async fn open(&mut self) -> Result<Stream, Ended> {
        // From the files each time, so that a gateway enrolled anew needs no restart.
        let identity = Identity::load(&self.config.dir)?;
        self.status.send_modify(|status| status.certificate_ends = Some(identity.not_after()));
        let tls = tls::mutual(&identity)?;
        let channel = draining(&mut self.reports, connect(&self.config.core, tls)).await?;

        let (to_core, outgoing) = mpsc::channel(OUTGOING);
        let hello = Outbound::Hello(self.hello());
        // An empty queue has room.
        let _ = to_core.try_send(wire::FromGateway { message: Some(hello) });
        let mut client = GatewayClient::new(channel.clone());
        let call = timeout(OPEN_TIMEOUT, client.link(ReceiverStream::new(outgoing)));
        let inbound = draining(&mut self.reports, call)
            .await
            .map_err(|_| Ended::Silent(OPEN_TIMEOUT))??
            .into_inner();
        Ok(Stream { channel, to_core, inbound, renew_at: identity.renew_at() })
    }

    async fn converse(&mut self, stream: Stream, backoff: &mut Backoff) -> Ended {
        let Stream { channel, to_core, mut inbound, renew_at } = stream;
        tracing::info!(core = %self.config.core, "connected");
        self.enter(LinkState::Connected, None);
        let mut conversation = Conversation::default();
        let mut heard_at = clock::now();
        let mut heartbeat = 0_u64;
        let mut beats = interval(self.config.heartbeat_period);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let silence = self.config.heartbeat_period * UNANSWERED;
        let mut renewal: Option<Renewal> = None;
        let mut renew_not_before = clock::now();
        loop {
            let say = |message| say(&to_core, message);
            let said = tokio::select! {
                // Only if the kernel's task has room is more read: core waits, not our memory grows.
                permit = self.commands.reserve(), if conversation.pending.is_some() => {
                    let Ok(permit) = permit else { return Ended::Stopping };
                    if let Some(update) = conversation.pending.take() {
                        permit.send(Command::Update(update));
                    }
                    Ok(())
                }
                message = inbound.message(), if conversation.pending.is_none() => {
                    let message = match message {
                        Ok(Some(message)) => message,
                        Ok(None) => return Ended::Closed,
                        Err(status) => return status.into(),
                    };
                    heard_at = clock::now();
                    if let Some(Inbound::Heartbeat(answer)) = &message.message
                        && let Some(sent_at) = conversation.answered(answer.number)
                    {
                        // If the kernel's task is so busy that there is no room, the next one counts.
                        let _ = self.commands.try_send(Command::Confirm(sent_at));
                    }
                    self.status.send_modify(|status| status.last_heard = Some(clock::wall()));
                    let resync = conversation.hear(message);
                    if conversation.pending.is_some() {
                        backoff.reset();
                    }
                    resync.map_or(Ok(()), |reason| say(Outbound::Resync(wire::Resync { reason })))
                }
                report = self.reports.recv() => {
                    let Some(report) = report else { return Ended::Stopping };
                    conversation.tell(report).into_iter().try_for_each(say)
                }
                _ = beats.tick() => {
                    let quiet = heard_at.elapsed();
                    if quiet > silence && conversation.pending.is_none() {
                        return Ended::Silent(quiet);
                    }
                    if renewal.is_none() && clock::wall() >= renew_at
                        && clock::now() >= renew_not_before
                    {
                        renewal = Some(Box::pin(renew(channel.clone(), Arc::clone(&self.config))));
                    }
                    heartbeat += 1;
                    conversation.asked(heartbeat, clock::boot());
                    say(Outbound::Heartbeat(wire::Heartbeat { number: heartbeat }))
                }
                renewed = finished(&mut renewal) => {
                    renewal = None;
                    match renewed {
                        Ok(()) => return Ended::Renewed,
                        Err(error) => {
                            tracing::error!("the certificate was not renewed: {error}");
                            renew_not_before = clock::now() + RENEW_AGAIN;
                        }
                    }
                    Ok(())
                }
            };
            if let Err(ended) = said {
                return ended;
            }
        }
    }

    fn hello(&self) -> wire::Hello {
        wire::Hello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: enroll::hostname(),
            process_id: self.process_id.to_vec(),
            applied_revision: self.progress.borrow().verified.unwrap_or_default(),
            backend: self.backend.clone(),
            interface: self.config.interface.clone(),
        }
    }

    fn enter(&self, state: LinkState, error: Option<String>) {
        systemd::status(&match (&state, &error) {
            (LinkState::Connecting, _) => format!("Connecting to {}", self.config.core),
            (LinkState::Connected, _) => format!("Connected to {}", self.config.core),
            (LinkState::Waiting, Some(error)) => format!("Waiting to dial again: {error}"),
            (LinkState::Waiting, None) => "Waiting to dial again".to_owned(),
        });
        self.status.send_modify(|status| {
            status.state = state;
            status.since = clock::wall();
            // The last reason stays until a connection holds.
            if error.is_some() || state == LinkState::Connected {
                status.error = error;
            }
        });
    }
}

/// An open stream.
struct Stream {
    channel: Channel,
    to_core: mpsc::Sender<wire::FromGateway>,
    inbound: tonic::Streaming<wire::ToGateway>,
    renew_at: SystemTime,
}

/// What was said on one stream so far.
#[derive(Default)]
struct Conversation {
    assembly: Assembly,
    /// Whole and not yet passed on.
    pending: Option<Update>,
    /// Core has sent something whole.
    begun: bool,
    /// Heartbeats that are not answered yet, and when they were sent.
    unanswered: VecDeque<(u64, Instant)>,
}

impl Conversation {
    /// Takes a message of core's; returns why a snapshot is needed, if one is.
    fn hear(&mut self, message: wire::ToGateway) -> Option<String> {
        let update = match message.message? {
            Inbound::Heartbeat(_) => return None,
            Inbound::Snapshot(part) => match self.assembly.take(part) {
                Ok(Some(snapshot)) => Update::Snapshot { snapshot, fresh: !self.begun },
                Ok(None) => return None,
                Err(error) => return Some(error.to_string()),
            },
            Inbound::Change(change) => match self.assembly.interrupt() {
                Ok(()) => Update::Change(change),
                Err(error) => return Some(error.to_string()),
            },
        };
        self.begun = true;
        self.pending = Some(update);
        None
    }

    /// Notes that a heartbeat is sent.
    fn asked(&mut self, number: u64, now: Instant) {
        self.unanswered.push_back((number, now));
        if self.unanswered.len() > UNANSWERED_KEPT {
            self.unanswered.pop_front();
        }
    }

    /// When the heartbeat of this number was sent, which is answered now. An answer to another
    /// number, or a second one, counts for nothing.
    fn answered(&mut self, number: u64) -> Option<Instant> {
        let at = self.unanswered.iter().position(|(sent, _)| *sent == number)?;
        self.unanswered.drain(..=at).next_back().map(|(_, sent_at)| sent_at)
    }

    /// Puts a report into messages. On a stream on which core has said nothing yet it is of the
    /// time before, and core is not interested.
    fn tell(&self, report: Report) -> Vec<Outbound> {
        if !self.begun {
            return Vec::new();
        }
        match report {
            Report::Ack(ack) => vec![Outbound::Ack(ack)],
            Report::Cuts(cuts) => cuts
                .chunks(CUTS_MAX)
                .map(|cuts| Outbound::Cuts(wire::Cuts { cuts: cuts.to_vec() }))
                .collect(),
            Report::Resync(reason) => vec![Outbound::Resync(wire::Resync { reason })],
            Report::Stats { check, number, period } => {
                stats::report(check, number, period).into_iter().map(Outbound::Stats).collect()
            }
        }
    }
}

type Renewal = Pin<Box<dyn Future<Output = Result<(), Ended>> + Send>>;

/// Asks for another certificate for the same key, and keeps it.
async fn renew(channel: Channel, config: Arc<Config>) -> Result<(), Ended> {
    let key = Key::load(&config.dir)?;
    let csr = key.request(&enroll::hostname())?;
    let answer = GatewayClient::new(channel).renew(wire::RenewRequest { csr }).await?.into_inner();
    key.check(&answer.certificate)?;
    identity::save_certificate(&config.dir, &answer.certificate)?;
    Ok(())
}

async fn finished(renewal: &mut Option<Renewal>) -> Result<(), Ended> {
    match renewal {
        Some(renewal) => renewal.await,
        None => core::future::pending().await,
    }
}

/// Waits for something while nobody is there to be told: reports are thrown away, so that the
/// kernel's task never waits for core.
async fn draining<T>(reports: &mut mpsc::Receiver<Report>, wait: impl Future<Output = T>) -> T {
    let mut wait = pin!(wait);
    loop {
        tokio::select! {
            done = &mut wait => return done,
            Some(_) = reports.recv() => {}
        }
    }
}

fn say(to_core: &mpsc::Sender<wire::FromGateway>, message: Outbound) -> Result<(), Ended> {
    to_core.try_send(wire::FromGateway { message: Some(message) }).map_err(|error| match error {
        mpsc::error::TrySendError::Full(_) => Ended::Slow,
        mpsc::error::TrySendError::Closed(_) => Ended::Closed,
    })
}

/// What core's status means to a person.
fn words(status: &Status) -> String {
    let message = status.message();
    match status.code() {
        Code::Unavailable => format!("core is not available: {message}"),
        Code::Aborted => format!(
            "another process with this gateway's identity took over: {message}. The kernel is left \
             to it; if there is none, two hosts have the same files"
        ),
        Code::PermissionDenied => format!(
            "core has dismissed this gateway: {message}. Its peers were taken out; to use it again, \
             enable it in core or enroll it again"
        ),
        Code::Unauthenticated => format!(
            "core does not know this gateway's certificate: {message}. Enroll it again: `core-bin \
             gateway token LOCATION NAME` prints the command"
        ),
        code => format!("core ended the stream: {message} ({code})"),
    }
}
