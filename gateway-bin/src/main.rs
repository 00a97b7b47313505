//! The gateway: programs WireGuard as core says.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use gateway_bin::cli::Cli;

// One thread waits for core; what waits for the kernel gets threads of its own.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Err(error) = run().await else { return ExitCode::SUCCESS };
    // Nobody is left to be told if this fails too.
    let _ = writeln!(std::io::stderr(), "gateway-bin: {error:#}");
    ExitCode::FAILURE
}

async fn run() -> anyhow::Result<()> {
    harden::keep_memory_private().context("cannot keep memory private")?;
    Cli::parse().execute().await
}
