//! What a person has: an authenticator app, a mailbox, a sheet of recovery codes.
//!
//! Each file knows one kind of code: how it is made, how its text is read, how it is compared, and
//! what the store may keep of it. None of them counts guesses; that is the work of
//! [`budget`](crate::budget) and [`challenge`](crate::challenge).

pub mod email_code;
pub mod recovery;
pub mod totp;

use core::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The key under which codes are digested: a short code is guessed at once from a plain hash.
///
/// One per installation, derived from a master key that is not in the database. Wiped on drop.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct CodeKey([u8; 32]);

impl CodeKey {
    /// Wraps 32 secret bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// HMAC-SHA256 over `parts`, each preceded by its length, so that no two lists collide.
    fn digest(&self, parts: &[&[u8]]) -> CodeDigest {
        // HMAC takes a key of any length, so the fallback is never reached.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else {
            return CodeDigest([0; 32]);
        };
        for part in parts {
            mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            mac.update(part);
        }
        CodeDigest(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for CodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeKey(..)")
    }
}

/// What the store keeps of an e-mail code or a recovery code: HMAC-SHA256 under a [`CodeKey`].
#[derive(Clone, Copy)]
pub struct CodeDigest([u8; 32]);

impl CodeDigest {
    /// Wraps a stored digest.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes for the store.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Compares in constant time.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for CodeDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeDigest(..)")
    }
}

/// A text that cannot be a code of this kind. It never repeats the text.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MalformedCode {
    /// Not exactly six ASCII digits.
    #[error("a code of an authenticator app has exactly 6 digits")]
    Totp,
    /// Not exactly eight ASCII digits.
    #[error("a code sent by e-mail has exactly 8 digits")]
    Email,
    /// Not 16 characters of base32.
    #[error("a recovery code has 16 letters and digits, as in abcd-efgh-ijkl-mnop")]
    Recovery,
    /// Neither six digits nor a recovery code.
    #[error(
        "enter the 6 digits that the authenticator app shows, or one of the recovery codes of 16 \
         characters"
    )]
    TotpOrRecovery,
}

/// Reads exactly `N` ASCII digits: no blanks, no sign, no digits of other scripts.
fn digits<const N: usize>(text: &str) -> Option<[u8; N]> {
    let bytes: [u8; N] = text.as_bytes().try_into().ok()?;
    bytes.iter().all(u8::is_ascii_digit).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 1, shows the HMAC; the lengths before the parts are ours.
    #[test]
    fn the_digest_is_hmac_sha256() {
        let mut mac = Hmac::<Sha256>::new_from_slice(&[0x0b; 20]).unwrap();
        mac.update(b"Hi There");
        let expected = [0xb0, 0x34, 0x4c, 0x61, 0xd8, 0xdb, 0x38, 0x53];
        assert_eq!(mac.finalize().into_bytes()[..8], expected);

        let mut mac = Hmac::<Sha256>::new_from_slice(&[9; 32]).unwrap();
        mac.update(b"\0\0\0\0\0\0\0\x02Hi\0\0\0\0\0\0\0\x05There");
        let expected: [u8; 32] = mac.finalize().into_bytes().into();
        let digest = CodeKey::from_bytes([9; 32]).digest(&[b"Hi", b"There"]);
        assert!(digest.same_as(&CodeDigest::from_bytes(expected)));
    }

    #[test]
    fn the_same_bytes_in_other_parts_are_another_digest() {
        let key = CodeKey::from_bytes([9; 32]);
        assert!(!key.digest(&[b"ab", b"c"]).same_as(&key.digest(&[b"a", b"bc"])));
    }

    #[test]
    fn debug_shows_nothing_of_a_secret() {
        let (key, digest) = (CodeKey::from_bytes([1; 32]), CodeDigest::from_bytes([2; 32]));
        assert_eq!(format!("{key:?} {digest:?}"), "CodeKey(..) CodeDigest(..)");
    }
}
