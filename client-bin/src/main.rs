//! The client: a second factor, then the tunnel.

use std::process::ExitCode;

fn main() -> ExitCode {
    client_bin::run::main().into()
}
