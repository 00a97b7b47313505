//! One stream of updates to a gateway of another make.
//!
//! One task per stream; it may be cancelled at any point, and the gateway dials again. It ends when
//! the gateway leaves, does not read, is revoked or replaced by a newer stream, or core stops.

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

use mfa_store::StoreError;
use mfa_wire::codec::Wipe as _;
use mfa_wire::gateway::InterfaceConfig;
use mfa_wire::legacy::Update;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Status;
use wg_types::PublicKey;

use super::ledger::{self, Ledger};
use super::{Guest, Memory, configuration, lock};
use crate::link::cores;
use crate::link::registry::{Call, ProcessId, Seat};
use crate::link::session::{closed, key_of};
use crate::link::{Link, desired, server};

/// An open stream is a sign of life, told so often.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// How long to wait before the store is asked again.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// How long a gateway has to take core's last word.
const FAREWELL: Duration = Duration::from_secs(2);

pub(super) async fn serve(
    link: Arc<Link>,
    guest: Guest,
    outbound: mpsc::Sender<Result<Update, Status>>,
) {
    let gateway = guest.gateway.id;
    let about = guest.about.clone();
    tracing::info!(
        %gateway, remote = ?about.remote, version = about.version, hostname = about.hostname,
        "a gateway of another make is connected"
    );
    // Such a gateway does not name its process, so of two the newer always wins.
    let process = ProcessId::default();
    let (location, now) = (guest.gateway.location, link.clock.now());
    let taken = cores::take_seat(&link, gateway, location, &process).await;
    // Without a name of its process it is never shut out.
    let Ok(number) = taken else { return };
    let seat = link.registry.join(location, gateway, guest.credential, &process, about, now);
    let Ok(mut seat) = seat else { return };
    seat.recorded(number);
    let mut stream = Stream {
        link: &link,
        guest: &guest,
        seat,
        outbound: &outbound,
        told: None,
        on_its_way: None,
    };
    let status = stream.run().await;
    tracing::info!(%gateway, code = ?status.code(), "the gateway's stream ends");
    drop(tokio::time::timeout(FAREWELL, outbound.send(Err(status))).await);
}

struct Stream<'a> {
    link: &'a Link,
    guest: &'a Guest,
    seat: Seat,
    outbound: &'a mpsc::Sender<Result<Update, Status>>,
    /// `None`: nothing yet.
    told: Option<Told>,
    /// Up to which revision everything was written, and when. It may still be on its way.
    on_its_way: Option<(i64, Instant)>,
}

struct Told {
    revision: i64,
    interface: InterfaceConfig,
    ledger: Ledger,
}

impl Stream<'_> {
    async fn run(&mut self) -> Status {
        let stopping = crate::link::stopping(self.link.shutdown.clone());
        tokio::pin!(stopping);
        let mut alive = tokio::time::interval(SIGN_OF_LIFE);
        let mut behind = true;
        loop {
            if behind {
                match self.catch_up().await {
                    Ok(()) => behind = false,
                    Err(Ended::Left(status)) => return status,
                    Err(Ended::Store(error)) => drop(server::unavailable(error)),
                }
            }
            let arrives = self.on_its_way.map(|(_, since)| since + self.link.patience.delivered);
            tokio::select! {
                call = self.seat.called() => match call {
                    Call::Look => behind = true,
                    Call::Close(why) => return closed(why),
                },
                () = &mut stopping => {
                    return Status::unavailable("core stops; dial again in a moment");
                }
                () = self.outbound.closed() => return Status::cancelled("the gateway left"),
                _now = alive.tick() => self.seat.heard(self.link.clock.now()),
                () = tokio::time::sleep(STORE_PAUSE), if behind => {}
                () = at(arrives) => self.delivered(),
            }
        }
    }

    /// Writes what the gateway has not been told yet; for who waits it is applied then.
    async fn catch_up(&mut self) -> Result<(), Ended> {
        let mut told = match self.told.take() {
            None => self.greet().await?,
            Some(told) => self.go_on(told).await?,
        };
        {
            let mut memory = lock(&self.guest.memory);
            memory.known = told.ledger.keys();
            let Memory { known, handshakes, .. } = &mut *memory;
            handshakes.retain(|key| known.contains(key));
        }
        self.seat.written(told.revision);
        // One at a time: under steady change an older one is confirmed rather than none ever.
        self.on_its_way.get_or_insert_with(|| (told.revision, Instant::now()));
        told.interface.wipe();
        self.told = Some(told);
        Ok(())
    }

    fn delivered(&mut self) {
        let Some((revision, _)) = self.on_its_way.take() else { return };
        lock(&self.guest.memory).delivered = Some(revision);
        self.seat.applied(revision);
        if let Some(told) = self.told.as_ref().filter(|told| told.revision > revision) {
            self.on_its_way = Some((told.revision, Instant::now()));
        }
    }

    /// Says every peer: a gateway that was away does not notice in its configuration that a
    /// pre-shared key is another.
    async fn greet(&self) -> Result<Told, Ended> {
        let location = self.guest.gateway.location;
        let since = super::delivered(self.link, self.guest).await?;
        // What was touched is read first: whatever happens after it comes with the next look.
        let touched: Option<BTreeSet<PublicKey>> = self
            .link
            .store
            .read(move |view| {
                Ok::<_, StoreError>(match view.changes_since(location, since)?.touched {
                    mfa_store::Touched::Peers(keys) if since > 0 => Some(keys),
                    mfa_store::Touched::Peers(_) | mfa_store::Touched::Everything => None,
                })
            })
            .await?;
        let all = desired::all(&self.link.store, location, self.link.clock.now()).await?;
        let mut ledger = Ledger::default();
        for key in touched.iter().flatten().filter(|key| !all.keys.contains(*key)) {
            self.say(ledger.remove(key)).await?;
        }
        for peer in all.peers.iter() {
            let changed = match &touched {
                Some(touched) => key_of(peer).is_some_and(|key| touched.contains(&key)),
                // A peer without a session has no pre-shared key that could have changed.
                None => peer.session_id != 0,
            };
            for update in ledger.greet(peer, changed) {
                self.say(update).await?;
            }
        }
        Ok(Told { revision: all.revision, interface: all.interface, ledger })
    }

    async fn go_on(&self, mut told: Told) -> Result<Told, Ended> {
        let location = self.guest.gateway.location;
        let (peers, removed) =
            match desired::since(&self.link.store, location, told.revision, self.link.clock.now())
                .await?
            {
                desired::News::Peers { revision, peers, removed } => {
                    told.revision = revision;
                    (peers, removed)
                }
                desired::News::Everything => {
                    let all =
                        desired::all(&self.link.store, location, self.link.clock.now()).await?;
                    if !same(&told.interface, &all.interface) {
                        // It replaces all peers by those in here.
                        let network = configuration(all.interface.clone(), &all.peers);
                        self.say(ledger::network(network)).await?;
                    }
                    told.revision = all.revision;
                    told.interface = all.interface;
                    let removed = told.ledger.missing_in(&all.keys);
                    (all.peers, removed)
                }
            };
        for key in &removed {
            self.say(told.ledger.remove(key)).await?;
        }
        for peer in peers.iter() {
            for update in told.ledger.put(peer) {
                self.say(update).await?;
            }
        }
        Ok(told)
    }

    async fn say(&self, update: Update) -> Result<(), Ended> {
        let sent = tokio::time::timeout(self.link.patience.unread, self.outbound.send(Ok(update)));
        match sent.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_closed)) => Err(Ended::Left(Status::cancelled("the gateway left"))),
            Err(_elapsed) => {
                Err(Ended::Left(Status::unavailable("this gateway does not read; dial again")))
            }
        }
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => core::future::pending().await,
    }
}

enum Ended {
    Left(Status),
    Store(StoreError),
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Compares all but the key, which a location keeps.
fn same(one: &InterfaceConfig, other: &InterfaceConfig) -> bool {
    (&one.location_name, one.listen_port, &one.addresses, one.mtu)
        == (&other.location_name, other.listen_port, &other.addresses, other.mtu)
}
