//! Time spans as people write them: `90`, `90s`, `5m`, `12h`, `30d`.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use serde::de::{Deserialize, Deserializer, Error as _, Visitor};

const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];

/// A time span of whole seconds.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Span(u64);

impl Span {
    /// Wraps seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs)
    }

    /// Returns whole seconds.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0
    }

    /// Returns the span for arithmetic.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

impl From<Duration> for Span {
    /// Drops parts of a second.
    fn from(duration: Duration) -> Self {
        Self(duration.as_secs())
    }
}

/// The text is no time span.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a time span is a whole number with a unit: 90s, 5m, 12h or 30d")]
pub struct NotASpan;

impl FromStr for Span {
    type Err = NotASpan;

    fn from_str(text: &str) -> Result<Self, NotASpan> {
        let text = text.trim();
        let (number, factor) = UNITS
            .iter()
            .find_map(|(unit, factor)| text.strip_suffix(unit).map(|number| (number, *factor)))
            .unwrap_or((text, 1));
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NotASpan);
        }
        let number: u64 = number.parse().map_err(|_| NotASpan)?;
        number.checked_mul(factor).map(Self).ok_or(NotASpan)
    }
}

impl fmt::Display for Span {
    /// Writes the largest unit that leaves a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole =
            UNITS.iter().find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor));
        match whole {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}s", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SpanVisitor;

        impl Visitor<'_> for SpanVisitor {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time span such as \"60s\" or \"12h\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Span, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_i64<E: serde::de::Error>(self, secs: i64) -> Result<Span, E> {
                u64::try_from(secs).map(Span).map_err(|_| E::custom(NotASpan))
            }

            fn visit_u64<E>(self, secs: u64) -> Result<Span, E> {
                Ok(Span(secs))
            }
        }

        deserializer.deserialize_any(SpanVisitor).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_people_write_them() {
        for (text, secs) in
            [("90", 90), ("90s", 90), ("5m", 300), ("12h", 43_200), ("30d", 2_592_000)]
        {
            assert_eq!(text.parse(), Ok(Span(secs)), "{text}");
        }
        for text in ["", "s", "-5s", "1.5h", "5 m", "5w", "99999999999999999999d"] {
            assert_eq!(text.parse::<Span>(), Err(NotASpan), "{text}");
        }
    }

    #[test]
    fn spans_print_in_their_largest_whole_unit() {
        for (secs, text) in [(0, "0s"), (90, "90s"), (300, "5m"), (43_200, "12h"), (172_800, "2d")]
        {
            assert_eq!(Span(secs).to_string(), text);
        }
    }
}
