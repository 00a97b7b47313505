//! What it costs to rotate live sessions, end to end: `cargo bench --package sim --bench rotate -- 1000 10000`.
//!
//! One core and one gateway in this process, joined by their own protocol with TLS over loopback. Core's
//! driver stages a key for each session, each client is heard three times (it fetches the key, has set
//! it, has proven it) by the flow that serves `/api/v1/device/rotate`, the gateway programs WireGuard
//! and looks whether it has it, and the driver promotes. Not in it: clients' HTTP requests.
//!
//! Beside it, in the same run and on the same rows: the store alone, with the same transactions in
//! the same batches.
//!
//! WireGuard is the kernel's where this process may make an interface, else a model of it in memory;
//! the output says which. SQLite runs in a file under `target/`; PostgreSQL, with the last of the
//! numbers, where `WGMFA_TEST_POSTGRES_URL` names an empty database.

#![expect(clippy::print_stdout, reason = "the figures are what this is for")]

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use core_bin::app::App;
use core_bin::clock::Clock;
use core_bin::dir::StateDir;
use core_bin::drivers::rotate;
use core_bin::flows::rotate::{Said, rotate as say};
use core_bin::rng::Rng;
use core_bin::{Core, Setup};
use mfa_core::challenge::Subject;
use mfa_core::connect::{Session, SessionParts, SessionState};
use mfa_core::id::{LocationId, SessionId};
use mfa_core::method::Method;
use mfa_core::policy::LocationPolicy;
use mfa_core::rotate::{PskGeneration, PskPolicy};
use mfa_core::time::Timestamp;
use mfa_core::token::Token;
use mfa_store::{
    Actor, By, LocationSettings, NewDevice, Scope, Store, StoreError, TokenPurpose, UserDetails,
};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use wg_netlink::fake::FakeKernel;
use wg_netlink::{ApplyError, Backend, Error, Want, WireGuard};
use wg_types::{
    Interface, InterfaceConfig, PeerStats, PeerUpdate, PresharedKey, PrivateKey, PublicKey,
};

/// Clients that speak at the same time: more than share one commit of the store.
const AT_ONCE: usize = 256;
/// Rows of one transaction while the world is made.
const ROWS: usize = 500;
const INTERFACE: &str = "wgrotate";

fn main() -> Result<()> {
    let sizes: Vec<usize> = std::env::args().skip(1).filter_map(|size| size.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![1_000, 10_000] } else { sizes };
    let runtime = Runtime::new().context("a runtime")?;
    for size in &sizes {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).context("a directory")?;
        let file = format!("sqlite:{}", dir.path().join("core.db").display());
        runtime.block_on(measure("sqlite", &file, *size))?;
    }
    if let Ok(url) = std::env::var("WGMFA_TEST_POSTGRES_URL")
        && let Some(size) = sizes.last()
    {
        runtime.block_on(measure("postgres", &url, *size))?;
    }
    Ok(())
}

/// Where the time went; in milliseconds when it is printed.
#[derive(Debug, Default)]
struct Phases {
    stage: Duration,
    fetch: Duration,
    set: Duration,
    prove: Duration,
    promote: Duration,
}

impl Phases {
    fn total(&self) -> Duration {
        self.stage + self.fetch + self.set + self.prove + self.promote
    }

    fn print(&self, what: &str, size: usize) {
        let per = |phase: Duration| phase.as_secs_f64() * 1e3;
        println!(
            "  {what:<10} {:>7.0} sessions/s   {:>7.0} ms: stage {:.0}, fetch {:.0}, set {:.0}, prove {:.0}, \
             promote {:.0}",
            f64::from(u32::try_from(size).unwrap_or(u32::MAX)) / self.total().as_secs_f64(),
            per(self.total()),
            per(self.stage),
            per(self.fetch),
            per(self.set),
            per(self.prove),
            per(self.promote),
        );
    }
}

async fn measure(database: &str, url: &str, size: usize) -> Result<()> {
    let world = World::make(url, size).await?;
    let alone = world.store_alone().await?;
    let (wireguard, times) = Timed::open();
    let backend = if times.is_kernel() { "the kernel's WireGuard" } else { "a model of WireGuard" };
    let gateway = world.join(Box::new(wireguard)).await?;
    times.reset();
    let whole = world.whole().await?;
    println!("{size} sessions, {database}, {backend}");
    alone.print("store alone", size);
    whole.print("end to end", size);
    times.print();
    println!(
        "  end to end takes {:.2} times as long",
        whole.total().as_secs_f64() / alone.total().as_secs_f64()
    );
    world.check(&times).await?;
    gateway.stop().await?;
    world.core.stop().await;
    Ok(())
}

/// A core with sessions, all with keys that are due, and no gateway yet.
struct World {
    core: Core,
    clock: Clock,
    location: LocationId,
    sessions: Vec<(SessionId, PublicKey)>,
    dir: tempfile::TempDir,
}

impl World {
    async fn make(url: &str, size: usize) -> Result<Self> {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let state = StateDir::new(dir.path().join("core"));
        state.create()?;
        state.write_master_key(&[7; 32])?;
        let config = serde_json::json!({
            "public": { "listen": "127.0.0.1:0", "tls": "off" },
            "gateways": { "listen": "127.0.0.1:0" },
            "database": { "url": url },
        });
        // It stands: core's own driver finds nothing due, and what is due is said by hand below.
        let clock = Clock::manual(Clock::system().now());
        let config = serde_json::from_value(config)?;
        let setup = Setup { dir: state, config, clock: clock.clone(), rng: Rng::system() };
        let core = Core::start(setup).await?;
        let store = core.app().store.clone();
        let now = clock.now();
        let location = store.write(move |tx| {
            let key = PrivateKey::from_bytes([1; 32]);
            Ok::<_, StoreError>(tx.add_location(by(now), &office(), &key)?.id)
        });
        let location = location.await?;
        let user = store.write(move |tx| {
            let login = "alice".to_owned();
            tx.add_user(by(now), &UserDetails { login, ..UserDetails::default() })
        });
        let user = user.await?;
        let numbers: Vec<u32> = (0..u32::try_from(size)?).collect();
        let mut sessions = Vec::new();
        for some in numbers.chunks(ROWS) {
            let some = some.to_vec();
            let made = store.write(move |tx| {
                let mut made = Vec::new();
                for number in &some {
                    let public_key = key(*number);
                    let device = NewDevice {
                        user,
                        name: format!("laptop {number}"),
                        public_key,
                        polling_token: Token::from_random(*public_key.as_bytes()).digest(),
                        source: None,
                    };
                    let device = tx.add_device(by(now), &device)?.id;
                    let session = Session::from_parts(SessionParts {
                        subject: Subject { user, device, location },
                        method: Method::Totp,
                        authorized: now,
                        lifetime_ends: now.saturating_add(Duration::from_secs(86_400)),
                        generation: PskGeneration::FIRST,
                        state: SessionState::Authorized { psk: PresharedKey::from_bytes([5; 32]) },
                    });
                    let id = tx.begin_session(by(now), &session)?;
                    tx.can_rotate(id)?;
                    made.push((id, public_key));
                }
                Ok::<_, StoreError>(made)
            });
            sessions.extend(made.await?);
        }
        Ok(Self { core, clock, location, sessions, dir })
    }

    fn app(&self) -> &Arc<App> {
        self.core.app()
    }

    /// When the keys of `round` are due.
    fn due(&self, round: u32) -> Result<Timestamp> {
        let PskPolicy::Every(period) = LocationPolicy::recommended().psk() else {
            anyhow::bail!("the recommended policy does not rotate");
        };
        Ok(self.clock.now().saturating_add(period.get() * round))
    }

    /// The transactions of a rotation, in the batches in which core makes them, and nothing else.
    async fn store_alone(&self) -> Result<Phases> {
        let (mut phases, now) = (Phases::default(), self.due(1)?);
        let store = &self.app().store;
        let next = PskGeneration::FIRST.next();
        let ids: Vec<SessionId> = self.sessions.iter().map(|(id, _)| *id).collect();
        let start = clock();
        for batch in ids.chunks(rotate::BATCH) {
            let draw = |id: &SessionId| (*id, PresharedKey::from_bytes(*self.app().rng.bytes()));
            let new: Vec<_> = batch.iter().map(draw).collect();
            store.write(move |tx| tx.stage_rotations(&new, now)).await?;
        }
        phases.stage = start.elapsed();
        for (phase, set, proven) in [
            (&mut phases.fetch, PskGeneration::FIRST, PskGeneration::FIRST),
            (&mut phases.set, next, PskGeneration::FIRST),
            (&mut phases.prove, next, next),
        ] {
            let start = clock();
            let location = self.location;
            self.each(move |app, session, device| async move {
                note(&app.store, location, device, session, set, proven, now).await
            })
            .await?;
            *phase = start.elapsed();
        }
        let start = clock();
        for batch in ids.chunks(rotate::BATCH) {
            let batch = batch.to_vec();
            store.write(move |tx| tx.promote_rotations(&batch)).await?;
        }
        phases.promote = start.elapsed();
        Ok(phases)
    }

    /// Enrolls a gateway, runs it, and waits until it has every peer.
    async fn join(&self, wireguard: Box<dyn WireGuard>) -> Result<Running> {
        let (location, now) = (self.location, self.clock.now());
        let token = Token::from_random(*self.app().rng.bytes());
        let digest = token.digest();
        let ticket = self.app().store.write(move |tx| {
            let gateway = tx.add_gateway(by(now), location, "gateway")?;
            let expires = now.saturating_add(Duration::from_secs(900));
            tx.add_token(by(now), TokenPurpose::Gateway(gateway), &digest, expires)
        });
        ticket.await?;
        let dir = self.dir.path().join("gateway");
        let enrollment = gateway_bin::enroll::Enrollment {
            core: format!("https://{}", self.core.gateways_address())
                .parse()
                .map_err(anyhow::Error::msg)?,
            token: token.expose_text(),
            ca_pin: self.core.pin().to_string().parse().map_err(anyhow::Error::msg)?,
            dir: dir.clone(),
            interface: INTERFACE.to_owned(),
            backend: gateway_bin::config::Backend::Kernel,
        };
        gateway_bin::enroll::enroll(enrollment).await?;
        let config = gateway_bin::Config::load(&dir, gateway_bin::config::Overrides::default())?;
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(gateway_bin::Gateway::run(config, wireguard, async {
            // An error: who would stop it is gone.
            let _ = stopped.await;
        }));
        let newest = self.app().store.read(move |view| view.revision(location)).await?;
        let newest = newest.context("the location is gone")?;
        let patience = Duration::from_secs(120);
        while self.app().registry.connected(location) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.app().registry.wake(location);
        let applied = self.app().registry.wait_applied(location, newest, patience).await;
        ensure!(applied.is_complete(), "the gateway does not get ready");
        Ok(Running { stop, task })
    }

    /// A rotation of every session through all of it.
    async fn whole(&self) -> Result<Phases> {
        let (mut phases, now) = (Phases::default(), self.due(3)?);
        let (have, next) = (PskGeneration::FIRST.next(), PskGeneration::FIRST.next().next());
        let start = clock();
        let mut staged = 0;
        while staged < self.sessions.len() {
            let done = rotate::look(self.app(), now).await?;
            ensure!(done.staged > 0, "{staged} of {} are staged", self.sessions.len());
            staged += done.staged;
        }
        phases.stage = start.elapsed();
        for (phase, set, proven) in [
            (&mut phases.fetch, have, have),
            (&mut phases.set, next, have),
            (&mut phases.prove, next, next),
        ] {
            let start = clock();
            let location = self.location;
            self.each(move |app, session, device| async move {
                let standing = say(&app, device, Said { location, session, set, proven }).await?;
                ensure!(standing.generation == have, "a session has another key");
                Ok(())
            })
            .await?;
            *phase = start.elapsed();
        }
        let start = clock();
        // Core's own driver may have promoted some already.
        while self.under_way().await? > 0 {
            rotate::look(self.app(), now).await?;
        }
        phases.promote = start.elapsed();
        Ok(phases)
    }

    async fn under_way(&self) -> Result<usize> {
        Ok(self.app().store.read(|view| Ok::<_, StoreError>(view.rotations()?.len())).await?)
    }

    /// That every session has its third key, and WireGuard has it, too.
    async fn check(&self, times: &Times) -> Result<()> {
        let live = self.app().store.read(|view| view.live_sessions(Scope::All)).await?;
        let third = PskGeneration::FIRST.next().next();
        ensure!(live.len() == self.sessions.len(), "{} sessions live", live.len());
        ensure!(live.iter().all(|live| live.generation == third), "a session lacks its key");
        let interface = times.wireguard.interface()?;
        let first = PresharedKey::from_bytes([5; 32]);
        let new = interface.peers.iter().filter(|peer| {
            peer.config.preshared_key.as_ref().is_some_and(|psk| !psk.same_as(&first))
        });
        ensure!(new.count() == live.len(), "WireGuard lacks keys");
        Ok(())
    }

    /// Lets every client do something, many at the same time.
    async fn each<F>(&self, act: impl Fn(Arc<App>, SessionId, PublicKey) -> F) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let mut tasks = JoinSet::new();
        for (session, device) in &self.sessions {
            let place = Arc::clone(&places).acquire_owned().await?;
            let task = act(Arc::clone(self.app()), *session, *device);
            tasks.spawn(async move {
                let done = task.await;
                drop(place);
                done
            });
            while let Some(done) = tasks.try_join_next() {
                done??;
            }
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(())
    }
}

/// What `flows::rotate` has in its transaction.
async fn note(
    store: &Store,
    location: LocationId,
    device: PublicKey,
    session: SessionId,
    set: PskGeneration,
    proven: PskGeneration,
    now: Timestamp,
) -> Result<()> {
    let noted = store.write(move |tx| {
        let device = tx.device_by_key(&device)?.ok_or(StoreError::Missing { what: "device" })?;
        tx.live_sessions(Scope::DeviceAt(device.id, location))?;
        tx.can_rotate(session)?;
        tx.note_rotations(&[(session, set, proven)], now)?;
        if tx.rotation(session)?.is_some() && set == PskGeneration::FIRST {
            tx.next_psk(session)?;
        }
        Ok::<_, StoreError>(())
    });
    Ok(noted.await?)
}

/// A gateway that runs.
struct Running {
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Result<(), gateway_bin::RunError>>,
}

impl Running {
    async fn stop(self) -> Result<()> {
        // An error: it has ended, and says below why.
        let _ = self.stop.send(());
        Ok(self.task.await??)
    }
}

/// What WireGuard took.
#[derive(Debug)]
struct Times {
    wireguard: Box<dyn WireGuard>,
    applies: AtomicU64,
    updates: AtomicU64,
    applying: AtomicU64,
    reads: AtomicU64,
    reading: AtomicU64,
}

impl Times {
    fn is_kernel(&self) -> bool {
        self.wireguard.backend() == Backend::Kernel
    }

    fn reset(&self) {
        for one in [&self.applies, &self.updates, &self.applying, &self.reads, &self.reading] {
            one.store(0, Ordering::Relaxed);
        }
    }

    fn timed<T>(counter: &AtomicU64, time: &AtomicU64, call: impl FnOnce() -> T) -> T {
        let start = clock();
        let done = call();
        counter.fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        time.fetch_add(nanos, Ordering::Relaxed);
        done
    }

    fn print(&self) {
        let get = |one: &AtomicU64| one.load(Ordering::Relaxed);
        println!(
            "  in it, WireGuard: {} updates in {} calls, {} ms; read {} times, {} ms",
            get(&self.updates),
            get(&self.applies),
            get(&self.applying) / 1_000_000,
            get(&self.reads),
            get(&self.reading) / 1_000_000,
        );
    }
}

/// WireGuard with a watch, that says it were the kernel's: else core would not rotate.
#[derive(Clone, Debug)]
struct Timed(Arc<Times>);

impl Timed {
    fn open() -> (Self, Arc<Times>) {
        let wireguard = wg_netlink::open(INTERFACE, Want::Kernel)
            .unwrap_or_else(|_| Box::new(FakeKernel::new().interface(INTERFACE)));
        let zero = AtomicU64::default;
        let times = Arc::new(Times {
            wireguard,
            applies: zero(),
            updates: zero(),
            applying: zero(),
            reads: zero(),
            reading: zero(),
        });
        (Self(Arc::clone(&times)), times)
    }
}

impl WireGuard for Timed {
    fn name(&self) -> &str {
        self.0.wireguard.name()
    }

    fn backend(&self) -> Backend {
        Backend::Kernel
    }

    fn configure(&self, config: &InterfaceConfig) -> Result<(), Error> {
        self.0.wireguard.configure(config)
    }

    fn set_addresses(&self, addresses: &[ipnet::IpNet]) -> Result<(), Error> {
        self.0.wireguard.set_addresses(addresses)
    }

    fn set_up(&self, mtu: Option<u32>) -> Result<(), Error> {
        self.0.wireguard.set_up(mtu)
    }

    fn set_routes(&self, routes: &[ipnet::IpNet]) -> Result<(), Error> {
        self.0.wireguard.set_routes(routes)
    }

    fn apply(&self, updates: &[PeerUpdate]) -> Result<(), ApplyError> {
        let count = u64::try_from(updates.len()).unwrap_or(u64::MAX);
        self.0.updates.fetch_add(count, Ordering::Relaxed);
        Times::timed(&self.0.applies, &self.0.applying, || self.0.wireguard.apply(updates))
    }

    fn interface(&self) -> Result<Interface, Error> {
        Times::timed(&self.0.reads, &self.0.reading, || self.0.wireguard.interface())
    }

    fn stats(&self, visit: &mut dyn FnMut(&PeerStats)) -> Result<(), Error> {
        Times::timed(&self.0.reads, &self.0.reading, || self.0.wireguard.stats(visit))
    }

    fn remove(&self) -> Result<(), Error> {
        self.0.wireguard.remove()
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark takes the time")]
fn clock() -> Instant {
    Instant::now()
}

const fn by(now: Timestamp) -> By {
    By::new(Actor::System, now)
}

fn office() -> LocationSettings {
    LocationSettings {
        name: "office".to_owned(),
        endpoint: "vpn.example.org:51820".to_owned(),
        listen_port: 51820,
        addresses: vec![ipnet::IpNet::V4(ipnet::Ipv4Net::new_assert([10, 1, 0, 1].into(), 16))],
        allowed_ips: vec![ipnet::IpNet::V4(ipnet::Ipv4Net::new_assert([10, 0, 0, 0].into(), 8))],
        dns: Vec::new(),
        keepalive: None,
        mtu: None,
        policy: LocationPolicy::recommended(),
    }
}

/// A key for each device; not one that anybody holds the private half of.
fn key(number: u32) -> PublicKey {
    let mut bytes = [9; 32];
    let spread = u64::from(number.wrapping_add(1)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for (place, byte) in bytes.iter_mut().zip(spread.to_be_bytes()) {
        *place = byte;
    }
    PublicKey::from_bytes(bytes)
}
