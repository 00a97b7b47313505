//! Limits by source address, in bounded memory.
//!
//! The generic cell rate algorithm: a source may make `burst` requests at once and one more each
//! `interval`. A fixed table holds the sources; one that falls out of it starts afresh, which a
//! flood of addresses can bring about for addresses of its own table row alone.

use core::hash::{BuildHasher as _, Hash, Hasher as _};
use core::time::Duration;
use std::collections::hash_map::{DefaultHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use mfa_core::time::Timestamp;

/// Rows; with [`WAYS`] entries each it is some 65,000 sources in 2 MiB.
const ROWS: usize = 1 << 14;
/// Entries of a row.
const WAYS: usize = 4;

/// A source as it is counted: an IPv4 address, or the /64 of an IPv6 address, which is what one
/// subscriber has.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Source(u64, bool);

impl Source {
    /// A token of the REST API, in a [`Throttle`] of its own.
    #[must_use]
    pub const fn token(number: i64) -> Self {
        Self(number.cast_unsigned(), false)
    }
}

impl From<IpAddr> for Source {
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self(u32::from(ip).into(), true),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments().map(u64::from);
                Self(a << 48 | b << 32 | c << 16 | d, false)
            }
        }
    }
}

impl Source {
    /// Returns a source that counts for itself what this one does about `name`.
    #[must_use]
    pub fn with(self, name: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        (self, name).hash(&mut hasher);
        Self(hasher.finish(), false)
    }
}

/// A limit and those it is kept for.
#[derive(Debug)]
pub struct Throttle {
    interval: Duration,
    burst: u32,
    hasher: RandomState,
    rows: Mutex<Vec<[Entry; WAYS]>>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    source: Source,
    /// When the source will have all of its burst again.
    full_at: Timestamp,
}

const EMPTY: Entry = Entry { source: Source(0, false), full_at: Timestamp::UNIX_EPOCH };

/// Too many requests; how long to wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Throttled {
    /// After this time one more request is let through.
    pub retry_after: Duration,
}

impl Throttle {
    /// Lets each source make `burst` requests at once and one more each `interval`.
    #[must_use]
    pub fn new(burst: u32, interval: Duration) -> Self {
        let rows = Mutex::new(vec![[EMPTY; WAYS]; ROWS]);
        Self { interval, burst, hasher: RandomState::new(), rows }
    }

    /// Counts a request of `source`.
    ///
    /// # Errors
    ///
    /// [`Throttled`]; a refused request counts for nothing.
    pub fn charge(&self, source: Source, now: Timestamp) -> Result<(), Throttled> {
        let row = usize::try_from(self.hasher.hash_one(source)).unwrap_or(0) % ROWS;
        // A row is consistent after each statement, so a panic elsewhere spoils nothing.
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(row) = rows.get_mut(row) else { return Ok(()) };
        let known = row.iter().position(|entry| entry.source == source);
        // Else the entry that is, or is soonest, as good as new.
        let oldest = || (0..WAYS).min_by_key(|way| row.get(*way).map(|entry| entry.full_at));
        let Some(entry) = known.or_else(oldest).and_then(|way| row.get_mut(way)) else {
            return Ok(());
        };
        if entry.source != source {
            *entry = Entry { source, full_at: now };
        }
        let depth = self.interval.saturating_mul(self.burst);
        // A clock that was set back must not shut anybody out for longer than a whole burst.
        entry.full_at = entry.full_at.max(now).min(now.saturating_add(depth));
        let after = entry.full_at.saturating_add(self.interval);
        let over = after.since(now).saturating_sub(depth);
        if over.is_zero() {
            entry.full_at = after;
            Ok(())
        } else {
            Err(Throttled { retry_after: over })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_unix_millis(1_700_000_000_000 + secs * 1000)
    }

    fn source(text: &str) -> Source {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn a_burst_passes_and_then_one_each_interval() {
        let throttle = Throttle::new(3, 10 * SECOND);
        let ada = source("192.0.2.1");
        for _ in 0..3 {
            assert_eq!(throttle.charge(ada, at(0)), Ok(()));
        }
        assert_eq!(throttle.charge(ada, at(0)), Err(Throttled { retry_after: 10 * SECOND }));
        assert_eq!(throttle.charge(ada, at(9)), Err(Throttled { retry_after: SECOND }));
        assert_eq!(throttle.charge(ada, at(10)), Ok(()));
        assert!(throttle.charge(ada, at(10)).is_err());
        assert_eq!(throttle.charge(source("192.0.2.2"), at(0)), Ok(()), "another source");
    }

    #[test]
    fn a_clock_set_back_shuts_nobody_out_for_long() {
        let throttle = Throttle::new(2, SECOND);
        let ada = source("192.0.2.1");
        assert_eq!(throttle.charge(ada, at(100_000)), Ok(()));
        let Err(Throttled { retry_after }) = throttle.charge(ada, at(0)) else {
            panic!("the burst counts as used up");
        };
        assert_eq!(retry_after, SECOND);
        assert_eq!(throttle.charge(ada, at(2)), Ok(()));
    }

    #[test]
    fn an_ipv6_subscriber_is_one_source() {
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff::9"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("::c000:201"), source("192.0.2.1"));
    }

    #[test]
    fn a_flood_of_addresses_needs_no_more_memory() {
        let throttle = Throttle::new(1, SECOND);
        for number in 0..200_000_u32 {
            let _ = throttle.charge(IpAddr::from(number.to_be_bytes()).into(), at(0));
        }
        assert_eq!(throttle.rows.lock().unwrap().len(), ROWS);
    }
}
