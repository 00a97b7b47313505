//! `cargo xtask size`: what the three programs weigh, as the table of the documentation.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result};

use crate::built::{Built, Program};
use crate::{clock, process};

/// How often a program is started to say how long that takes.
const STARTS: u32 = 20;

const SCRIPT: &str = include_str!("size.sh");

/// Builds the programs as they are shipped and prints the table to standard output.
///
/// # Errors
///
/// When they do not build or do not run.
#[expect(clippy::print_stdout, reason = "the table is this chore's result")]
pub(crate) fn run() -> Result<ExitCode> {
    let built = Built::make(&[
        "build",
        "--release",
        "--package=core-bin",
        "--package=gateway-bin",
        "--package=client-bin",
    ])?;
    eprintln!("letting core and a gateway rest on a machine with WireGuard");
    let rest = rest(&built.programs)?;
    println!("| program | size, MiB | start, ms | memory at rest, MiB |\n|---|---|---|---|");
    for program in &built.programs {
        let size = mebibytes(fs::metadata(&program.path)?.len() / 1024);
        let start = start(&program.path)?;
        let rest = resting(&rest, &program.name).map_or_else(|| "—".to_owned(), mebibytes);
        println!("| {} | {size} | {start:.1} | {rest} |", program.name);
    }
    Ok(ExitCode::SUCCESS)
}

/// The mean time that the program takes to start, say its version, and end; in milliseconds.
fn start(program: &Path) -> Result<f64> {
    let start = clock::Stopwatch::start();
    for _ in 0..STARTS {
        process::output(Command::new(program).arg("--version"))?;
    }
    Ok(start.elapsed().as_secs_f64() * 1000.0 / f64::from(STARTS))
}

/// What the script says about the memory of core and gateway.
fn rest(programs: &[Program]) -> Result<String> {
    let script = Path::new("target/xtask/size.sh");
    fs::create_dir_all("target/xtask")?;
    fs::write(script, SCRIPT).with_context(|| format!("cannot write {}", script.display()))?;
    let mut command = process::this();
    command.arg("vm").stdin(Stdio::null()).stderr(Stdio::inherit());
    for program in programs {
        command.arg("--file").arg(&program.path);
    }
    command.arg("--file").arg(script).args(["--", "sh", "/run/files/size.sh"]);
    process::output(&mut command)
}

/// The kibibytes in the script's line about a program.
fn resting(said: &str, program: &str) -> Option<u64> {
    said.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let matches = words.next() == Some("rest") && words.next() == Some(program);
        matches.then(|| words.next()?.parse().ok())?
    })
}

/// Kibibytes as mebibytes with one decimal.
fn mebibytes(kibibytes: u64) -> String {
    let tenths = kibibytes.saturating_mul(10).saturating_add(512) / 1024;
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::{mebibytes, resting};

    #[test]
    fn the_memory_of_each_program_is_found_in_what_the_script_says() {
        let said = "some log\r\nrest core-bin 20480\r\nrest gateway-bin 10291\r\n";

        assert_eq!(resting(said, "core-bin").map(mebibytes).as_deref(), Some("20.0"));
        assert_eq!(resting(said, "gateway-bin").map(mebibytes).as_deref(), Some("10.0"));
        assert_eq!(resting(said, "client-bin"), None);
    }
}
