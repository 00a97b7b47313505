//! Looks at the store each second, and at once when poked.
//!
//! What this process writes wakes the streams at once; this finds what others write (commands, a
//! second core), which gateways must go, and what is worth writing down about those that are here.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mfa_core::id::{GatewayId, LocationId};
use mfa_store::{Actor, By, Gateway, GatewayReport, StoreError};
use tokio::time::MissedTickBehavior;

use super::poke::Pokes;
use super::registry::{Closing, News};
use super::{Link, standing};

/// How often the store is looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// Looks between two notes about gateways.
const LOOKS_A_NOTE: u32 = 5;

/// Looks between two looks at the age of core's own certificate.
const LOOKS_A_RENEWAL: u32 = 3600;

/// What was seen of the store.
#[derive(Debug, Default)]
struct Seen {
    revisions: BTreeMap<LocationId, i64>,
    failing: bool,
}

/// Runs until core stops.
pub(super) async fn run(link: Arc<Link>, pokes: Option<Pokes>) {
    let stopping = super::stopping(link.shutdown.clone());
    tokio::pin!(stopping);
    let mut seen = Seen::default();
    let mut tick = tokio::time::interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for looks in (0..=u32::MAX).cycle() {
        tokio::select! {
            () = &mut stopping => break,
            _now = tick.tick() => {}
            () = next_poke(pokes.as_ref()) => {}
        }
        look(&link, &mut seen).await;
        if looks.is_multiple_of(LOOKS_A_NOTE) {
            note(&link).await;
        }
        if looks.is_multiple_of(LOOKS_A_RENEWAL) {
            renew(&link);
        }
    }
    note(&link).await;
}

async fn next_poke(pokes: Option<&Pokes>) {
    match pokes {
        Some(pokes) => pokes.next().await,
        None => core::future::pending().await,
    }
}

/// Wakes the streams of locations that moved, and closes those that must not go on.
async fn look(link: &Link, seen: &mut Seen) {
    let connected = link.registry.all();
    if connected.is_empty() {
        return;
    }
    let places: BTreeSet<LocationId> = connected.iter().map(|seat| seat.location).collect();
    let found = link.store.read(move |view| {
        let mut revisions = BTreeMap::new();
        for place in &places {
            if let Some(revision) = view.revision(*place)? {
                revisions.insert(*place, revision);
            }
        }
        Ok::<_, StoreError>((revisions, view.gateways()?))
    });
    let (revisions, gateways) = match found.await {
        Ok(found) => found,
        Err(error) => {
            if !core::mem::replace(&mut seen.failing, true) {
                tracing::error!(%error, "cannot look at the database; trying again each second");
            }
            return;
        }
    };
    seen.failing = false;
    for (location, revision) in &revisions {
        if seen.revisions.get(location) != Some(revision) {
            link.registry.wake(*location);
        }
    }
    seen.revisions = revisions;

    let gateways: BTreeMap<GatewayId, Gateway> =
        gateways.into_iter().map(|gateway| (gateway.id, gateway)).collect();
    for seat in connected {
        let standing = gateways
            .get(&seat.gateway)
            .filter(|gateway| gateway.location == seat.location)
            .map_or(Err(Closing::Revoked), |gateway| standing::check(gateway, &seat.credential));
        if let Err(why) = standing {
            link.registry.close(seat.gateway, why);
        }
    }
}

/// Writes down what is new of the gateways. What cannot be written is said again by the next sign
/// of life.
async fn note(link: &Link) {
    let news = link.registry.take_news();
    if news.is_empty() {
        return;
    }
    let now = link.clock.now();
    let noted = link.store.write(move |tx| {
        for News { gateway, applied, last_heard, about } in &news {
            let Some(known) = tx.gateway(*gateway)? else { continue };
            let report = GatewayReport {
                version: about.version.clone(),
                backend: about.backend.clone(),
                hostname: about.hostname.clone(),
            };
            if (&known.version, &known.backend, &known.hostname)
                != (&report.version, &report.backend, &report.hostname)
            {
                tx.note_gateway_link(By::new(Actor::Gateway(*gateway), now), *gateway, &report)?;
            }
            let applied = applied.unwrap_or(known.applied_revision);
            tx.note_gateway(*gateway, applied, *last_heard)?;
        }
        Ok::<_, StoreError>(())
    });
    if let Err(error) = noted.await {
        tracing::warn!(%error, "cannot note what gateways have applied");
    }
}

fn renew(link: &Link) {
    match link.certificate.renew_if_due(&link.rng, link.clock.now()) {
        Ok(true) => tracing::info!("core's certificate for gateways was renewed"),
        Ok(false) => {}
        Err(error) => tracing::error!(%error, "core's certificate could not be renewed"),
    }
}
