//! Seals secrets for the database, and derives the keys that must not be in it.
//!
//! A master key of 32 bytes, kept in a file outside the database, is the root. From it come, by
//! HKDF-SHA256 with a label each, the sealing key and, at an installation's first start, the
//! [`RootKey`] of all digests. A sealed value says which key sealed it and is bound to its place:
//! moved to another row, column or table it does not open. How one master key follows another:
//! `rekey.rs`.

use core::fmt;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use rand::TryRng as _;
use rand::rngs::SysRng;
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::StoreError;

const NONCE_LEN: usize = 24;

/// What opens an installation's secrets. Wiped on drop.
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
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

/// What an installation's digests are made with: the audit log's chain, codes, proofs. It comes
/// from the first master key and outlives it, sealed in the database, because what was digested
/// cannot be digested anew. Wiped on drop.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct RootKey([u8; 32]);

impl RootKey {
    pub(crate) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn expose_secret(&self) -> &[u8; 32] {
        &self.0
    }

    /// Derives the key for `label`: the same for all processes of an installation. Keys of
    /// different labels say nothing about each other.
    ///
    /// Labels in use: `audit`; the caller's own begin with another word.
    #[must_use]
    pub fn derive(&self, label: &str) -> Zeroizing<[u8; 32]> {
        expand(b"wg-mfa root key v1", &self.0, label)
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootKey(..)")
    }
}

/// The root of an installation that has its first master key.
impl From<&MasterKey> for RootKey {
    fn from(key: &MasterKey) -> Self {
        Self(*expand(MASTER, &key.0, "root"))
    }
}

impl From<&Self> for RootKey {
    fn from(key: &Self) -> Self {
        key.clone()
    }
}

const MASTER: &[u8] = b"wg-mfa master key v1";

#[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8160 bytes, 32 are asked")]
fn expand(salt: &[u8], secret: &[u8; 32], label: &str) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(salt), secret)
        .expand(label.as_bytes(), key.as_mut_slice())
        .expect("32 bytes are within HKDF's limit");
    key
}

/// Which of an installation's master keys sealed a value: 1 is the first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct KeyId(u8);

impl KeyId {
    /// An installation's first.
    pub const FIRST: Self = Self(1);

    /// The one that follows; after 255, whose values are long resealed, comes 1 again.
    pub(crate) const fn next(self) -> Self {
        Self(if self.0 == u8::MAX { 1 } else { self.0 + 1 })
    }

    /// Says which key sealed a value.
    pub(crate) fn of(sealed: &[u8]) -> Option<Self> {
        sealed.first().copied().map(Self)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The one place of the database that a sealed value belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The table.
    pub table: &'static str,
    /// The column.
    pub column: &'static str,
    /// The row, by its number.
    pub row: i64,
}

impl Place {
    fn bytes(self, id: KeyId) -> Vec<u8> {
        format!("{}/{}/{}/{id}", self.table, self.column, self.row).into_bytes()
    }
}

/// Brings the master keys that lie on this host now, newest last.
#[derive(Clone)]
pub struct KeySource(Arc<dyn Fn() -> Vec<MasterKey> + Send + Sync>);

impl KeySource {
    /// Asks `read` whenever a value is sealed with a key that is not known yet.
    pub fn new(read: impl Fn() -> Vec<MasterKey> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    pub(crate) fn keys(&self) -> Vec<MasterKey> {
        (self.0)()
    }
}

impl From<&MasterKey> for KeySource {
    fn from(key: &MasterKey) -> Self {
        let key = key.clone();
        Self::new(move || vec![key.clone()])
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySource(..)")
    }
}

#[derive(Clone)]
struct Known {
    master: MasterKey,
    cipher: XChaCha20Poly1305,
}

impl Known {
    fn new(master: MasterKey) -> Self {
        let key = expand(MASTER, &master.0, "seal");
        Self { master, cipher: XChaCha20Poly1305::new((&*key).into()) }
    }
}

/// Seals and opens with XChaCha20-Poly1305: key id ‖ nonce of 24 bytes ‖ text ‖ tag.
///
/// Files do not say which id their key has: a key is known by the first value that it opens. So a
/// running process finds a new key by itself, when it meets the first value that it sealed.
pub struct Sealer {
    source: KeySource,
    known: RwLock<BTreeMap<KeyId, Known>>,
}

impl Sealer {
    /// Knows no key yet, but where to find them.
    #[must_use]
    pub const fn new(source: KeySource) -> Self {
        Self { source, known: RwLock::new(BTreeMap::new()) }
    }

    /// Takes `key` for the one called `id`.
    pub fn learn(&self, id: KeyId, key: &MasterKey) {
        let known = Known::new(key.clone());
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(id, known);
    }

    /// Takes the source's first key for an installation's first.
    pub(crate) fn learn_first(&self) -> Result<(), StoreError> {
        let keys = self.source.keys();
        self.learn(KeyId::FIRST, keys.first().ok_or(StoreError::WrongMasterKey)?);
        Ok(())
    }

    /// Returns the key called `id`, if it is known.
    pub(crate) fn master(&self, id: KeyId) -> Option<MasterKey> {
        self.known(id).map(|known| known.master)
    }

    fn known(&self, id: KeyId) -> Option<Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// Seals with the key called `id`.
    ///
    /// # Errors
    ///
    /// [`StoreError::WrongMasterKey`] if it is not known, [`StoreError::Random`].
    pub fn seal(&self, id: KeyId, place: Place, secret: &[u8]) -> Result<Vec<u8>, StoreError> {
        let known = self.known(id).ok_or(StoreError::WrongMasterKey)?;
        let mut nonce = [0; NONCE_LEN];
        SysRng.try_fill_bytes(&mut nonce).map_err(|_| StoreError::Random)?;
        let aad = place.bytes(id);
        let text = known
            .cipher
            .encrypt(&XNonce::from(nonce), Payload { msg: secret, aad: &aad })
            .map_err(|_| StoreError::Unsealable { table: place.table })?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + text.len());
        sealed.push(id.0);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&text);
        Ok(sealed)
    }

    /// Opens what was sealed for `place`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unsealable`] if it was changed or moved, or its key is not on this host.
    pub fn open(&self, place: Place, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let unsealable = StoreError::Unsealable { table: place.table };
        let parts = sealed.split_first().and_then(|(id, rest)| {
            let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>()?;
            Some((KeyId(*id), XNonce::from(*nonce), text))
        });
        let Some((id, nonce, text)) = parts else { return Err(unsealable) };
        let aad = place.bytes(id);
        let open = |known: &Known| known.cipher.decrypt(&nonce, Payload { msg: text, aad: &aad });
        if let Some(known) = self.known(id) {
            return open(&known).map(Zeroizing::new).map_err(|_| unsealable);
        }
        for key in self.source.keys() {
            if let Ok(secret) = open(&Known::new(key.clone())) {
                self.learn(id, &key);
                return Ok(Zeroizing::new(secret));
            }
        }
        Err(unsealable)
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
    const ONE: KeyId = KeyId::FIRST;

    fn sealer(byte: u8) -> Sealer {
        let sealer = Sealer::new(KeySource::from(&MasterKey::from_bytes([byte; 32])));
        sealer.learn_first().unwrap();
        sealer
    }

    #[test]
    fn what_was_sealed_opens_in_its_own_place_only() {
        let sealed = sealer(1).seal(ONE, HERE, b"secret").unwrap();
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
        let sealed = sealer(1).seal(ONE, HERE, b"secret").unwrap();
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
        let seal = || sealer.seal(ONE, HERE, b"secret").unwrap();
        assert_ne!(seal(), seal());
    }

    #[test]
    fn a_key_that_comes_later_is_found_when_it_is_needed() {
        let keys = Arc::new(RwLock::new(vec![MasterKey::from_bytes([1; 32])]));
        let seen = Arc::clone(&keys);
        let running = Sealer::new(KeySource::new(move || seen.read().unwrap().clone()));
        running.learn_first().unwrap();
        let other = sealer(1);
        other.learn(ONE.next(), &MasterKey::from_bytes([2; 32]));
        let sealed = other.seal(ONE.next(), HERE, b"secret").unwrap();
        assert!(running.open(HERE, &sealed).is_err());
        keys.write().unwrap().push(MasterKey::from_bytes([2; 32]));
        assert_eq!(running.open(HERE, &sealed).unwrap().as_slice(), b"secret");
        // And it is the same key for everything that bears its name.
        assert!(running.seal(ONE.next(), HERE, b"more").is_ok());
    }

    #[test]
    fn ids_follow_each_other_for_ever_and_are_never_0() {
        let mut id = KeyId::FIRST;
        for _ in 0..1_000 {
            id = id.next();
            assert_ne!(id.get(), 0);
        }
    }

    #[test]
    fn labels_and_master_keys_give_different_keys() {
        let (one, two) = (MasterKey::from_bytes([1; 32]), MasterKey::from_bytes([2; 32]));
        assert_eq!(format!("{one:?}"), "MasterKey(..)");
        let (one, two) = (RootKey::from(&one), RootKey::from(&two));
        assert_eq!(one.derive("a").as_slice(), one.derive("a").as_slice());
        assert_ne!(one.derive("a").as_slice(), one.derive("b").as_slice());
        assert_ne!(one.derive("a").as_slice(), two.derive("a").as_slice());
        assert_eq!(format!("{one:?}"), "RootKey(..)");
    }
}
