//! `health`: asks a running server over its own listener, as a client would.

use core::time::Duration;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Globals;
use crate::admin::Answer;
use crate::config::{Config, Tls};

const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read; the status stands in the first line.
const ANSWER: u64 = 4096;

pub(super) async fn run(globals: &Globals) -> anyhow::Result<Answer> {
    let config = globals.load()?;
    let address = own_address(config.public.listen);
    let status = tokio::time::timeout(TIMEOUT, ask(globals, &config, address))
        .await
        .with_context(|| format!("{address} did not answer in time"))??;
    if status != 200 {
        bail!("the server is not ready (status {status}); its log says why");
    }
    Ok(Answer::new(json!({ "ready": true }), "The server is ready."))
}

/// Where the server is reached from this host.
fn own_address(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

async fn ask(globals: &Globals, config: &Config, address: SocketAddr) -> anyhow::Result<u16> {
    let stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("nothing listens on {address}: the server does not run"))?;
    let certificate = match (config.public.tls, &config.public.cert) {
        (Tls::Off, _) => return talk(stream).await,
        (Tls::Files, Some(cert)) => cert.clone(),
        (Tls::SelfSigned | Tls::Files, _) => globals.dir().tls().join("public.pem"),
    };
    let expected = CertificateDer::from_pem_file(&certificate)
        .with_context(|| format!("cannot read {}", certificate.display()))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(Exactly { expected, provider: Arc::clone(&provider) });
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost")?;
    let stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await?;
    talk(stream).await
}

async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> anyhow::Result<u16> {
    let request = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    stream.take(ANSWER).read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer);
    let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    match status.and_then(|status| status.parse().ok()) {
        Some(status) => Ok(status),
        None => bail!("what listens there does not speak HTTP"),
    }
}

/// Accepts the one certificate that this server has on disk, whatever names are in it.
#[derive(Debug)]
struct Exactly {
    expected: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Exactly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity == self.expected {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
