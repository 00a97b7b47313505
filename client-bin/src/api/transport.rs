//! One HTTP/1.1 connection over TLS, kept between requests.

use core::num::NonZeroU32;
use core::time::Duration;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::Url;
use zeroize::Zeroizing;

use super::unreachable::Unreachable;
use crate::pin::CaPin;
use crate::tls;

/// For a name to be resolved, a connection to be made, TLS to be agreed: each.
const CONNECT_SECONDS: u64 = 5;

/// For an answer; `finish` itself waits up to 4 s for gateways.
const ANSWER_SECONDS: u64 = 10;

/// The most bytes of an answer: some thousand locations.
const MAX_ANSWER: usize = 4 << 20;

/// An answer as it came.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Talks to one server.
pub(super) struct Transport {
    host: url::Host,
    port: u16,
    /// What stands before `/api/…`, without a slash at its end.
    prefix: String,
    tls: Option<TlsConnector>,
    live: tokio::sync::Mutex<Option<SendRequest<Full<Bytes>>>>,
    outside: Mutex<Outside>,
}

/// How to reach the server when all traffic goes into a tunnel that may be dead.
#[derive(Default)]
struct Outside {
    /// Goes on every packet, so that the rule which sends traffic into the tunnel passes it over.
    mark: Option<NonZeroU32>,
    /// Where the server was last reached: its name may not resolve any more.
    addresses: Vec<SocketAddr>,
}

impl Transport {
    pub(super) fn new(url: &Url, pin: Option<CaPin>) -> Result<Self, rustls::Error> {
        let host = url.host().map_or_else(|| url::Host::Domain(String::new()), |h| h.to_owned());
        let tls = match url.scheme() {
            "http" => None,
            _ => Some(TlsConnector::from(Arc::new(tls::client_config(pin)?))),
        };
        Ok(Self {
            host,
            port: url.port_or_known_default().unwrap_or(443),
            prefix: url.path().trim_end_matches('/').to_owned(),
            tls,
            live: tokio::sync::Mutex::new(None),
            outside: Mutex::default(),
        })
    }

    /// Marks the packets of every connection made from now on.
    pub(super) async fn set_mark(&self, mark: Option<NonZeroU32>) {
        self.outside.lock().unwrap_or_else(PoisonError::into_inner).mark = mark;
        *self.live.lock().await = None;
    }

    /// Finds the server's addresses while its name can surely be resolved.
    pub(super) async fn resolve_ahead(&self) {
        // Not found now is tried again when it is needed.
        if let Ok(addresses) = self.resolve().await {
            self.outside.lock().unwrap_or_else(PoisonError::into_inner).addresses = addresses;
        }
    }

    /// Host and port, as people write them.
    pub(super) fn server(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Sends one POST and waits for its answer.
    pub(super) async fn post(
        &self,
        path: &str,
        headers: HeaderMap,
        body: Zeroizing<Vec<u8>>,
    ) -> Result<Answer, Unreachable> {
        let body = Bytes::from_owner(Wiped(body));
        let mut request = self.request(path, headers, body)?;
        let mut live = self.live.lock().await;
        // A kept connection may have been closed meanwhile. A request that never left is sent
        // again on a new one; one that may have arrived is not.
        if let Some(mut sender) = live.take()
            && sender.ready().await.is_ok()
        {
            match self.in_time(sender.try_send_request(request)).await? {
                Ok(response) => {
                    let answer = self.read(response).await?;
                    *live = Some(sender);
                    return Ok(answer);
                }
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(self.broke_off(failed.into_error())),
                },
            }
        }
        let mut sender = self.connect().await?;
        let response = self.in_time(sender.send_request(request)).await?;
        let answer = self.read(response.map_err(|error| self.broke_off(error))?).await?;
        *live = Some(sender);
        Ok(answer)
    }

    fn request(
        &self,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, Unreachable> {
        let uri: Uri =
            format!("{}{path}", self.prefix).parse().map_err(|error| self.broke_off(error))?;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header(HOST, self.server())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("wg-mfa-client/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))
            .map_err(|error| self.broke_off(error))?;
        request.headers_mut().extend(headers);
        Ok(request)
    }

    async fn read(
        &self,
        response: hyper::Response<hyper::body::Incoming>,
    ) -> Result<Answer, Unreachable> {
        let (parts, body) = response.into_parts();
        let body = self.in_time(Limited::new(body, MAX_ANSWER).collect()).await?;
        let body =
            body.map_err(|source| Unreachable::Http { server: self.server(), source })?.to_bytes();
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Unreachable> {
        let stream = self.dial().await?;
        match (&self.tls, self.server_name()) {
            (Some(tls), Some(name)) => {
                let handshake = tls.connect(name, stream);
                let stream = self
                    .within(CONNECT_SECONDS, handshake)
                    .await?
                    .map_err(|error| Unreachable::tls(&self.server(), error))?;
                self.speak(stream).await
            }
            (Some(_), None) => Err(Unreachable::WrongName { server: self.server() }),
            (None, _) => self.speak(stream).await,
        }
    }

    async fn speak(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<SendRequest<Full<Bytes>>, Unreachable> {
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broke_off(error))?;
        // Ends by itself when the sender is dropped or the server closes; its error is also the
        // request's.
        tokio::spawn(connection);
        Ok(sender)
    }

    /// Connects to the first address that answers.
    async fn dial(&self) -> Result<TcpStream, Unreachable> {
        let (mark, known) = {
            let outside = self.outside.lock().unwrap_or_else(PoisonError::into_inner);
            (outside.mark, outside.addresses.clone())
        };
        // Behind a mark the tunnel may be dead, and with it the resolver: known addresses first.
        if mark.is_some()
            && !known.is_empty()
            && let Ok(stream) = self.dial_any(&known, mark).await
        {
            return Ok(stream);
        }
        let addresses = self.resolve().await?;
        let stream = self.dial_any(&addresses, mark).await?;
        self.outside.lock().unwrap_or_else(PoisonError::into_inner).addresses = addresses;
        Ok(stream)
    }

    async fn dial_any(
        &self,
        addresses: &[SocketAddr],
        mark: Option<NonZeroU32>,
    ) -> Result<TcpStream, Unreachable> {
        let mut last = None;
        for &address in addresses {
            match self.within(CONNECT_SECONDS, dial(address, mark)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = Some(Unreachable::connect(&self.server(), error)),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| self.timed_out(CONNECT_SECONDS)))
    }

    async fn resolve(&self) -> Result<Vec<SocketAddr>, Unreachable> {
        let name = match &self.host {
            url::Host::Ipv4(address) => return Ok(vec![SocketAddr::from((*address, self.port))]),
            url::Host::Ipv6(address) => return Ok(vec![SocketAddr::from((*address, self.port))]),
            url::Host::Domain(name) => name.as_str(),
        };
        let failed = |source| Unreachable::Resolve { host: name.to_owned(), source };
        let found =
            self.within(CONNECT_SECONDS, tokio::net::lookup_host((name, self.port))).await?;
        Ok(found.map_err(failed)?.collect())
    }

    fn server_name(&self) -> Option<ServerName<'static>> {
        match &self.host {
            url::Host::Ipv4(address) => Some(ServerName::IpAddress((*address).into())),
            url::Host::Ipv6(address) => Some(ServerName::IpAddress((*address).into())),
            url::Host::Domain(name) => ServerName::try_from(name.clone()).ok(),
        }
    }

    async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, Unreachable> {
        self.within(ANSWER_SECONDS, work).await
    }

    async fn within<T>(
        &self,
        seconds: u64,
        work: impl Future<Output = T>,
    ) -> Result<T, Unreachable> {
        timeout(Duration::from_secs(seconds), work).await.map_err(|_| self.timed_out(seconds))
    }

    fn timed_out(&self, seconds: u64) -> Unreachable {
        Unreachable::TimedOut { server: self.server(), seconds }
    }

    fn broke_off(&self, error: impl core::error::Error + Send + Sync + 'static) -> Unreachable {
        Unreachable::Http { server: self.server(), source: Box::new(error) }
    }
}

async fn dial(address: SocketAddr, mark: Option<NonZeroU32>) -> std::io::Result<TcpStream> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    if let Some(mark) = mark {
        socket.set_mark(mark.get())?;
    }
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    tokio::net::TcpSocket::from_std_stream(socket.into()).connect(address).await
}

/// A request's body, wiped when the last handle of it is gone.
struct Wiped(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
