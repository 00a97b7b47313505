//! Looks at the store each second, and at once when poked.
//!
//! What this process writes wakes the streams at once; this finds what others write (commands, a
//! second core), which gateways must go, and what is worth writing down about those that are here.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mfa_core::id::{GatewayId, LocationId};
use mfa_store::{Actor, By, Gateway, GatewayReport, StoreError};
use tokio::time::Instant;

use super::cores::Cores;
use super::poke::Pokes;
use super::registry::{Closing, News};
use super::{Link, standing};

/// How often the store is looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// The same while another core serves this database: its logins wait for gateways that are here.
const QUICK: Duration = Duration::from_millis(100);

/// How often it is noted what is new about gateways.
const NOTE: Duration = Duration::from_secs(5);

/// How often the age of core's own certificate is looked at.
const RENEWAL: Duration = Duration::from_secs(3600);

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
    let mut cores = Cores::new(link.core);
    let (mut noted, mut renewed) = (None, None);
    let mut pause = Duration::ZERO;
    loop {
        tokio::select! {
            () = &mut stopping => break,
            () = tokio::time::sleep(pause) => {}
            () = next_poke(pokes.as_ref()) => {}
            () = link.registry.moved(), if cores.has_others() => {}
        }
        let before = Instant::now();
        look(&link, &mut seen).await;
        note_trail(&link).await;
        if let Err(error) = cores.look(&link).await {
            tracing::warn!(%error, "cannot look after the other cores");
        }
        if due(&mut noted, NOTE, before) {
            note(&link).await;
        }
        if due(&mut renewed, RENEWAL, before) {
            renew(&link);
        }
        pause = if cores.has_others() { QUICK } else { PERIOD };
    }
    note(&link).await;
    note_trail(&link).await;
    cores.leave(&link).await;
}

/// Whether it is time again; notes that it was done then.
fn due(last: &mut Option<Instant>, period: Duration, now: Instant) -> bool {
    let due = last.is_none_or(|last| now.duration_since(last) >= period);
    if due {
        *last = Some(now);
    }
    due
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

/// Writes down how ends reached the gateways.
async fn note_trail(link: &Link) {
    let news = link.registry.take_trail();
    if news.passed.is_empty() && news.cuts.is_empty() {
        return;
    }
    let steps = news.clone();
    let noted = link.store.write(move |tx| {
        for passed in &steps.passed {
            tx.note_passed(passed)?;
        }
        for (location, cut) in &steps.cuts {
            tx.note_cut(*location, cut)?;
        }
        Ok::<_, StoreError>(())
    });
    if let Err(error) = noted.await {
        tracing::warn!(%error, "cannot note how ends reached the gateways");
        link.registry.put_back(news);
    }
}

fn renew(link: &Link) {
    match link.certificate.renew_if_due(&link.rng, link.clock.now()) {
        Ok(true) => tracing::info!("core's certificate for gateways was renewed"),
        Ok(false) => {}
        Err(error) => tracing::error!(%error, "core's certificate could not be renewed"),
    }
}
