//! `fuzz run`: damaged input for the readers. `fuzz flood ADDRESS`: damaged requests for a core.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::{io, thread};

use clap::Parser;
use fuzz::{driver, flood, target, timing};

/// Damaged input for everything that reads what a stranger sends.
#[derive(Debug, Parser)]
enum Cli {
    /// Runs the readers; prints the input if one panics.
    Run {
        /// How often each.
        #[arg(long, default_value_t = 1_000_000)]
        executions: u64,
        /// From which number on; a found one runs again with `--from NUMBER --executions 1`.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Only this one.
        #[arg(long)]
        target: Option<String>,
    },
    /// Sends requests to a core without TLS; fails if any is answered with 5xx.
    Flood {
        /// Where it listens.
        to: SocketAddr,
        /// How many.
        #[arg(long, default_value_t = 100_000)]
        requests: u64,
        /// From which number on.
        #[arg(long, default_value_t = 0)]
        from: u64,
    },
    /// Tells known from unknown by the times of a core without TLS that trusts this host as a proxy.
    Enumerate {
        /// Where it listens.
        to: SocketAddr,
        /// A login that is known there, with a password.
        #[arg(long)]
        login: String,
        /// Requests of each kind.
        #[arg(long, default_value_t = 1_000)]
        each: usize,
    },
    /// Measures whether compares of digests take as long wherever the difference is.
    Compare {
        /// How often.
        #[arg(long, default_value_t = 1_000_000)]
        rounds: usize,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let mut code = ExitCode::SUCCESS;
    match Cli::parse() {
        Cli::Run { executions, from, target } => {
            let wanted = |one: &target::Target| target.as_ref().is_none_or(|it| it == one.name);
            let runs: Vec<_> = target::all().into_iter().filter(wanted).collect();
            let seeds = from..from.saturating_add(executions);
            let done = thread::scope(|scope| {
                let start = |one| {
                    scope.spawn({
                        let seeds = seeds.clone();
                        move || driver::run(one, seeds)
                    })
                };
                let threads: Vec<_> = runs.iter().map(|one| (one, start(one))).collect();
                threads.into_iter().map(|(one, thread)| (one, thread.join())).collect::<Vec<_>>()
            });
            for (one, found) in done {
                match found {
                    Ok(None) => writeln!(out, "{}: {executions} executions, no crash", one.name)?,
                    found => {
                        writeln!(out, "{}: {found:?}", one.name)?;
                        code = ExitCode::FAILURE;
                    }
                }
            }
        }
        Cli::Flood { to, requests, from } => {
            let answers = flood::run(to, from..from.saturating_add(requests))?;
            for (status, count) in &answers {
                writeln!(out, "{status}: {count}")?;
            }
            if answers.keys().any(|status| *status >= 500) {
                code = ExitCode::FAILURE;
            }
        }
        Cli::Enumerate { to, login, each } => {
            for one in timing::enumerate(to, &login, each)? {
                writeln!(
                    out,
                    "{}: {} of each, distance of the ROC area from 1/2 {:.3}, t {:.1}, kinds of answers {:?}",
                    one.what, one.each, one.distance, one.t, one.answers
                )?;
            }
        }
        Cli::Compare { rounds } => {
            writeln!(out, "{rounds} compares: t {:.2}", timing::compare(rounds))?;
        }
    }
    Ok(code)
}
