//! Values as people read them.

use jiff::Timestamp as Time;
use mfa_core::time::Timestamp;

/// Writes a time to the minute: `2026-11-24 06:55 UTC`.
#[must_use]
pub fn utc(time: Timestamp) -> String {
    format(time, "%Y-%m-%d %H:%M UTC")
}

/// Writes a time to the second, as RFC 3339: `2026-11-24T06:55:12Z`.
#[must_use]
pub fn rfc3339(time: Timestamp) -> String {
    format(time, "%Y-%m-%dT%H:%M:%SZ")
}

/// Hides most of an address: `a***@example.com`.
#[must_use]
pub fn masked(address: &str) -> String {
    let Some((name, domain)) = address.rsplit_once('@') else { return "***".to_owned() };
    let first: String = name.chars().take(1).collect();
    format!("{first}***@{domain}")
}

/// Returns the word in the number that fits: `1 device`, `2 devices`.
#[must_use]
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

fn format(time: Timestamp, pattern: &str) -> String {
    let millis = i64::try_from(time.as_unix_millis()).unwrap_or(i64::MAX);
    // Later than year 9999 is no time that anybody set.
    let time = Time::from_millisecond(millis).unwrap_or(Time::MAX);
    time.strftime(pattern).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_utc() {
        let time = Timestamp::from_unix_millis(1_700_000_000_000);
        assert_eq!(utc(time), "2023-11-14 22:13 UTC");
        assert_eq!(rfc3339(time), "2023-11-14T22:13:20Z");
        assert_eq!(utc(Timestamp::from_unix_millis(u64::MAX)), "9999-12-30 22:00 UTC");
    }

    #[test]
    fn an_address_shows_its_first_letter_and_its_domain() {
        assert_eq!(masked("ada@example.com"), "a***@example.com");
        assert_eq!(masked("nobody"), "***");
    }

    #[test]
    fn one_is_singular() {
        assert_eq!([count(0, "device"), count(1, "device")], ["0 devices", "1 device"]);
    }
}
