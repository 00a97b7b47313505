//! `cargo xtask sim`: long runs of the simulator. docs/simulation.md says what it is.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

/// How long, and from which seed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many steps at least.
    #[arg(long, default_value_t = 100_000_000)]
    steps: u64,
    /// The seed of the series; else a fresh one, which is printed.
    #[arg(long)]
    seed: Option<u64>,
    /// How many threads.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Build it with the seeded bugs, and show that each is noticed.
    #[arg(long)]
    mutants: bool,
}

/// Builds and runs it.
///
/// # Errors
///
/// When cargo cannot be started.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut command = Command::new("cargo");
    command.args(["run", "--quiet", "--profile", "sim", "--package", "sim"]);
    if args.mutants {
        command.args(["--features", "mutants", "--", "mutants"]);
    } else {
        command.args(["--", "run"]);
    }
    command.args(["--steps", &args.steps.to_string(), "--threads", &args.threads.to_string()]);
    if let Some(seed) = args.seed {
        command.args(["--seed", &seed.to_string()]);
    }
    let status = command.status().context("cannot start cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
