//! Which gateways are connected to this process, and what each has applied.
//!
//! The one meeting point of flows and gateways' streams. A flow that has committed a change
//! [`wake`](Registry::wake)s its location and may [wait](Registry::wait_applied) for the
//! acknowledgements; a stream takes a [`Seat`], sleeps until [called](Seat::called) and notes what
//! its gateway has [applied](Seat::applied).
//!
//! In memory only: the truth about sessions is the store's, and a gateway that is not here takes a
//! snapshot when it comes.

mod gateway;
mod seat;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mfa_core::id::{GatewayId, LocationId};
use mfa_core::time::Timestamp;
use mfa_store::{CoreId, Cut, Passed};
use tokio::sync::{Notify, watch};

pub use gateway::{About, Connected, Credential, ProcessId, Protocol};
pub use seat::{Call, Seat};

/// Superseded processes remembered per gateway; more than two at once is already a mistake.
const FENCED_REMEMBERED: usize = 16;

/// The connected gateways of every location.
#[derive(Debug, Default)]
pub struct Registry {
    state: Mutex<State>,
    /// Called when something is new that other cores should know.
    moved: Notify,
}

/// How far a location's gateways are with a revision.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Applied {
    /// Gateways that are connected.
    pub connected: usize,
    /// Those of them that have the revision in their kernel.
    pub applied: usize,
}

impl Applied {
    /// Every connected gateway has it, or there is none.
    const fn is_over(self) -> bool {
        self.applied == self.connected
    }

    /// Every connected gateway has it, and there is at least one.
    #[must_use]
    pub const fn is_complete(self) -> bool {
        self.connected > 0 && self.applied == self.connected
    }
}

/// Why core closes a gateway's stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Closing {
    /// The gateway was disabled or deleted.
    Revoked,
    /// Its certificate is no longer one of its own.
    CertificateSpent,
    /// Another process with the same identity came.
    Superseded,
    /// The same process dialled again.
    Redialled,
}

impl Registry {
    /// Starts with no gateway.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Counts the connected gateways of `location`, those of other cores too.
    #[must_use]
    pub fn connected(&self, location: LocationId) -> usize {
        self.lock().locations.get(&location).map_or(0, |place| place.progress_of(0).connected)
    }

    /// Lists the gateways of `location` that are connected to this core, in order of their ids.
    #[must_use]
    pub fn list(&self, location: LocationId) -> Vec<Connected> {
        let state = self.lock();
        state.locations.get(&location).map_or_else(Vec::new, |place| {
            place.seats.values().map(|seat| seat.connected.clone()).collect()
        })
    }

    /// Waits until every connected gateway of `location` has applied `revision` or a later one, but
    /// no longer than `timeout`. Returns how far they are then.
    ///
    /// A gateway that leaves is no longer waited for; one that comes is. If none is connected there
    /// is nobody to wait for. A gateway of the [legacy](Protocol::Legacy) protocol cannot
    /// acknowledge: it has applied what was written to its stream.
    pub async fn wait_applied(
        &self,
        location: LocationId,
        revision: i64,
        timeout: Duration,
    ) -> Applied {
        let mut progress = self.lock().place(location).progress.subscribe();
        let complete = async {
            while !self.applied(location, revision).is_over() {
                if progress.changed().await.is_err() {
                    // The registry never drops a place; were it not so, nobody could tell.
                    core::future::pending::<()>().await;
                }
            }
        };
        // Whether time ran out is told by the answer.
        let _in_time = tokio::time::timeout(timeout, complete).await;
        self.applied(location, revision)
    }

    /// Makes the streams of `location` look at the store now. To be called after each commit that
    /// moved the location's revision.
    pub fn wake(&self, location: LocationId) {
        if let Some(place) = self.lock().locations.get(&location) {
            place.wake.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// Makes all streams look at the store now.
    pub fn wake_all(&self) {
        for place in self.lock().locations.values() {
            place.wake.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// Closes the stream of `gateway`, if it has one here.
    pub fn close(&self, gateway: GatewayId, why: Closing) {
        for seat in self.lock().seats_of(gateway) {
            seat.close(why);
        }
    }

    /// Seats a gateway that has said hello.
    ///
    /// An older stream of the same gateway is closed. If it was of another process, that process
    /// is fenced: it is refused for as long as a newer one is connected.
    ///
    /// # Errors
    ///
    /// [`Fenced`] if this process is the superseded one.
    pub fn join(
        self: &Arc<Self>,
        location: LocationId,
        gateway: GatewayId,
        credential: Credential,
        process: &ProcessId,
        about: About,
        now: Timestamp,
    ) -> Result<Seat, Fenced> {
        let mut state = self.lock();
        let older = state.seats_of(gateway).next().map(|seat| seat.process.clone());
        match &older {
            Some(older) if older != process => {
                if state.fenced.get(&gateway).is_some_and(|fenced| fenced.contains(process)) {
                    return Err(Fenced);
                }
                tracing::warn!(
                    %gateway, hostname = %about.hostname, remote = ?about.remote,
                    "two processes use one gateway's identity; the older one is shut out. \
                     If this host is not the one you expect, revoke the gateway and enroll it anew"
                );
                state.fence(gateway, older.clone());
                for seat in state.seats_of(gateway) {
                    seat.close(Closing::Superseded);
                }
            }
            Some(_same) => {
                for seat in state.seats_of(gateway) {
                    seat.close(Closing::Redialled);
                }
            }
            None => {
                state.fenced.remove(&gateway);
            }
        }
        state.last_stream = state.last_stream.wrapping_add(1);
        let stream = state.last_stream;
        let (closing, closed) = watch::channel(None);
        for place in state.locations.values_mut() {
            place.seats.remove(&gateway);
        }
        let place = state.place(location);
        let wakes = place.wake.subscribe();
        let connected = Connected { gateway, applied: None, since: now, last_heard: now, about };
        let process = process.clone();
        let recorded = None;
        let entry = Entry {
            stream,
            credential,
            process,
            connected,
            recorded,
            closing,
            news: true,
            in_store: None,
        };
        place.seats.insert(gateway, entry);
        place.report_progress();
        drop(state);
        Ok(Seat::new(Arc::clone(self), (location, gateway, stream), wakes, closed))
    }

    /// Takes what is new since the last call, for the store.
    pub fn take_news(&self) -> Vec<News> {
        let mut state = self.lock();
        let mut news = core::mem::take(&mut state.departed);
        for seat in state.locations.values_mut().flat_map(|place| place.seats.values_mut()) {
            if core::mem::take(&mut seat.news) {
                news.push(seat.as_news());
            }
        }
        news
    }

    /// Takes what is new of the trails, for the store.
    pub fn take_trail(&self) -> TrailNews {
        core::mem::take(&mut self.lock().trail)
    }

    /// Puts back what could not be written down.
    pub fn put_back(&self, mut news: TrailNews) {
        let trail = &mut self.lock().trail;
        news.passed.append(&mut trail.passed);
        news.cuts.append(&mut trail.cuts);
        *trail = news;
    }

    /// Lists every gateway that is connected.
    #[must_use]
    pub fn all(&self) -> Vec<Seated> {
        let state = self.lock();
        let seats = state.locations.iter().flat_map(|(&location, place)| {
            place.seats.iter().map(move |(&gateway, seat)| seat.as_seated(location, gateway))
        });
        seats.collect()
    }

    /// Says how far the gateways of `location` are with `revision`, those of other cores too.
    #[must_use]
    pub fn applied(&self, location: LocationId, revision: i64) -> Applied {
        let state = self.lock();
        state
            .locations
            .get(&location)
            .map_or_else(Applied::default, |place| place.progress_of(revision))
    }

    /// Takes over what the store says of the other cores and their gateways.
    pub fn set_elsewhere(
        &self,
        living: BTreeSet<CoreId>,
        mut gateways: BTreeMap<LocationId, BTreeMap<GatewayId, Option<i64>>>,
    ) {
        let mut state = self.lock();
        state.living = living;
        for location in gateways.keys() {
            state.locations.entry(*location).or_default();
        }
        for (location, place) in &mut state.locations {
            let found = gateways.remove(location).unwrap_or_default();
            if found != place.elsewhere {
                place.elsewhere = found;
                place.report_progress();
            }
        }
    }

    /// The gateways of `location` that are connected to other cores, and what each has applied there; `None`:
    /// nothing yet.
    #[must_use]
    pub fn elsewhere(&self, location: LocationId) -> BTreeMap<GatewayId, Option<i64>> {
        let state = self.lock();
        state.locations.get(&location).map(|place| place.elsewhere.clone()).unwrap_or_default()
    }

    /// The other cores that live.
    #[must_use]
    pub fn living(&self) -> BTreeSet<CoreId> {
        self.lock().living.clone()
    }

    /// Returns a number that no stream of this core has had.
    pub fn new_stream(&self) -> i64 {
        let mut state = self.lock();
        state.last_stream = state.last_stream.wrapping_add(1);
        state.last_stream.cast_signed()
    }

    /// Says that a numbered stream never began.
    pub fn give_back(&self, gateway: GatewayId, stream: i64) {
        self.lock().left.push((gateway, stream));
    }

    /// Takes the streams that have ended since the last call: of which gateway, and their numbers.
    pub fn take_left(&self) -> Vec<(GatewayId, i64)> {
        core::mem::take(&mut self.lock().left)
    }

    /// Waits until something is new that other cores should know.
    pub async fn moved(&self) {
        self.moved.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change below leaves the state whole, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A newer process with the same identity is connected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fenced;

/// Who sits where, and by what right.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seated {
    /// Where.
    pub location: LocationId,
    /// Who.
    pub gateway: GatewayId,
    /// By what it proved who it is.
    pub credential: Credential,
    /// The stream's number in the store; `None`: the store was not told of it yet.
    pub stream: Option<i64>,
    /// How its process names itself.
    pub process: ProcessId,
    /// What it has applied; `None`: nothing on this stream yet.
    pub applied: Option<i64>,
}

/// What the store should know of a gateway.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct News {
    /// Which gateway.
    pub gateway: GatewayId,
    /// What it last acknowledged; `None`: nothing on this stream.
    pub applied: Option<i64>,
    /// When its last message came.
    pub last_heard: Timestamp,
    /// What it said of itself.
    pub about: About,
}

/// Steps of ends that the store does not know yet.
#[derive(Clone, Debug, Default)]
pub struct TrailNews {
    /// Acknowledgements.
    pub passed: Vec<Passed>,
    /// Last counters, and the location whose gateway said so.
    pub cuts: Vec<(LocationId, Cut)>,
}

#[derive(Debug, Default)]
struct State {
    locations: BTreeMap<LocationId, Place>,
    fenced: BTreeMap<GatewayId, VecDeque<ProcessId>>,
    departed: Vec<News>,
    left: Vec<(GatewayId, i64)>,
    living: BTreeSet<CoreId>,
    trail: TrailNews,
    last_stream: u64,
}

impl State {
    fn place(&mut self, location: LocationId) -> &mut Place {
        self.locations.entry(location).or_default()
    }

    fn seats_of(&self, gateway: GatewayId) -> impl Iterator<Item = &Entry> {
        self.locations.values().filter_map(move |place| place.seats.get(&gateway))
    }

    fn fence(&mut self, gateway: GatewayId, process: ProcessId) {
        let fenced = self.fenced.entry(gateway).or_default();
        if process.0.is_empty() || fenced.contains(&process) {
            return;
        }
        fenced.push_back(process);
        if fenced.len() > FENCED_REMEMBERED {
            fenced.pop_front();
        }
    }
}

#[derive(Debug, Default)]
struct Place {
    seats: BTreeMap<GatewayId, Entry>,
    /// Gateways that are connected to other cores, and what they have applied.
    elsewhere: BTreeMap<GatewayId, Option<i64>>,
    wake: watch::Sender<u64>,
    progress: watch::Sender<u64>,
}

impl Place {
    fn progress_of(&self, revision: i64) -> Applied {
        let others = self.elsewhere.iter().filter(|(id, _)| !self.seats.contains_key(id));
        let here = self.seats.values().map(|seat| seat.connected.applied);
        let all = here.chain(others.map(|(_, applied)| *applied));
        all.fold(Applied::default(), |sum, applied| Applied {
            connected: sum.connected.saturating_add(1),
            applied: sum.applied.saturating_add(applied.is_some_and(|it| it >= revision).into()),
        })
    }

    fn report_progress(&self) {
        self.progress.send_modify(|count| *count = count.wrapping_add(1));
    }
}

#[derive(Debug)]
struct Entry {
    stream: u64,
    credential: Credential,
    process: ProcessId,
    connected: Connected,
    /// What it is certain to have applied.
    recorded: Option<i64>,
    closing: watch::Sender<Option<Closing>>,
    news: bool,
    /// The stream's number in the store.
    in_store: Option<i64>,
}

impl Entry {
    fn close(&self, why: Closing) {
        self.closing.send_replace(Some(why));
    }

    fn as_seated(&self, location: LocationId, gateway: GatewayId) -> Seated {
        Seated {
            location,
            gateway,
            credential: self.credential,
            stream: self.in_store,
            process: self.process.clone(),
            applied: self.connected.applied,
        }
    }

    fn as_news(&self) -> News {
        News {
            gateway: self.connected.gateway,
            applied: self.recorded,
            last_heard: self.connected.last_heard,
            about: self.connected.about.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
