//! Who a gateway is: a private key that never leaves its host, and core's certificate for it.
//!
//! Three files: `key.pem` (its owner's alone), `cert.pem`, and `ca.pem`, which is the one authority
//! that this gateway believes. A renewed certificate is for the same key, so that renewing replaces
//! one file, and a crash in between leaves a gateway that works.

use core::fmt;
use core::time::Duration;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::files::{self, FileError, Readers};

/// A key pair that has no certificate yet, or asks for another.
pub struct Key(KeyPair);

/// A key with its certificate, as kept in a directory.
pub struct Identity {
    key: PrivateKeyDer<'static>,
    certificate: CertificateDer<'static>,
    ca: CertificateDer<'static>,
    not_before: SystemTime,
    not_after: SystemTime,
}

/// Why a gateway's identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file is not what its name says.
    #[error("{} is damaged: {why}; enroll this gateway again", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// In words.
        why: &'static str,
    },
    /// Core sent something that is not a certificate for this gateway's key.
    #[error("core's answer is no certificate for this gateway: {0}")]
    Certificate(&'static str),
    /// No key could be made, or it could not sign.
    #[error("cannot make a key or a certificate request: {0}")]
    Make(#[from] rcgen::Error),
}

impl Key {
    /// Makes a new one (ECDSA P-256), from the system's generator.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Make`].
    pub fn generate() -> Result<Self, IdentityError> {
        Ok(Self(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?))
    }

    /// Loads the one in `dir`.
    ///
    /// # Errors
    ///
    /// [`IdentityError::File`] and [`IdentityError::Damaged`].
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        let path = dir.join("key.pem");
        let pem = Zeroizing::new(files::read(&path)?);
        let damaged = |_| IdentityError::Damaged { path, why: "it holds no private key" };
        Ok(Self(KeyPair::from_pem(&pem).map_err(damaged)?))
    }

    /// Asks for a certificate (PKCS#10, DER). Core takes nothing from it but the public key.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Make`].
    pub fn request(&self, hostname: &str) -> Result<Vec<u8>, IdentityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, hostname);
        Ok(params.serialize_request(&self.0)?.der().to_vec())
    }

    /// Checks that `certificate` is for this key.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Certificate`].
    pub fn check(&self, certificate: &[u8]) -> Result<(), IdentityError> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
            .map_err(|_| IdentityError::Certificate("it cannot be parsed"))?;
        if *parsed.public_key().subject_public_key.data == *self.0.public_key_raw() {
            Ok(())
        } else {
            Err(IdentityError::Certificate("it is for another key"))
        }
    }

    /// Writes the key, its certificate and the authority into `dir`.
    ///
    /// # Errors
    ///
    /// [`IdentityError::File`].
    pub fn save(&self, dir: &Path, certificate: &[u8], ca: &[u8]) -> Result<(), IdentityError> {
        let key = Zeroizing::new(self.0.serialize_pem());
        files::replace(&dir.join("key.pem"), key.as_bytes(), Readers::Owner)?;
        files::replace(&dir.join("ca.pem"), pem(ca).as_bytes(), Readers::All)?;
        save_certificate(dir, certificate)
    }
}

/// Replaces the certificate in `dir` by a newer one for the same key.
///
/// # Errors
///
/// [`IdentityError::File`].
pub(crate) fn save_certificate(dir: &Path, certificate: &[u8]) -> Result<(), IdentityError> {
    Ok(files::replace(&dir.join("cert.pem"), pem(certificate).as_bytes(), Readers::All)?)
}

impl Identity {
    /// Loads what [`Key::save`] wrote.
    ///
    /// # Errors
    ///
    /// [`IdentityError::File`] and [`IdentityError::Damaged`].
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        let key = Key::load(dir)?;
        let certificate = load_certificate(&dir.join("cert.pem"))?;
        let ca = load_certificate(&dir.join("ca.pem"))?;
        let path = dir.join("cert.pem");
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).map_err(|_| {
            IdentityError::Damaged { path: path.clone(), why: "it is not a certificate" }
        })?;
        key.check(&certificate)
            .map_err(|_| IdentityError::Damaged { path, why: "it is not for the key beside it" })?;
        let validity = parsed.validity();
        Ok(Self {
            key: PrivateKeyDer::Pkcs8(key.0.serialize_der().into()),
            not_before: system_time(validity.not_before),
            not_after: system_time(validity.not_after),
            certificate,
            ca,
        })
    }

    /// When another certificate is to be asked for: at two thirds of this one's life.
    #[must_use]
    pub fn renew_at(&self) -> SystemTime {
        let life = self.not_after.duration_since(self.not_before).unwrap_or_default();
        self.not_before + life / 3 * 2
    }

    /// When the certificate ends.
    #[must_use]
    pub const fn not_after(&self) -> SystemTime {
        self.not_after
    }

    pub(crate) const fn ca(&self) -> &CertificateDer<'static> {
        &self.ca
    }

    pub(crate) fn certificate(&self) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        (self.certificate.clone(), self.key.clone_key())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

fn load_certificate(path: &Path) -> Result<CertificateDer<'static>, IdentityError> {
    CertificateDer::from_pem_slice(files::read(path)?.as_bytes()).map_err(|_| {
        IdentityError::Damaged { path: path.to_owned(), why: "it holds no certificate" }
    })
}

fn system_time(time: x509_parser::time::ASN1Time) -> SystemTime {
    let seconds = u64::try_from(time.timestamp()).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// RFC 7468.
pub(crate) fn pem(der: &[u8]) -> String {
    let body = data_encoding::BASE64.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in body.as_bytes().chunks(64) {
        pem.extend(line.iter().copied().map(char::from));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::testing::Authority;

    #[test]
    fn what_is_saved_is_loaded_and_the_key_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let key = Key::generate().unwrap();
        let certificate = authority.sign(&key.request("host").unwrap());
        key.check(&certificate).unwrap();
        key.save(dir.path(), &certificate, authority.certificate()).unwrap();

        let identity = Identity::load(dir.path()).unwrap();

        assert_eq!(identity.certificate().0.as_ref(), certificate);
        assert_eq!(identity.ca().as_ref(), authority.certificate());
        let mode = std::fs::metadata(dir.path().join("key.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_certificate_is_renewed_at_two_thirds_of_its_life() {
        let dir = tempfile::tempdir().unwrap();
        crate::testing::enroll(&Authority::new(), dir.path());
        let identity = Identity::load(dir.path()).unwrap();
        let life = identity.not_after.duration_since(identity.not_before).unwrap();
        let age = identity.renew_at().duration_since(identity.not_before).unwrap();
        assert_eq!(age, life / 3 * 2);
        assert!(age > Duration::ZERO);
    }

    #[test]
    fn a_certificate_for_another_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let (ours, other) = (Key::generate().unwrap(), Key::generate().unwrap());
        let certificate = authority.sign(&other.request("host").unwrap());
        assert!(matches!(ours.check(&certificate), Err(IdentityError::Certificate(_))));

        ours.save(dir.path(), &certificate, authority.certificate()).unwrap();
        let error = Identity::load(dir.path()).unwrap_err();
        assert!(error.to_string().contains("enroll this gateway again"), "{error}");
    }

    #[test]
    fn debug_shows_no_key() {
        assert_eq!(format!("{:?}", Key::generate().unwrap()), "Key(..)");
    }
}
