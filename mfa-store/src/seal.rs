//! Seals secrets for the database, and derives the keys that must not be in it.
//!
//! One master key of 32 bytes, kept in a file outside the database, is the root. From it come, by
//! HKDF-SHA256 with a label each, the sealing key and keys for digests. A sealed value is bound to
//! its place: moved to another row, column or table it does not open.

use core::fmt;

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use rand::TryRng as _;
use rand::rngs::SysRng;
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::StoreError;

const NONCE_LEN: usize = 24;
/// Which key sealed a value: room for a second one while keys are exchanged.
const KEY_ID: u8 = 1;

/// The root of all keys. Wiped on drop.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MasterKey([u8; 32]);

impl MasterKey {
    /// Wraps bytes from a cryptographically secure generator, or from the key file.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Lends the secret, for the key file.
    #[must_use]
    pub const fn expose_secret(&self) -> &[u8; 32] {
        &self.0
    }

    /// Derives the key for `label`: the same for all processes with this master key. Keys of
    /// different labels say nothing about each other.
    ///
    /// Labels in use: `seal`, `audit`; the caller's own begin with another word.
    ///
    /// # Panics
    ///
    /// Never: the key asked for is within HKDF's limit.
    #[must_use]
    #[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8160 bytes, 32 are asked")]
    pub fn derive(&self, label: &str) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(Some(b"wg-mfa master key v1"), &self.0)
            .expand(label.as_bytes(), key.as_mut_slice())
            .expect("32 bytes are within HKDF's limit");
        key
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

/// The one place of the database that a sealed value belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) table: &'static str,
    pub(crate) column: &'static str,
    pub(crate) row: i64,
}

impl Place {
    fn bytes(self) -> Vec<u8> {
        format!("{}/{}/{}/{KEY_ID}", self.table, self.column, self.row).into_bytes()
    }
}

/// Seals and opens with XChaCha20-Poly1305: key id ‖ nonce of 24 bytes ‖ text ‖ tag.
pub(crate) struct Sealer(XChaCha20Poly1305);

impl Sealer {
    pub(crate) fn new(key: &MasterKey) -> Self {
        let key = key.derive("seal");
        Self(XChaCha20Poly1305::new((&*key).into()))
    }

    pub(crate) fn seal(&self, place: Place, secret: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut nonce = [0; NONCE_LEN];
        SysRng.try_fill_bytes(&mut nonce).map_err(|_| StoreError::Random)?;
        let aad = place.bytes();
        let text = self
            .0
            .encrypt(&XNonce::from(nonce), Payload { msg: secret, aad: &aad })
            .map_err(|_| StoreError::Unsealable { table: place.table })?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + text.len());
        sealed.push(KEY_ID);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&text);
        Ok(sealed)
    }

    pub(crate) fn open(
        &self,
        place: Place,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let unsealable = StoreError::Unsealable { table: place.table };
        let Some((&KEY_ID, rest)) = sealed.split_first() else { return Err(unsealable) };
        let Some((nonce, text)) = rest.split_first_chunk::<NONCE_LEN>() else {
            return Err(unsealable);
        };
        let aad = place.bytes();
        self.0
            .decrypt(&XNonce::from(*nonce), Payload { msg: text, aad: &aad })
            .map(Zeroizing::new)
            .map_err(|_| unsealable)
    }

    /// Opens a secret of 32 bytes.
    pub(crate) fn open_key(
        &self,
        place: Place,
        sealed: &[u8],
    ) -> Result<Zeroizing<[u8; 32]>, StoreError> {
        let secret = self.open(place, sealed)?;
        let mut key = Zeroizing::new([0; 32]);
        if secret.len() != key.len() {
            return Err(StoreError::Unsealable { table: place.table });
        }
        key.copy_from_slice(&secret);
        Ok(key)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Place = Place { table: "session", column: "psk", row: 7 };

    fn sealer(byte: u8) -> Sealer {
        Sealer::new(&MasterKey::from_bytes([byte; 32]))
    }

    #[test]
    fn what_was_sealed_opens_in_its_own_place_only() {
        let sealed = sealer(1).seal(HERE, b"secret").unwrap();
        assert_eq!(sealer(1).open(HERE, &sealed).unwrap().as_slice(), b"secret");
        for place in [
            Place { row: 8, ..HERE },
            Place { column: "key", ..HERE },
            Place { table: "location", ..HERE },
        ] {
            assert!(sealer(1).open(place, &sealed).is_err());
        }
        assert!(sealer(2).open(HERE, &sealed).is_err());
    }

    #[test]
    fn one_flipped_or_missing_bit_is_noticed() {
        let sealed = sealer(1).seal(HERE, b"secret").unwrap();
        for at in 0..sealed.len() {
            let mut other = sealed.clone();
            other[at] ^= 1;
            assert!(sealer(1).open(HERE, &other).is_err(), "byte {at}");
            assert!(sealer(1).open(HERE, &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn the_same_secret_is_never_sealed_the_same_way() {
        let sealer = sealer(1);
        assert_ne!(sealer.seal(HERE, b"secret").unwrap(), sealer.seal(HERE, b"secret").unwrap());
    }

    #[test]
    fn labels_and_master_keys_give_different_keys() {
        let (one, two) = (MasterKey::from_bytes([1; 32]), MasterKey::from_bytes([2; 32]));
        assert_eq!(one.derive("a").as_slice(), one.derive("a").as_slice());
        assert_ne!(one.derive("a").as_slice(), one.derive("b").as_slice());
        assert_ne!(one.derive("a").as_slice(), two.derive("a").as_slice());
        assert_eq!(format!("{one:?}"), "MasterKey(..)");
    }
}
