//! `cargo xtask demo`: builds the demonstration and the three programs, and becomes it.

use std::env;
use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::{process, setup};

/// The demonstration's own options; `--help` there lists them.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
    options: Vec<String>,
}

/// Returns only when the demonstration cannot be started.
///
/// # Errors
///
/// When it does not build.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::for_demo();
    // The whole workspace, so that the tests find the same build.
    process::check(Command::new("cargo").args(["build", "--workspace", "--bins"]))?;
    let mut command = start(&args.options)?;
    Err(command.exec()).context("cannot start the demonstration")
}

/// The demonstration as it was built last.
///
/// # Errors
///
/// When this program does not know where that is.
pub(crate) fn start(options: &[impl AsRef<OsStr>]) -> Result<Command> {
    let dir = target_dir()?.join("debug");
    let mut command = Command::new(dir.join("demo"));
    command.args(options).env("WGMFA_BIN_DIR", dir);
    Ok(command)
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let exe = env::current_exe().context("cannot find this program")?;
    // It is TARGET/debug/xtask itself.
    let dir = exe.ancestors().nth(2).context("this program is not in a target directory")?;
    Ok(dir.to_owned())
}
