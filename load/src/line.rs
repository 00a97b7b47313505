//! A client's connection: HTTP/1.1 over TLS, from an address of its own on the loopback network.

use core::time::Duration;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls_pki_types::ServerName;
use serde_json::Value;
use std::path::Path;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Clients wait this long for an answer; generous, for machines that are busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whom to trust, and where core is.
#[derive(Clone)]
pub struct Dialer {
    tls: TlsConnector,
    to: SocketAddr,
}

impl core::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Dialer").field("to", &self.to).finish_non_exhaustive()
    }
}

impl Dialer {
    /// Trusts the CA of the state directory `dir`.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn new(dir: &Path, to: SocketAddr) -> Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        let ca = dir.join("ca/ca.pem");
        roots.add(CertificateDer::from_pem_file(&ca).context("cannot read ca.pem")?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // Every person's first login of a day is a full handshake, so all of them are.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), to })
    }

    /// The same, to another core.
    #[must_use]
    pub fn to(&self, to: SocketAddr) -> Self {
        Self { tls: self.tls.clone(), to }
    }

    /// Connects from the loopback address with this number.
    ///
    /// # Errors
    ///
    /// When nothing listens, or TLS fails.
    pub async fn dial(&self, number: u32) -> Result<Line> {
        let [_, a, b, c] = number.saturating_add(2).to_be_bytes();
        let socket = TcpSocket::new_v4()?;
        // Ports are chosen when it connects, so that each pair of addresses has all of them.
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from((Ipv4Addr::new(127, a, b, c), 0)))?;
        let connect = async {
            let stream = socket.connect(self.to).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from("localhost")?;
            Ok::<_, anyhow::Error>(self.tls.connect(name, stream).await?)
        };
        let stream = timeout(PATIENCE, connect).await.context("no connection in time")??;
        Ok(Line { stream, read: Vec::new() })
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Line {
    stream: TlsStream<TcpStream>,
    read: Vec<u8>,
}

/// A status and a body.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body, if it is JSON.
    pub body: Value,
}

impl Line {
    /// Posts JSON, with more header lines in `extra`, each with its end.
    ///
    /// # Errors
    ///
    /// When the connection breaks before the answer: nobody knows then whether it was done.
    pub async fn post(&mut self, path: &str, extra: &str, body: &str) -> Result<Answer> {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{extra}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        timeout(PATIENCE, self.exchange(&request)).await.context("no answer in time")?
    }

    async fn exchange(&mut self, request: &str) -> Result<Answer> {
        self.stream.write_all(request.as_bytes()).await?;
        self.stream.flush().await?;
        self.read.clear();
        let mut part = [0; 4096];
        loop {
            let count = self.stream.read(&mut part).await?;
            if count == 0 {
                bail!("the connection ended before the answer");
            }
            self.read.extend_from_slice(part.get(..count).unwrap_or_default());
            if let Some(answer) = parse(&self.read)? {
                return Ok(answer);
            }
        }
    }
}

/// Reads an answer; `None`: there is more to come.
fn parse(read: &[u8]) -> Result<Option<Answer>> {
    let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let (head, rest) = read.split_at(end);
    let body = rest.get(4..).unwrap_or_default();
    let head = core::str::from_utf8(head)?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then_some(value.trim())
    });
    let length: usize = length.context("an answer has a length")?.parse()?;
    if body.len() < length {
        return Ok(None);
    }
    let status = head.split(' ').nth(1).context("an answer has a status")?.parse()?;
    Ok(Some(Answer { status, body: serde_json::from_slice(body).unwrap_or(Value::Null) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_when_all_of_it_is_there() {
        let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n{\"a\":1}";
        for length in 0..whole.len() {
            assert!(parse(&whole[..length]).unwrap().is_none(), "{length}");
        }
        let answer = parse(whole).unwrap().unwrap();
        assert_eq!((answer.status, answer.body["a"].as_i64()), (200, Some(1)));
    }
}
