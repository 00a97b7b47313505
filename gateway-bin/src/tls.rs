//! TLS 1.3 to core, which is known by its certificate authority and by nothing else.
//!
//! The authority vouches for core's listeners and for gateways, and a gateway's certificate cannot
//! serve. So a server that shows a certificate of it is core, by whatever name it was dialled: a
//! name would prove nothing more, and break where core is reached through a port forwarding.

use core::fmt;
use core::str::FromStr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature,
    verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use sha2::{Digest as _, Sha256};

use crate::identity::Identity;

/// The SHA-256 of the authority's certificate; 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pin([u8; 32]);

impl Pin {
    /// The pin of a certificate in DER.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl FromStr for Pin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or_else(|| {
            "a CA pin is 64 hexadecimal digits; copy it from what `core-bin gateway token` prints"
                .to_owned()
        })
    }
}

/// Speaks to a core of which only the pin is known, without a certificate of one's own.
///
/// # Errors
///
/// Those of rustls if the provider lacks TLS 1.3.
pub fn pinned(pin: Pin) -> Result<ClientConfig, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = CoreVerifier::new(&provider, Trust::Pin(pin));
    let mut config = builder(provider)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Speaks to core as the enrolled gateway that one is.
///
/// # Errors
///
/// Those of rustls if the key, the certificate or the authority is not usable.
pub fn mutual(identity: &Identity) -> Result<ClientConfig, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(identity.ca().clone())?;
    let verifier = CoreVerifier::new(&provider, Trust::Authority(roots));
    let (certificate, key) = identity.certificate();
    let mut config = builder(provider)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

type Builder = rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>;

fn builder(provider: Arc<CryptoProvider>) -> Result<Builder, Error> {
    ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13])
}

/// Whom a server must be vouched for by.
#[derive(Debug)]
enum Trust {
    /// This authority.
    Authority(RootCertStore),
    /// The authority with this pin, which the server itself must show.
    Pin(Pin),
}

#[derive(Debug)]
struct CoreVerifier {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
}

impl CoreVerifier {
    const fn new(provider: &CryptoProvider, trust: Trust) -> Self {
        Self { trust, algorithms: provider.signature_verification_algorithms }
    }

    fn roots(&self, shown: &[CertificateDer<'_>]) -> Result<RootCertStore, Error> {
        let pin = match &self.trust {
            Trust::Authority(roots) => return Ok(roots.clone()),
            Trust::Pin(pin) => pin,
        };
        let authority = shown.iter().find(|certificate| Pin::of(certificate) == *pin);
        let authority = authority.ok_or_else(|| Error::General(OTHER_PIN.to_owned()))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        Ok(roots)
    }
}

/// What a person is told when the pin does not fit. It may be an attack or a typing error.
const OTHER_PIN: &str = "the server has another certificate authority than the pin says: it is \
                         not the core that printed the enrollment command, or the pin is mistyped";

impl ServerCertVerifier for CoreVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots(intermediates)?,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::testing::Authority;

    fn verify(trust: Trust, leaf: &[u8], shown: &[&[u8]]) -> Result<ServerCertVerified, Error> {
        let verifier = CoreVerifier::new(&aws_lc_rs::default_provider(), trust);
        let shown: Vec<_> = shown.iter().map(|der| CertificateDer::from(*der)).collect();
        let now = UnixTime::since_unix_epoch(core::time::Duration::from_secs(Authority::NOW));
        let name = ServerName::from(IpAddr::V4(Ipv4Addr::LOCALHOST));
        verifier.verify_server_cert(&leaf.into(), &shown, &name, &[], now)
    }

    fn trusting(authority: &Authority) -> Trust {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(authority.certificate()).into_owned()).unwrap();
        Trust::Authority(roots)
    }

    fn pin(authority: &Authority) -> Trust {
        Trust::Pin(Pin::of(authority.certificate()))
    }

    #[test]
    fn core_is_who_has_a_server_certificate_of_the_authority() {
        let authority = Authority::new();
        let (leaf, ca) = (authority.server(), authority.certificate());
        verify(trusting(&authority), &leaf, &[ca]).unwrap();
        verify(trusting(&authority), &leaf, &[]).unwrap();
        verify(pin(&authority), &leaf, &[ca]).unwrap();
    }

    #[test]
    fn another_authority_is_refused() {
        let (ours, other) = (Authority::new(), Authority::new());
        let leaf = other.server();
        verify(trusting(&ours), &leaf, &[other.certificate()]).unwrap_err();
        verify(pin(&ours), &leaf, &[other.certificate()]).unwrap_err();
        // Showing the pinned authority does not help whose certificate is not of it.
        verify(pin(&ours), &leaf, &[ours.certificate()]).unwrap_err();
        verify(pin(&ours), &leaf, &[ours.certificate(), other.certificate()]).unwrap_err();
    }

    #[test]
    fn a_gateway_cannot_pose_as_core() {
        let authority = Authority::new();
        let key = crate::identity::Key::generate().unwrap();
        let gateway = authority.sign(&key.request("gateway").unwrap());
        verify(trusting(&authority), &gateway, &[authority.certificate()]).unwrap_err();
        verify(pin(&authority), &gateway, &[authority.certificate()]).unwrap_err();
    }

    #[test]
    fn a_pin_has_one_length() {
        let pin = Pin::of(b"certificate");
        assert_eq!(pin.to_string().parse(), Ok(pin));
        assert_eq!(pin.to_string().to_uppercase().parse(), Ok(pin));
        for wrong in ["", "00", "zz", &format!("{pin}00")] {
            assert!(wrong.parse::<Pin>().is_err());
        }
    }
}
