//! Accepts gateways' connections: TLS, and plain HTTP/2 if that is allowed, on one port.
//!
//! The first byte tells which: 0x16 begins a TLS record, `P` the preface of HTTP/2.
//!
//! Tasks: one that accepts, and one for each connection until its handshake is over, limited in
//! number and in time. They may be cancelled at any point; the peer dials again.

use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use crate::pki::GatewayIdentity;

/// Handshakes at once. Each is a few kilobytes and a signature.
const HANDSHAKES_MAX: usize = 256;

/// Connections that wait to be served.
const QUEUE: usize = 64;

/// From the first byte to the end of the handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// Pause after the operating system refuses to accept, as it does when it is out of descriptors.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// `ContentType.handshake` (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// First byte of `PRI * HTTP/2.0` (RFC 9113 §3.4).
const HTTP2_PREFACE: u8 = b'P';

/// Whether connections without TLS are accepted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Plaintext {
    /// They are closed.
    #[default]
    Refused,
    /// They are, for the legacy protocol alone.
    LegacyOnly,
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Caller {
    /// The address that dialled.
    pub remote: SocketAddr,
    /// How it proved who it is.
    pub proof: Proof,
}

/// How a caller proved who it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Proof {
    /// Not at all, and everybody on the way can read along.
    Plaintext,
    /// Not at all; core proved who *it* is.
    Anonymous,
    /// By a certificate of our CA.
    Certificate(GatewayIdentity),
    /// By a certificate of our CA that is not a gateway's.
    Unknown,
}

/// Accepts connections until the receiver is dropped.
#[must_use]
pub fn accept(
    listener: TcpListener,
    tls: ServerConfig,
    plaintext: Plaintext,
) -> ReceiverStream<io::Result<Connection>> {
    let (queue, accepted) = mpsc::channel(QUEUE);
    tokio::spawn(accept_all(listener, TlsAcceptor::from(Arc::new(tls)), plaintext, queue));
    ReceiverStream::new(accepted)
}

async fn accept_all(
    listener: TcpListener,
    tls: TlsAcceptor,
    plaintext: Plaintext,
    queue: mpsc::Sender<io::Result<Connection>>,
) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    loop {
        let Ok(slot) = Arc::clone(&handshakes).acquire_owned().await else { return };
        let (stream, remote) = tokio::select! {
            () = queue.closed() => return,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept gateways' connections; trying again");
                    tokio::time::sleep(REFUSED_PAUSE).await;
                    continue;
                }
            }
        };
        let (tls, queue) = (tls.clone(), queue.clone());
        tokio::spawn(async move {
            let _slot = slot;
            match tokio::time::timeout(HANDSHAKE_TIME, greet(stream, tls, plaintext)).await {
                Ok(Ok(stream)) => {
                    // An error: the server has stopped.
                    drop(queue.send(Ok(Connection { stream, remote })).await);
                }
                Ok(Err(error)) => tracing::debug!(%remote, %error, "a connection was refused"),
                Err(_elapsed) => tracing::debug!(%remote, "a connection did not get ready in time"),
            }
        });
    }
}

async fn greet(stream: TcpStream, tls: TlsAcceptor, plaintext: Plaintext) -> io::Result<Stream> {
    // Changes are small and urgent.
    stream.set_nodelay(true)?;
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    match (first, plaintext) {
        ([TLS_HANDSHAKE], _) => Ok(Stream::Tls(Box::new(tls.accept(stream).await?))),
        ([HTTP2_PREFACE], Plaintext::LegacyOnly) => Ok(Stream::Plain(stream)),
        ([HTTP2_PREFACE], Plaintext::Refused) => Err(io::Error::other(
            "it is without TLS; set [gateways] allow_plaintext_legacy to accept such gateways",
        )),
        _ => Err(io::Error::other("it is neither TLS nor HTTP/2")),
    }
}

/// A connection that is ready to be served.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    remote: SocketAddr,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        let proof = match &self.stream {
            Stream::Plain(_) => Proof::Plaintext,
            Stream::Tls(stream) => match stream.get_ref().1.peer_certificates() {
                None | Some([]) => Proof::Anonymous,
                Some([leaf, ..]) => {
                    GatewayIdentity::of(leaf).map_or(Proof::Unknown, Proof::Certificate)
                }
            },
        };
        Caller { remote: self.remote, proof }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
