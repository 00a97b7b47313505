//! `fuzz run`: damaged input for the readers. `fuzz flood ADDRESS`: damaged requests for a core.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::{io, thread};

use clap::Parser;
use fuzz::{driver, flood, target};

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
    }
    Ok(code)
}
