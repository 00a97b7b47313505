//! Kills core with SIGKILL while people log in, and looks whether anything is missing.

use core::time::Duration;
use std::sync::Arc;

use anyhow::{Result, ensure};
use tokio::sync::watch;

use crate::audit::Ledger;
use crate::clock::Stopwatch;
use crate::core::Place;
use crate::figures::Times;
use crate::gateway::Gateway;
use crate::line::Dialer;
use crate::storm::{self, Manner, Outcome, Shared};
use crate::world::{World, random};

/// How long a core that was started again may take until somebody gets in. Clients and the gateway
/// come back by themselves; machines are busy.
const RETURNS: Duration = Duration::from_secs(60);
/// After an acknowledged login the kill comes within this time, at a random moment.
const WITHIN_MILLIS: u16 = 250;
/// After so many kills the whole audit log is walked.
const WALK: usize = 50;

/// What was seen.
#[derive(Clone, Debug)]
pub struct Report {
    /// Kills.
    pub kills: usize,
    /// Logins that were acknowledged; each was found once.
    pub acknowledged: usize,
    /// Sessions that began, with those whose answer was lost.
    pub begun: usize,
    /// Logins whose answer was lost.
    pub lost_answers: usize,
    /// From the start of the process until it was ready.
    pub ready: Times,
    /// From the start of the process until the first login was acknowledged.
    pub back: Times,
}

/// Kills the core at `place` so often under load. `progress` is told the number of kills now and then.
///
/// # Errors
///
/// The first thing that is not as it must be.
pub async fn run(
    place: &Place,
    world: &Arc<World>,
    kills: usize,
    clients: u32,
    progress: impl Fn(usize),
) -> Result<Report> {
    let store = world.store()?;
    let dialers = [Dialer::new(&place.dir, place.public)?];
    let (book, mut ledger) = (Shared::new(world.people.len()), Ledger::default());
    let manner = Manner { clients, fresh: false, patient: true };
    let (mut ready, mut back) = (Vec::new(), Vec::new());
    let mut gateway = None;
    for kill in 1..=kills {
        let started = Stopwatch::start();
        let core = place.start()?;
        ready.push(core.took);
        if gateway.is_none() {
            gateway = Some(Gateway::start(world, &place.dir, &[place.gateways]).await?);
        }
        let first = book.count();
        let (stop, stopping) = watch::channel(false);
        let logins = {
            let (world, dialers, book) = (Arc::clone(world), dialers.clone(), book.clone());
            tokio::spawn(
                async move { storm::run(&world, &dialers, &book, manner, &stopping).await },
            )
        };
        let begun = || book.since(first).iter().any(|one| matches!(one.outcome, Outcome::Begun(_)));
        while !begun() {
            ensure!(
                started.elapsed() < RETURNS,
                "nobody got in after kill {kill}: {:?}\n{}",
                storm::statuses(&book.since(first)),
                core.log()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        back.push(started.elapsed());
        let wait = u16::from_le_bytes(random()?) % WITHIN_MILLIS;
        tokio::time::sleep(Duration::from_millis(wait.into())).await;
        core.kill()?;
        stop.send_replace(true);
        logins.await?;
        ledger.check(&store, world, &book.since(first)).await?;
        if kill % WALK == 0 || kill == kills {
            ledger.verify(&store, world).await?;
            progress(kill);
        }
    }
    let unknown = book.since(0).iter().filter(|one| one.outcome == Outcome::Unknown).count();
    Ok(Report {
        kills,
        acknowledged: ledger.acknowledged(),
        begun: ledger.begun(),
        lost_answers: unknown,
        ready: Times::new(ready),
        back: Times::new(back),
    })
}
