//! Recovery codes: ten codes of 80 bits on a sheet of paper, each good once in place of a TOTP code.

use core::fmt;

use data_encoding::BASE32_NOPAD;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{CodeDigest, CodeKey, MalformedCode};
use crate::id::UserId;

/// Codes on one sheet.
pub const CODES_PER_SHEET: usize = 10;

/// A code for the day when the phone is gone: 80 bits. Wiped on drop.
///
/// ```
/// use mfa_core::factor::recovery::RecoveryCode;
///
/// let sheet = RecoveryCode::sheet(&[0x5a; 100]); // random in earnest
/// assert_eq!(*sheet[0].expose_text(), "ljnf-uws2-ljnf-uws2");
/// assert!(RecoveryCode::parse(" LJNF UWS2ljnf-uws2").is_ok());
/// ```
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct RecoveryCode([u8; 10]);

impl RecoveryCode {
    /// Makes a sheet of codes of 800 bits from a cryptographically secure generator.
    #[must_use]
    pub fn sheet(random: &[u8; 10 * CODES_PER_SHEET]) -> [Self; CODES_PER_SHEET] {
        let (codes, _) = random.as_chunks::<10>();
        let mut sheet = [const { Self([0; 10]) }; CODES_PER_SHEET];
        for (code, bytes) in sheet.iter_mut().zip(codes) {
            code.0 = *bytes;
        }
        sheet
    }

    /// Writes the code as a person copies it: base32 in four groups, `abcd-efgh-ijkl-mnop`.
    #[must_use]
    pub fn expose_text(&self) -> Zeroizing<String> {
        let plain = Zeroizing::new(BASE32_NOPAD.encode(&self.0));
        let mut text = Zeroizing::new(String::with_capacity(19));
        for (place, letter) in plain.chars().enumerate() {
            if place > 0 && place % 4 == 0 {
                text.push('-');
            }
            text.push(letter.to_ascii_lowercase());
        }
        text
    }

    /// Reads a code in capitals or not, with or without dashes and blanks.
    ///
    /// # Errors
    ///
    /// [`MalformedCode::Recovery`] unless 16 characters of base32 remain.
    pub fn parse(text: &str) -> Result<Self, MalformedCode> {
        let mut plain = Zeroizing::new(Vec::with_capacity(16));
        for letter in text.bytes().filter(|byte| !matches!(byte, b'-' | b' ')) {
            if plain.len() == 16 {
                return Err(MalformedCode::Recovery);
            }
            plain.push(letter.to_ascii_uppercase());
        }
        let bytes = BASE32_NOPAD.decode(&plain).map_err(|_| MalformedCode::Recovery)?;
        let bytes = Zeroizing::new(bytes);
        bytes.as_slice().try_into().map(Self).map_err(|_| MalformedCode::Recovery)
    }

    /// Returns what the store keeps: HMAC-SHA256 under `key` of the owner and the code.
    #[must_use]
    pub fn digest(&self, key: &CodeKey, owner: UserId) -> CodeDigest {
        key.digest(&[b"recovery code", &owner.get().to_be_bytes(), &self.0])
    }
}

impl fmt::Debug for RecoveryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryCode(..)")
    }
}
