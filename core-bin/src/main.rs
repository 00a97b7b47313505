//! The control server: people, factors, sessions.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    core_bin::run(core_bin::Cli::parse())
}
