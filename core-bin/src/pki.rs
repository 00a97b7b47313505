//! The certificate authority of one installation.
//!
//! It vouches for core's listeners and for the gateways, for nobody else. Its certificate's
//! SHA-256, the [`Pin`], is what a gateway or a client is given to know core by. A gateway's private
//! key never comes here: the gateway sends a request, of which only the public key and the proof of
//! its possession are believed.

pub mod files;
pub mod gateway;
pub mod server;

use core::fmt;
use core::str::FromStr;
use core::time::Duration;
use std::path::{Path, PathBuf};

use mfa_core::time::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::rng::Rng;

pub use gateway::{GatewayCertificate, GatewayIdentity};
pub use server::ServerCertificate;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the authority itself is valid.
const CA_LIFE: Duration = Duration::from_secs(20 * 365 * 24 * 60 * 60);

/// Certificates are valid from a little before they are made, for the peer whose clock is late.
const BACKDATED: Duration = Duration::from_secs(60 * 60);

/// The authority's key and certificate.
pub struct Ca {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    /// Makes a new authority (ECDSA P-256) in `dir`: `ca.pem` and `ca.key`, the latter for its owner
    /// alone (0600).
    ///
    /// # Errors
    ///
    /// [`PkiError::Write`] if a file cannot be written; an existing key is never overwritten.
    /// [`PkiError::Sign`] if the library refuses.
    pub fn create(dir: &Path, rng: &Rng, now: Timestamp) -> Result<Self, PkiError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let serial = Serial::random(rng);
        let mut params = CertificateParams::default();
        let [a, b, c, d, ..] = serial.0;
        params.distinguished_name = name(&format!("wg-mfa CA {a:02x}{b:02x}{c:02x}{d:02x}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        validity(&mut params, serial, now, CA_LIFE);
        let certificate = params.self_signed(&key)?;

        files::make_dir(dir)?;
        files::write_new_secret(&key_path(dir), &Zeroizing::new(key.serialize_pem()))?;
        files::replace(&certificate_path(dir), certificate.pem().as_bytes(), files::PUBLIC)?;
        Ok(Self { certificate: certificate.into(), issuer: Issuer::new(params, key) })
    }

    /// Loads what [`create`](Self::create) made.
    ///
    /// # Errors
    ///
    /// [`PkiError::Read`] if a file cannot be read, [`PkiError::Exposed`] if others than its owner
    /// can read the key, [`PkiError::Malformed`] if a file is not what it should be or the two do
    /// not belong together.
    pub fn load(dir: &Path) -> Result<Self, PkiError> {
        let (certificate_path, key_path) = (certificate_path(dir), key_path(dir));
        let certificate = CertificateDer::from_pem_slice(&files::read(&certificate_path)?)
            .map_err(|_| PkiError::malformed(&certificate_path, "it is not a PEM certificate"))?;
        let key = KeyPair::from_pem(&files::read_secret(&key_path)?)
            .map_err(|_| PkiError::malformed(&key_path, "it is not a PEM private key"))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate)
            .map_err(|_| PkiError::malformed(&certificate_path, "it is not a certificate"))?;
        if *parsed.public_key().subject_public_key.data != *key.public_key_raw() {
            return Err(PkiError::malformed(&key_path, "it is not the key of ca.pem beside it"));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self { certificate, issuer })
    }

    /// Loads the authority in `dir`, or makes one if there is none.
    ///
    /// # Errors
    ///
    /// Those of [`load`](Self::load) and [`create`](Self::create).
    pub fn load_or_create(dir: &Path, rng: &Rng, now: Timestamp) -> Result<Self, PkiError> {
        if key_path(dir).exists() { Self::load(dir) } else { Self::create(dir, rng, now) }
    }

    /// Returns the authority's certificate.
    #[must_use]
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Returns the authority's certificate as PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        let body = data_encoding::BASE64.encode(&self.certificate);
        let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
        for line in body.as_bytes().chunks(64) {
            pem.extend(line.iter().copied().map(char::from));
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        pem
    }

    /// Returns the SHA-256 of the authority's certificate.
    #[must_use]
    pub fn pin(&self) -> Pin {
        Pin(Sha256::digest(&self.certificate).into())
    }
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca").field("pin", &self.pin()).finish_non_exhaustive()
    }
}

/// The SHA-256 of a CA certificate's DER: what one end is given to know the other by. Its text is
/// 64 hexadecimal digits.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Pin([u8; 32]);

impl Pin {
    /// Wraps a digest.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

impl FromStr for Pin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes());
        let bytes = bytes.map_err(|_| PinError)?;
        Ok(Self(bytes.try_into().map_err(|_| PinError)?))
    }
}

/// A text that is not a [`Pin`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a CA pin is 64 hexadecimal digits: the SHA-256 of the CA's certificate")]
pub struct PinError;

/// A certificate's serial number: 16 bytes, random, positive. Its text is 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Serial([u8; 16]);

impl Serial {
    /// Draws one.
    #[must_use]
    pub fn random(rng: &Rng) -> Self {
        let mut bytes = *rng.bytes();
        // DER numbers have a sign and no leading zeros; 01 in front makes all of one length.
        bytes[0] = (bytes[0] & 0x7f) | 0x40;
        Self(bytes)
    }

    /// Returns the 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Takes a parsed certificate's serial number, if it is one of ours.
    fn from_der(raw: &[u8]) -> Option<Self> {
        raw.try_into().ok().map(Self)
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// Why a key or certificate could not be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file or directory cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others than its owner can read a secret.
    #[error(
        "{} can be read by others (mode {mode:o}); make it private with: chmod 600 {}",
        path.display(),
        path.display()
    )]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file is not what it should be.
    #[error("{} cannot be used: {why}", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// In words.
        why: &'static str,
    },
    /// A gateway's certificate request is not acceptable.
    #[error("the certificate request is refused: {0}")]
    Request(&'static str),
    /// A host name that no certificate can carry.
    #[error("{0:?} is neither a host name nor an IP address")]
    Host(String),
    /// The certificate library refuses.
    #[error("cannot make the certificate")]
    Sign(#[from] rcgen::Error),
    /// The TLS library refuses.
    #[error("cannot use the certificate for TLS")]
    Tls(#[from] rustls::Error),
}

impl PkiError {
    fn malformed(path: &Path, why: &'static str) -> Self {
        Self::Malformed { path: path.to_owned(), why }
    }
}

fn certificate_path(dir: &Path) -> PathBuf {
    dir.join("ca.pem")
}

fn key_path(dir: &Path) -> PathBuf {
    dir.join("ca.key")
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// Gives a certificate its number and its `life` from `now` on.
fn validity(params: &mut CertificateParams, serial: Serial, now: Timestamp, life: Duration) {
    let at = |time: Timestamp| {
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(time.as_unix_secs())
    };
    params.serial_number = Some(SerialNumber::from_slice(&serial.0));
    params.not_before = at(now.saturating_sub(BACKDATED));
    params.not_after = at(now.saturating_add(life));
}

/// Reads an ASN.1 time; before 1970 is 1970.
fn timestamp(time: x509_parser::time::ASN1Time) -> Timestamp {
    let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
    Timestamp::from_unix_millis(seconds.saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::pki::testing::{NOW, rng};

    #[test]
    fn an_authority_is_the_same_after_loading() {
        let dir = tempfile::tempdir().unwrap();
        let made = Ca::create(dir.path(), &rng(1), NOW).unwrap();
        let loaded = Ca::load_or_create(dir.path(), &rng(2), NOW).unwrap();
        assert_eq!(made.pin(), loaded.pin());
        assert_eq!(made.pin().to_string().parse(), Ok(made.pin()));
    }

    #[test]
    fn only_the_owner_can_read_the_key_or_it_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        Ca::create(dir.path(), &rng(1), NOW).unwrap();
        let key = dir.path().join("ca.key");
        let mode = std::fs::metadata(&key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Ca::load(dir.path()), Err(PkiError::Exposed { mode: 0o640, .. })));
    }

    #[test]
    fn an_existing_authority_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let first = Ca::create(dir.path(), &rng(1), NOW).unwrap();
        assert!(matches!(Ca::create(dir.path(), &rng(2), NOW), Err(PkiError::Write { .. })));
        assert_eq!(Ca::load(dir.path()).unwrap().pin(), first.pin());
    }

    #[test]
    fn a_key_beside_a_foreign_certificate_is_refused() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Ca::create(one.path(), &rng(1), NOW).unwrap();
        Ca::create(two.path(), &rng(2), NOW).unwrap();
        std::fs::copy(one.path().join("ca.pem"), two.path().join("ca.pem")).unwrap();
        assert!(matches!(Ca::load(two.path()), Err(PkiError::Malformed { .. })));
    }

    #[test]
    fn debug_shows_the_pin_and_no_key() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::create(dir.path(), &rng(1), NOW).unwrap();
        assert_eq!(format!("{ca:?}"), format!("Ca {{ pin: Pin({}), .. }}", ca.pin()));
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! What tests of certificates share.

    use std::sync::Mutex;

    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

    use super::{Rng, Timestamp};

    /// 2026-11-24T00:00:00Z.
    pub(crate) const NOW: Timestamp = Timestamp::from_unix_millis(1_795_478_400_000);

    /// A generator of which each seed gives another sequence, always the same.
    pub(crate) fn rng(seed: u64) -> Rng {
        let seeded = Mutex::new(StdRng::seed_from_u64(seed));
        Rng::from_fn(move |bytes| seeded.lock().unwrap().fill_bytes(bytes))
    }
}
