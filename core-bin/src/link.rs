//! The gateways' side of core: their listener, one stream each, and who is connected.
//!
//! It reads desired state from the store and says it; it never decides who may connect. The flows
//! know this much of it and no more: a [`Registry`] to wake and to wait on, and [`StatsReport`]s
//! that come out of a bounded channel.

mod cores;
pub mod desired;
pub mod feed;
mod legacy;
pub mod listener;
pub mod message;
pub mod pace;
pub mod poke;
pub mod registry;
pub mod reports;
pub mod server;
mod session;
pub mod standing;
pub mod stats;
pub mod tls;
mod watch;

use core::fmt;
use core::time::Duration;
use std::path::PathBuf;
use std::sync::Arc;

use mfa_store::{CoreId, Store};
use mfa_wire::gateway::gateway_server::GatewayServer;
use mfa_wire::legacy::gateway_service_server::GatewayServiceServer;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch as signal};
use tonic::transport::Server;

use crate::clock::Clock;
use crate::pki::{Ca, PkiError, ServerCertificate};
use crate::rng::Rng;

pub use listener::Plaintext;
pub use poke::poke;
pub use registry::{Applied, Registry};
pub use stats::{PeerReport, STATS_QUEUE, StatsReport};

/// How often a silent connection is tried, and how long the answer may take.
const PING: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(20));

/// Streams at once on one connection; a gateway needs one and now and then a second.
const STREAMS_MAX: u32 = 16;

/// How long the streams have to end once core stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// What serving gateways takes.
pub struct Link {
    /// Names this process among the cores on one database.
    pub core: CoreId,
    /// The truth.
    pub store: Store,
    /// Who is connected; shared with the flows.
    pub registry: Arc<Registry>,
    /// Signs gateways' certificates.
    pub ca: Arc<Ca>,
    /// Core's own certificate on this listener.
    pub certificate: Arc<ServerCertificate>,
    /// Where reports go.
    pub stats: mpsc::Sender<StatsReport>,
    /// The time.
    pub clock: Clock,
    /// Serial numbers.
    pub rng: Rng,
    /// How patient core is with a gateway.
    pub patience: Patience,
    /// Becomes true when core stops.
    pub shutdown: signal::Receiver<bool>,
}

/// How patient core is with a gateway.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From the start of a stream to the gateway's hello.
    pub hello: Duration,
    /// A gateway that reads nothing for so long, while there is something to read, loses its
    /// stream.
    pub unread: Duration,
    /// What was written to a gateway that cannot acknowledge has reached it, if its stream is still
    /// alive after so long. Longer than a ping and the wait for its answer.
    pub delivered: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            hello: Duration::from_secs(10),
            unread: Duration::from_secs(30),
            delivered: Duration::from_secs(45),
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link(..)")
    }
}

/// Where gateways are served.
#[derive(Debug)]
pub struct Place {
    /// Where they dial.
    pub listener: TcpListener,
    /// Whether connections without TLS are accepted.
    pub plaintext: Plaintext,
    /// Where commands poke; `None`: nowhere.
    pub socket: Option<PathBuf>,
}

/// Why gateways cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// TLS cannot be set up.
    #[error("cannot set up TLS for gateways")]
    Tls(#[from] PkiError),
    /// The socket for commands cannot be made.
    #[error("cannot listen at {}", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The server broke.
    #[error("the gateways' server broke")]
    Server(#[from] tonic::transport::Error),
    /// The task that looks at the store ended, which it does only when core stops.
    #[error("the look at the database ended")]
    Watch,
}

/// Serves gateways until `link.shutdown` says to stop.
///
/// Two things run here, the server and the look at the store each second; if one ends before the
/// other is told to, both do, and the error says which.
///
/// # Errors
///
/// Any [`LinkError`].
pub async fn serve(link: Link, place: Place) -> Result<(), LinkError> {
    let link = Arc::new(link);
    let tls = tls::server_config(&link.ca, Arc::clone(&link.certificate), &link.clock)?;
    if place.plaintext == Plaintext::LegacyOnly {
        tracing::warn!(
            "gateways of another make are served without TLS, too: who is on the way can read \
             their token and the keys of their location"
        );
    }
    let pokes = match &place.socket {
        None => None,
        Some(path) => {
            let listened = poke::Pokes::listen(path);
            Some(listened.map_err(|source| LinkError::Socket { path: path.clone(), source })?)
        }
    };
    let service = GatewayServer::new(server::GatewayService(Arc::clone(&link)))
        .max_decoding_message_size(server::MESSAGE_MAX);
    let legacy = GatewayServiceServer::new(legacy::LegacyService::new(Arc::clone(&link)))
        .max_decoding_message_size(server::MESSAGE_MAX);
    let grpc = Server::builder()
        .http2_keepalive_interval(Some(PING.0))
        .http2_keepalive_timeout(Some(PING.1))
        .max_concurrent_streams(Some(STREAMS_MAX))
        .http2_max_header_list_size(Some(16 * 1024))
        .add_service(service)
        .add_service(legacy)
        .serve_with_incoming_shutdown(
            listener::accept(place.listener, tls, place.plaintext),
            stopping(link.shutdown.clone()),
        );
    let farewell = async {
        stopping(link.shutdown.clone()).await;
        tokio::time::sleep(FAREWELL).await;
    };
    let served = async {
        tokio::select! {
            served = grpc => served,
            // A gateway that does not read cannot hold core up.
            () = farewell => Ok(()),
        }
    };
    let watch = watch::run(Arc::clone(&link), pokes);
    tokio::pin!(served, watch);
    tokio::select! {
        served = &mut served => {
            served?;
            // It has a last note to write.
            drop(tokio::time::timeout(FAREWELL, watch).await);
        }
        () = &mut watch => {
            if !*link.shutdown.borrow() {
                return Err(LinkError::Watch);
            }
            served.await?;
        }
    }
    Ok(())
}

async fn stopping(mut shutdown: signal::Receiver<bool>) {
    // An error: who could stop core is gone, so it stops.
    drop(shutdown.wait_for(|stop| *stop).await);
}
