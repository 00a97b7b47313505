//! A small internet on one machine: network namespaces joined by a bridge.
//!
//! [`enter`] moves the process into fresh user, network and mount namespaces first, so that nothing
//! of the host is touched and the kernel removes everything when the last process ends, however it
//! ends. Inside, the process itself stands on the "internet" (`10.77.0.1`), where core and the mail
//! server run; every [`Host`] is one more namespace with an address of its own.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::{env, fs};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

/// Set in the process that already stands inside.
const INSIDE: &str = "WGMFA_LAB";

/// The address of the lab's own namespace, where core runs.
pub const CORE: &str = "10.77.0.1";

/// Whether this process already stands inside a lab.
#[must_use]
pub fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// The number outside of the process whose child stands inside.
#[must_use]
pub fn outer_process() -> String {
    env::var(INSIDE).unwrap_or_default()
}

/// Says whether [`enter`] can work here, and if not why.
///
/// # Errors
///
/// The reason, in words.
pub fn possible() -> Result<()> {
    Command::new("ip").arg("-V").output().context("`ip` of iproute2 is missing")?;
    unshare().map(drop)
}

/// Replaces this process by itself inside fresh namespaces. Returns only on failure.
///
/// # Errors
///
/// If the namespaces cannot be had; [`possible`] says so beforehand.
pub fn enter() -> Result<()> {
    let mut command = unshare()?;
    command
        .arg(env::current_exe()?)
        .args(env::args_os().skip(1))
        .env(INSIDE, std::process::id().to_string());
    Err(command.exec()).context("cannot run `unshare`")
}

/// `unshare` with the options that work here: as we are, else with a user namespace, since root in
/// a container often lacks `CAP_SYS_ADMIN`.
fn unshare() -> Result<Command> {
    let mut reason = String::new();
    for user in [&[][..], &["--user", "--map-root-user"][..]] {
        let command = || {
            let mut command = Command::new("unshare");
            command.args(user);
            command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
            command.arg("--");
            command
        };
        let probe = command().arg("true").output().context("`unshare` of util-linux is missing")?;
        if probe.status.success() {
            return Ok(command());
        }
        String::from_utf8_lossy(&probe.stderr).trim().clone_into(&mut reason);
    }
    bail!("no new namespaces here: {reason}")
}

/// Runs a test inside a lab of its own: the test's process starts itself again, inside, for this one
/// test. `test` is the test's full name as its harness knows it.
///
/// # Errors
///
/// If there can be no lab, or the test failed; with what every service of the lab said.
pub fn within(test: &str, body: impl FnOnce(&mut Lab) -> Result<()>) -> Result<()> {
    if is_inside() {
        let directory = tempfile::tempdir()?;
        return Lab::new(directory.path())
            .and_then(|mut lab| body(&mut lab))
            .map_err(|error| anyhow!("{error:#}\n{}", logs(directory.path())));
    }
    let mut command = unshare()?;
    command.arg(env::current_exe()?);
    command.args([test, "--exact", "--nocapture", "--include-ignored"]);
    let status = command.env(INSIDE, "1").status()?;
    ensure!(status.success(), "the test failed inside its lab: {status}");
    Ok(())
}

/// What the services in this directory have said, file by file.
#[must_use]
pub fn logs(directory: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let text = fs::read_to_string(&path).unwrap_or_default();
            all.extend(["--- ", &path.display().to_string(), "\n", &text, "\n"]);
        }
    }
    all
}

/// The lab: its directory, its namespaces, its processes. Everything ends with it.
#[derive(Debug)]
pub struct Lab {
    directory: PathBuf,
    hosts: u8,
}

impl Lab {
    /// Where the services' logs and files are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Builds the bridge. Call it once, inside.
    ///
    /// # Errors
    ///
    /// What `ip` or `mount` said.
    pub fn new(directory: &Path) -> Result<Self> {
        // `ip netns` and userspace WireGuard keep files here, which must not be the host's.
        for place in ["/run/netns", "/run/wireguard"] {
            if fs::create_dir_all(place).is_ok() {
                run("mount", ["-t", "tmpfs", "tmpfs", place])?;
            } else {
                // Without root the host's /run cannot be written to: hide it.
                run("mount", ["-t", "tmpfs", "tmpfs", "/run"])?;
                fs::create_dir_all(place)?;
            }
        }
        run("ip", ["link", "set", "lo", "up"])?;
        // An address of its own: else it takes the lowest of its ports' random ones, and each host that
        // joins later may change it under neighbours who know the one before.
        let own = "02:00:00:00:00:01";
        run("ip", ["link", "add", "internet", "address", own, "type", "bridge"])?;
        run("ip", ["link", "set", "internet", "type", "bridge", "forward_delay", "0"])?;
        run("ip", ["address", "add", &format!("{CORE}/24"), "dev", "internet"])?;
        run("ip", ["address", "add", "fd77::1/64", "dev", "internet", "nodad"])?;
        run("ip", ["link", "set", "internet", "up"])?;
        Ok(Self { directory: directory.to_owned(), hosts: 1 })
    }

    /// What the services have said, file by file.
    #[must_use]
    pub fn logs(&self) -> String {
        logs(&self.directory)
    }

    /// Adds a host on the internet, with the next address.
    ///
    /// # Errors
    ///
    /// What `ip` said.
    pub fn host(&mut self, name: &str) -> Result<Host> {
        self.hosts += 1;
        let (near, address) = (format!("to-{name}"), format!("10.77.0.{}", self.hosts));
        let six = format!("fd77::{}/64", self.hosts);
        run("ip", ["netns", "add", name])?;
        run("ip", ["link", "add", &near, "type", "veth", "peer", "name", "eth0", "netns", name])?;
        run("ip", ["link", "set", &near, "master", "internet", "up"])?;
        let host = Host { name: name.to_owned(), address, directory: self.directory.clone() };
        host.run("ip", ["link", "set", "lo", "up"])?;
        host.run("ip", ["address", "add", &format!("{}/24", host.address), "dev", "eth0"])?;
        host.run("ip", ["address", "add", &six, "dev", "eth0", "nodad"])?;
        host.run("ip", ["link", "set", "eth0", "up"])?;
        host.run("ip", ["route", "add", "default", "via", CORE])?;
        Ok(host)
    }
}

/// One namespace of the lab.
#[derive(Clone, Debug)]
pub struct Host {
    name: String,
    address: String,
    directory: PathBuf,
}

impl Host {
    /// The lab's own namespace, where core runs.
    #[must_use]
    pub fn core(directory: &Path) -> Self {
        Self { name: String::new(), address: CORE.into(), directory: directory.to_owned() }
    }

    /// Its address on the internet.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where the lab keeps its files.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A command that will run on this host.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        if self.name.is_empty() {
            return Command::new(program);
        }
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    ///
    /// If it cannot be run or fails, with what it said.
    pub fn run<const N: usize>(&self, program: &str, args: [&str; N]) -> Result<String> {
        finish(self.command(program).args(args), program)
    }

    /// Starts a program that serves; its output goes to `NAME.log` in the lab's directory.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn spawn(&self, name: &str, command: &mut Command) -> Result<Service> {
        let log = self.directory.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Service { child, log })
    }

    /// Sends one ICMP echo and says whether the answer came within a second.
    ///
    /// # Errors
    ///
    /// If `ping` is missing.
    pub fn ping(&self, to: &str) -> Result<bool> {
        let output = self
            .command("ping")
            .args(["-n", "-c", "1", "-W", "1", to])
            .output()
            .context("`ping` of iputils-ping is missing")?;
        Ok(output.status.success())
    }
}

/// A running program, stopped on drop.
#[derive(Debug)]
pub struct Service {
    child: Child,
    log: PathBuf,
}

impl Service {
    /// What it has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to end (SIGTERM) and waits for it.
    ///
    /// # Errors
    ///
    /// If it cannot be waited for.
    pub fn stop(mut self) -> Result<std::process::ExitStatus> {
        run("kill", ["-TERM", &self.child.id().to_string()])?;
        Ok(self.child.wait()?)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // The namespaces' end would kill it too; this is for labs that live on.
        if self.is_running() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Runs a command in this namespace to its end.
///
/// # Errors
///
/// If it cannot be run or fails, with what it said.
pub fn run<const N: usize>(program: &str, args: [&str; N]) -> Result<String> {
    finish(Command::new(program).args(args), program)
}

fn finish(command: &mut Command, name: &str) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run `{name}`"))?;
    text(&output).with_context(|| format!("`{name}` failed: {command:?}"))
}

/// The standard output of a command that succeeded.
///
/// # Errors
///
/// With the standard error of one that did not.
pub fn text(output: &Output) -> Result<String> {
    if !output.status.success() {
        bail!(
            "{} {}",
            String::from_utf8_lossy(&output.stderr).trim(),
            String::from_utf8_lossy(&output.stdout).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_reach_one_another_over_the_internet() -> Result<()> {
        within("lab::tests::hosts_reach_one_another_over_the_internet", |lab| {
            let (one, two) = (lab.host("one")?, lab.host("two")?);
            assert!(one.ping(two.address())?);
            assert!(one.ping("fd77::3")?);
            assert!(two.ping(CORE)?);
            assert!(!one.ping("10.77.0.99")?);
            Ok(())
        })
    }
}
