//! The command line.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

use crate::action::Action;
use crate::coverage::{Cover, Coverage};
#[cfg(feature = "mutants")]
use crate::oracle::Violation;
use crate::run::{self, STEPS, nth};

#[derive(Debug, Parser)]
#[command(name = "sim", about = "A deterministic simulator of the whole system")]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Run seeds until so many steps are done, or so much time is over.
    Run {
        /// How many steps at least.
        #[arg(long)]
        steps: Option<u64>,
        /// How many seconds.
        #[arg(long)]
        seconds: Option<u64>,
        /// The seed of the series; else a fresh one.
        #[arg(long)]
        seed: Option<u64>,
        /// How many threads.
        #[arg(long, default_value_t = 1)]
        threads: usize,
        /// Fail if something that must be reached was not.
        #[arg(long)]
        coverage: bool,
    },
    /// Run one seed, and show the shortest way to what is wrong.
    Replay {
        /// The seed, as `run` prints it.
        seed: u64,
        /// A seeded bug to switch on.
        #[arg(long)]
        mutant: Option<mutant::Mutant>,
        /// Keep the shortest way in this file.
        #[arg(long)]
        save: Option<PathBuf>,
    },
    /// Go all ways again that ever led to something wrong, each a file in this directory.
    Regressions {
        /// The directory.
        directory: PathBuf,
    },
    /// Switch each seeded bug on, and see it noticed.
    #[cfg(feature = "mutants")]
    Mutants {
        /// How many steps each may take.
        #[arg(long, default_value_t = 100_000_000)]
        steps: u64,
        /// The seed of the series.
        #[arg(long)]
        seed: Option<u64>,
        /// How many threads.
        #[arg(long, default_value_t = 1)]
        threads: usize,
        /// Only this one.
        #[arg(long)]
        only: Option<mutant::Mutant>,
        /// A directory of ways that led to something wrong; they are tried where the steps find nothing.
        #[arg(long)]
        ways: Option<PathBuf>,
    },
}

/// Runs; tells whether all is well.
///
/// # Errors
///
/// When a file cannot be read.
pub fn main() -> Result<bool> {
    match Cli::parse().what {
        What::Run { steps, seconds, seed, threads, coverage } => {
            let series = seed.unwrap_or_else(crate::rng::fresh);
            let limit = seconds.map(Duration::from_secs);
            let most = steps.unwrap_or_else(|| if limit.is_some() { u64::MAX } else { 10_000_000 });
            Ok(many(series, most, limit, threads, coverage))
        }
        What::Replay { seed, mutant, save } => {
            #[cfg(feature = "mutants")]
            mutant::arm(mutant);
            if mutant.is_some() && cfg!(not(feature = "mutants")) {
                anyhow::bail!("this build has no mutants; build it with --features mutants");
            }
            show(seed, save.as_deref())
        }
        What::Regressions { directory } => regressions(&directory),
        #[cfg(feature = "mutants")]
        What::Mutants { steps, seed, threads, only, ways } => {
            let ways = ways.map_or_else(|| Ok(Vec::new()), |directory| read(&directory))?;
            Ok(mutants(seed.unwrap_or_else(crate::rng::fresh), steps, threads, only, &ways))
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "measures the simulator itself")]
fn many(series: u64, most: u64, limit: Option<Duration>, threads: usize, coverage: bool) -> bool {
    println!("series {series}: repeat it with --seed {series}");
    let (next, steps, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let reached = Mutex::new(Coverage::default());
    let failed = Mutex::new(None);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed)
                    && steps.load(Ordering::Relaxed) < most
                    && limit.is_none_or(|limit| start.elapsed() < limit)
                {
                    let seed = nth(series, next.fetch_add(1, Ordering::Relaxed));
                    let outcome = run::run(seed, STEPS);
                    steps.fetch_add(outcome.steps, Ordering::Relaxed);
                    reached.lock().unwrap_or_else(PoisonError::into_inner).add(&outcome.coverage);
                    if outcome.violation.is_some() {
                        *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(seed);
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let (steps, seconds) = (steps.into_inner(), start.elapsed().as_secs_f64());
    #[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "a figure for people")]
    let rate = steps as f64 / seconds;
    println!(
        "{steps} steps of {} seeds in {seconds:.1} s: {rate:.0} steps/s on {threads} threads",
        next.into_inner()
    );
    let reached = reached.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (cover, count) in Cover::ALL.iter().zip(reached.0) {
        println!("  {:24} {count:>12}", format!("{cover:?}"));
    }
    if let Some(seed) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return show(seed, None).unwrap_or(false);
    }
    let missing = reached.missing();
    if !missing.is_empty() {
        println!("not reached: {missing:?}");
    }
    println!("no violation");
    missing.is_empty() || !coverage
}

/// A list of actions that once led to something wrong.
#[derive(Debug)]
struct Way {
    file: PathBuf,
    seed: u64,
    actions: Vec<Action>,
}

fn read(directory: &Path) -> Result<Vec<Way>> {
    let entries = std::fs::read_dir(directory)
        .with_context(|| format!("cannot read {}", directory.display()))?;
    let mut files: Vec<PathBuf> = entries.map(|one| Ok(one?.path())).collect::<Result<_>>()?;
    files.sort();
    let way = |file: PathBuf| {
        let text = std::fs::read_to_string(&file)?;
        let (seed, actions) = serde_json::from_str(&text)
            .with_context(|| format!("{} is no list of actions", file.display()))?;
        Ok(Way { file, seed, actions })
    };
    files.into_iter().map(way).collect()
}

fn regressions(directory: &Path) -> Result<bool> {
    let mut well = true;
    for Way { file, seed, actions } in read(directory)? {
        let found = run::replay(seed, &actions);
        let words = found.as_ref().map_or("well", |violation| violation.invariant);
        println!("{}: {} actions: {words}", file.display(), actions.len());
        well &= found.is_none();
    }
    Ok(well)
}

/// Shows the shortest way to what is wrong; tells whether nothing is.
fn show(seed: u64, save: Option<&Path>) -> Result<bool> {
    let Some(trace) = run::record(seed, STEPS) else {
        println!("seed {seed}: nothing is wrong");
        return Ok(true);
    };
    let (at, violation) = (trace.actions.len(), &trace.violation);
    println!("seed {seed}, step {at}: {}: {}", violation.invariant, violation.what);
    let short = run::shrink(trace);
    println!(
        "in {} actions: {}: {}",
        short.actions.len(),
        short.violation.invariant,
        short.violation.what
    );
    for action in &short.actions {
        println!("  {action:?}");
    }
    // Last, where a long list leaves it in sight.
    println!(
        "this again, and kept for ever: cargo run --profile sim -p sim -- replay {seed} \
         --save sim/regressions/NAME.json"
    );
    if let Some(file) = save {
        std::fs::write(file, serde_json::to_string(&(seed, &short.actions))?)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(false)
}

#[cfg(feature = "mutants")]
fn mutants(
    series: u64,
    most: u64,
    threads: usize,
    only: Option<mutant::Mutant>,
    ways: &[Way],
) -> bool {
    println!("series {series}");
    let all: Vec<_> =
        mutant::Mutant::ALL.iter().copied().filter(|one| only.is_none_or(|o| o == *one)).collect();
    let next = AtomicU64::new(0);
    let survivors = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let place = usize::try_from(next.fetch_add(1, Ordering::Relaxed));
                    let Some(mutant) = place.ok().and_then(|place| all.get(place)).copied() else {
                        break;
                    };
                    let kill = kill(series, most, mutant);
                    if let (Some(steps), Some(violation)) = (kill.steps, kill.violation) {
                        println!(
                            "{:20} killed in {steps:>10} steps by {:4} (seed {}): {}",
                            mutant.code(),
                            violation.invariant,
                            kill.seed,
                            violation.what
                        );
                    } else if let Some((way, violation)) = noticed(mutant, ways) {
                        println!(
                            "{:20} not in {most} steps; killed on the way of {} by {:4}: {}",
                            mutant.code(),
                            way.file.display(),
                            violation.invariant,
                            violation.what
                        );
                    } else {
                        survivors.fetch_add(1, Ordering::Relaxed);
                        println!("{:20} SURVIVED {most} steps", mutant.code());
                    }
                }
            });
        }
    });
    let (all, survivors) = (all.len(), survivors.into_inner());
    println!("{} of {all} mutants killed", u64::try_from(all).unwrap_or(0) - survivors);
    survivors == 0
}

/// Which way a seeded bug does not go unnoticed.
#[cfg(feature = "mutants")]
fn noticed(mutant: mutant::Mutant, ways: &[Way]) -> Option<(&Way, Violation)> {
    mutant::arm(Some(mutant));
    let found = ways.iter().find_map(|way| Some((way, run::replay(way.seed, &way.actions)?)));
    mutant::arm(None);
    found
}

#[cfg(feature = "mutants")]
fn kill(series: u64, most: u64, mutant: mutant::Mutant) -> run::Kill {
    mutant::arm(Some(mutant));
    let (mut steps, mut n) = (0, 0);
    let mut kill = run::Kill { mutant, steps: None, violation: None, seed: 0 };
    while steps < most && kill.steps.is_none() {
        let seed = nth(series, n);
        n += 1;
        let outcome = run::run(seed, STEPS);
        steps += outcome.steps;
        if outcome.violation.is_some() {
            kill = run::Kill { mutant, steps: Some(steps), violation: outcome.violation, seed };
        }
    }
    mutant::arm(None);
    kill
}
