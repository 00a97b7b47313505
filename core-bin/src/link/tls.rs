//! TLS on the gateways' listener: version 1.3 only, with or without a client certificate.

use std::sync::Arc;

use mfa_core::time::Timestamp;
use rustls::crypto::aws_lc_rs;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::UnixTime;

use crate::clock::Clock;
use crate::pki::{Ca, PkiError, ServerCertificate};

/// HTTP/2, which is all that gRPC speaks.
const ALPN_H2: &[u8] = b"h2";

/// Makes the listener's TLS configuration.
///
/// A client certificate is asked for and may be missing, since a gateway has none before it is
/// enrolled; one that is shown must be of our CA and in its time. Which of those still count is
/// the store's to say, for each stream. No session is resumed, so that each connection shows its
/// certificate anew.
///
/// # Errors
///
/// [`PkiError::Tls`] if the TLS library refuses the CA.
pub fn server_config(
    ca: &Ca,
    certificate: Arc<ServerCertificate>,
    clock: &Clock,
) -> Result<ServerConfig, PkiError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(ca.certificate().clone())?;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
    let time: Arc<dyn TimeProvider> = Arc::new(WallClock(clock.clone()));
    let mut config = ServerConfig::builder_with_details(provider, time)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Our clock, as the TLS library asks for it.
#[derive(Debug)]
struct WallClock(Clock);

impl TimeProvider for WallClock {
    fn current_time(&self) -> Option<UnixTime> {
        let since_epoch = self.0.now().since(Timestamp::UNIX_EPOCH);
        Some(UnixTime::since_unix_epoch(since_epoch))
    }
}

#[cfg(test)]
mod tests {
    use rustls::NamedGroup;

    use super::*;

    #[test]
    fn the_post_quantum_key_exchange_is_preferred() {
        let groups = aws_lc_rs::default_provider().kx_groups;
        assert_eq!(groups.first().map(|group| group.name()), Some(NamedGroup::X25519MLKEM768));
    }
}
