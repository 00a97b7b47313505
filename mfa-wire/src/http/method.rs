//! How a user proves a factor, as a number.

use core::fmt;
use core::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

/// A method of proving a factor; a number on the wire.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Method {
    /// 0: a code of an authenticator app (RFC 6238).
    Totp,
    /// 1: a code sent by e-mail.
    Email,
    /// 2: the browser, at an identity provider.
    Oidc,
    /// 3: a key behind a phone's fingerprint reader.
    Biometric,
    /// 4: a click in the mobile app.
    MobileApprove,
}

impl Method {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Totp => 0,
            Self::Email => 1,
            Self::Oidc => 2,
            Self::Biometric => 3,
            Self::MobileApprove => 4,
        }
    }

    /// Returns the method with this number.
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Totp),
            1 => Some(Self::Email),
            2 => Some(Self::Oidc),
            3 => Some(Self::Biometric),
            4 => Some(Self::MobileApprove),
            _ => None,
        }
    }

    /// The word for commands and `--json`: `totp`, `email`, …
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Totp => "totp",
            Self::Email => "email",
            Self::Oidc => "oidc",
            Self::Biometric => "biometric",
            Self::MobileApprove => "mobile-approve",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The text names no method that can be typed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a method is one of: totp, email")]
pub struct UnknownMethod;

impl FromStr for Method {
    type Err = UnknownMethod;

    fn from_str(text: &str) -> Result<Self, UnknownMethod> {
        match text.to_ascii_lowercase().as_str() {
            "totp" => Ok(Self::Totp),
            "email" | "e-mail" => Ok(Self::Email),
            _ => Err(UnknownMethod),
        }
    }
}

impl Serialize for Method {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.number())
    }
}

impl<'de> Deserialize<'de> for Method {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        Self::from_number(number).ok_or_else(|| D::Error::custom("unknown MFA method"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_numbers_on_the_wire() {
        for (number, method) in [Method::Totp, Method::Email, Method::Oidc].into_iter().enumerate()
        {
            assert_eq!(serde_json::to_string(&method).unwrap(), number.to_string());
            assert_eq!(serde_json::from_str::<Method>(&number.to_string()).unwrap(), method);
        }
        assert!(serde_json::from_str::<Method>("5").is_err());
        assert!(serde_json::from_str::<Method>("-1").is_err());
    }
}
