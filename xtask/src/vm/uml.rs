//! User-Mode Linux with time travel: real WireGuard and nftables in one process of the host, at
//! native speed, on the host's root read-only. When everything in it waits, its clock jumps to the
//! next timer, so that an hour of silence passes in a moment, the same on every run.

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::{Args, FILES, Task, console, uml_build};
use crate::process;

const INIT: &str = include_str!("uml-init.sh");

/// Boots the machine, runs the task, and returns its exit code.
///
/// # Errors
///
/// When the machine cannot be made, does not report an exit code, or its time is up.
pub(super) fn boot(args: &Args, task: &Task, scratch: &Path) -> Result<u8> {
    process::need("busybox", "busybox-static")?;
    let linux = uml_build::obtain()?;
    let init = scratch.join("init.sh");
    fs::write(&init, INIT)?;
    executable(&init)?;
    fs::write(scratch.join("command"), task.script())?;
    executable(&scratch.join("command"))?;
    copy_files(task, &scratch.join("files"))?;
    let out = scratch.join("out");
    fs::create_dir_all(&out)?;
    let here = env::current_dir()?;

    let mut command = process::bounded(&linux, args.timeout);
    command
        .arg(format!("mem={}M", args.memory))
        .args(["root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro"])
        .args((!args.wall_clock).then_some("time-travel=inf-cpu"))
        .arg("random.trust_cpu=on")
        .args(["stderr=1", "con=null", "ssl=null", "ssl0=null,fd:1"])
        .arg(format!("init={}", init.display()))
        .arg(format!("SCRATCH={}", scratch.display()))
        .arg(format!("HERE={}", here.display()))
        .arg(format!("KEEP={}", hidden(&here)))
        .env("TMPDIR", memory_dir(scratch, args.memory))
        .stdin(Stdio::null())
        .stderr(File::create(scratch.join("kernel"))?);
    let status = command.status().context("cannot start User-Mode Linux")?;

    let mut said = read(&scratch.join("kernel"));
    said.push_str(&read(&scratch.join("console")));
    if args.console {
        eprintln!("{}", said.trim_end());
    }
    let code = console::result(&said, status, args.timeout)?;
    if let Some(to) = &args.out {
        fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
        process::output(Command::new("cp").arg("-r").arg(out.join(".")).arg(to))?;
    }
    Ok(code)
}

/// Puts the task's files where the machine finds them as [`FILES`].
fn copy_files(task: &Task, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    for (source, place) in &task.files {
        let Some(name) = place.strip_prefix(FILES) else {
            bail!("this machine's root is the host's, read-only: {place} must be below {FILES}");
        };
        let to = dir.join(name.trim_start_matches('/'));
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        process::output(Command::new("cp").args(["-r", "--reflink=auto"]).arg(source).arg(&to))?;
    }
    Ok(())
}

/// Which directories the machine's own `/tmp` and `/run` would hide and the command may need.
fn hidden(here: &Path) -> String {
    let target = env::current_exe().ok().and_then(|exe| Some(exe.parent()?.parent()?.to_owned()));
    let places: Vec<PathBuf> = [Some(here.to_owned()), target]
        .into_iter()
        .flatten()
        .filter(|place| ["/tmp", "/run"].iter().any(|top| place.starts_with(top)))
        .collect();
    places.iter().map(|place| place.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Where the machine's memory is, a file: in memory where that has room for it and may be executed,
/// which it often has not and may not in a container.
fn memory_dir(scratch: &Path, memory: u32) -> PathBuf {
    let mounts = read(Path::new("/proc/mounts"));
    let mut command = Command::new("df");
    command.args(["--output=avail", "--block-size=1M", "/dev/shm"]);
    let free = process::output(&mut command).ok().and_then(|text| last_number(&text));
    if may_execute(&mounts, "/dev/shm") && free.is_some_and(|free| free >= u64::from(memory)) {
        PathBuf::from("/dev/shm")
    } else {
        scratch.to_owned()
    }
}

/// Whether `place` is a mount from which programs may run.
fn may_execute(mounts: &str, place: &str) -> bool {
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            Some((words.next()?, words.nth(1)?))
        })
        .rfind(|(at, _)| *at == place)
        .is_some_and(|(_, options)| !options.split(',').any(|option| option == "noexec"))
}

fn last_number(text: &str) -> Option<u64> {
    text.split_whitespace().last()?.parse().ok()
}

fn executable(path: &Path) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} executable", path.display()))
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{last_number, may_execute};

    #[test]
    fn memory_from_which_nothing_may_run_is_not_used() {
        let open = "proc /proc proc rw,noexec 0 0\ntmpfs /dev/shm tmpfs rw,nosuid 0 0\n";
        let shut = "tmpfs /dev/shm tmpfs rw,nosuid,noexec 0 0\n";

        assert!(may_execute(open, "/dev/shm"));
        assert!(!may_execute(shut, "/dev/shm"));
        assert!(!may_execute("", "/dev/shm"));
        assert!(!may_execute(&format!("{open}{shut}"), "/dev/shm"), "the last mount covers others");
    }

    #[test]
    fn free_space_is_below_its_title() {
        assert_eq!(last_number("   Avail\n 12003\n"), Some(12_003));
        assert_eq!(last_number("Avail"), None);
    }
}
