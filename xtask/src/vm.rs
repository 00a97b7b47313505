//! `cargo xtask vm -- COMMAND`: a command on a real kernel with WireGuard and nftables, as root,
//! on any machine: no module, no privilege and no hypervisor of the host is needed.
//!
//! Two machines: [`qemu`] boots Debian's cloud kernel in software emulation, with a small root in
//! memory; [`uml`] boots a User-Mode Linux on the host's own root, read-only, in which waiting
//! takes no time.

mod archive;
mod console;
mod initramfs;
mod kernel;
mod libraries;
mod qemu;
mod uml;
mod uml_build;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use anyhow::{Context as _, Result};

use crate::process;

/// Where `--file` puts files by default; first in the machine's `$PATH`, and its
/// `$WGMFA_BIN_DIR`.
const FILES: &str = "/run/files";

/// A machine that boots at all has booted by then, in seconds.
pub(crate) const BOOT_SECONDS: &str = "60";

/// What to run, and on what machine.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct Args {
    /// Use the machine in which waiting takes no time. Its first start on a host builds a kernel.
    #[arg(long)]
    pub(crate) time_travel: bool,
    /// In that machine let waiting take its time: for figures by the clock on the wall.
    #[arg(long, requires = "time_travel")]
    pub(crate) wall_clock: bool,
    /// Copy a file into the machine, a program with its libraries. DST defaults to /run/files/NAME,
    /// which is in the machine's PATH.
    #[arg(long, value_name = "SRC[:DST]")]
    pub(crate) file: Vec<String>,
    /// Set an environment variable for COMMAND, or pass on one of this process.
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Unpack here what COMMAND leaves in the machine's /run/out.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Memory of the machine, in MiB.
    #[arg(long, default_value_t = 2048)]
    pub(crate) memory: u32,
    /// Processors of the machine.
    #[arg(long, default_value_t = 2)]
    pub(crate) smp: u8,
    /// Count instructions instead of time, on one processor: figures are the same on every run.
    #[arg(long, conflicts_with = "time_travel")]
    pub(crate) icount: bool,
    /// End the machine after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub(crate) timeout: u64,
    /// Show the machine's console when it has ended.
    #[arg(long)]
    pub(crate) console: bool,
    /// The command and its arguments. A path of the host is copied into the machine.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// Runs the chore and returns the exit code of the command.
///
/// # Errors
///
/// When the machine cannot be made or does not come up, or its time is up.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    anyhow::ensure!(
        cfg!(target_arch = "x86_64"),
        "the virtual machine is an x86-64 one so far; run this chore on such a machine"
    );
    let task = Task::from_args(args)?;
    let scratch = Scratch::make()?;
    let code = if args.time_travel {
        uml::boot(args, &task, scratch.path())?
    } else {
        qemu::boot(args, &task, scratch.path())?
    };
    Ok(ExitCode::from(code))
}

/// The command in the machine's terms.
#[derive(Debug)]
struct Task {
    /// Host path and path in the machine.
    files: Vec<(PathBuf, String)>,
    env: Vec<(String, String)>,
    command: Vec<String>,
}

impl Task {
    fn from_args(args: &Args) -> Result<Self> {
        let mut files = Vec::new();
        for spec in &args.file {
            files.push(parse_file(spec)?);
        }
        let mut env = vec![("WGMFA_BIN_DIR".to_owned(), FILES.to_owned())];
        for spec in &args.env {
            env.push(parse_env(spec)?);
        }
        let mut command = args.command.clone();
        if let Some(program) = command.first_mut() {
            let host = Path::new(program.as_str());
            let given = files.iter().any(|(_, inside)| inside == program);
            if program.contains('/') && host.is_file() && !given {
                let inside = default_place(host)?;
                files.push((host.to_owned(), inside.clone()));
                *program = inside;
            }
        }
        Ok(Self { files, env, command })
    }

    /// The command as a script for the machine's shell.
    fn script(&self) -> String {
        let mut lines = vec!["#!/bin/sh".to_owned()];
        for (key, value) in &self.env {
            lines.push(format!("export {key}={}", quote(value)));
        }
        let words: Vec<String> = self.command.iter().map(|word| quote(word)).collect();
        lines.push(format!("exec {}\n", words.join(" ")));
        lines.join("\n")
    }
}

fn parse_file(spec: &str) -> Result<(PathBuf, String)> {
    let (source, place) = match spec.split_once(':') {
        Some((source, place)) => (Path::new(source), place.to_owned()),
        None => (Path::new(spec), default_place(Path::new(spec))?),
    };
    anyhow::ensure!(source.exists(), "--file {}: there is no such file", source.display());
    anyhow::ensure!(place.starts_with('/'), "--file {spec}: {place} must be an absolute path");
    Ok((source.to_owned(), place))
}

fn parse_env(spec: &str) -> Result<(String, String)> {
    let (key, value) = match spec.split_once('=') {
        Some((key, value)) => (key, value.to_owned()),
        None => (spec, env::var(spec).with_context(|| format!("--env {spec}: it is not set"))?),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    anyhow::ensure!(!key.is_empty() && key.chars().all(plain), "--env {spec}: not a variable");
    Ok((key.to_owned(), value))
}

fn default_place(host: &Path) -> Result<String> {
    let name = host.file_name().with_context(|| format!("{} has no name", host.display()))?;
    Ok(format!("{FILES}/{}", name.to_string_lossy()))
}

/// A word for a POSIX shell that stands for exactly this text.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A directory for the files of one run, removed at the end.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn make() -> Result<Self> {
        let made = process::output(std::process::Command::new("mktemp").args([
            "--directory",
            "--tmpdir",
            "wg-mfa-vm.XXXXXXXX",
        ]))?;
        Ok(Self(PathBuf::from(made.trim_end())))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A directory that stays in /tmp harms nobody; the command's result matters more.
        let _ignored = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::{parse_env, quote};

    #[test]
    fn a_quoted_word_survives_the_shell() {
        assert_eq!(quote("it's $HOME"), r"'it'\''s $HOME'");
    }

    #[test]
    fn a_variable_with_a_value_is_taken_as_it_stands_and_a_name_that_is_none_is_refused() {
        assert_eq!(parse_env("A=b=c").unwrap(), ("A".to_owned(), "b=c".to_owned()));
        assert!(parse_env("A B=c").is_err());
        assert!(parse_env("=c").is_err());
    }
}
