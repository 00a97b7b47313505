//! Texts that nobody but their two ends may read.

use core::fmt;

use serde::de::{Deserialize, Deserializer, Visitor};
use serde::{Deserialize as DeserializeDerive, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// A token, key or password on its way through TLS.
///
/// It is wiped on drop, and [`Debug`](fmt::Debug) prints the type's name. It serializes as the
/// plain text, since bodies carry it: serialize such a body for the wire alone.
#[derive(Clone, DeserializeDerive, Serialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Lends the secret.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}

/// A code as typed: a JSON string, or in old clients a JSON number that lost its leading zeros.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Code {
    text: String,
    was_number: bool,
}

impl Code {
    /// Wraps a code as typed.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), was_number: false }
    }

    /// Returns the code; one that came as a number gets back the zeros that make it `digits` long.
    #[must_use]
    pub fn expose_padded(&self, digits: usize) -> Zeroizing<String> {
        if self.was_number {
            Zeroizing::new(format!("{:0>digits$}", self.text))
        } else {
            Zeroizing::new(self.text.clone())
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(..)")
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CodeVisitor)
    }
}

struct CodeVisitor;

impl Visitor<'_> for CodeVisitor {
    type Value = Code;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a code, as a string of digits")
    }

    fn visit_str<E>(self, text: &str) -> Result<Code, E> {
        Ok(Code::new(text))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Code, E> {
        Ok(Code { text: number.to_string(), was_number: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let shown = format!("{:?} {:?}", SecretText::new("s3cret"), Code::new("123456"));
        assert_eq!(shown, "SecretText(..) Code(..)");
    }

    #[test]
    fn a_code_sent_as_a_number_gets_its_zeros_back() {
        let code: Code = serde_json::from_str("4711").unwrap();
        assert_eq!(*code.expose_padded(6), "004711");
        assert_eq!(*code.expose_padded(3), "4711", "too long stays too long");
    }

    #[test]
    fn a_code_sent_as_text_stays_as_it_is() {
        for text in ["4711", " 123456", "+12345", "", "\u{ff11}23456"] {
            let code: Code = serde_json::from_value(text.into()).unwrap();
            assert_eq!(*code.expose_padded(6), text);
        }
    }

    #[test]
    fn what_is_neither_text_nor_a_whole_number_is_no_code() {
        for json in ["-1", "1.5", "null", "true", "[1]", "{}"] {
            assert!(serde_json::from_str::<Code>(json).is_err(), "{json}");
        }
    }
}
