//! Codes sent by e-mail: 8 digits, good once, for the one challenge that they were sent for.

use core::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{CodeDigest, CodeKey, MalformedCode};
use crate::token::TokenDigest;

/// How many codes there are.
const CODES: u64 = 100_000_000;

/// Eight digits in a mail. Wiped on drop.
///
/// ```
/// use mfa_core::factor::{CodeKey, email_code::EmailCode};
/// use mfa_core::token::Token;
///
/// let key = CodeKey::from_bytes([1; 32]);
/// let challenge = Token::from_random([2; 32]).digest();
/// let code = EmailCode::from_random([3; 32]);
///
/// let stored = code.digest(&key, &challenge);
/// let typed = EmailCode::parse(&code.expose_text())?;
/// assert!(typed.digest(&key, &challenge).same_as(&stored));
/// # Ok::<(), mfa_core::factor::MalformedCode>(())
/// ```
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct EmailCode([u8; 8]);

impl EmailCode {
    /// Makes a code of 256 bits from a cryptographically secure generator.
    ///
    /// Each 64 bits that lie above the highest multiple of 10⁸ are thrown away, so every code is
    /// as likely as every other; that all four are is a matter of 2⁻¹⁵⁰.
    #[must_use]
    pub fn from_random(random: [u8; 32]) -> Self {
        let random = Zeroizing::new(random);
        let (draws, _) = random.as_chunks::<8>();
        let draws = draws.iter().map(|bytes| u64::from_be_bytes(*bytes));
        let number = draws.clone().find(|draw| *draw < u64::MAX - u64::MAX % CODES);
        let mut number = number.or_else(|| draws.clone().next_back()).unwrap_or_default() % CODES;
        let mut code = Self([b'0'; 8]);
        for digit in code.0.iter_mut().rev() {
            *digit = u8::try_from(number % 10).unwrap_or_default().saturating_add(b'0');
            number /= 10;
        }
        code
    }

    /// Reads a code: exactly eight ASCII digits, leading zeros included.
    ///
    /// # Errors
    ///
    /// [`MalformedCode::Email`] for anything else.
    pub fn parse(text: &str) -> Result<Self, MalformedCode> {
        super::digits(text).map(Self).ok_or(MalformedCode::Email)
    }

    /// Writes the eight digits, for the mail.
    #[must_use]
    pub fn expose_text(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.iter().copied().map(char::from).collect())
    }

    /// Returns what the store keeps: HMAC-SHA256 under `key` of the challenge's token digest and
    /// the code, so that the code of one challenge means nothing to another.
    #[must_use]
    pub fn digest(&self, key: &CodeKey, challenge: &TokenDigest) -> CodeDigest {
        key.digest(&[b"e-mail code", challenge.as_bytes(), &self.0])
    }
}

impl fmt::Debug for EmailCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmailCode(..)")
    }
}
