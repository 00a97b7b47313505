//! A stream's own place in the registry.

use core::fmt;
use std::sync::Arc;

use mfa_core::id::{GatewayId, LocationId};
use mfa_core::time::Timestamp;
use tokio::sync::watch;

use super::{Closing, Entry, Registry};

/// Steps that may wait to be written down; they are each second.
const TRAIL_MAX: usize = 200_000;

/// What a stream must do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Call {
    /// Look at the store.
    Look,
    /// End.
    Close(Closing),
}

/// A place in the registry; dropping it leaves.
pub struct Seat {
    registry: Arc<Registry>,
    location: LocationId,
    gateway: GatewayId,
    stream: u64,
    in_store: Option<i64>,
    wakes: watch::Receiver<u64>,
    closed: watch::Receiver<Option<Closing>>,
}

impl Seat {
    pub(super) const fn new(
        registry: Arc<Registry>,
        (location, gateway, stream): (LocationId, GatewayId, u64),
        wakes: watch::Receiver<u64>,
        closed: watch::Receiver<Option<Closing>>,
    ) -> Self {
        Self { registry, location, gateway, stream, in_store: None, wakes, closed }
    }

    /// Waits until the stream must do something. Wakes that came meanwhile count as one.
    pub async fn called(&mut self) -> Call {
        tokio::select! {
            biased;
            closed = self.closed.wait_for(Option::is_some) => match closed {
                Ok(why) => Call::Close(why.unwrap_or(Closing::Redialled)),
                // A newer stream of this gateway has taken the entry away.
                Err(_gone) => Call::Close(Closing::Redialled),
            },
            Ok(()) = self.wakes.changed() => Call::Look,
        }
    }

    /// Notes a sign of life.
    pub fn heard(&self, now: Timestamp) {
        self.with_entry(|entry| {
            entry.connected.last_heard = now;
            entry.news = true;
        });
    }

    /// Notes that the gateway has applied `revision`.
    pub fn applied(&self, revision: i64) {
        self.written(revision);
        self.with_entry(|entry| {
            entry.recorded = entry.recorded.max(Some(revision));
            entry.news = true;
        });
    }

    /// Notes that `revision` is on its way to a gateway that cannot acknowledge. It counts as
    /// applied for who waits, but is not written down yet.
    pub fn written(&self, revision: i64) {
        let mut state = self.registry.lock();
        let Some(place) = state.locations.get_mut(&self.location) else { return };
        let Some(entry) = place.seats.get_mut(&self.gateway).filter(|e| e.stream == self.stream)
        else {
            return;
        };
        entry.connected.applied = entry.connected.applied.max(Some(revision));
        place.report_progress();
        self.registry.moved.notify_one();
    }

    /// Notes by which number the store knows the stream.
    pub fn recorded(&mut self, number: i64) {
        self.in_store = Some(number);
        self.with_entry(|entry| entry.in_store = Some(number));
        self.registry.moved.notify_one();
    }

    /// Notes an acknowledgement, for the store.
    pub fn passed(&self, passed: mfa_store::Passed) {
        let trail = &mut self.registry.lock().trail;
        if trail.passed.len() < TRAIL_MAX {
            trail.passed.push(passed);
        }
    }

    /// Notes last counters, for the store.
    pub fn cut(&self, cuts: impl IntoIterator<Item = mfa_store::Cut>) {
        let trail = &mut self.registry.lock().trail;
        let room = TRAIL_MAX.saturating_sub(trail.cuts.len());
        trail.cuts.extend(cuts.into_iter().take(room).map(|cut| (self.location, cut)));
    }

    fn with_entry(&self, change: impl FnOnce(&mut Entry)) {
        let mut state = self.registry.lock();
        let entry = state
            .locations
            .get_mut(&self.location)
            .and_then(|place| place.seats.get_mut(&self.gateway))
            .filter(|entry| entry.stream == self.stream);
        if let Some(entry) = entry {
            change(entry);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.registry.lock();
        state.left.extend(self.in_store.map(|number| (self.gateway, number)));
        self.registry.moved.notify_one();
        let Some(place) = state.locations.get_mut(&self.location) else { return };
        if place.seats.get(&self.gateway).is_some_and(|entry| entry.stream == self.stream)
            && let Some(entry) = place.seats.remove(&self.gateway)
        {
            place.report_progress();
            state.departed.push(entry.as_news());
        }
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat")
            .field("location", &self.location)
            .field("gateway", &self.gateway)
            .finish_non_exhaustive()
    }
}
