//! The gateway: programs WireGuard as core says.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use gateway_bin::cli::Cli;

// One thread waits for core; what waits for the kernel gets threads of its own.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Err(error) = Cli::parse().execute().await else { return ExitCode::SUCCESS };
    // Nobody is left to be told if this fails too.
    let _ = writeln!(std::io::stderr(), "gateway-bin: {error:#}");
    ExitCode::FAILURE
}
