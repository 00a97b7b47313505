//! TLS for the public listener.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::pki::ServerCertificate;

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds no PEM of this kind.
    #[error("cannot read {what} from {path}: {reason}")]
    File {
        /// Of what kind.
        what: &'static str,
        /// Which file.
        path: String,
        /// Why.
        reason: String,
    },
    /// Certificate and key do not belong together, or are of a kind that is not supported.
    #[error("the certificate or its key cannot be used")]
    Unusable(#[from] rustls::Error),
}

/// Speaks TLS with core's own certificate.
///
/// # Errors
///
/// [`TlsError::Unusable`] if the TLS library refuses its own defaults.
pub fn from_own_ca(certificate: Arc<ServerCertificate>) -> Result<TlsAcceptor, TlsError> {
    Ok(acceptor(builder()?.with_no_client_auth().with_cert_resolver(certificate)))
}

/// Speaks TLS with a certificate chain and a key, PEM, from files.
///
/// # Errors
///
/// [`TlsError::File`] or [`TlsError::Unusable`].
pub fn from_files(cert: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
    let file = |what, path: &Path, reason: String| TlsError::File {
        what,
        path: path.display().to_string(),
        reason,
    };
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| file("a certificate", cert, error.to_string()))?;
    if chain.is_empty() {
        return Err(file("a certificate", cert, "there is none in it".to_owned()));
    }
    let secret = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| file("a private key", key, error.to_string()))?;
    Ok(acceptor(builder()?.with_no_client_auth().with_single_cert(chain, secret)?))
}

type Builder = rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>;

fn builder() -> Result<Builder, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
}

fn acceptor(mut config: ServerConfig) -> TlsAcceptor {
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}
