//! Running other programs, with errors that name the command and what it said.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fmt::Write as _};

use anyhow::{Context as _, Result, bail};

/// Runs a command and returns what it wrote to standard output.
///
/// # Errors
///
/// When it cannot be started, or ends with anything but 0; its standard error is in the text.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", show(command)))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        bail!("`{}` failed ({}): {}", show(command), done.status, said.trim());
    }
    String::from_utf8(done.stdout)
        .with_context(|| format!("`{}` wrote something that is not UTF-8", show(command)))
}

/// Runs a command whose output goes where ours goes.
///
/// # Errors
///
/// When it cannot be started, or ends with anything but 0.
pub(crate) fn check(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`", show(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", show(command));
    }
    Ok(())
}

/// This program once more. Not by its path: a build of the workspace replaces the file there.
pub(crate) fn this() -> Command {
    Command::new("/proc/self/exe")
}

/// Where a program is: `$PATH`, then the directories that only root has in it.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|candidate| candidate.is_file())
}

/// As [`find`], for a program without which a chore cannot go on.
///
/// # Errors
///
/// When it is missing; the text names the Debian package that has it.
pub(crate) fn need(program: &str, package: &str) -> Result<PathBuf> {
    find(program).with_context(|| {
        format!("`{program}` is missing: `cargo xtask setup`, or apt-get install {package}")
    })
}

/// Runs the program in `command`, but ends it after `seconds` and when this process ends.
pub(crate) fn bounded(program: &Path, seconds: u64) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "timeout", "--foreground", "--kill-after=5"]);
    command.arg(seconds.to_string()).arg(program);
    command
}

/// The exit code by which `timeout(1)` says that the time was up.
pub(crate) const TIMED_OUT: i32 = 124;

/// The command as a person would type it, shortened.
fn show(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        if text.len() > 200 {
            text.push_str(" …");
            break;
        }
        let _infallible = write!(text, " {}", argument.to_string_lossy());
    }
    text
}
