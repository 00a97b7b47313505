//! The gateway: programs WireGuard as core says.

use clap::Parser as _;
use gateway_bin::cli::Cli;

// One thread waits for core; what waits for the kernel gets threads of its own.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    Cli::parse().execute().await
}
