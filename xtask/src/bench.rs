//! `cargo xtask bench`: the benchmarks. Those of the kernel run on the emulated machine, whose clock
//! counts instructions: their figures compare, on any host, with those of another day.

use std::process::{Command, ExitCode, Stdio};

use anyhow::Result;

use crate::built::{Built, Program};
use crate::process;

/// Which benchmarks to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run those that program a real kernel, on the machine of `vm`; else all others run here.
    #[arg(value_enum)]
    which: Option<Which>,
    /// Here, in wall-clock time, on the kernel of this host; needs root and the module.
    #[arg(long, requires = "which")]
    native: bool,
    /// End a benchmark's machine after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    timeout: u64,
    /// Arguments for the benchmark programs: a part of a benchmark's name, --quick …
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    /// `benches/kernel*.rs`.
    Kernel,
}

/// Where the machine's reports are unpacked.
const REPORTS: &str = "target/criterion-kernel";

/// Builds and runs the benchmarks.
///
/// # Errors
///
/// When they do not build or one of them fails.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let built = Built::make(&["bench", "--workspace", "--benches", "--no-run"])?;
    let kernel = args.which == Some(Which::Kernel);
    let mut ran = false;
    for bench in built.benches.iter().filter(|bench| bench.name.starts_with("kernel") == kernel) {
        eprintln!("\n     Running {} of {}", bench.name, bench.package);
        let mut command =
            if kernel && !args.native { in_machine(bench, args.timeout) } else { bench.command() };
        command.arg("--bench").args(&args.arguments);
        process::check(&mut command)?;
        ran = true;
    }
    anyhow::ensure!(ran, "there is no such benchmark");
    Ok(ExitCode::SUCCESS)
}

fn in_machine(bench: &Program, timeout: u64) -> Command {
    let mut command = process::this();
    command.args(["vm", "--icount", "--timeout", &timeout.to_string()]);
    command.args(["--env", "CRITERION_HOME=/run/out", "--out", REPORTS]);
    command.arg("--").arg(&bench.path).stdin(Stdio::null());
    command
}
