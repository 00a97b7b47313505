//! The control server: people, factors, sessions.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    if let Err(error) = harden::keep_memory_private() {
        // Nobody is left to be told if this fails too.
        let _ = writeln!(std::io::stderr(), "core-bin: cannot keep memory private: {error}");
        return ExitCode::FAILURE;
    }
    core_bin::run(core_bin::Cli::parse())
}
