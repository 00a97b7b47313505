//! `ui`: the client as a page in the person's own browser, served on loopback to that person alone.
//!
//! ```text
//! browser ──HTTP on 127.0.0.1──▶ this process (no privileges) ──starts──▶ agent (CAP_NET_ADMIN)
//! ```
//!
//! It does nothing of its own: every button is a journey of the command line, and how a connection
//! stands is asked of its interface and of the server each time. Connections are processes in the
//! background, as of `connect --detach`; they outlive the page and this server.
//!
//! Who may come in is decided in [`door`] and [`peer`].

use core::fmt;
use core::time::Duration;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tower::ServiceExt as _;
use zeroize::Zeroizing;

use crate::client::{Client, io_error};
use crate::clock;
use crate::error::ClientError;

mod desk;
mod dialog;
mod door;
mod page;
mod peer;
pub mod privilege;
mod routes;
mod words;

use desk::Desk;
use door::Door;

/// Connections at once; a browser opens six.
const CONNECTIONS: usize = 64;
/// For the head of a request to arrive.
const HEAD: Duration = Duration::from_secs(5);
/// Bytes of a request's head. hyper takes no less.
const HEAD_BYTES: usize = 16 * 1024;
/// Without a browser for this long, the server ends by itself.
const AWAY: Duration = Duration::from_secs(30 * 60);

/// Where connections live.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Keep {
    /// In processes of their own, which outlive this one.
    Background,
    /// In this process: tests and demonstrations, on a machine of theirs.
    Here,
}

/// The page's server, bound and not yet serving.
pub struct Ui {
    listener: TcpListener,
    at: SocketAddr,
    link: Zeroizing<String>,
    house: Arc<House>,
}

impl fmt::Debug for Ui {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ui").field("at", &self.at).finish_non_exhaustive()
    }
}

/// What requests work with.
#[derive(Debug)]
struct House {
    door: Door,
    desk: Arc<Desk>,
    visits: Visits,
}

/// When a browser was last there.
#[derive(Debug)]
struct Visits {
    last: Mutex<Instant>,
    watching: AtomicUsize,
}

impl Visits {
    fn note(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = clock::monotonic();
    }

    fn nobody_since(&self) -> Duration {
        if self.watching.load(Ordering::Relaxed) > 0 {
            return Duration::ZERO;
        }
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        clock::monotonic().duration_since(last)
    }
}

/// Why a server ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Closed {
    /// It was told to.
    Stopped,
    /// No browser came for half an hour.
    Deserted,
}

impl Ui {
    /// Binds a port of 127.0.0.1; 0 lets the system choose one.
    ///
    /// # Errors
    ///
    /// [`ClientError::Io`] if the port cannot be had.
    pub async fn bind(client: Client, port: u16, keep: Keep) -> Result<Self, ClientError> {
        let failed = || io_error("cannot open a page on 127.0.0.1");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(failed())?;
        let at = listener.local_addr().map_err(failed())?;
        let now = clock::monotonic();
        let (door, link) = Door::new(at, now).map_err(failed())?;
        let visits = Visits { last: Mutex::new(now), watching: AtomicUsize::new(0) };
        let house = House { door, desk: Arc::new(Desk::new(client, keep)), visits };
        Ok(Self { listener, at, link, house: Arc::new(house) })
    }

    /// The only way in: good once, for ten minutes.
    #[must_use]
    pub fn link(&self) -> &str {
        &self.link
    }

    /// Serves until `stop`, or until nobody has come for long.
    pub async fn serve(self, stop: impl Future<Output = ()>) -> Closed {
        tokio::pin!(stop);
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        let router = routes::router(&self.house);
        loop {
            let left = AWAY.saturating_sub(self.house.visits.nobody_since());
            if left.is_zero() {
                return Closed::Deserted;
            }
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = sleep(left) => continue,
                () = &mut stop => return Closed::Stopped,
            };
            let Ok((stream, peer)) = accepted else {
                // Out of file descriptors, mostly: a pause lets some be freed.
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
            if !may_come(peer::user(peer, self.at)) {
                continue;
            }
            let router = router.clone();
            tokio::spawn(async move {
                // A browser that breaks off has nobody to complain to.
                let _ = talk(stream, router).await;
                drop(slot);
            });
        }
    }
}

/// Whether a user may: the one whose process this is, and root. Where root was asked to start it,
/// by sudo, the person who asked.
fn may_come(user: Option<u32>) -> bool {
    let own = rustix::process::geteuid();
    let asker = || std::env::var("SUDO_UID").ok()?.parse::<u32>().ok();
    user.is_some_and(|user| {
        user == 0 || user == own.as_raw() || (own.is_root() && asker() == Some(user))
    })
}

async fn talk(stream: TcpStream, router: Router) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let service = service_fn(move |request: Request<Incoming>| {
        router.clone().oneshot(request.map(Body::new))
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(io::Error::other)
}
