//! Which gateways are connected, and which revision each has in its kernel.
//!
//! The one meeting point of flows and gateways' streams. A flow that committed a change
//! [`wake`](Registry::wake)s its location and may [wait](Registry::wait_applied) for the
//! acknowledgements; a stream [attaches](Registry::attach) itself, sleeps until
//! [woken](Attachment::woken) and [acknowledges](Attachment::acknowledge).

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mfa_core::id::{GatewayId, LocationId};
use tokio::sync::watch;
use tokio::time::Instant;

/// How far a location's gateways are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Applied {
    /// Gateways that are connected.
    pub connected: usize,
    /// Those of them that have the revision in their kernel.
    pub applied: usize,
}

impl Applied {
    /// Every connected gateway has it, and there is at least one.
    #[must_use]
    pub const fn is_complete(self) -> bool {
        self.connected > 0 && self.applied == self.connected
    }
}

/// Connected gateways by location.
#[derive(Debug, Default)]
pub struct Registry {
    locations: Mutex<BTreeMap<LocationId, Location>>,
}

#[derive(Debug, Default)]
struct Location {
    /// The gateways, each with the attachment's number and the revision that it acknowledged.
    gateways: BTreeMap<GatewayId, (u64, i64)>,
    next_attachment: u64,
    /// Counts wakes: there may be something new in the store.
    wakes: watch::Sender<u64>,
    /// Counts acknowledgements, arrivals and departures.
    progress: watch::Sender<u64>,
}

impl Registry {
    /// Starts with no gateway.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Counts the connected gateways of a location.
    #[must_use]
    pub fn connected(&self, location: LocationId) -> usize {
        self.lock().get(&location).map_or(0, |entry| entry.gateways.len())
    }

    /// Lists the connected gateways of a location with the revision each acknowledged.
    #[must_use]
    pub fn gateways(&self, location: LocationId) -> BTreeMap<GatewayId, i64> {
        let locations = self.lock();
        let Some(entry) = locations.get(&location) else { return BTreeMap::new() };
        entry.gateways.iter().map(|(gateway, (_, revision))| (*gateway, *revision)).collect()
    }

    /// Tells the location's gateways' streams to look into the store. Call it after the commit.
    pub fn wake(&self, location: LocationId) {
        if let Some(entry) = self.lock().get(&location) {
            bump(&entry.wakes);
        }
    }

    /// Tells all streams to look into the store.
    pub fn wake_all(&self) {
        for entry in self.lock().values() {
            bump(&entry.wakes);
        }
    }

    /// Waits until every connected gateway of the location has acknowledged `revision` or a higher
    /// one, at most for `timeout`. Returns how far they are then.
    pub async fn wait_applied(
        &self,
        location: LocationId,
        revision: i64,
        timeout: Duration,
    ) -> Applied {
        let deadline = Instant::now() + timeout;
        let mut progress = self.lock().entry(location).or_default().progress.subscribe();
        loop {
            let applied = self.applied(location, revision);
            if applied.is_complete() {
                return applied;
            }
            // An error means that the sender is gone, which the registry never lets happen.
            let changed = tokio::time::timeout_at(deadline, progress.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                return self.applied(location, revision);
            }
        }
    }

    /// Enters a gateway's stream. An older stream of the same gateway is pushed out: its
    /// [`Attachment::is_current`] turns false.
    #[must_use]
    pub fn attach(self: &Arc<Self>, gateway: GatewayId, location: LocationId) -> Attachment {
        let mut locations = self.lock();
        let entry = locations.entry(location).or_default();
        entry.next_attachment += 1;
        let number = entry.next_attachment;
        entry.gateways.insert(gateway, (number, 0));
        bump(&entry.progress);
        // Wakes an older stream of the same gateway, so that it sees that it is no longer current.
        bump(&entry.wakes);
        Attachment {
            registry: Arc::clone(self),
            gateway,
            location,
            number,
            wakes: entry.wakes.subscribe(),
        }
    }

    fn applied(&self, location: LocationId, revision: i64) -> Applied {
        let locations = self.lock();
        let Some(entry) = locations.get(&location) else {
            return Applied { connected: 0, applied: 0 };
        };
        let applied = entry.gateways.values().filter(|(_, acked)| *acked >= revision).count();
        Applied { connected: entry.gateways.len(), applied }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<LocationId, Location>> {
        // The map is consistent after each statement, so a panic elsewhere spoils nothing.
        self.locations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One gateway's stream in the registry; dropping it takes the gateway out.
#[derive(Debug)]
pub struct Attachment {
    registry: Arc<Registry>,
    gateway: GatewayId,
    location: LocationId,
    number: u64,
    wakes: watch::Receiver<u64>,
}

impl Attachment {
    /// Waits for the next [`Registry::wake`]. Wakes that came meanwhile count once.
    pub async fn woken(&mut self) {
        if self.wakes.changed().await.is_err() {
            // The registry outlives its attachments; were it not so, nobody could wake.
            core::future::pending::<()>().await;
        }
    }

    /// Notes that the gateway's kernel has `revision`.
    pub fn acknowledge(&self, revision: i64) {
        let mut locations = self.registry.lock();
        let Some(entry) = locations.get_mut(&self.location) else { return };
        if let Some((number, acked)) = entry.gateways.get_mut(&self.gateway)
            && *number == self.number
        {
            *acked = revision.max(*acked);
            bump(&entry.progress);
        }
    }

    /// Tells whether no newer stream of the same gateway has come.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let locations = self.registry.lock();
        let entry = locations.get(&self.location).and_then(|l| l.gateways.get(&self.gateway));
        entry.is_some_and(|(number, _)| *number == self.number)
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let mut locations = self.registry.lock();
        let Some(entry) = locations.get_mut(&self.location) else { return };
        if entry.gateways.get(&self.gateway).is_some_and(|(number, _)| *number == self.number) {
            entry.gateways.remove(&self.gateway);
            bump(&entry.progress);
        }
    }
}

fn bump(counter: &watch::Sender<u64>) {
    counter.send_modify(|count| *count = count.wrapping_add(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARIS: LocationId = LocationId::new(1);
    const A: GatewayId = GatewayId::new(1);
    const B: GatewayId = GatewayId::new(2);

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_when_the_last_gateway_has_acknowledged() {
        let registry = Registry::new();
        let (a, b) = (registry.attach(A, PARIS), registry.attach(B, PARIS));
        let waiter = tokio::spawn({
            let registry = Arc::clone(&registry);
            async move { registry.wait_applied(PARIS, 7, Duration::from_secs(4)).await }
        });

        a.acknowledge(7);
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        b.acknowledge(8);

        assert_eq!(waiter.await.unwrap(), Applied { connected: 2, applied: 2 });
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_gateway_is_not_waited_for_for_ever() {
        let registry = Registry::new();
        let (a, _b) = (registry.attach(A, PARIS), registry.attach(B, PARIS));
        a.acknowledge(7);
        let applied = registry.wait_applied(PARIS, 7, Duration::from_secs(4)).await;
        assert_eq!(applied, Applied { connected: 2, applied: 1 });
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_leaves_is_no_longer_waited_for() {
        let registry = Registry::new();
        let (a, b) = (registry.attach(A, PARIS), registry.attach(B, PARIS));
        a.acknowledge(7);
        drop(b);
        let applied = registry.wait_applied(PARIS, 7, Duration::from_secs(4)).await;
        assert_eq!(applied, Applied { connected: 1, applied: 1 });
    }

    #[tokio::test(start_paused = true)]
    async fn the_newer_stream_of_a_gateway_wins() {
        let registry = Registry::new();
        let older = registry.attach(A, PARIS);
        let newer = registry.attach(A, PARIS);
        older.acknowledge(9);
        assert!(!older.is_current() && newer.is_current());
        assert_eq!(registry.gateways(PARIS).get(&A), Some(&0));
        drop(older);
        assert_eq!(registry.connected(PARIS), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wake_reaches_the_location_and_no_other() {
        let registry = Registry::new();
        let mut paris = registry.attach(A, PARIS);
        let mut rome = registry.attach(B, LocationId::new(2));
        registry.wake(PARIS);
        paris.woken().await;
        let quiet = tokio::time::timeout(Duration::from_secs(1), rome.woken()).await;
        assert!(quiet.is_err());
    }
}
