//! The task that has the interface: it takes what core says, tries again what failed, looks at the
//! kernel every statistics period, and answers who asks.
//!
//! The calls that wait for the kernel run on a blocking thread, one at a time. The task may be
//! dropped between two of them; then the kernel stays as it is.

use core::time::Duration;
use std::time::SystemTime;

use mfa_wire::gateway as wire;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, sleep_until};
use wg_netlink::{Error, WireGuard};
use wg_types::Interface;

use crate::backoff::Backoff;
use crate::desired::{Desired, DesiredError};
use crate::lease::Standing;
use crate::program::{Check, Drift, Held, Program, SyncError, Update};
use crate::{clock, host, rng, systemd};

/// Core may be this many messages ahead of the kernel; then it has to wait. All that have come are
/// taken together, so a long queue is no long wait.
pub(crate) const COMMANDS: usize = 64;

/// Between looks at the kernel at least this time passes, whatever core says.
const PERIOD_MIN: Duration = Duration::from_millis(50);

/// How often it is looked whether the host has been suspended.
const AWAKE: Duration = Duration::from_secs(1);

/// A shorter suspend is none: what was read of two clocks one after the other.
const SUSPEND_MIN: Duration = Duration::from_millis(100);

const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LONGEST: Duration = Duration::from_secs(10);

/// What the task is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Core's word.
    Update(Update),
    /// Core has answered the heartbeat that was sent then.
    Confirm(Instant),
    /// Another process has this identity: hands off.
    StandDown,
    /// Core has dismissed this gateway.
    Dismiss,
    /// Core is there, and does not know this gateway.
    Distrust,
    /// Somebody wants to see the interface.
    Look(oneshot::Sender<Look>),
}

/// What the task tells core.
#[derive(Debug)]
pub(crate) enum Report {
    /// What became of a revision.
    Ack(wire::Ack),
    /// What peers had transferred when they were cut.
    Cuts(Vec<wire::Cut>),
    /// A snapshot is needed.
    Resync(String),
    /// What a look at the kernel found.
    Stats { check: Check, number: u64, period: Duration },
}

/// The interface as it was at a time.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) interface: Result<Interface, Error>,
    /// How the lease stands, and how often the gate was built anew; `None`: there is no gate.
    pub(crate) lease: Option<(Standing, u32)>,
    /// How sessions outlive core's absence; `None`: as long as the lease.
    pub(crate) held: Option<Held>,
    pub(crate) at: SystemTime,
}

/// How far the kernel is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// What core calls the network; empty: it has not said.
    pub(crate) location: String,
    pub(crate) mfa_required: bool,
    /// The revision that core wants; zero: none.
    pub(crate) wanted: u64,
    /// The revision that the kernel was last seen to have.
    pub(crate) verified: Option<u64>,
    /// Why the kernel does not have what core wants.
    pub(crate) error: Option<String>,
    /// All that was set right since the process started.
    pub(crate) drift: Drift,
    pub(crate) statistics_period: Duration,
}

/// Makes another handle of the interface after someone has deleted it.
pub(crate) type Reopen = Box<dyn Fn() -> Result<Box<dyn WireGuard>, Error> + Send>;

/// What the task is made of.
pub(crate) struct Kernel {
    pub(crate) program: Program,
    pub(crate) reopen: Option<Reopen>,
    pub(crate) statistics_period: Duration,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) reports: mpsc::Sender<Report>,
    pub(crate) progress: watch::Sender<Progress>,
}

/// What goes to the blocking thread and comes back.
struct Hands {
    program: Program,
    reopen: Option<Reopen>,
}

/// What is to be done there.
enum Step {
    Obey(Vec<Command>),
    Retry,
    Check,
    /// Core may be away, and sessions may be held.
    Endure,
    /// The host was suspended.
    Resume,
}

impl Step {
    /// Whether core says the first word of a stream.
    fn begins_a_stream(&self) -> bool {
        let first = |command: &Command| {
            matches!(command, Command::Update(Update::Snapshot { fresh: true, .. }))
        };
        matches!(self, Self::Obey(commands) if commands.iter().any(first))
    }
}

/// What came of it.
#[derive(Default)]
struct Outcome {
    reports: Vec<Report>,
    check: Option<Check>,
    /// Why the kernel is behind; `None`: it is not.
    error: Option<String>,
    /// Core waits for an answer.
    asked: bool,
}

impl Kernel {
    /// Runs until nobody sends commands any more.
    ///
    /// # Errors
    ///
    /// [`JoinError`] if the blocking thread panicked: the state of the kernel is then not known.
    pub(crate) async fn run(self) -> Result<(), JoinError> {
        let Self { program, reopen, statistics_period, mut commands, reports, progress } = self;
        let mut hands = Hands { program, reopen };
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
        // `None`: now. A core that has just come knows no counters, and must not wait a period for them.
        let mut checked_at = Some(clock::now());
        let mut retry_at = None;
        let mut failing = false;
        let mut number = 0_u64;
        let watchdog = systemd::watchdog_period();
        let mut alive_at = watchdog.map(|period| clock::now() + period);
        let mut endured_at = clock::now();
        let (mut awake_at, mut suspended) = (clock::now(), clock::suspended());
        loop {
            let period = hands.period(statistics_period);
            progress.send_modify(|progress| hands.tell(progress, period));
            let step = tokio::select! {
                command = commands.recv() => {
                    let Some(first) = command else { return Ok(()) };
                    let mut all = vec![first];
                    while let Ok(next) = commands.try_recv() {
                        all.push(next);
                    }
                    Step::Obey(all)
                }
                () = at(retry_at) => Step::Retry,
                () = sleep_until(checked_at.map_or_else(clock::now, |at| at + period)) => {
                    checked_at = Some(clock::now());
                    Step::Check
                }
                () = at(hands.program.endures().map(|period| endured_at + period)) => {
                    endured_at = clock::now();
                    Step::Endure
                }
                () = sleep_until(awake_at + AWAKE) => {
                    awake_at = clock::now();
                    let before = core::mem::replace(&mut suspended, clock::suspended());
                    if suspended.saturating_sub(before) < SUSPEND_MIN {
                        continue;
                    }
                    Step::Resume
                }
                () = at(alive_at) => {
                    systemd::alive();
                    alive_at = watchdog.map(|period| clock::now() + period);
                    continue;
                }
            };
            let comes = step.begins_a_stream();
            let before = hands.program.verified();
            let (returned, outcome) = spawn_blocking(move || {
                let outcome = hands.act(step);
                (hands, outcome)
            })
            .await?;
            hands = returned;

            if before.is_none()
                && hands.program.verified().is_some()
                && let Some(desired) = hands.program.desired()
            {
                host::warn_unless_forwarding(&desired.interface().addresses);
            }
            let mut told = outcome.reports;
            if outcome.asked || failing || hands.program.verified() != before {
                let cuts = hands.program.take_cuts();
                if !cuts.is_empty() {
                    told.push(Report::Cuts(cuts));
                }
                told.extend(hands.ack(outcome.error.clone(), clock::now()));
            }
            if let Some(check) = outcome.check {
                number += 1;
                progress.send_modify(|progress| progress.count(check.drift));
                told.push(Report::Stats { check, number, period });
            }
            failing = outcome.error.is_some();
            if comes && !failing {
                checked_at = None;
            }
            if failing {
                retry_at = Some(clock::now() + backoff.wait(rng::jitter()));
            } else {
                retry_at = None;
                backoff.reset();
            }
            progress.send_modify(|progress| progress.error = outcome.error);
            for report in told {
                if reports.send(report).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

impl Hands {
    fn act(&mut self, step: Step) -> Outcome {
        match step {
            Step::Obey(commands) => self.obey(commands),
            Step::Retry => self.sync(),
            Step::Check => self.check(),
            Step::Endure => self.endure(),
            Step::Resume => self.resume(),
        }
    }

    fn obey(&mut self, commands: Vec<Command>) -> Outcome {
        let mut reports = Vec::new();
        let mut lookers = Vec::new();
        let mut asked = false;
        let mut confirmed = false;
        for command in commands {
            match command {
                Command::Update(update) => asked |= self.take(update, &mut reports),
                Command::Confirm(sent_at) => {
                    self.program.confirm(sent_at);
                    confirmed = true;
                }
                Command::StandDown => self.program.stand_down(),
                Command::Dismiss => self.program.dismiss(),
                Command::Distrust => self.program.distrust(),
                Command::Look(looker) => lookers.push(looker),
            }
        }
        let mut outcome = self.sync();
        outcome.asked |= asked;
        reports.append(&mut outcome.reports);
        outcome.reports = reports;
        if confirmed {
            self.renew(&mut outcome);
        }
        for looker in lookers {
            let (interface, lease) = (self.program.look(), self.program.lease());
            let held = self.program.held(clock::boot());
            let look = Look { interface, lease, held, at: clock::wall() };
            // Who has gone away meanwhile no longer wants to see it.
            let _ = looker.send(look);
        }
        outcome
    }

    fn renew(&mut self, outcome: &mut Outcome) {
        if let Err(error) = self.program.renew(clock::boot()) {
            let text = format!("the lease was not renewed: {error}");
            tracing::error!("{text}");
            outcome.error.get_or_insert(text);
        }
    }

    fn endure(&mut self) -> Outcome {
        let unsure = self.program.endure(clock::boot());
        let mut outcome = self.sync();
        self.renew(&mut outcome);
        if unsure {
            let reason = "sessions that were over here while core was away may live after all";
            outcome.reports.push(Report::Resync(reason.to_owned()));
        }
        outcome
    }

    fn resume(&mut self) -> Outcome {
        tracing::info!("the host was suspended; the lease is counted anew");
        // Sessions may have come to their ends meanwhile, if any are held.
        self.program.endure(clock::boot());
        let mut outcome = self.sync();
        if let Err(error) = self.program.resumed(clock::boot()) {
            let text = format!("the gate was not set after a suspend: {error}");
            tracing::error!("{text}");
            outcome.error.get_or_insert(text);
        }
        outcome
    }

    /// Takes over an update; says whether it did.
    fn take(&mut self, update: Update, reports: &mut Vec<Report>) -> bool {
        let revision = update.revision();
        let Err(error) = self.program.take(update) else { return true };
        tracing::warn!(revision, "core's message was not taken: {error}");
        reports.push(match error {
            DesiredError::Gap { .. } => Report::Resync(error.to_string()),
            DesiredError::Interface(_) | DesiredError::Older { .. } => Report::Ack(wire::Ack {
                revision,
                error: error.to_string(),
                ..wire::Ack::default()
            }),
        });
        false
    }

    fn sync(&mut self) -> Outcome {
        if !self.program.is_behind() {
            let _ = self.program.sync(clock::boot());
            return Outcome::default();
        }
        let result = self.program.sync(clock::boot());
        let error = self.judge(result.err());
        if error.is_none() {
            let peers = self.program.desired().map_or(0, |desired| desired.peers().len());
            tracing::info!(revision = self.program.verified(), peers, "the kernel is up to date");
        }
        Outcome { error, ..Outcome::default() }
    }

    fn check(&mut self) -> Outcome {
        match self.program.check(clock::boot(), clock::wall()) {
            Ok(check) => {
                let Drift { strangers_removed, peers_healed, interfaces_remade } = check.drift;
                if check.drift != Drift::default() {
                    tracing::warn!(
                        strangers_removed,
                        peers_healed,
                        interfaces_remade,
                        "the kernel had been changed by others and was set right"
                    );
                }
                let check = self.program.desired().is_some().then_some(check);
                Outcome { check, ..Outcome::default() }
            }
            Err(error) => Outcome { error: self.judge(Some(error)), ..Outcome::default() },
        }
    }

    /// Puts a failure into words, and makes the interface anew if it is gone.
    fn judge(&mut self, error: Option<SyncError>) -> Option<String> {
        let error = error?;
        let text = chain(&error);
        tracing::error!(interface = self.program.name(), "the kernel is behind: {text}");
        if let (SyncError::Interface(Error::NoSuchInterface { .. }), Some(reopen)) =
            (&error, &self.reopen)
        {
            match reopen() {
                Ok(wireguard) => {
                    tracing::warn!("the interface was deleted by someone else; it was made anew");
                    self.program.replace(wireguard);
                }
                Err(error) => tracing::error!("the interface cannot be made anew: {error}"),
            }
        }
        Some(text)
    }

    /// The answer to the newest revision; none before core has spoken.
    fn ack(&self, error: Option<String>, now: Instant) -> Option<Report> {
        let desired = self.program.desired()?;
        let age = |then: Option<Instant>| {
            let age = then.map(|then| now.saturating_duration_since(then)).unwrap_or_default();
            u64::try_from(age.as_micros()).unwrap_or(u64::MAX)
        };
        Some(Report::Ack(wire::Ack {
            revision: desired.revision(),
            error: error.unwrap_or_default(),
            left_out: desired.refusal().unwrap_or_default(),
            applied_age_micros: age(self.program.applied_at()),
            verified_age_micros: age(self.program.verified_at()),
        }))
    }

    fn period(&self, default: Duration) -> Duration {
        let wanted =
            self.program.desired().and_then(|desired| desired.interface().statistics_period);
        wanted.unwrap_or(default).max(PERIOD_MIN)
    }

    fn tell(&self, progress: &mut Progress, period: Duration) {
        progress.wanted = self.program.revision();
        progress.verified = self.program.verified();
        progress.statistics_period = period;
        if let Some(interface) = self.program.desired().map(Desired::interface) {
            progress.location.clone_from(&interface.location);
            progress.mfa_required = interface.mfa_required;
        }
    }
}

impl Progress {
    const fn count(&mut self, drift: Drift) {
        self.drift.strangers_removed =
            self.drift.strangers_removed.saturating_add(drift.strangers_removed);
        self.drift.peers_healed = self.drift.peers_healed.saturating_add(drift.peers_healed);
        self.drift.interfaces_remade =
            self.drift.interfaces_remade.saturating_add(drift.interfaces_remade);
    }
}

/// An error with its causes.
fn chain(error: &dyn core::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => core::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use wg_netlink::fake::FakeKernel;

    use super::*;
    use crate::lease::{Lease, Without};
    use crate::testing::{FakeGate, peer, snapshot};

    #[test]
    fn an_answer_that_came_before_a_dismissal_does_not_open_the_gate_again() {
        let gate = FakeGate::default();
        let lease =
            Lease::new(Some(Box::new(gate.clone())), Duration::from_secs(90), Without::Serve);
        let wg0 = FakeKernel::new().interface("wg0");
        let mut hands = Hands { program: Program::new(Box::new(wg0), lease), reopen: None };
        let snapshot = Update::Snapshot { snapshot: snapshot(1, [peer(1, 1, 1)]), fresh: true };
        hands.obey(vec![Command::Update(snapshot), Command::Confirm(clock::boot())]);
        assert!(gate.open().is_some());

        hands.obey(vec![Command::Confirm(clock::boot()), Command::Dismiss]);

        assert_eq!(gate.open(), None);
    }
}
