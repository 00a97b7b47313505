//! One core, running in this process: what `core-bin serve` runs, and what tests and embedders start.

use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;

use mfa_store::{CoreId, Store, StoreError};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::app::{Addresses, App, Limits, Site, instance_id};
use crate::clock::Clock;
use crate::config::{Config, ConfigError, Tls};
use crate::dir::{DirError, StateDir};
use crate::drivers::idle::IdleDriver;
use crate::drivers::{mail_settings, rotate, sweep};
use crate::flows::master_key::{self, MasterKeyError};
use crate::http::listener::Listener;
use crate::http::{self, tls};
use crate::keys::Keys;
use crate::link::listener::Plaintext;
use crate::link::{self, Link, LinkError, Patience, Place, Registry, STATS_QUEUE};
use crate::live::Live;
use crate::mail::{self, Mailer, SmtpError, Transport};
use crate::password::Passwords;
use crate::pki::{Ca, Pin, PkiError, ServerCertificate};
use crate::rng::Rng;

/// How long core's own certificates live; they are renewed by themselves.
const CERTIFICATE_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);
/// How long tasks may take to end.
const FAREWELL: Duration = Duration::from_secs(10);

/// What a core is started from.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its state directory, as `init` made it.
    pub dir: StateDir,
    /// Its configuration. A port of 0 lets the system choose one.
    pub config: Config,
    /// The time.
    pub clock: Clock,
    /// Random bytes.
    pub rng: Rng,
}

/// Why a core does not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The state directory.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// The change of the master key.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The mail settings.
    #[error("smtp: {0}")]
    Smtp(#[from] SmtpError),
    /// The certificate authority.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The public listener's certificate.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({what})")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// The setting that says so.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Serving gateways failed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A task ended by itself, which none may.
    #[error("the task {0} ended by itself")]
    Ended(&'static str),
    /// A task panicked.
    #[error("a task failed")]
    Task(#[from] tokio::task::JoinError),
}

type Ended = Result<&'static str, ServeError>;

/// A running core. Dropping it stops it at once; [`stop`](Self::stop) lets requests finish.
#[derive(Debug)]
pub struct Core {
    app: Arc<App>,
    public: SocketAddr,
    gateways: SocketAddr,
    pin: Pin,
    stop: watch::Sender<bool>,
    tasks: JoinSet<Ended>,
}

impl Core {
    /// Starts a core: opens the database, listens, and runs what must happen by itself.
    ///
    /// # Errors
    ///
    /// [`ServeError`]; nothing is left running then.
    pub async fn start(setup: Setup) -> Result<Self, ServeError> {
        let Setup { dir, config, clock, rng } = setup;
        let now = clock.now();
        let store = open_store(&config, &dir).await?;
        let keys = Keys::derive(store.root());
        master_key::settle(&store, &dir).await?;
        let random = *rng.bytes::<16>();
        let id = store.write(move |tx| instance_id(tx, random)).await?;
        let mut tasks = JoinSet::new();
        let mailer = start_mail(&config, &mut tasks)?;
        let (stop, stopped) = watch::channel(false);

        let ca = Arc::new(Ca::load_or_create(&dir.ca(), &rng, now)?);
        let own = |stem: &str, host: Option<&str>| {
            let hosts = hosts(host);
            let place = (dir.tls(), stem);
            ServerCertificate::open(
                Arc::clone(&ca),
                (&place.0, place.1),
                &hosts,
                CERTIFICATE_LIFE,
                &rng,
                now,
            )
        };
        let mut certificate = None;
        let acceptor = match (config.public.tls, &config.public.cert, &config.public.key) {
            (Tls::Files, Some(cert), Some(key)) => Some(tls::from_files(cert, key)?),
            (Tls::Off, _, _) => None,
            (Tls::SelfSigned | Tls::Files, _, _) => {
                let own = own("public", config.public_url().host_str())?;
                certificate = Some(Arc::clone(&own));
                Some(tls::from_own_ca(own)?)
            }
        };
        let bind = |what, address| move |source| ServeError::Bind { address, what, source };
        let address = config.public.listen;
        let listener =
            Listener::bind(address, acceptor).await.map_err(bind("public.listen", address))?;
        let public = listener.address().map_err(bind("public.listen", address))?;
        let address = config.gateways.listen;
        let gateway_listener =
            TcpListener::bind(address).await.map_err(bind("gateways.listen", address))?;
        let gateways = gateway_listener.local_addr().map_err(bind("gateways.listen", address))?;

        let registry = Registry::new();
        let app = Arc::new(App {
            store: store.clone(),
            clock: clock.clone(),
            rng: rng.clone(),
            keys,
            mailer,
            registry: Arc::clone(&registry),
            passwords: Passwords::default(),
            site: Site {
                id,
                name: config.public.name.clone(),
                contact: config.public.contact.clone(),
                url: config.public_url(),
            },
            limits: Limits::default(),
            live: Live::default(),
            addresses: Addresses {
                gateways: config.gateways_url().to_string().trim_end_matches('/').to_owned(),
                pin: ca.pin().to_string(),
                clients_pin: config.public.tls == Tls::SelfSigned,
            },
            trusted_proxies: config.public.trusted_proxies.clone(),
        });
        let (stats, reports) = mpsc::channel(STATS_QUEUE);
        let link = Link {
            core: CoreId(*rng.bytes()),
            store,
            registry,
            ca: Arc::clone(&ca),
            certificate: own("gateways", config.gateways_url().host_str())?,
            stats,
            clock,
            rng: rng.clone(),
            patience: Patience::default(),
            shutdown: stopped.clone(),
        };
        let place = Place {
            listener: gateway_listener,
            plaintext: if config.gateways.allow_plaintext_legacy {
                Plaintext::LegacyOnly
            } else {
                Plaintext::Refused
            },
            socket: Some(dir.socket()),
        };
        tasks.spawn(async move {
            link::serve(link, place).await?;
            Ok("gateways")
        });
        let (router, stopping) = (http::router(Arc::clone(&app)), stopped.clone());
        tasks.spawn(async move {
            listener.serve(router, stopping).await;
            Ok("public")
        });
        let (idle, period) = (IdleDriver::new(Arc::clone(&app)), config.sessions.check_period);
        let stopping = stopped.clone();
        tasks.spawn(async move {
            idle.run(period.duration(), reports, stopping).await;
            Ok("idle")
        });
        let (rotating, stopping) = (Arc::clone(&app), stopped.clone());
        tasks.spawn(async move {
            rotate::run(rotating, stopping).await;
            Ok("rotate")
        });
        // What an administrator set is in force before the first request.
        let seen = mail_settings::look(&app, None).await?;
        let (looking, stopping) = (Arc::clone(&app), stopped.clone());
        tasks.spawn(async move {
            mail_settings::run(looking, seen, stopping).await;
            Ok("mail settings")
        });
        let (ring, place, stopping) = (app.store.clone(), dir.clone(), stopped.clone());
        tasks.spawn(async move {
            master_key::keep(ring, place, stopping).await;
            Ok("keys")
        });
        let (sweeper, stopping) = (Arc::clone(&app), stopped);
        tasks.spawn(async move {
            sweep::run(sweeper, certificate, stopping).await;
            Ok("sweep")
        });
        Ok(Self { app, public, gateways, pin: ca.pin(), stop, tasks })
    }

    /// Where clients and browsers are served.
    #[must_use]
    pub const fn public_address(&self) -> SocketAddr {
        self.public
    }

    /// Where gateways are served.
    #[must_use]
    pub const fn gateways_address(&self) -> SocketAddr {
        self.gateways
    }

    /// What gateways and clients know this core's CA by.
    #[must_use]
    pub const fn pin(&self) -> Pin {
        self.pin
    }

    /// What the flows work with.
    #[must_use]
    pub const fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Waits until a task ends by itself, which is a failure.
    pub async fn failed(&mut self) -> ServeError {
        match self.tasks.join_next().await {
            Some(Ok(Ok(name))) => ServeError::Ended(name),
            Some(Ok(Err(error))) => error,
            Some(Err(error)) => ServeError::Task(error),
            None => ServeError::Ended("none"),
        }
    }

    /// Stops: no new connections, then requests under way finish, then the tasks end.
    pub async fn stop(mut self) {
        // An error: every task has ended already.
        let _ = self.stop.send(true);
        // The mail task ends when nobody can hand it mail any more.
        drop(self.app);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(FAREWELL, all).await.is_err() {
            tracing::warn!("stopped with work under way");
        }
    }
}

/// Opens the configured database with the directory's master key, which blocks for as long as its migrations take.
///
/// # Errors
///
/// [`ServeError::Config`] or [`ServeError::Store`].
pub async fn open_store(config: &Config, dir: &StateDir) -> Result<Store, ServeError> {
    let (url, keys) = (config.database_url(dir.path())?, dir.key_source()?);
    let open = move || Store::open(url.expose_secret(), keys);
    Ok(tokio::task::spawn_blocking(open).await??)
}

fn start_mail(config: &Config, tasks: &mut JoinSet<Ended>) -> Result<Mailer, ServeError> {
    let file = config.smtp.as_ref().map(Transport::new).transpose()?.map(Arc::new);
    let (mailer, mails) = Mailer::through(file);
    let route = mailer.route();
    tasks.spawn(async move {
        mail::deliver(route, mails).await;
        Ok("mail")
    });
    Ok(mailer)
}

/// The names by which core is dialled: its own, and this host.
fn hosts(host: Option<&str>) -> Vec<String> {
    let mut hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if let Some(host) = host
        && !hosts.iter().any(|known| known == host)
    {
        hosts.push(host.to_owned());
    }
    hosts
}
