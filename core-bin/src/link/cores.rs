//! The other cores on this database.
//!
//! Each core says that it lives and which gateways are connected to it; each reads what the others
//! say. So a login here waits for the acknowledgements of gateways that are connected there, and of
//! two processes with one gateway's identity the newer is served, whichever cores they dial.
//!
//! Whether another core lives is judged by whether its beat moves, on this process's own monotonic
//! clock: the cores' wall clocks need not agree. A core without others writes one beat now and then,
//! and nothing else.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use mfa_core::id::{GatewayId, LocationId};
use mfa_store::{CoreId, GatewaySeat, KeyId, SeatTaken, StoreError};
use tokio::time::Instant;

use super::Link;
use super::registry::{Closing, ProcessId, Seated};

/// How often a core says that it lives.
const BEAT: Duration = Duration::from_secs(10);

/// A core whose beat has not moved for so long is dead: three beats, and some time to write one.
const DEAD: Duration = Duration::from_secs(35);

/// What this core knows of the others.
#[derive(Debug)]
pub(super) struct Cores {
    me: CoreId,
    /// The beat of each, and when it last moved.
    seen: BTreeMap<CoreId, (i64, Instant)>,
    beaten: Option<Instant>,
    /// The newest master key that the others were told to be here.
    told: Option<KeyId>,
    others: bool,
}

impl Cores {
    pub(super) const fn new(me: CoreId) -> Self {
        Self { me, seen: BTreeMap::new(), beaten: None, told: None, others: false }
    }

    /// Whether another core lives.
    pub(super) const fn has_others(&self) -> bool {
        self.others
    }

    /// Says what is here, and learns what is elsewhere.
    pub(super) async fn look(&mut self, link: &Link) -> Result<(), StoreError> {
        let (me, now) = (self.me, Instant::now());
        if self.beaten.is_none_or(|at| now.duration_since(at) >= BEAT) {
            self.told = Some(link.store.write(move |tx| tx.beat(me)).await?);
            self.beaten = Some(now);
        }
        // Before the store is read: a stream that is seated by now has its seat in what is read.
        let here = link.registry.all();
        let found = link
            .store
            .read(|view| Ok::<_, StoreError>((view.cores()?, view.seats()?, view.sealing()?)));
        let (cores, seats, sealing) = found.await?;
        if sealing.next.is_some() && sealing.next != self.told {
            // Who changes the master key waits for this.
            self.beaten = None;
        }
        let living = self.judge(&cores, now);
        self.others = !living.is_empty();

        let mut elsewhere: BTreeMap<LocationId, BTreeMap<GatewayId, Option<i64>>> = BTreeMap::new();
        for seat in seats.iter().filter(|seat| living.contains(&seat.core)) {
            elsewhere.entry(seat.location).or_default().insert(seat.gateway, seat.applied);
        }
        let work = self.compare(link, &here, &seats, &living);
        link.registry.set_elsewhere(living.clone(), elsewhere);
        let left = link.registry.take_left();
        let dead: Vec<CoreId> = cores
            .iter()
            .map(|(core, _)| *core)
            .filter(|core| *core != me && !living.contains(core))
            .collect();
        if work.is_empty() && left.is_empty() && dead.is_empty() {
            return Ok(());
        }
        link.store
            .write(move |tx| {
                tx.forget_cores(&dead)?;
                for (gateway, stream) in &left {
                    tx.leave_seat(me, *gateway, *stream)?;
                }
                for (seat, lost) in &work {
                    if *lost {
                        tx.take_seat(seat, &living)?;
                    } else {
                        tx.note_seat(seat)?;
                    }
                }
                Ok(())
            })
            .await
    }

    /// Says that this core stops.
    pub(super) async fn leave(self, link: &Link) {
        let me = self.me;
        if let Err(error) = link.store.write(move |tx| tx.forget_cores(&[me])).await {
            tracing::warn!(%error, "the other cores were not told that this one stops");
        }
    }

    /// The others that live.
    fn judge(&mut self, cores: &[(CoreId, i64)], now: Instant) -> BTreeSet<CoreId> {
        self.seen.retain(|id, _| cores.iter().any(|(core, _)| core == id));
        for (core, beat) in cores {
            let seen = self.seen.entry(*core).or_insert((*beat, now));
            if seen.0 != *beat {
                *seen = (*beat, now);
            }
        }
        let others = self.seen.iter().filter(|(id, _)| **id != self.me);
        let living = others.filter(|(_, (_, moved))| now.duration_since(*moved) < DEAD);
        living.map(|(id, _)| *id).collect()
    }

    /// What is to be written of the streams here, and whether their seat was lost; closes those that
    /// another core's have replaced.
    fn compare(
        &self,
        link: &Link,
        here: &[Seated],
        seats: &[GatewaySeat],
        living: &BTreeSet<CoreId>,
    ) -> Vec<(GatewaySeat, bool)> {
        let mut work = Vec::new();
        for one in here {
            let Some(stream) = one.stream else { continue };
            let mine = self.seat(one, stream);
            match seats.iter().find(|seat| seat.gateway == one.gateway) {
                Some(seat) if seat.core == self.me => {
                    if seat.stream == stream && seat.applied != mine.applied {
                        work.push((mine, false));
                    }
                }
                Some(seat) if living.contains(&seat.core) => {
                    let same = seat.process == mine.process;
                    let why = if same { Closing::Redialled } else { Closing::Superseded };
                    tracing::info!(gateway = %seat.gateway, "it is connected to another core now");
                    link.registry.close(one.gateway, why);
                }
                Some(_) | None => work.push((mine, true)),
            }
        }
        // Without another core nobody reads how far a gateway is.
        work.retain(|(_, lost)| *lost || self.others);
        work
    }

    fn seat(&self, here: &Seated, stream: i64) -> GatewaySeat {
        GatewaySeat {
            gateway: here.gateway,
            location: here.location,
            core: self.me,
            stream,
            process: here.process.0.clone(),
            applied: here.applied,
        }
    }
}

/// Writes down that a new stream has a gateway's seat, before the stream takes it here. Returns the
/// stream's number in the store.
///
/// A store that fails does not shut the gateway out: the next look writes it.
///
/// # Errors
///
/// [`Closing::Superseded`] if a newer process of the gateway is connected to any of the cores.
pub(super) async fn take_seat(
    link: &Link,
    gateway: GatewayId,
    location: LocationId,
    process: &ProcessId,
) -> Result<i64, Closing> {
    let stream = link.registry.new_stream();
    let (core, process) = (link.core, process.0.clone());
    let seat = GatewaySeat { gateway, location, core, stream, process, applied: None };
    // Streams that have just ended do not shut anybody out.
    let (left, mut connected) = (link.registry.take_left(), link.registry.living());
    connected.insert(core);
    let taken = link.store.write(move |tx| {
        for (gateway, stream) in &left {
            tx.leave_seat(core, *gateway, *stream)?;
        }
        tx.take_seat(&seat, &connected)
    });
    match taken.await {
        Ok(SeatTaken::Yes) => {}
        Ok(SeatTaken::ShutOut) => return Err(Closing::Superseded),
        Err(error) => {
            let error: StoreError = error;
            tracing::warn!(%error, "cannot note that a gateway is connected; trying again");
        }
    }
    Ok(stream)
}
