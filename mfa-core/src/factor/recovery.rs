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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_sheet_has_ten_different_codes() {
        let mut random = [0; 100];
        for (byte, value) in random.iter_mut().zip(0..) {
            *byte = value;
        }
        let sheet = RecoveryCode::sheet(&random);
        let texts: std::collections::BTreeSet<String> =
            sheet.iter().map(|code| code.expose_text().to_string()).collect();
        assert_eq!(texts.len(), CODES_PER_SHEET);
        assert_eq!(sheet[9].0, [90, 91, 92, 93, 94, 95, 96, 97, 98, 99]);
    }

    #[test]
    fn a_person_may_copy_it_in_any_case_with_any_dashes() {
        let code = RecoveryCode([0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0x11, 0x22]);
        assert_eq!(*code.expose_text(), "ci2f-m6e2-xtpp-aejc");
        for text in [
            "ci2f-m6e2-xtpp-aejc",
            "CI2FM6E2XTPPAEJC",
            " ci2f m6e2 XTPP aejc ",
            "-ci2fm6e2xtppaejc-",
        ] {
            assert_eq!(RecoveryCode::parse(text).unwrap().0, code.0, "{text:?}");
        }
    }

    #[test]
    fn anything_but_sixteen_letters_of_base32_is_refused() {
        for text in [
            "",
            "-",
            "ci2f-m6e2-xtpp-aej",
            "ci2f-m6e2-xtpp-aejcc",
            "ci2f-m6e2-xtpp-aej1",
            "ci2f-m6e2-xtpp-aej\n",
            "ci2f-m6e2-xtpp-aejé",
            "ci2f_m6e2_xtpp_aejc",
            "ci2fm6e2========",
        ] {
            assert_eq!(RecoveryCode::parse(text).err(), Some(MalformedCode::Recovery), "{text:?}");
        }
    }

    #[test]
    fn a_digest_is_bound_to_its_key_and_its_owner() {
        let code = RecoveryCode([7; 10]);
        let (key, other) = (CodeKey::from_bytes([1; 32]), CodeKey::from_bytes([2; 32]));
        let digest = code.digest(&key, UserId::new(1));

        assert!(code.digest(&key, UserId::new(1)).same_as(&digest));
        assert!(!code.digest(&key, UserId::new(2)).same_as(&digest));
        assert!(!code.digest(&other, UserId::new(1)).same_as(&digest));
        assert!(!RecoveryCode([8; 10]).digest(&key, UserId::new(1)).same_as(&digest));
    }

    #[test]
    fn debug_shows_nothing_of_a_secret() {
        assert_eq!(format!("{:?}", RecoveryCode([7; 10])), "RecoveryCode(..)");
    }

    proptest! {
        #[test]
        fn every_code_reads_back(bytes: [u8; 10]) {
            prop_assert_eq!(RecoveryCode::parse(&RecoveryCode(bytes).expose_text()).unwrap().0, bytes);
        }
    }
}
