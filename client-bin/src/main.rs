//! The client: a second factor, then the tunnel.

use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Err(error) = harden::keep_memory_private() {
        // Nobody is left to be told if this fails too.
        let _ = writeln!(std::io::stderr(), "client-bin: cannot keep memory private: {error}");
        return ExitCode::FAILURE;
    }
    client_bin::run::main().into()
}
