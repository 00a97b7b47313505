//! The workspace's chores: demo, test, bench, vm. `cargo xtask --help` lists them all.
//!
//! Nothing of the product is linked in here, so that a chore starts within seconds of a fresh
//! clone; what a chore needs of the product it builds with cargo and runs as a process.

#![expect(clippy::print_stderr, reason = "a command-line tool talks to the person who ran it")]

mod arrows;
mod cache;
mod debian;
mod deny;
mod licence;
mod process;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.chore {
        Chore::Vm(args) => vm::run(args),
        Chore::Arrows => arrows::run(),
        Chore::Deny => deny::run(),
    };
    done.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "The workspace's chores", version)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Run a command on a kernel with WireGuard, in a virtual machine.
    Vm(vm::Args),
    /// Check that dependencies point the way that ARCHITECTURE.md says.
    Arrows,
    /// Check licences, sources and banned crates by deny.toml.
    Deny,
}
