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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_the_first_fair_draw_modulo_ten_to_the_eight() {
        let draws = |draws: [u64; 4]| {
            let mut random = [0; 32];
            for (bytes, draw) in random.chunks_mut(8).zip(draws) {
                bytes.copy_from_slice(&draw.to_be_bytes());
            }
            EmailCode::from_random(random).expose_text()
        };
        let unfair = u64::MAX - u64::MAX % CODES;

        assert_eq!(*draws([7, 1, 1, 1]), "00000007");
        assert_eq!(*draws([CODES + 12_345_678, 1, 1, 1]), "12345678");
        assert_eq!(*draws([unfair - 1, 1, 1, 1]), "99999999");
        assert_eq!(*draws([unfair, u64::MAX, 42, 1]), "00000042");
        assert_eq!(*draws([unfair, unfair, unfair, unfair + 9]), "00000009");
    }

    #[test]
    fn digits_are_spread_evenly() {
        let mut counts = [[0_u32; 10]; 8];
        for round in 0..20_000_u64 {
            // A weak generator will do to see each digit in each place.
            let random = round.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&random.to_be_bytes());
            let code = EmailCode::from_random(bytes);
            for (place, digit) in code.0.iter().enumerate() {
                counts[place][usize::from(digit - b'0')] += 1;
            }
        }
        for count in counts.as_flattened() {
            assert!((1_800..2_200).contains(count), "{counts:?}");
        }
    }

    #[test]
    fn a_code_is_exactly_eight_ascii_digits() {
        assert_eq!(*EmailCode::parse("01234567").unwrap().expose_text(), "01234567");
        for text in
            ["", "1234567", "123456789", " 2345678", "1234567\n", "+1234567", "１２３４５６７８"]
        {
            assert_eq!(EmailCode::parse(text).err(), Some(MalformedCode::Email), "{text:?}");
        }
    }

    #[test]
    fn a_digest_is_bound_to_its_key_and_its_challenge() {
        let code = EmailCode::parse("12345678").unwrap();
        let (one, two) = (TokenDigest::from_bytes([1; 32]), TokenDigest::from_bytes([2; 32]));
        let (key, other) = (CodeKey::from_bytes([1; 32]), CodeKey::from_bytes([2; 32]));
        let digest = code.digest(&key, &one);

        assert!(code.digest(&key, &one).same_as(&digest));
        assert!(!code.digest(&key, &two).same_as(&digest));
        assert!(!code.digest(&other, &one).same_as(&digest));
        assert!(!EmailCode::parse("12345679").unwrap().digest(&key, &one).same_as(&digest));
    }

    #[test]
    fn debug_shows_nothing_of_a_secret() {
        let code = EmailCode::parse("12345678").unwrap();
        assert_eq!(format!("{code:?}"), "EmailCode(..)");
    }
}
