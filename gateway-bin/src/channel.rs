//! The connection to core: TCP, TLS, HTTP/2.

use core::time::Duration;
use std::io;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use crate::config::CoreUrl;

/// Until when TCP and TLS must be through.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why core could not be reached.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach core at {core}: {why}")]
pub struct ConnectError {
    core: CoreUrl,
    why: String,
}

/// Connects to core.
///
/// # Errors
///
/// [`ConnectError`] says which step failed, in words.
pub async fn connect(core: &CoreUrl, tls: ClientConfig) -> Result<Channel, ConnectError> {
    let failed = |why: String| ConnectError { core: core.clone(), why };
    let connector = TlsConnector::from(Arc::new(tls));
    let url = core.clone();
    let dial = tower::service_fn(move |_: tonic::transport::Uri| {
        let (connector, url) = (connector.clone(), url.clone());
        async move { dial(&connector, &url).await.map(TokioIo::new) }
    });
    // The scheme is http because TLS is spoken below; :scheme and :authority say nothing to core.
    let endpoint = Endpoint::from_shared(format!("http://core:{}", core.port()))
        .map_err(|error| failed(error.to_string()))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    endpoint.connect_with_connector(dial).await.map_err(|error| failed(innermost(&error)))
}

async fn dial(connector: &TlsConnector, core: &CoreUrl) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect((core.host(), core.port())).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(core.host().to_owned())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    connector.connect(name, stream).await
}

/// The last cause: the ones above it say no more than that something failed.
fn innermost(error: &dyn core::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
