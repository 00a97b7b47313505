//! The second half of a connect: the interface comes up, and somebody stays with it.
//!
//! One loop owns the interface. Beside it runs one task, which asks the server; it only reads, so
//! it may be dropped at any time. Whatever ends the loop, the interface goes with it.

use core::time::Duration;
use std::sync::Arc;
use std::time::SystemTime;

use mfa_wire::http::{DisconnectRequest, RotateRequest, RotateResponse};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use wg_types::PresharedKey;

use crate::api::{Api, ApiError};
use crate::client::{Client, io_error};
use crate::clock;
use crate::connect::Plan;
use crate::control::{self, Ask, Reply, Snapshot};
use crate::error::ClientError;
use crate::event::Event;
use crate::life::{ANSWER_WAIT, End, Life, LinkState, age, unix};
use crate::location::{Location, list};
use crate::rotate::Rotate;
use crate::running::{Claim, Record, fits_socket};
use crate::state::Instance;
use crate::tunnel::{Link, Tunnel, TunnelError, clean_up};
use crate::update::Update;
use crate::watch::{Finding, watch};

/// For another process to say what it wants.
const LISTEN: Duration = Duration::from_secs(1);

/// How a connection ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// From here.
    Disconnected,
    /// By the server, or because the interface was taken away.
    Ended(End),
}

/// A call about the session's keys, with its answer.
type Asked = (RotateRequest, Result<RotateResponse, ApiError>);

type Tell<'a> = &'a mut (dyn FnMut(Event) + Send);

impl Client {
    /// Brings the interface up and stays until `stop`, a command or the server ends it.
    ///
    /// # Errors
    ///
    /// [`ClientError`] if the interface does not come up, or not everything was cleaned up.
    pub async fn live(
        &self,
        plan: Plan,
        tell: Tell<'_>,
        stop: impl Future<Output = ()>,
    ) -> Result<Outcome, ClientError> {
        let (instance, location) = self.location_by_id(&plan.instance, plan.location)?;
        let claim = self
            .running()
            .claim(&instance.id, location.id)
            .map_err(io_error("cannot write to the client's folder"))?
            .ok_or_else(|| ClientError::AlreadyConnected(location.name.clone()))?;
        self.clean_up(&instance, &location)?;
        let api = Arc::new(self.api(&instance)?);
        api.resolve_ahead().await;
        let opened = self.open(plan, instance, location, claim, &api, tell).await;
        opened?.run(tell, stop).await
    }

    /// Makes the interface. If that fails, nothing is left of it.
    async fn open(
        &self,
        plan: Plan,
        instance: Instance,
        location: Location,
        claim: Claim,
        api: &Arc<Api>,
        tell: Tell<'_>,
    ) -> Result<Connection<'_>, ClientError> {
        let proven = plan.preshared_key.is_some();
        let brought_up = self.bring_up(&plan, &instance, &location, &claim).await;
        let (tunnel, dns_error) = match brought_up {
            Ok(up) => up,
            Err(error) => {
                claim.clear();
                // The session was bought for nothing: core should not keep the peer.
                say_goodbye(api, &instance, &location, proven).await;
                return Err(error);
            }
        };
        let now = clock::wall();
        let keepalive = location.keepalive.is_some();
        let life = Life::new(location.id, &location.name, plan.session, proven, keepalive, now);
        let rotate = rotate(&plan, &tunnel, now);
        let connection = Connection {
            client: self,
            plan,
            instance,
            location,
            claim,
            api: Arc::clone(api),
            tunnel,
            life,
            rotate,
            state: LinkState::Connecting,
            greeted: false,
            server_lost: false,
            waiting: Vec::new(),
        };
        if let Err(error) = connection.announce(now, dns_error, tell).await {
            // The first error is the one to tell.
            let _ = connection.close();
            return Err(error);
        }
        Ok(connection)
    }

    async fn bring_up(
        &self,
        plan: &Plan,
        instance: &Instance,
        location: &Location,
        claim: &Claim,
    ) -> Result<(Tunnel, Option<std::io::Error>), ClientError> {
        let psk = plan
            .preshared_key
            .as_ref()
            .map(|key| PresharedKey::from_base64(key.expose_secret()))
            .transpose()
            .map_err(|error| ClientError::Background(error.to_string()))?;
        if self.host.exists(&plan.interface) {
            return Err(TunnelError::Taken(plan.interface.clone()).into());
        }
        // Before there is anything to clean up: nothing is ever made without a record.
        let record = Record {
            instance: instance.id.clone(),
            location: location.id,
            interface: plan.interface.clone(),
            backend: String::new(),
            up_since: unix(clock::wall()),
            dns: None,
        };
        claim.record(&record).map_err(io_error("cannot write to the client's folder"))?;
        let (host, key) = (Arc::clone(&self.host), &instance.private_key);
        Ok(Tunnel::up(host, &plan.wanted(), location, key, psk.as_ref()).await?)
    }

    /// Removes what a process that died left behind.
    pub(crate) fn clean_up(
        &self,
        instance: &Instance,
        location: &Location,
    ) -> Result<(), ClientError> {
        if let Some(left) = self.running().record(&instance.id, location.id) {
            let key = instance.private_key.public_key();
            clean_up(&*self.host, &left.interface, left.dns.as_ref(), &key)?;
        }
        Ok(())
    }
}

/// A connection that is up.
struct Connection<'a> {
    client: &'a Client,
    plan: Plan,
    instance: Instance,
    location: Location,
    claim: Claim,
    api: Arc<Api>,
    tunnel: Tunnel,
    life: Life,
    /// The session's keys; `None`: there are none, or they stay as they are.
    rotate: Option<Rotate>,
    state: LinkState,
    /// The first handshake was told.
    greeted: bool,
    /// The server was last heard of.
    server_lost: bool,
    /// Who asked for the end, and waits to hear of it.
    waiting: Vec<UnixStream>,
}

/// Why the loop goes on or not.
enum Turn {
    Go,
    Stop,
    End(End),
}

impl Connection<'_> {
    /// Completes the record, keeps the way to the server out of the tunnel, tells what was made.
    async fn announce(
        &self,
        now: SystemTime,
        dns_error: Option<std::io::Error>,
        tell: Tell<'_>,
    ) -> Result<(), ClientError> {
        let record = Record {
            instance: self.instance.id.clone(),
            location: self.location.id,
            interface: self.tunnel.interface().to_owned(),
            backend: self.tunnel.backend(),
            up_since: unix(now),
            dns: self.tunnel.dns().cloned(),
        };
        self.claim.record(&record).map_err(io_error("cannot write to the client's folder"))?;
        let mark = self.tunnel.mark().map_err(TunnelError::from)?;
        self.api.set_mark(mark).await;
        let texts = |networks: &[ipnet::IpNet]| networks.iter().map(ToString::to_string).collect();
        tell(Event::Up {
            location: self.location.name.clone(),
            interface: record.interface,
            backend: record.backend,
            addresses: texts(&self.location.addresses),
            routes: texts(&self.location.allowed_ips),
            dns: record.dns.map(|change| format!("{} {change}", list(&self.location.dns))),
        });
        if let Some(error) = dns_error {
            tell(Event::DnsNotSet { message: error.to_string() });
        }
        Ok(())
    }

    async fn run(
        mut self,
        tell: Tell<'_>,
        stop: impl Future<Output = ()>,
    ) -> Result<Outcome, ClientError> {
        tokio::pin!(stop);
        let listener = self.listen();
        let nudge = Arc::new(Notify::new());
        // Two kinds of finding, each asked for after the last was taken: two places are enough.
        let (sender, mut findings) = mpsc::channel(2);
        let watch = tokio::spawn(watch(
            Arc::clone(&self.api),
            self.instance.clone(),
            self.client.periods,
            Arc::clone(&nudge),
            sender,
        ));
        // At most one call about keys; it only asks, and may be dropped at any time.
        let mut asking = JoinSet::new();
        // Not a sleep of its own each turn: who asks often would put the look off for ever.
        let mut looked = Instant::now();
        let outcome = loop {
            self.ask_about_keys(&mut asking);
            let turn = tokio::select! {
                () = &mut stop => Turn::Stop,
                () = sleep_until(looked + self.pause()) => {
                    looked = Instant::now();
                    self.look(&nudge, tell)
                }
                finding = findings.recv() => match finding {
                    Some(finding) => self.learn(finding, tell),
                    // Without it an end at the server would never be seen.
                    None => Turn::Stop,
                },
                Some(asked) = asking.join_next() => self.learn_keys(asked),
                Some(stream) = accept(listener.as_ref()) => self.answer(stream).await,
            };
            match turn {
                Turn::Go => {}
                Turn::Stop => break None,
                Turn::End(end) => break Some(end),
            }
        };
        watch.abort();
        self.finish(outcome, tell).await
    }

    /// Looks often until the first handshake, then calmly.
    fn pause(&self) -> Duration {
        let early = age(clock::wall(), self.life.up_since()) < ANSWER_WAIT;
        if !self.greeted && early {
            self.client.periods.first_handshake
        } else {
            self.client.periods.link
        }
    }

    fn look(&mut self, nudge: &Notify, tell: Tell<'_>) -> Turn {
        let now = clock::wall();
        let link = match self.tunnel.link() {
            Ok(link) => link,
            Err(wg_netlink::Error::NoSuchInterface { .. }) => {
                return Turn::End(self.life.handle_interface_gone());
            }
            // Busy, interrupted: the next look will tell.
            Err(_) => return Turn::Go,
        };
        let before = core::mem::replace(&mut self.state, self.life.handle_link(now, link));
        match (before, self.state) {
            (_, LinkState::Connected) if !self.greeted => {
                self.greeted = true;
                tell(self.connected(now, &link));
            }
            (LinkState::NoAnswer { .. }, LinkState::Connected) => tell(Event::AnswersAgain),
            (LinkState::NoAnswer { .. }, LinkState::NoAnswer { .. }) => {}
            (_, LinkState::NoAnswer { since }) => {
                tell(Event::NoAnswer { since });
                // Perhaps the session is over: ask now rather than at the next turn.
                nudge.notify_one();
            }
            _ => {}
        }
        if let Some((ends, left)) = self.life.warning(now) {
            tell(Event::EndsSoon { at: ends, left, location: self.life.location() });
        }
        self.turn_keys(now, &link);
        Turn::Go
    }

    /// Sets the key that is due, if one is.
    fn turn_keys(&mut self, now: SystemTime, link: &Link) {
        let Some(rotate) = &mut self.rotate else { return };
        let Some(psk) = rotate.handle_link(now, link) else { return };
        // What cannot be set is not there at the next handshake, and the other key gets its turn.
        let _ = self.tunnel.set_psk(psk);
        rotate.handle_set(clock::wall(), link);
    }

    fn ask_about_keys(&self, asking: &mut JoinSet<Asked>) {
        let Some(rotate) = self.rotate.as_ref().filter(|_| self.greeted && asking.is_empty())
        else {
            return;
        };
        let Some(request) = rotate.due(clock::wall()) else { return };
        let (api, key) = (Arc::clone(&self.api), self.instance.private_key.clone());
        asking.spawn(async move { (request, api.rotate(&key, &request).await) });
    }

    fn learn_keys(&mut self, asked: Result<Asked, JoinError>) -> Turn {
        let Some(rotate) = &mut self.rotate else { return Turn::Go };
        match asked {
            Ok((said, Ok(answer))) => rotate.handle_answer(&said, answer.next.as_ref()),
            // An older server, or one of another kind: the key stays.
            Ok((_, Err(ApiError::NotOffered { .. }))) => self.rotate = None,
            // What ended is told by the status.
            Ok((_, Err(_))) | Err(_) => rotate.handle_failure(clock::wall()),
        }
        Turn::Go
    }

    fn connected(&self, now: SystemTime, link: &Link) -> Event {
        // The interface's own time is more exact than our look at it, unless it counts in seconds.
        let told = link.last_handshake.filter(|told| *told > self.life.up_since());
        let done = told.unwrap_or(now);
        let millis = |since| u64::try_from(age(done, since).as_millis()).unwrap_or(u64::MAX);
        Event::Connected {
            location: self.location.name.clone(),
            interface: self.tunnel.interface().to_owned(),
            took_millis: millis(self.plan.began()),
            handshake_millis: millis(self.life.up_since()),
        }
    }

    fn learn(&mut self, finding: Finding, tell: Tell<'_>) -> Turn {
        let end = match finding {
            Finding::Status(Ok(status)) => {
                self.server_back(tell);
                let before = self.life.session().map(|session| session.expires);
                let end = self.life.handle_status(&status);
                let after = self.life.session().map(|session| session.expires);
                if let (Some(before), Some(until)) = (before, after)
                    && until > before
                {
                    tell(Event::Renewed { until });
                }
                if let (Some(rotate), Some(session)) = (&mut self.rotate, self.life.session()) {
                    rotate.handle_status(session);
                }
                end
            }
            Finding::Update(Ok(response)) => {
                self.server_back(tell);
                self.update(&Update::from(&response), tell)
            }
            Finding::Status(Err(error)) | Finding::Update(Err(error)) => match error {
                ApiError::Refused(refusal) => self.life.handle_refusal(refusal.problem),
                // A server of another kind; its silence at the tunnel is all there is to see.
                ApiError::NotOffered { .. } => None,
                error => {
                    if !core::mem::replace(&mut self.server_lost, true) {
                        tell(Event::ServerUnreachable { message: error.to_string() });
                    }
                    None
                }
            },
        };
        end.map_or(Turn::Go, Turn::End)
    }

    fn server_back(&mut self, tell: Tell<'_>) {
        if core::mem::replace(&mut self.server_lost, false) {
            tell(Event::ServerBack);
        }
    }

    fn update(&mut self, update: &Update, tell: Tell<'_>) -> Option<End> {
        let changes = update.against(&self.instance);
        if !changes.is_empty() || update.version != self.instance.config_version {
            // Not stored is not lost: the next update brings it again.
            if update.store(&self.client.store, &self.instance.id).is_ok() {
                self.instance.locations.clone_from(&update.locations);
                self.instance.config_version.clone_from(&update.version);
            }
        }
        if !changes.is_empty() {
            tell(Event::Updated { changes });
        }
        let here = update.locations.iter().any(|location| location.id == self.location.id);
        let broken = update.unusable.iter().any(|bad| bad.name == self.location.name);
        (!here && !broken).then(|| self.life.handle_location_gone())
    }

    /// Takes one question of another process.
    async fn answer(&mut self, mut stream: UnixStream) -> Turn {
        match timeout(LISTEN, control::read(&mut stream)).await {
            Ok(Ok(Ask::Status)) => {
                if let Some(snapshot) = self.snapshot() {
                    // Who asked and went away misses the answer.
                    let _ = control::write(&mut stream, &Reply::Status(snapshot)).await;
                }
                Turn::Go
            }
            Ok(Ok(Ask::Disconnect)) => {
                self.waiting.push(stream);
                Turn::Stop
            }
            Ok(Err(_)) | Err(_) => Turn::Go,
        }
    }

    fn snapshot(&mut self) -> Option<Snapshot> {
        let now = clock::wall();
        let link = self.tunnel.link().ok()?;
        Some(Snapshot {
            link: self.life.handle_link(now, link),
            interface: self.tunnel.interface().to_owned(),
            backend: self.tunnel.backend(),
            handshake_age: link.last_handshake.map(|last| age(now, last).as_secs()),
            rx_bytes: link.rx_bytes,
            tx_bytes: link.tx_bytes,
            endpoint: link.endpoint.map(|endpoint| endpoint.to_string()),
            up_for: age(now, self.life.up_since()).as_secs(),
            mark: self.tunnel.mark().ok().flatten().map(core::num::NonZeroU32::get),
            session: self.life.session().copied(),
        })
    }

    async fn finish(mut self, end: Option<End>, tell: Tell<'_>) -> Result<Outcome, ClientError> {
        let link = self.tunnel.link().unwrap_or_default();
        // First the interface: whatever the server does, nothing passes any more.
        let down = self.close();
        self.api.set_mark(None).await;
        let by_server = end.as_ref().is_some_and(|end| end.reason != "interface_removed");
        let proven = self.plan.preshared_key.is_some();
        let server_told =
            by_server || say_goodbye(&self.api, &self.instance, &self.location, proven).await;
        for stream in &mut self.waiting {
            let _ = control::write(stream, &Reply::Disconnected { server_told }).await;
        }
        let outcome = if let Some(end) = end {
            let (reason, message) = (end.reason.clone(), end.message.clone());
            tell(Event::Ended { reason, message });
            Outcome::Ended(end)
        } else {
            tell(Event::Disconnected {
                server_told,
                rx_bytes: link.rx_bytes,
                tx_bytes: link.tx_bytes,
                seconds: age(clock::wall(), self.life.up_since()).as_secs(),
            });
            Outcome::Disconnected
        };
        down.map(|()| outcome)
    }

    fn close(&self) -> Result<(), ClientError> {
        let down = self.tunnel.down();
        if down.is_ok() {
            self.claim.clear();
        }
        Ok(down?)
    }

    /// Opens the socket for other commands; without it they see the interface alone.
    fn listen(&self) -> Option<UnixListener> {
        let path = self.claim.socket();
        if !fits_socket(&path) {
            return None;
        }
        // We hold the claim, so what lies there is a dead process's.
        let _ = std::fs::remove_file(&path);
        UnixListener::bind(path).ok()
    }
}

/// The session's keys, where they can be replaced: WireGuard in userspace would lose the tunnel.
fn rotate(plan: &Plan, tunnel: &Tunnel, now: SystemTime) -> Option<Rotate> {
    let (session, psk) = (plan.session.as_ref()?, plan.preshared_key.as_ref()?);
    let psk = PresharedKey::from_base64(psk.expose_secret()).ok()?;
    (tunnel.backend() == "kernel").then(|| Rotate::new(plan.location, session, psk, now))
}

/// Tells the server that the session is over. Returns whether it knows.
async fn say_goodbye(api: &Api, instance: &Instance, location: &Location, proven: bool) -> bool {
    if !proven {
        return true;
    }
    let body = DisconnectRequest { location_id: location.id };
    api.disconnect(&instance.private_key, &body).await.is_ok()
}

/// Waits for another process; without a listener for ever.
async fn accept(listener: Option<&UnixListener>) -> Option<UnixStream> {
    match listener {
        Some(listener) => listener.accept().await.ok().map(|(stream, _)| stream),
        None => core::future::pending().await,
    }
}
