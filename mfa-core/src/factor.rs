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
