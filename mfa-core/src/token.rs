//! Opaque tokens: who holds the text may go on; the store keeps only its digest.

use core::fmt;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// A secret of 256 random bits that names something: a challenge, an enrollment, a device that
/// polls.
///
/// Its text is 64 hexadecimal digits in lower case. Wiped on drop.
///
/// ```
/// use mfa_core::token::Token;
///
/// let token = Token::from_random([7; 32]); // from a CSPRNG in earnest
/// let text = token.expose_text();
/// assert_eq!(Token::parse(&text).map(|again| again.digest()), Some(token.digest()));
/// assert_eq!(format!("{token:?}"), "Token(..)");
/// ```
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Token([u8; 32]);

impl Token {
    /// Wraps bytes from a cryptographically secure generator.
    #[must_use]
    pub const fn from_random(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Writes the token out, for the one answer or link that hands it to its owner.
    #[must_use]
    pub fn expose_text(&self) -> Zeroizing<String> {
        Zeroizing::new(HEXLOWER.encode(&self.0))
    }

    /// Reads a token back; `None` unless it is exactly 64 hexadecimal digits in lower case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; 32]);
        if text.len() != 64 {
            return None;
        }
        let written = HEXLOWER.decode_mut(text.as_bytes(), bytes.as_mut_slice()).ok()?;
        (written == bytes.len()).then(|| Self(*bytes))
    }

    /// Lends the secret, for who must know its own tokens again.
    #[must_use]
    pub const fn expose_secret(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns what the store keeps and looks the token up by.
    #[must_use]
    pub fn digest(&self) -> TokenDigest {
        TokenDigest(Sha256::digest(self.0).into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The SHA-256 of a [`Token`]: finds it, and cannot be turned back into it.
///
/// A plain digest is enough, because a token has 256 bits of its own.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
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
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-4: the SHA-256 of 32 zero bytes.
    #[test]
    fn the_digest_is_sha256_of_the_bytes() {
        let digest = Token::from_random([0; 32]).digest();
        assert_eq!(
            HEXLOWER.encode(digest.as_bytes()),
            "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"
        );
    }

    #[test]
    fn one_token_has_one_spelling() {
        let text = Token::from_random([0xab; 32]).expose_text();
        assert_eq!(*text, "ab".repeat(32));
        for text in
            ["AB".repeat(32), "ab".repeat(31), "ab".repeat(33), "g".repeat(64), " ".repeat(64)]
        {
            assert!(Token::parse(&text).is_none(), "{text:?}");
        }
        assert!(Token::parse("").is_none());
    }

    #[test]
    fn debug_shows_nothing_of_a_secret() {
        let token = Token::from_random([0xab; 32]);
        assert_eq!(format!("{token:?} {:?}", token.digest()), "Token(..) TokenDigest(..)");
    }
}
