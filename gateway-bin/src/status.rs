//! How the gateway is, for who asks at its own host: `gateway-bin status`.
//!
//! The running process answers on a socket in its directory, with the kernel's figures of that
//! moment, in one JSON object. It shows no key that is secret, and only the socket's owner can ask.

pub mod render;

use core::num::{NonZeroU16, NonZeroU32};
use core::time::Duration;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use wg_netlink::Backend;

use crate::config::Config;
use crate::control::{LinkState, LinkStatus};
use crate::kernel::{Command, Look, Progress};
use crate::lease::Standing;
use crate::program::Held;

/// All of it. Field names are a promise; times are milliseconds since 1970, UTC.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Status {
    /// Of the running process.
    pub version: String,
    /// When this was.
    pub at_ms: u64,
    /// Whether the line to core is up.
    pub connected: bool,
    /// The revision that the kernel was last seen to have; zero: none since the process started.
    pub applied_revision: u64,
    /// The revision that core wants; zero: it has not said since the process started.
    pub wanted_revision: u64,
    /// Why the kernel does not have what core wants.
    pub kernel_error: Option<String>,
    /// The line to core.
    pub core: CoreStatus,
    /// The kernel's hold on traffic; absent: a location without MFA, or core has not said.
    pub lease: Option<LeaseStatus>,
    /// How sessions outlive core's absence; absent: as long as the lease, or core has not said.
    pub outage_hold: Option<HoldStatus>,
    /// How often statistics are sent.
    pub statistics_period_ms: u64,
    /// Peers that nobody had asked for, removed since the process started.
    pub strangers_removed: u32,
    /// Peers that others had changed, set right since the process started.
    pub peers_healed: u32,
    /// How often others deleted the interface and it was made anew, since the process started.
    pub interfaces_remade: u32,
    /// The interface with its peers.
    #[serde(flatten)]
    pub interface: InterfaceStatus,
}

/// How long traffic of peers with sessions still passes without core.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct LeaseStatus {
    /// So long; zero: nothing passes.
    pub remaining_ms: u64,
    /// Why the kernel holds nothing back, so that traffic passes whatever becomes of core.
    pub unheld: Option<String>,
    /// How often others took the gate away or changed it, since the process started.
    pub rebuilt: u32,
}

/// How sessions outlive core's absence, each until its own lifetime or idleness.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct HoldStatus {
    /// So long after core's last word.
    pub limit_ms: u64,
    /// Whether core is away, so that sessions are held now.
    pub holding: bool,
    /// Until when traffic passes at the latest if core is not heard any more; `None`: none passes by the
    /// hold, since core was not heard for so long, or not since the process started.
    pub until_ms: Option<u64>,
}

/// The line to core.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct CoreStatus {
    /// Where it is dialled.
    pub url: String,
    /// How the line is.
    pub state: LinkState,
    /// Since when it is so.
    pub since_ms: u64,
    /// When core last said something.
    pub last_heard_ms: Option<u64>,
    /// Why the last connection ended, or did not come about.
    pub error: Option<String>,
    /// When this gateway's certificate ends.
    pub certificate_ends_ms: Option<u64>,
}

/// The interface with its peers.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct InterfaceStatus {
    /// Such as `wg0`.
    #[serde(rename = "interface")]
    pub name: String,
    /// `kernel` or `userspace`.
    pub backend: String,
    /// What core calls the network; empty: it has not said.
    pub location: String,
    /// Whether a peer needs a session.
    pub mfa_required: bool,
    /// Why it cannot be read.
    #[serde(rename = "interface_error")]
    pub error: Option<String>,
    /// Its own.
    pub public_key: Option<String>,
    /// The UDP port.
    pub listen_port: u16,
    /// The mark of outgoing packets; zero: none.
    pub fwmark: u32,
    /// Latest handshake first.
    pub peers: Vec<PeerStatus>,
}

/// One peer in the kernel.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PeerStatus {
    /// Whom.
    pub public_key: String,
    /// Whether it has a pre-shared key.
    pub preshared_key: bool,
    /// As last heard.
    pub endpoint: Option<String>,
    /// What it may send from.
    pub allowed_ips: Vec<String>,
    /// `None`: never.
    pub latest_handshake_ms: Option<u64>,
    /// From the peer.
    pub rx_bytes: u64,
    /// To the peer.
    pub tx_bytes: u64,
    /// In seconds; zero: off.
    pub persistent_keepalive: u16,
}

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// Nobody answers.
    #[error(
        "no gateway runs with the files in {}. Start it: `systemctl start wg-mfa-gateway`, or \
         `gateway-bin run --dir {}`", dir.display(), dir.display()
    )]
    NotRunning {
        /// Which gateway.
        dir: PathBuf,
    },
    /// The caller may not ask.
    #[error("not permitted to ask the gateway at {}; run as root or as its user", socket.display())]
    NotPermitted {
        /// Where.
        socket: PathBuf,
    },
    /// Somebody answers where a gateway was to begin.
    #[error(
        "another process already runs the gateway in {}; stop it first, or say --dir DIR for \
         another gateway", dir.display()
    )]
    Running {
        /// Which gateway.
        dir: PathBuf,
    },
    /// The socket fails.
    #[error("cannot use {}: {source}", socket.display())]
    Socket {
        /// Where.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The answer is of another version.
    #[error("the running gateway's answer is not understood; it may be of another version: {0}")]
    Answer(#[from] serde_json::Error),
}

/// Asks the gateway that runs with the files in `dir`.
///
/// # Errors
///
/// [`StatusError`] says what to do.
pub async fn ask(dir: &Path) -> Result<Status, StatusError> {
    let socket = socket_path(dir);
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            StatusError::NotRunning { dir: dir.to_owned() }
        }
        io::ErrorKind::PermissionDenied => StatusError::NotPermitted { socket: socket.clone() },
        _ => StatusError::Socket { socket: socket.clone(), source },
    };
    let mut answer = Vec::new();
    let mut stream = UnixStream::connect(&socket).await.map_err(failed)?;
    stream.read_to_end(&mut answer).await.map_err(failed)?;
    Ok(serde_json::from_slice(&answer)?)
}

/// Answers who asks, one after another.
pub(crate) struct Server {
    listener: UnixListener,
    url: String,
    interface: String,
    backend: Backend,
    commands: mpsc::Sender<Command>,
    progress: watch::Receiver<Progress>,
    link: watch::Receiver<LinkStatus>,
}

impl Server {
    /// Takes the socket in the gateway's directory.
    ///
    /// # Errors
    ///
    /// [`StatusError::Running`] if another process answers there, [`StatusError::Socket`] if it
    /// cannot be made.
    pub(crate) async fn bind(
        config: &Arc<Config>,
        backend: Backend,
        commands: mpsc::Sender<Command>,
        progress: watch::Receiver<Progress>,
        link: watch::Receiver<LinkStatus>,
    ) -> Result<Self, StatusError> {
        let socket = socket_path(&config.dir);
        if UnixStream::connect(&socket).await.is_ok() {
            return Err(StatusError::Running { dir: config.dir.clone() });
        }
        let failed = |source| StatusError::Socket { socket: socket.clone(), source };
        match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&socket).map_err(failed)?;
        let owner_only = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&socket, owner_only).map_err(failed)?;
        let (url, interface) = (config.core.to_string(), config.interface.clone());
        Ok(Self { listener, url, interface, backend, commands, progress, link })
    }

    /// Answers until the kernel's task is gone.
    pub(crate) async fn run(self) {
        loop {
            let (stream, _) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!("nobody can ask for the status any more: {error}");
                    return core::future::pending().await;
                }
            };
            let (to_us, look) = oneshot::channel();
            if self.commands.send(Command::Look(to_us)).await.is_err() {
                return;
            }
            let Ok(look) = look.await else { return };
            if let Err(error) = answer(stream, &self.status(&look)).await {
                tracing::debug!("who asked for the status did not take it: {error}");
            }
        }
    }

    fn status(&self, look: &Look) -> Status {
        let (progress, link) = (self.progress.borrow(), self.link.borrow());
        let mut interface = InterfaceStatus {
            name: self.interface.clone(),
            backend: self.backend.to_string(),
            location: progress.location.clone(),
            mfa_required: progress.mfa_required,
            error: None,
            public_key: None,
            listen_port: 0,
            fwmark: 0,
            peers: Vec::new(),
        };
        match &look.interface {
            Ok(found) => {
                interface.public_key = found.public_key.map(|key| key.to_string());
                interface.listen_port = found.listen_port;
                interface.fwmark = found.fwmark.map_or(0, NonZeroU32::get);
                interface.peers = found.peers.iter().map(peer_status).collect();
                interface.peers.sort_by_key(|peer| core::cmp::Reverse(peer.latest_handshake_ms));
            }
            Err(error) => interface.error = Some(error.to_string()),
        }
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            at_ms: millis(look.at),
            connected: link.state == LinkState::Connected,
            applied_revision: progress.verified.unwrap_or_default(),
            wanted_revision: progress.wanted,
            kernel_error: progress.error.clone(),
            interface,
            lease: look.lease.as_ref().map(lease_status),
            outage_hold: look.held.map(|held| hold_status(held, look.at)),
            core: CoreStatus {
                url: self.url.clone(),
                state: link.state,
                since_ms: millis(link.since),
                last_heard_ms: link.last_heard.map(millis),
                error: link.error.clone(),
                certificate_ends_ms: link.certificate_ends.map(millis),
            },
            statistics_period_ms: whole_millis(progress.statistics_period),
            strangers_removed: progress.drift.strangers_removed,
            peers_healed: progress.drift.peers_healed,
            interfaces_remade: progress.drift.interfaces_remade,
        }
    }
}

async fn answer(mut stream: UnixStream, status: &Status) -> io::Result<()> {
    stream.write_all(&serde_json::to_vec(status)?).await?;
    stream.shutdown().await
}

fn lease_status((standing, rebuilt): &(Standing, u32)) -> LeaseStatus {
    let (remaining, unheld) = match standing {
        Standing::Open(left) => (*left, None),
        Standing::Shut => (Duration::ZERO, None),
        Standing::Unheld(why) => (Duration::ZERO, Some(why.clone())),
    };
    LeaseStatus { remaining_ms: whole_millis(remaining), unheld, rebuilt: *rebuilt }
}

fn hold_status(held: Held, at: SystemTime) -> HoldStatus {
    HoldStatus {
        limit_ms: whole_millis(held.limit),
        holding: held.away && held.left.is_some(),
        until_ms: held.left.and_then(|left| at.checked_add(left)).map(millis),
    }
}

fn peer_status(peer: &wg_types::Peer) -> PeerStatus {
    PeerStatus {
        public_key: peer.config.public_key.to_string(),
        preshared_key: peer.config.preshared_key.is_some(),
        endpoint: peer.stats.endpoint.map(|endpoint| endpoint.to_string()),
        allowed_ips: peer.config.allowed_ips.iter().map(ToString::to_string).collect(),
        latest_handshake_ms: peer.stats.last_handshake.map(millis),
        rx_bytes: peer.stats.rx_bytes,
        tx_bytes: peer.stats.tx_bytes,
        persistent_keepalive: peer.config.persistent_keepalive.map_or(0, NonZeroU16::get),
    }
}

fn socket_path(dir: &Path) -> PathBuf {
    dir.join("status.sock")
}

fn millis(time: SystemTime) -> u64 {
    whole_millis(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn whole_millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
