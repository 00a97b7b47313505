//! Gateways' certificates: signed on request, at most 30 days, named after the gateway.

use core::time::Duration;

use mfa_core::id::GatewayId;
use mfa_core::time::Timestamp;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SanType,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use x509_parser::extensions::GeneralName;

use crate::rng::Rng;

use super::{Ca, DAY, PkiError, Serial, name, timestamp, validity};

/// How long a gateway's certificate is valid. The gateway asks for another at two thirds of it.
pub const GATEWAY_LIFE: Duration = DAY.saturating_mul(30);

/// The most bytes that a request may have; those of our gateways have about 300.
const REQUEST_MAX: usize = 4096;

const SUFFIX: &str = ".gateway.wg-mfa.internal";

/// A certificate just signed.
#[derive(Clone, Debug)]
pub struct GatewayCertificate {
    /// DER.
    pub certificate: CertificateDer<'static>,
    /// To be stored: the store decides which serials still count.
    pub serial: Serial,
    /// The end of its life.
    pub not_after: Timestamp,
}

/// Who a client certificate says its bearer is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GatewayIdentity {
    /// Which gateway.
    pub gateway: GatewayId,
    /// Which of its certificates.
    pub serial: Serial,
    /// The end of the certificate's life.
    pub not_after: Timestamp,
}

impl Ca {
    /// Signs a gateway's request (PKCS#10, DER).
    ///
    /// Only the public key is taken from it, once its signature has proved possession of the
    /// private one; the subject, the names, the usage and the life are core's to say.
    ///
    /// # Errors
    ///
    /// [`PkiError::Request`] unless the request is well formed, signed, and of ECDSA P-256.
    pub fn sign_gateway(
        &self,
        request: &[u8],
        gateway: GatewayId,
        rng: &Rng,
        now: Timestamp,
    ) -> Result<GatewayCertificate, PkiError> {
        if request.len() > REQUEST_MAX {
            return Err(PkiError::Request("it is too long"));
        }
        let request =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
                .map_err(|_| PkiError::Request("it is not a signed PKCS#10 request"))?;
        let public_key = request.public_key;
        // An uncompressed point: 04 and two coordinates of 32 bytes.
        if *public_key.algorithm() != PKCS_ECDSA_P256_SHA256 || public_key.der_bytes().len() != 65 {
            return Err(PkiError::Request("its key is not ECDSA P-256"));
        }
        let dns_name = format!("gateway-{gateway}{SUFFIX}");
        let serial = Serial::random(rng);
        let mut params = CertificateParams::default();
        params.distinguished_name = name(&dns_name);
        params.subject_alt_names = vec![SanType::DnsName(dns_name.try_into()?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        validity(&mut params, serial, now, GATEWAY_LIFE);
        let certificate = params.signed_by(&public_key, &self.issuer)?;
        let not_after = now.saturating_add(GATEWAY_LIFE);
        Ok(GatewayCertificate { certificate: certificate.into(), serial, not_after })
    }
}

impl GatewayIdentity {
    /// Reads a client certificate that the TLS library has verified. `None`: it is not a gateway's.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let names = parsed.subject_alternative_name().ok()??;
        let [GeneralName::DNSName(name)] = names.value.general_names.as_slice() else {
            return None;
        };
        let digits = name.strip_prefix("gateway-")?.strip_suffix(SUFFIX)?;
        Some(Self {
            gateway: GatewayId::new(digits.parse().ok()?),
            serial: Serial::from_der(parsed.raw_serial())?,
            not_after: timestamp(parsed.validity().not_after),
        })
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

    use super::*;
    use crate::pki::testing::{NOW, rng};

    const SEVEN: GatewayId = GatewayId::new(7);

    #[test]
    fn a_certificate_says_who_its_bearer_is() {
        let ca = ca();
        let key = KeyPair::generate().unwrap();
        let signed = ca.sign_gateway(&request(&key), SEVEN, &rng(2), NOW).unwrap();
        let identity = GatewayIdentity::of(&signed.certificate).unwrap();
        let not_after = NOW.saturating_add(GATEWAY_LIFE);
        let expected = GatewayIdentity { gateway: SEVEN, serial: signed.serial, not_after };
        assert_eq!(identity, expected);
    }

    #[test]
    fn nothing_but_the_key_is_taken_from_a_request() {
        let ca = ca();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["core.example".into()]).unwrap();
        params.distinguished_name = name("gateway-1.gateway.wg-mfa.internal");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let request = params.serialize_request(&key).unwrap();

        let signed = ca.sign_gateway(request.der(), SEVEN, &rng(2), NOW).unwrap();

        let (_, parsed) = x509_parser::parse_x509_certificate(&signed.certificate).unwrap();
        assert!(!parsed.is_ca());
        assert_eq!(parsed.subject().to_string(), "CN=gateway-7.gateway.wg-mfa.internal");
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth && !usage.any);
        assert_eq!(*parsed.public_key().subject_public_key.data, *key.public_key_raw());
        assert_eq!(GatewayIdentity::of(&signed.certificate).unwrap().gateway, SEVEN);
    }

    #[test]
    fn a_request_without_proof_of_possession_is_refused() {
        let ca = ca();
        let mut request = request(&KeyPair::generate().unwrap());
        let last = request.len() - 1;
        request[last] ^= 1;
        assert!(matches!(
            ca.sign_gateway(&request, SEVEN, &rng(2), NOW),
            Err(PkiError::Request(_))
        ));
    }

    #[test]
    fn keys_of_other_kinds_are_refused() {
        let ca = ca();
        for algorithm in [&PKCS_ED25519, &PKCS_ECDSA_P384_SHA384] {
            let request = request(&KeyPair::generate_for(algorithm).unwrap());
            let signed = ca.sign_gateway(&request, SEVEN, &rng(2), NOW);
            assert!(matches!(signed, Err(PkiError::Request(_))));
        }
    }

    #[test]
    fn bytes_that_are_no_request_are_refused() {
        let ca = ca();
        for bytes in [&b""[..], b"\x30", &[0x30; 300], &[0; 5000]] {
            let signed = ca.sign_gateway(bytes, SEVEN, &rng(2), NOW);
            assert!(matches!(signed, Err(PkiError::Request(_))));
        }
    }

    #[test]
    fn a_certificate_of_core_itself_is_no_gateways() {
        let ca = ca();
        assert_eq!(GatewayIdentity::of(ca.certificate()), None);
    }

    fn ca() -> Ca {
        let dir = tempfile::tempdir().unwrap();
        Ca::create(dir.path(), &rng(1), NOW).unwrap()
    }

    fn request(key: &KeyPair) -> Vec<u8> {
        CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
    }
}
