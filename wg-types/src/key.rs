//! Three kinds of key, three types.

use core::fmt;
use core::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bytes in each kind of key (`WG_KEY_LEN`).
pub const KEY_LEN: usize = 32;

/// A peer's Curve25519 public key: its identity. Not a secret.
///
/// Its text is canonical base64 of 44 characters, as `wg` prints it.
///
/// ```
/// use wg_types::PublicKey;
///
/// let text = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=";
/// let key: PublicKey = text.parse()?;
/// assert_eq!(key.to_string(), text);
/// # Ok::<(), wg_types::KeyError>(())
/// ```
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PublicKey([u8; KEY_LEN]);

impl PublicKey {
    /// Wraps 32 bytes as they stand; see [`check`](Self::check) for keys that come from outside.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// Refuses a key that no honest peer has: one with which every Diffie-Hellman result is zero.
    ///
    /// # Errors
    ///
    /// [`KeyError::Weak`] for the points of low order (RFC 7748 §6.1), all zeros among them.
    pub fn check(self) -> Result<Self, KeyError> {
        let mut point = self.0;
        // RFC 7748 §5: the highest bit says nothing.
        point[KEY_LEN - 1] &= 0x7f;
        if LOW_ORDER.contains(&point) { Err(KeyError::Weak) } else { Ok(self) }
    }
}

/// The points whose order divides 8, as u-coordinates in little-endian order: all encodings of 32 bytes
/// without the highest bit. A test holds them against Diffie-Hellman itself, which takes a hundred times
/// as long for each key that comes from outside.
const LOW_ORDER: [[u8; KEY_LEN]; 7] = [
    // 0 and 1
    near_zero(0),
    near_zero(1),
    // the two of order 8
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4,
        0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49,
        0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef,
        0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f,
        0x11, 0x57,
    ],
    // p - 1, and 0 and 1 once more: p and p + 1, where p = 2^255 - 19
    near_prime(0xec),
    near_prime(0xed),
    near_prime(0xee),
];

const fn near_zero(first: u8) -> [u8; KEY_LEN] {
    let mut point = [0; KEY_LEN];
    point[0] = first;
    point
}

const fn near_prime(first: u8) -> [u8; KEY_LEN] {
    let mut point = [0xff; KEY_LEN];
    point[0] = first;
    point[KEY_LEN - 1] = 0x7f;
    point
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    /// Parses canonical base64 and [`check`](Self::check)s the key.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self(*decode(text)?).check()
    }
}

/// A Curve25519 private key. Wiped on drop; no `Display`, `Serialize` or `PartialEq`.
///
/// ```
/// use wg_types::PrivateKey;
///
/// let key = PrivateKey::from_bytes([7; 32]); // from a CSPRNG in earnest
/// println!("peer: {}", key.public_key());
/// assert_eq!(format!("{key:?}"), "PrivateKey(..)");
/// ```
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PrivateKey([u8; KEY_LEN]);

impl PrivateKey {
    /// Wraps bytes from a cryptographically secure generator, clamped as RFC 7748 §5 asks.
    #[must_use]
    pub const fn from_bytes(mut bytes: [u8; KEY_LEN]) -> Self {
        bytes[0] &= 0b1111_1000;
        bytes[31] = (bytes[31] & 0b0111_1111) | 0b0100_0000;
        Self(bytes)
    }

    /// Returns the public half.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        let secret = x25519_dalek::StaticSecret::from(self.0);
        PublicKey(*x25519_dalek::PublicKey::from(&secret).as_bytes())
    }

    /// Returns the Diffie-Hellman result with `other`, or `None` if `other` is of low order.
    #[must_use]
    pub fn diffie_hellman(&self, other: &PublicKey) -> Option<Zeroizing<[u8; KEY_LEN]>> {
        let secret = x25519_dalek::StaticSecret::from(self.0);
        let shared = secret.diffie_hellman(&x25519_dalek::PublicKey::from(other.0));
        shared.was_contributory().then(|| Zeroizing::new(*shared.as_bytes()))
    }

    /// Lends the secret, for the kernel or a sealed file.
    #[must_use]
    pub const fn expose_secret(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// Encodes the secret as base64, for a file that only its owner can read.
    #[must_use]
    pub fn expose_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0))
    }

    /// Parses what [`expose_base64`](Self::expose_base64) wrote.
    ///
    /// # Errors
    ///
    /// [`KeyError::NotBase64`] unless the text is canonical base64 of 32 bytes.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        Ok(Self::from_bytes(*decode(text)?))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// A pre-shared key: 32 secret bytes mixed into the Noise handshake.
///
/// It is wiped on drop and has no `Display`, `Serialize` or `PartialEq`; [`Debug`](fmt::Debug)
/// prints the type's name. Peers that already share session keys keep them for up to
/// [`REJECT_AFTER_TIME`](crate::timers::REJECT_AFTER_TIME) after the pre-shared key changes. To the
/// kernel 32 zero bytes and no pre-shared key are one thing.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PresharedKey([u8; KEY_LEN]);

impl PresharedKey {
    /// Wraps bytes from a cryptographically secure generator.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// Lends the secret, for the one call that hands it to the kernel.
    #[must_use]
    pub const fn expose_secret(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// Encodes the secret as base64, for the one answer that hands it to its owner.
    #[must_use]
    pub fn expose_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0))
    }

    /// Parses canonical base64 of 32 bytes.
    ///
    /// # Errors
    ///
    /// [`KeyError::NotBase64`] for anything else.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        Ok(Self(*decode(text)?))
    }

    /// Compares in constant time.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresharedKey(..)")
    }
}

/// Why a text is not a key. It never repeats the text, which may be a secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyError {
    /// Not canonical base64 of 32 bytes.
    #[error("a WireGuard key is 44 characters of base64 that end in '='")]
    NotBase64,
    /// A point of low order: nobody can own this key.
    #[error("this public key is of low order, so no peer can own it")]
    Weak,
}

fn decode(text: &str) -> Result<Zeroizing<[u8; KEY_LEN]>, KeyError> {
    let mut bytes = Zeroizing::new([0; KEY_LEN]);
    // The engine refuses non-zero trailing bits, so one key has one spelling.
    match STANDARD.decode_slice(text, bytes.as_mut_slice()) {
        Ok(KEY_LEN) => Ok(bytes),
        Ok(_) | Err(_) => Err(KeyError::NotBase64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_a_secret() {
        let psk = PresharedKey::from_bytes([0x5a; 32]);
        let private = PrivateKey::from_bytes([0x5a; 32]);
        assert_eq!(format!("{psk:?} {private:?}"), "PresharedKey(..) PrivateKey(..)");
    }

    #[test]
    fn one_key_has_one_spelling() {
        let text = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=";
        assert_eq!(text.parse::<PublicKey>().unwrap().to_string(), text);
        // The last character before '=' carries two spare bits: 0, 1, 2, 3 would be aliases.
        for alias in ["TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX1=", "TrMvSoP4", "", " "] {
            assert_eq!(alias.parse::<PublicKey>(), Err(KeyError::NotBase64));
        }
    }

    #[test]
    fn keys_that_nobody_can_own_are_refused() {
        let zero = PublicKey::from_bytes([0; 32]);
        let mut one = [0; 32];
        one[0] = 1;
        assert_eq!(zero.check(), Err(KeyError::Weak));
        assert_eq!(PublicKey::from_bytes(one).check(), Err(KeyError::Weak));
    }

    #[test]
    fn exactly_the_keys_that_make_every_secret_zero_are_weak() {
        let probe = PrivateKey::from_bytes([0x42; KEY_LEN]);
        let agrees = |bytes: [u8; KEY_LEN]| {
            let key = PublicKey::from_bytes(bytes);
            let weak = probe.diffie_hellman(&key).is_none();
            assert_eq!(key.check().is_err(), weak, "{bytes:02x?}");
            weak
        };
        for mut point in LOW_ORDER {
            assert!(agrees(point));
            point[KEY_LEN - 1] |= 0x80;
            assert!(agrees(point), "with the highest bit");
            point[1] ^= 1;
            assert!(!agrees(point), "its neighbour");
        }
        // All numbers that are not below the prime, which mean small ones.
        for first in 0xed..=0xff {
            agrees(near_prime(first));
        }
        let mut bytes = [0_u8; KEY_LEN];
        for round in 0..200_u8 {
            for (at, byte) in (0_u8..).zip(&mut bytes) {
                *byte = byte.wrapping_mul(31).wrapping_add(at ^ round);
            }
            assert!(!agrees(bytes));
        }
    }

    /// RFC 7748 §6.1: Alice's private and public key.
    #[test]
    fn the_public_key_is_the_rfcs() {
        let alice = PrivateKey::from_bytes(hex(
            "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
        ));
        let public = hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
        assert_eq!(alice.public_key().as_bytes(), &public);
    }

    #[test]
    fn both_ends_reach_one_shared_secret() {
        let (alice, bob) = (PrivateKey::from_bytes([1; 32]), PrivateKey::from_bytes([2; 32]));
        let one = alice.diffie_hellman(&bob.public_key()).unwrap();
        let two = bob.diffie_hellman(&alice.public_key()).unwrap();
        assert_eq!(one.as_slice(), two.as_slice());
        assert!(alice.diffie_hellman(&PublicKey::from_bytes([0; 32])).is_none());
    }

    fn hex(text: &str) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap();
        }
        bytes
    }
}
