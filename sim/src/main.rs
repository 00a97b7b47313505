//! Runs the simulator: `sim run`, `sim mutants`, `sim seeds`, `sim replay`.

#![expect(clippy::print_stdout, reason = "a command-line tool talks to the person who ran it")]

use std::process::ExitCode;

fn main() -> ExitCode {
    match sim::cli::main() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}
