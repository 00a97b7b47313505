//! Looks at a program's process from outside, as an attacker with the same user would.
//!
//! For tests: everything here panics with what it saw.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's failure is a panic"
)]

pub mod canary;

use core::time::Duration;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

/// A user without a name and without rights.
const NOBODY: &str = "65534";
const SIGABRT: i32 = 6;
/// Looks before giving up, a hundredth of a second apart: a minute.
const LOOKS: u32 = 6_000;

/// Starts `program` with `arguments` in `dir`, where nothing forbids a core dump, and asserts that
/// the program does: its limit is zero, its `/proc` files are root's, and aborted it leaves no core.
///
/// The program must go on running by itself. When called as root it runs as a user without rights,
/// because root's files are root's in any case; `dir` is given to that user.
///
/// # Panics
///
/// When it is not so.
pub fn assert_memory_is_private(program: &Path, arguments: &[&str], dir: &Path) {
    assert_private_with(program, arguments, &[], dir);
}

/// The same, with these environment variables besides.
///
/// # Panics
///
/// When it is not so.
pub fn assert_private_with(
    program: &Path,
    arguments: &[&str],
    environment: &[(&str, &str)],
    dir: &Path,
) {
    // That a core would be left otherwise is seen from a program that does not forbid it.
    let mut other = start(Path::new("/bin/sleep"), &["1000"], &[], dir);
    wait(|| name(&other) == "sleep");
    assert_ne!(limit(&other)[0], "0", "this machine forbids cores, so this can show nothing");
    assert_eq!(proc_owner(&other), owner(dir));
    let dumped = abort(&mut other, dir);

    // Readable for the other user too, wherever the sources are.
    let copy = dir.join("program");
    fs::copy(program, &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let mut child = start(&copy, arguments, environment, dir);
    wait(|| limit(&child) == ["0", "0"] && proc_owner(&child) == 0);
    assert!(child.try_wait().unwrap().is_none(), "it must go on running");
    assert!(!abort(&mut child, dir), "it left a core");
    assert!(dumped, "this machine leaves no cores at all, so this has shown nothing");
    fs::remove_file(copy).unwrap();
}

fn start(program: &Path, arguments: &[&str], environment: &[(&str, &str)], dir: &Path) -> Child {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("sh");
    if owner(Path::new("/proc/self")) == 0 {
        std::os::unix::fs::chown(dir, Some(65534), Some(65534)).unwrap();
        command = Command::new("setpriv");
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "sh"]);
    }
    let free = "ulimit -S -c \"$(ulimit -H -c)\" && exec \"$@\"";
    command.args(["-c", free, "sh"]).arg(program).args(arguments).current_dir(dir);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.envs(environment.iter().copied()).env_remove("NOTIFY_SOCKET").spawn().unwrap()
}

/// Aborts it as a failed assertion would; returns whether that left a core.
fn abort(child: &mut Child, dir: &Path) -> bool {
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-ABRT", &id]).status().unwrap().success());
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(SIGABRT), "{status}");
    let file = fs::read_dir(dir)
        .unwrap()
        .any(|it| it.unwrap().file_name().to_string_lossy().starts_with("core"));
    if file {
        let cores = fs::read_dir(dir).unwrap().map(Result::unwrap);
        for core in cores.filter(|it| it.file_name().to_string_lossy().starts_with("core")) {
            fs::remove_file(core.path()).unwrap();
        }
    }
    file || status.core_dumped()
}

fn wait(mut seen: impl FnMut() -> bool) {
    for _ in 0..LOOKS {
        if seen() {
            return;
        }
        thread::park_timeout(Duration::from_millis(10));
    }
    panic!("it was not seen within a minute");
}

fn name(child: &Child) -> String {
    let name = fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap_or_default();
    name.trim().to_owned()
}

/// The soft and the hard limit of core dumps.
fn limit(child: &Child) -> Vec<String> {
    let limits = fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
    line.unwrap_or_default().split_whitespace().take(2).map(str::to_owned).collect()
}

fn proc_owner(child: &Child) -> u32 {
    owner(Path::new(&format!("/proc/{}/environ", child.id())))
}

fn owner(path: &Path) -> u32 {
    fs::metadata(path).map_or(u32::MAX, |metadata| metadata.uid())
}
