//! The workspace's chores: demo, test, bench, vm. `cargo xtask --help` lists them all.
//!
//! Nothing of the product is linked in here, so that a chore starts within seconds of a fresh
//! clone; what a chore needs of the product it builds with cargo and runs as a process.

#![expect(clippy::print_stderr, reason = "a command-line tool talks to the person who ran it")]

mod arrows;
mod axe;
mod bench;
mod built;
mod cache;
mod clock;
mod debian;
mod demo;
mod deny;
mod licence;
mod process;
mod setup;
mod sim;
mod size;
mod test;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.chore {
        Chore::Vm(args) => vm::run(args),
        Chore::Size => size::run(),
        Chore::Sim(args) => sim::run(args),
        Chore::Demo(args) => demo::run(args),
        Chore::Test(args) => test::run(args),
        Chore::Bench(args) => bench::run(args),
        Chore::Group(args) => test::run_group(args),
        Chore::Arrows => arrows::run(),
        Chore::Deny => deny::run(),
        Chore::Setup(args) => setup::run(args),
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
    /// Build and run the demonstration.
    Demo(demo::Args),
    /// Run all that must hold, in stages.
    Test(test::Args),
    /// Run the benchmarks.
    Bench(bench::Args),
    /// Run one group of test programs: what a stage of `test` does.
    #[command(hide = true)]
    Group(test::GroupArgs),
    /// Run a command on a kernel with WireGuard, in a virtual machine.
    Vm(vm::Args),
    /// Check that dependencies point the way that ARCHITECTURE.md says.
    Arrows,
    /// Say what the three programs weigh: size, start-up time, memory at rest.
    Size,
    /// Simulate the whole system: millions of steps, with faults, from one seed.
    Sim(sim::Args),
    /// Check licences, sources and banned crates by deny.toml.
    Deny,
    /// Install the Debian packages that demo and test use.
    Setup(setup::Args),
}
