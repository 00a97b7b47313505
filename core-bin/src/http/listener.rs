//! The public listener: connections in, requests to the router.
//!
//! Every wait has an end and every count a bound, because anybody can be at the other end.

use core::time::Duration;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use super::source::Peer;
use super::throttle::Source;

/// Connections at once.
const CONNECTIONS: usize = 8192;
/// Connections at once from one source.
const PER_SOURCE: usize = 64;
/// For the TLS handshake, and for the head of each request.
const HEAD: Duration = Duration::from_secs(5);
/// After this time a connection is asked to end: it neither idles nor lives for ever.
const LIFE: Duration = Duration::from_secs(120);
/// How long requests may go on after the server was told to stop.
const GRACE: Duration = Duration::from_secs(8);
/// Bytes of a request's head.
const HEAD_BYTES: usize = 16 * 1024;
/// Requests at once on one HTTP/2 connection.
const STREAMS: u32 = 32;

/// A bound address with what protects it.
pub struct Listener {
    tcp: TcpListener,
    tls: Option<TlsAcceptor>,
}

impl core::fmt::Debug for Listener {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Listener").field("tcp", &self.tcp).finish_non_exhaustive()
    }
}

impl Listener {
    /// Binds an address; `None` for TLS means plain HTTP.
    ///
    /// # Errors
    ///
    /// What the operating system says: the port is taken, or needs a privilege.
    pub async fn bind(address: SocketAddr, tls: Option<TlsAcceptor>) -> std::io::Result<Self> {
        Ok(Self { tcp: TcpListener::bind(address).await?, tls })
    }

    /// Returns the address, with the port that the system chose for port 0.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Serves until `stop` turns true, then lets requests under way finish within some seconds.
    pub async fn serve(self, router: Router, mut stop: watch::Receiver<bool>) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        let sources = Sources::default();
        loop {
            let accepted = tokio::select! {
                accepted = self.tcp.accept() => accepted,
                () = told(&mut stop) => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, mostly: a pause lets some be freed.
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                tracing::warn!(%peer, "connection refused: {CONNECTIONS} are open");
                continue;
            };
            let Some(seat) = sources.enter(peer) else {
                tracing::debug!(%peer, "connection refused: {PER_SOURCE} are open from there");
                continue;
            };
            let (tls, router, stop) = (self.tls.clone(), router.clone(), stop.clone());
            tokio::spawn(async move {
                accept(stream, peer, tls, router, stop).await;
                drop((slot, seat));
            });
        }
        drop(self.tcp);
        // All slots are back when the last connection has ended.
        let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
        if timeout(GRACE, slots.acquire_many(all)).await.is_err() {
            tracing::warn!("stopped with requests under way");
        }
    }
}

async fn accept(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    router: Router,
    stop: watch::Receiver<bool>,
) {
    // Answers are one small packet; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else { return talk(stream, peer, router, stop).await };
    match timeout(HEAD, tls.accept(stream)).await {
        Ok(Ok(stream)) => talk(stream, peer, router, stop).await,
        Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS handshake"),
        Err(_elapsed) => tracing::debug!(%peer, "no TLS handshake in time"),
    }
}

async fn talk<S>(stream: S, peer: SocketAddr, router: Router, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        router.clone().oneshot(request.map(Body::new))
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(HEAD_BYTES).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let old = sleep_until(Instant::now() + LIFE);
    tokio::pin!(old);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = old => None,
        () = told(&mut stop) => None,
    };
    let ended = if let Some(ended) = ended {
        ended
    } else {
        // Lets the requests under way finish, and takes no more.
        connection.as_mut().graceful_shutdown();
        timeout(GRACE, connection).await.unwrap_or(Ok(()))
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

/// Waits until the server is told to stop, or nobody is left who could tell.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Open connections by source. As many entries as connections at most.
#[derive(Clone, Debug, Default)]
struct Sources(Arc<Mutex<BTreeMap<Source, usize>>>);

/// One connection's place; dropping it leaves.
struct Seat {
    sources: Sources,
    source: Source,
}

impl Sources {
    fn enter(&self, peer: SocketAddr) -> Option<Seat> {
        let source = Source::from(peer.ip());
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(source).or_default();
        if *count >= PER_SOURCE {
            return None;
        }
        *count = count.saturating_add(1);
        Some(Seat { sources: self.clone(), source })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.sources.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = open.get_mut(&self.source) else { return };
        *count = count.saturating_sub(1);
        if *count == 0 {
            open.remove(&self.source);
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn a_source_has_so_many_connections_and_gets_them_back() {
        let sources = Sources::default();
        let peer = "192.0.2.1:1".parse().unwrap();
        let mut seats: Vec<Seat> = (0..PER_SOURCE).map(|_| sources.enter(peer).unwrap()).collect();
        assert!(sources.enter(peer).is_none());
        assert!(sources.enter("192.0.2.2:1".parse().unwrap()).is_some());
        seats.pop();
        assert!(sources.enter(peer).is_some());
        drop(seats);
        assert!(sources.0.lock().unwrap().is_empty(), "nothing is remembered of those who left");
    }

    #[tokio::test]
    async fn it_serves_and_stops_when_told() {
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), None).await.unwrap();
        let address = listener.address().unwrap();
        let (stop, stopped) = watch::channel(false);
        let router = Router::new().route("/", get(|| async { "hello" }));
        let server = tokio::spawn(listener.serve(router, stopped));

        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 15];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");

        stop.send(true).unwrap();
        server.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}
