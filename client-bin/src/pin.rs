//! The fingerprint of a certificate authority, as an enrollment token carries it.

use core::fmt;
use core::str::FromStr;

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// SHA-256 of a CA certificate in DER. Not a secret.
///
/// A server with a certificate of its own authority prints `TOKEN.PIN` for its clients: they then
/// trust exactly that authority and nobody else, before they send the token.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CaPin([u8; 32]);

impl CaPin {
    /// Takes the fingerprint of a certificate.
    #[must_use]
    pub fn of(certificate_der: &[u8]) -> Self {
        Self(Sha256::digest(certificate_der).into())
    }

    /// Splits what `core-bin user enroll` prints into the token and the pin; `None`: it has no pin,
    /// so the system's roots decide.
    ///
    /// # Errors
    ///
    /// [`BadPin`] if there is a dot and what follows is no fingerprint.
    pub fn split_token(text: &str) -> Result<(&str, Option<Self>), BadPin> {
        match text.rsplit_once('.') {
            None => Ok((text, None)),
            Some((token, pin)) => Ok((token, Some(pin.parse()?))),
        }
    }
}

/// The text is no SHA-256 fingerprint.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "the part of the token after the dot is not the fingerprint of a certificate. Copy the token again, in one piece"
)]
pub struct BadPin;

impl FromStr for CaPin {
    type Err = BadPin;

    /// Reads 64 hexadecimal digits or 52 characters of base32, in either case.
    fn from_str(text: &str) -> Result<Self, BadPin> {
        let bytes = match text.len() {
            64 => HEXLOWER.decode(text.to_ascii_lowercase().as_bytes()),
            52 => BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()),
            _ => return Err(BadPin),
        };
        bytes.ok().and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or(BadPin)
    }
}

impl fmt::Display for CaPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl TryFrom<String> for CaPin {
    type Error = BadPin;

    fn try_from(text: String) -> Result<Self, BadPin> {
        text.parse()
    }
}

impl From<CaPin> for String {
    fn from(pin: CaPin) -> Self {
        pin.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_mean_one_pin() {
        let pin = CaPin::of(b"certificate");
        let base32 = BASE32_NOPAD.encode(&pin.0);
        assert_eq!(pin.to_string().parse(), Ok(pin));
        assert_eq!(pin.to_string().to_uppercase().parse(), Ok(pin));
        assert_eq!(base32.parse(), Ok(pin));
        assert_eq!(base32.to_lowercase().parse(), Ok(pin));
    }

    #[test]
    fn a_token_without_a_dot_has_no_pin() {
        assert_eq!(CaPin::split_token("abcDEF123"), Ok(("abcDEF123", None)));
    }

    #[test]
    fn a_token_is_split_at_its_last_dot() {
        let pin = CaPin::of(b"certificate");
        let text = format!("a.b.{pin}");
        assert_eq!(CaPin::split_token(&text), Ok(("a.b", Some(pin))));
    }

    #[test]
    fn a_truncated_pin_is_refused() {
        let text = format!("token.{}", &CaPin::of(b"certificate").to_string()[..40]);
        assert_eq!(CaPin::split_token(&text), Err(BadPin));
        assert_eq!(CaPin::split_token("token."), Err(BadPin));
    }
}
