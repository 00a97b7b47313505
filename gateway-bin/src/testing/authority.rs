//! A certificate authority as core has one.

use core::time::Duration;
use std::path::Path;
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, date_time_ymd,
};
use rustls_pki_types::CertificateSigningRequestDer;

use crate::identity::Key;

/// Its certificates are valid from 2020 to 2100, unless a year is given.
pub(crate) struct Authority {
    certificate: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A time at which all is valid: in 2033, in seconds since the epoch.
    pub(crate) const NOW: u64 = 2_000_000_000;

    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.not_before, params.not_after) =
            (date_time_ymd(2020, 1, 1), date_time_ymd(2100, 1, 1));
        let certificate = params.self_signed(&key).unwrap().der().to_vec();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Signs a gateway's request.
    pub(crate) fn sign(&self, request: &[u8]) -> Vec<u8> {
        self.sign_with(request, |params| {
            (params.not_before, params.not_after) =
                (date_time_ymd(2020, 1, 1), date_time_ymd(2100, 1, 1));
        })
    }

    /// Signs a gateway's request, so that the certificate is due for renewal at `now`.
    pub(crate) fn sign_due(&self, request: &[u8], now: SystemTime) -> Vec<u8> {
        let day = Duration::from_secs(86_400);
        let today = date_time_ymd(1970, 1, 1) + now.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        self.sign_with(request, |params| {
            params.not_before = today - 25 * day;
            params.not_after = today + 5 * day;
        })
    }

    fn sign_with(&self, request: &[u8], validity: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let request = CertificateSigningRequestDer::from(request);
        let mut request = CertificateSigningRequestParams::from_der(&request).unwrap();
        request.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        validity(&mut request.params);
        request.signed_by(&self.issuer).unwrap().der().to_vec()
    }

    /// A certificate for core's listener.
    pub(crate) fn server(&self) -> Vec<u8> {
        self.server_with_key().0
    }

    /// A certificate for core's listener, and its key in PEM.
    pub(crate) fn server_with_key(&self) -> (Vec<u8>, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["core.example.com".into()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        (params.not_before, params.not_after) =
            (date_time_ymd(2020, 1, 1), date_time_ymd(2100, 1, 1));
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        (certificate, key.serialize_pem())
    }
}

/// Makes an enrolled gateway's identity in `dir`.
pub(crate) fn enroll(authority: &Authority, dir: &Path) {
    let key = Key::generate().unwrap();
    let certificate = authority.sign(&key.request("host").unwrap());
    key.save(dir, &certificate, authority.certificate()).unwrap();
}
