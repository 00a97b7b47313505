//! Core's own certificate on a listener: made at first start, renewed when two thirds of its life
//! are over, also while core runs.

use core::fmt;
use core::time::Duration;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use mfa_core::time::Timestamp;
use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, DnsName, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use zeroize::Zeroizing;

use crate::rng::Rng;

use super::{Ca, DAY, PkiError, Serial, files, name, timestamp, validity};

/// The shortest life that a server certificate may be given.
pub const LIFE_MIN: Duration = DAY.saturating_mul(30);

/// The longest life that a server certificate may be given; some clients refuse longer ones.
pub const LIFE_MAX: Duration = DAY.saturating_mul(397);

/// A listener's certificate and key, on disk and ready for TLS.
///
/// The chain that it presents ends with the CA's certificate, so that a peer that knows only the
/// [`Pin`](super::Pin) finds what to check.
pub struct ServerCertificate {
    ca: Arc<Ca>,
    certificate_path: PathBuf,
    key_path: PathBuf,
    hosts: BTreeSet<Host>,
    life: Duration,
    current: RwLock<Current>,
}

impl ServerCertificate {
    /// Loads `STEM.pem` and `STEM.key` from `dir`, or makes them if they are absent, of another CA,
    /// for other hosts, unusable, or due for renewal.
    ///
    /// `hosts` are names and addresses by which peers dial. `life` is kept between [`LIFE_MIN`] and
    /// [`LIFE_MAX`].
    ///
    /// # Errors
    ///
    /// [`PkiError::Host`] for a host that is neither; [`PkiError::Write`] if the files cannot be
    /// written; [`PkiError::Exposed`] if others can read the key.
    pub fn open(
        ca: Arc<Ca>,
        (dir, stem): (&Path, &str),
        hosts: &[String],
        life: Duration,
        rng: &Rng,
        now: Timestamp,
    ) -> Result<Arc<Self>, PkiError> {
        let hosts = hosts.iter().map(|host| Host::parse(host)).collect::<Result<_, _>>()?;
        let certificate_path = dir.join(format!("{stem}.pem"));
        let key_path = dir.join(format!("{stem}.key"));
        let life = life.clamp(LIFE_MIN, LIFE_MAX);
        files::make_dir(dir)?;
        let current = match Current::load(&ca, &certificate_path, &key_path, &hosts)? {
            Some(current) if !current.is_due(now) => current,
            Some(_) | None => {
                Current::make(&ca, (&certificate_path, &key_path), &hosts, life, rng, now)?
            }
        };
        let current = RwLock::new(current);
        Ok(Arc::new(Self { ca, certificate_path, key_path, hosts, life, current }))
    }

    /// Makes a new certificate if two thirds of this one's life are over; connections made from then
    /// on get it. Returns whether it did.
    ///
    /// # Errors
    ///
    /// [`PkiError::Write`] if the files cannot be written; the old certificate stays in use.
    pub fn renew_if_due(&self, rng: &Rng, now: Timestamp) -> Result<bool, PkiError> {
        if !self.current.read().unwrap_or_else(PoisonError::into_inner).is_due(now) {
            return Ok(false);
        }
        let paths = (self.certificate_path.as_path(), self.key_path.as_path());
        let new = Current::make(&self.ca, paths, &self.hosts, self.life, rng, now)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(true)
    }

    /// Returns the end of the certificate's life.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.current.read().unwrap_or_else(PoisonError::into_inner).not_after
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current.key))
    }
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCertificate").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

/// A name or an address by which peers dial.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Host {
    Address(IpAddr),
    Name(String),
}

impl Host {
    fn parse(text: &str) -> Result<Self, PkiError> {
        let refused = || PkiError::Host(text.to_owned());
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse() {
            return Ok(Self::Address(address));
        }
        let name = DnsName::try_from(text).map_err(|_| refused())?;
        Ok(Self::Name(name.to_lowercase_owned().as_ref().to_owned()))
    }

    fn of(name: &GeneralName<'_>) -> Option<Self> {
        match name {
            GeneralName::DNSName(name) => Some(Self::Name((*name).to_owned())),
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                let v6 = || <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
                v4.or_else(|_| v6()).ok().map(Self::Address)
            }
            _ => None,
        }
    }

    fn to_san(&self) -> Result<SanType, PkiError> {
        Ok(match self {
            Self::Address(address) => SanType::IpAddress(*address),
            Self::Name(name) => SanType::DnsName(name.as_str().try_into()?),
        })
    }
}

/// The certificate in use.
struct Current {
    key: Arc<CertifiedKey>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Current {
    fn is_due(&self, now: Timestamp) -> bool {
        let life = self.not_after.since(self.not_before);
        now < self.not_before || now >= self.not_before.saturating_add(life / 3 * 2)
    }

    /// Returns what is on disk, if it is whole, of this CA and for exactly these hosts.
    fn load(
        ca: &Ca,
        certificate_path: &Path,
        key_path: &Path,
        hosts: &BTreeSet<Host>,
    ) -> Result<Option<Self>, PkiError> {
        if !certificate_path.exists() || !key_path.exists() {
            return Ok(None);
        }
        let pem = files::read(certificate_path)?;
        let key = files::read_secret(key_path)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let Ok(key) = PrivateKeyDer::from_pem_slice(key.as_bytes()) else { return Ok(None) };
        let Ok([leaf, issuer]) = chain.as_deref() else { return Ok(None) };
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(leaf) else { return Ok(None) };
        let named: Option<BTreeSet<Host>> = parsed
            .subject_alternative_name()
            .ok()
            .flatten()
            .and_then(|names| names.value.general_names.iter().map(Host::of).collect());
        if issuer != ca.certificate() || named.as_ref() != Some(hosts) {
            return Ok(None);
        }
        let validity = parsed.validity();
        let (not_before, not_after) =
            (timestamp(validity.not_before), timestamp(validity.not_after));
        let chain = vec![leaf.clone(), issuer.clone()];
        let key = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider());
        Ok(key.ok().map(|key| Self { key: Arc::new(key), not_before, not_after }))
    }

    fn make(
        ca: &Ca,
        (certificate_path, key_path): (&Path, &Path),
        hosts: &BTreeSet<Host>,
        life: Duration,
        rng: &Rng,
        now: Timestamp,
    ) -> Result<Self, PkiError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name("wg-mfa core");
        params.subject_alt_names = hosts.iter().map(Host::to_san).collect::<Result<_, _>>()?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        validity(&mut params, Serial::random(rng), now, life);
        let leaf = params.signed_by(&key, &ca.issuer)?;

        let mut pem = leaf.pem();
        pem.push_str(&ca.pem());
        // The key first: between the two writes the pair does not match, and is made anew.
        let secret = Zeroizing::new(key.serialize_pem());
        files::replace(key_path, secret.as_bytes(), files::SECRET)?;
        files::replace(certificate_path, pem.as_bytes(), files::PUBLIC)?;
        let chain = vec![leaf.into(), ca.certificate.clone()];
        let key = CertifiedKey::from_der(chain, key.into(), &aws_lc_rs::default_provider())?;
        Ok(Self {
            key: Arc::new(key),
            not_before: now.saturating_sub(super::BACKDATED),
            not_after: now.saturating_add(life),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::testing::{NOW, rng};

    #[test]
    fn a_certificate_is_kept_until_two_thirds_of_its_life_are_over() {
        let dir = tempfile::tempdir().unwrap();
        let ca = ca();
        let first = open(&ca, dir.path(), &["core.example"], NOW).not_after();

        let day = |n: u32| NOW.saturating_add(DAY * n);
        assert_eq!(open(&ca, dir.path(), &["core.example"], day(59)).not_after(), first);
        let renewed = open(&ca, dir.path(), &["core.example"], day(61));
        assert_eq!(renewed.not_after(), day(61 + 90));
    }

    #[test]
    fn it_is_renewed_while_core_runs() {
        let dir = tempfile::tempdir().unwrap();
        let server = open(&ca(), dir.path(), &["core.example"], NOW);
        let before = leaf(&server);
        assert!(!server.renew_if_due(&rng(3), NOW).unwrap());
        assert!(server.renew_if_due(&rng(3), NOW.saturating_add(DAY * 61)).unwrap());
        assert_ne!(leaf(&server), before);
    }

    #[test]
    fn other_hosts_or_another_authority_make_it_anew() {
        let dir = tempfile::tempdir().unwrap();
        let ca = ca();
        let first = leaf(&open(&ca, dir.path(), &["core.example", "192.0.2.1"], NOW));
        let same = leaf(&open(&ca, dir.path(), &["192.0.2.1", "CORE.example"], NOW));
        assert_eq!(first, same);
        let hosts = leaf(&open(&ca, dir.path(), &["core.example", "2001:db8::1"], NOW));
        assert_ne!(first, hosts);
        let other = tempfile::tempdir().unwrap();
        let other = Arc::new(Ca::create(other.path(), &rng(9), NOW).unwrap());
        assert_ne!(leaf(&open(&other, dir.path(), &["core.example", "2001:db8::1"], NOW)), hosts);
    }

    #[test]
    fn a_key_of_another_certificate_makes_it_anew() {
        let dir = tempfile::tempdir().unwrap();
        let ca = ca();
        let first = leaf(&open(&ca, dir.path(), &["core.example"], NOW));
        let key = KeyPair::generate().unwrap().serialize_pem();
        files::replace(&dir.path().join("core.key"), key.as_bytes(), files::SECRET).unwrap();
        assert_ne!(leaf(&open(&ca, dir.path(), &["core.example"], NOW)), first);
    }

    #[test]
    fn the_chain_ends_with_the_pinned_authority() {
        let dir = tempfile::tempdir().unwrap();
        let ca = ca();
        let server = open(&ca, dir.path(), &["core.example"], NOW);
        let key = Arc::clone(&server.current.read().unwrap().key);
        assert_eq!(key.cert.last(), Some(ca.certificate()));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let ca = ca();
        for host in ["", "a b", "-", "https://core.example"] {
            let dir = tempfile::tempdir().unwrap();
            let opened = ServerCertificate::open(
                Arc::clone(&ca),
                (dir.path(), "core"),
                &[host.to_owned()],
                LIFE_MIN,
                &rng(2),
                NOW,
            );
            assert!(matches!(opened, Err(PkiError::Host(_))), "{host:?}");
        }
    }

    fn ca() -> Arc<Ca> {
        let dir = tempfile::tempdir().unwrap();
        Arc::new(Ca::create(dir.path(), &rng(1), NOW).unwrap())
    }

    fn open(ca: &Arc<Ca>, dir: &Path, hosts: &[&str], now: Timestamp) -> Arc<ServerCertificate> {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let ca = Arc::clone(ca);
        ServerCertificate::open(ca, (dir, "core"), &hosts, DAY * 90, &rng(2), now).unwrap()
    }

    fn leaf(server: &ServerCertificate) -> CertificateDer<'static> {
        server.current.read().unwrap().key.cert[0].clone()
    }
}
