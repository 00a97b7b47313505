//! The ways in which a person can prove to be present.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

/// One way to prove a second factor.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Method {
    /// A time-based code from an authenticator app (RFC 6238), or a recovery code in its place.
    Totp,
    /// A code sent by e-mail. The weaker method: NIST SP 800-63B-4 §3.1.3.1 does not accept it.
    Email,
}

impl Method {
    /// All methods, in the order of their wire numbers.
    pub const ALL: [Self; 2] = [Self::Totp, Self::Email];

    /// Returns the number that the client API uses: 0 for TOTP, 1 for e-mail.
    #[must_use]
    pub const fn wire(self) -> i32 {
        match self {
            Self::Totp => 0,
            Self::Email => 1,
        }
    }

    /// Reads a number of the client API; `None` for a method that is not offered here.
    #[must_use]
    pub const fn from_wire(number: i32) -> Option<Self> {
        match number {
            0 => Some(Self::Totp),
            1 => Some(Self::Email),
            _ => None,
        }
    }

    /// Returns the word for configuration, commands and the store: `totp` or `email`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Totp => "totp",
            Self::Email => "email",
        }
    }

    /// Returns the words for a person.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Totp => "authenticator app",
            Self::Email => "e-mail code",
        }
    }

    /// Returns how long a challenge of this method stays open: 120 s for TOTP, 600 s for e-mail.
    #[must_use]
    pub const fn challenge_ttl(self) -> Duration {
        match self {
            Self::Totp => Duration::from_secs(120),
            Self::Email => Duration::from_secs(600),
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Totp => 1,
            Self::Email => 2,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl FromStr for Method {
    type Err = UnknownMethod;

    fn from_str(text: &str) -> Result<Self, UnknownMethod> {
        Self::ALL.into_iter().find(|method| method.code() == text).ok_or(UnknownMethod)
    }
}

/// A set of methods: those a location allows, or those an account has enabled.
///
/// ```
/// use mfa_core::method::{Method, MethodSet};
///
/// let allowed: MethodSet = "totp,email".parse()?;
/// let enabled = MethodSet::from(Method::Email);
/// assert_eq!(allowed.intersection(enabled).to_string(), "email");
/// # Ok::<(), mfa_core::method::UnknownMethod>(())
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct MethodSet(u8);

impl MethodSet {
    /// No method.
    pub const EMPTY: Self = Self(0);

    /// Every method.
    pub const ALL: Self = Self(Method::Totp.bit() | Method::Email.bit());

    /// Returns the set with `method` in it.
    #[must_use]
    pub const fn with(self, method: Method) -> Self {
        Self(self.0 | method.bit())
    }

    /// Returns the set without `method`.
    #[must_use]
    pub const fn without(self, method: Method) -> Self {
        Self(self.0 & !method.bit())
    }

    /// Tells whether `method` is in the set.
    #[must_use]
    pub const fn contains(self, method: Method) -> bool {
        self.0 & method.bit() != 0
    }

    /// Tells whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the methods that are in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Lists the methods in the order of their wire numbers.
    pub fn iter(self) -> impl Iterator<Item = Method> {
        Method::ALL.into_iter().filter(move |method| self.contains(*method))
    }
}

impl From<Method> for MethodSet {
    fn from(method: Method) -> Self {
        Self::EMPTY.with(method)
    }
}

impl FromIterator<Method> for MethodSet {
    fn from_iter<I: IntoIterator<Item = Method>>(methods: I) -> Self {
        methods.into_iter().fold(Self::EMPTY, Self::with)
    }
}

/// Prints the [codes](Method::code), separated by commas; nothing for the empty set.
impl fmt::Display for MethodSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, method) in self.iter().enumerate() {
            if place > 0 {
                f.write_str(",")?;
            }
            f.write_str(method.code())?;
        }
        Ok(())
    }
}

impl FromStr for MethodSet {
    type Err = UnknownMethod;

    /// Parses what [`Display`](fmt::Display) prints, with or without blanks around the commas.
    fn from_str(text: &str) -> Result<Self, UnknownMethod> {
        if text.trim().is_empty() {
            return Ok(Self::EMPTY);
        }
        text.split(',').map(|word| word.trim().parse()).collect()
    }
}

/// A word that names no method.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("unknown method; the methods are: totp, email")]
pub struct UnknownMethod;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_in_a_set_once() {
        let totp = MethodSet::EMPTY.with(Method::Totp);
        assert_eq!(totp.with(Method::Totp), totp);
        assert_eq!(totp.without(Method::Totp).without(Method::Totp), MethodSet::EMPTY);
    }

    #[test]
    fn people_read_names_and_not_codes() {
        assert_eq!(Method::ALL.map(Method::name), ["authenticator app", "e-mail code"]);
    }

    #[test]
    fn wire_numbers_are_those_of_the_client_api() {
        assert_eq!((Method::Totp.wire(), Method::Email.wire()), (0, 1));
        for method in Method::ALL {
            assert_eq!(Method::from_wire(method.wire()), Some(method));
        }
        for number in [-1, 2, 3, 4, i32::MIN, i32::MAX] {
            assert_eq!(Method::from_wire(number), None);
        }
    }

    #[test]
    fn every_set_reads_back() {
        let sets = [
            (MethodSet::EMPTY, ""),
            (Method::Totp.into(), "totp"),
            (Method::Email.into(), "email"),
            (MethodSet::ALL, "totp,email"),
        ];
        for (set, text) in sets {
            assert_eq!(set.to_string(), text);
            assert_eq!(text.parse(), Ok(set));
        }
        assert_eq!(" email , totp ".parse(), Ok(MethodSet::ALL));
        for text in ["TOTP", "sms", "totp,", ",", "totp email"] {
            assert_eq!(text.parse::<MethodSet>(), Err(UnknownMethod), "{text:?}");
        }
    }

    #[test]
    fn a_set_contains_what_was_put_in_and_not_taken_out() {
        let set = MethodSet::EMPTY.with(Method::Email);
        assert!(set.contains(Method::Email) && !set.contains(Method::Totp));
        assert!(MethodSet::ALL.without(Method::Email) == Method::Totp.into());
        assert!(set.without(Method::Email).is_empty() && !set.is_empty());
        assert_eq!(set.intersection(Method::Totp.into()), MethodSet::EMPTY);
        assert!(set.iter().eq([Method::Email]));
    }

    #[test]
    fn a_mailed_code_gets_more_time() {
        assert_eq!(Method::Totp.challenge_ttl(), Duration::from_secs(120));
        assert_eq!(Method::Email.challenge_ttl(), Duration::from_secs(600));
    }

    #[test]
    fn a_method_reads_back() {
        for method in Method::ALL {
            assert_eq!(method.to_string().parse(), Ok(method));
            assert!(!method.name().is_empty());
        }
    }
}
