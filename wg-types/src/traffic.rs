//! Tells user data from what WireGuard sends by itself, by a peer's two counters alone.
//!
//! Per window and direction, `Δ = 148·initiations + 92·responses + 32·keepalives + data`, and only
//! the sums are known. Three facts of the protocol make the equation solvable:
//!
//! * A data message is a multiple of 16 bytes, at least 64 with a packet in it; an initiation is 4
//!   and a response 12 more than such a multiple. Handshakes leave a residue that data cannot hide.
//! * Whoever receives data and has nothing to answer sends a keepalive within 10 s
//!   (`KEEPALIVE_TIMEOUT`), and nobody answers a keepalive. So as long as the gateway has no
//!   persistent keepalive of its own, **anything that it sends beyond handshakes means data**, in
//!   one direction or the other. The peer's interval need not be known.
//! * A response is only ever sent to an initiation, and a peer whose keys work does not repeat
//!   initiations: more than [`RETRIES`] in a window are believed only when the last completed
//!   handshake is older than `REKEY_AFTER_TIME`.
//!
//! Where several explanations are possible the one without data wins only if it is complete.

use core::ops::RangeInclusive;
use core::time::Duration;

use mutant::Mutant;

use crate::timers::{
    INITIATION_BYTES, KEEPALIVE_BYTES, REKEY_AFTER_TIME, REKEY_TIMEOUT, RESPONSE_BYTES,
};

/// Initiations in one window while the keys work: one, and another if the path lost the first. With
/// three, data of certain sizes beside a handshake could be taken for handshakes.
const RETRIES: u64 = 2;

/// How much later than its predecessor's a report may come: the window may have been longer than
/// the time between the two arrivals.
const DELAY: Duration = Duration::from_secs(60);

/// The longest window that is judged: handshakes and keepalives of more time than this are taken for
/// data.
const LONGEST: Duration = Duration::from_secs(3600);

/// Bytes of a peer as one gateway counts them, handshakes and keepalives included.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Bytes received from the peer.
    pub rx_bytes: u64,
    /// Bytes sent to the peer.
    pub tx_bytes: u64,
}

impl Counters {
    /// A new peer's.
    pub const ZERO: Self = Self { rx_bytes: 0, tx_bytes: 0 };

    /// What was added since `before`. Counters that fell were restarted: all that they show came
    /// after the restart, within the window.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        if self.rx_bytes < before.rx_bytes || self.tx_bytes < before.tx_bytes {
            return self;
        }
        Self {
            rx_bytes: self.rx_bytes.saturating_sub(before.rx_bytes),
            tx_bytes: self.tx_bytes.saturating_sub(before.tx_bytes),
        }
    }
}

/// What one window of time added to a peer's counters.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// The bytes added.
    pub added: Counters,
    /// How long the window was.
    pub length: Duration,
    /// How old the last completed handshake was at its end; `None`: there never was one.
    pub handshake_age: Option<Duration>,
    /// The interval of the gateway's own persistent keepalive; `None`: it sends none.
    pub gateway_keepalive: Option<Duration>,
}

impl Window {
    /// Tells whether user data passed, in either direction.
    #[must_use]
    pub fn carries_data(&self) -> bool {
        if self.added == Counters::ZERO {
            return false;
        }
        mutant::on(Mutant::AnyBytes) || !self.peer_alone() && !self.gateway_alone()
    }

    /// Tells whether it can all be explained without data by a peer that initiates handshakes and
    /// keeps alive, and a gateway that responds.
    fn peer_alone(&self) -> bool {
        let most = self.max_initiations();
        // Each completed handshake is confirmed by one keepalive more.
        let keepalives = self.peer_keepalives().saturating_add(most);
        let initiations = explain(self.added.rx_bytes, INITIATION_BYTES, 0..=most, keepalives);
        initiations.is_some_and(|initiations| {
            let responses = 0..=initiations;
            let keepalives = self.gateway_keepalives();
            explain(self.added.tx_bytes, RESPONSE_BYTES, responses, keepalives).is_some()
        })
    }

    /// The same with the parts exchanged: a gateway that initiates, as the one that began the
    /// current keys, and a peer that responds and keeps alive.
    fn gateway_alone(&self) -> bool {
        let most = self.max_initiations();
        (0..=self.max_completed()).any(|completed| {
            let received = completed..=completed;
            let sent = completed..=most;
            let confirmed = self.gateway_keepalives().saturating_add(completed);
            explain(self.added.rx_bytes, RESPONSE_BYTES, received, self.peer_keepalives()).is_some()
                && explain(self.added.tx_bytes, INITIATION_BYTES, sent, confirmed).is_some()
        })
    }

    /// One each `REKEY_TIMEOUT` while nothing succeeds.
    fn max_initiations(&self) -> u64 {
        let keys_work = self.handshake_age.is_some_and(|age| age < REKEY_AFTER_TIME);
        if keys_work { RETRIES } else { self.fits(REKEY_TIMEOUT) }
    }

    /// One each 60 s: half of `REKEY_AFTER_TIME`, for a peer that restarts.
    fn max_completed(&self) -> u64 {
        self.seconds(Duration::ZERO).checked_div(60).unwrap_or_default().saturating_add(1)
    }

    /// WireGuard's shortest interval is 1 s.
    fn peer_keepalives(&self) -> u64 {
        self.fits(Duration::from_secs(1))
    }

    fn gateway_keepalives(&self) -> u64 {
        let Some(interval) = self.gateway_keepalive else { return 0 };
        self.seconds(REKEY_TIMEOUT)
            .checked_div(interval.as_secs().max(1))
            .unwrap_or_default()
            .saturating_add(1)
    }

    /// The window's length and `more`.
    fn seconds(&self, more: Duration) -> u64 {
        self.length.min(LONGEST).saturating_add(more).as_secs()
    }

    /// How many events `interval` apart the window has room for at most.
    fn fits(&self, interval: Duration) -> u64 {
        self.seconds(DELAY).checked_div(interval.as_secs()).unwrap_or_default().saturating_add(1)
    }
}

/// Solves `bytes = size·count + 32·keepalives` for a count in `counts` and at most so many
/// `keepalives`; returns the highest such count.
fn explain(bytes: u64, size: u64, counts: RangeInclusive<u64>, keepalives: u64) -> Option<u64> {
    let least = bytes.saturating_sub(keepalives.saturating_mul(KEEPALIVE_BYTES)).div_ceil(size);
    let most = bytes.checked_div(size)?;
    (least.max(*counts.start())..=most.min(*counts.end())).rev().find(|count| {
        let rest = bytes.saturating_sub(size.saturating_mul(*count));
        rest.is_multiple_of(KEEPALIVE_BYTES)
    })
}

#[cfg(test)]
mod tests;
