//! A company in a lab: core, gateways and people's machines, set up with the real programs and the
//! commands that an administrator types.

use std::env;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use mfa_core::factor::totp::TotpSecret;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::crowd;
use crate::lab::{self, CORE, Host, Lab, Service};
use crate::mail::{self, Mailbox};

/// Where core of a lab is for clients.
pub const PUBLIC_URL: &str = "https://10.77.0.1:8443/";

/// Where core stands.
#[derive(Debug)]
pub struct Site {
    /// The host that it runs on.
    pub host: Host,
    /// Where clients reach it.
    pub public: SocketAddr,
    /// Where gateways reach it.
    pub gateways: SocketAddr,
    /// Where its mail server listens.
    pub mail: SocketAddr,
    /// How often core looks for idle sessions: by itself every 60 s, here every second.
    pub check_period: String,
    /// How often gateways report: by themselves every 30 s, here every second.
    pub statistics_period: String,
    /// What gateways log.
    pub gateway_log: String,
    /// More of core's environment.
    pub environment: Vec<(String, String)>,
}

impl Site {
    /// The lab's own namespace, with the ports that core has by itself.
    #[must_use]
    pub fn in_lab(lab: &Lab) -> Self {
        let core = Ipv4Addr::new(10, 77, 0, 1);
        Self {
            host: Host::core(lab.directory()),
            public: (core, 8443).into(),
            gateways: (core, 8444).into(),
            mail: (Ipv4Addr::LOCALHOST, 2525).into(),
            check_period: "1s".into(),
            statistics_period: "1s".into(),
            gateway_log: "info".into(),
            environment: Vec::new(),
        }
    }

    /// This machine's loopback, with ports that are free.
    ///
    /// # Errors
    ///
    /// If there is no free port.
    pub fn on_loopback(directory: &Path) -> Result<Self> {
        let free = || -> Result<SocketAddr> {
            Ok(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
        };
        Ok(Self {
            host: Host::core(directory),
            public: free()?,
            gateways: free()?,
            mail: free()?,
            check_period: "1s".into(),
            statistics_period: "1s".into(),
            gateway_log: "info".into(),
            environment: Vec::new(),
        })
    }
}

/// Finds one of our programs: in `$WGMFA_BIN_DIR`, else beside this one.
///
/// # Errors
///
/// If it has not been built.
pub fn program(name: &str) -> Result<PathBuf> {
    let directory = if let Some(directory) = env::var_os("WGMFA_BIN_DIR") {
        PathBuf::from(directory)
    } else {
        let here = env::current_exe()?;
        // Tests are one level deeper, in `deps`.
        here.ancestors()
            .skip(1)
            .find(|parent| parent.join(name).is_file())
            .with_context(|| format!("{name} is not built; run `cargo build`"))?
            .to_owned()
    };
    let path = directory.join(name);
    ensure!(path.is_file(), "{} is not there; run `cargo build`", path.display());
    Ok(path)
}

/// Core, its mail server and its administrator.
#[derive(Debug)]
pub struct Company {
    directory: PathBuf,
    site: Site,
    core: Option<Service>,
    mailbox: Mailbox,
    runtime: Runtime,
}

impl Company {
    /// Starts a mail server and core, from an empty directory.
    ///
    /// # Errors
    ///
    /// If one of them does not come up; with what it said.
    pub fn found(lab: &Lab) -> Result<Self> {
        Self::found_at(Site::in_lab(lab))
    }

    /// As [`found`](Self::found), elsewhere.
    ///
    /// # Errors
    ///
    /// As [`found`](Self::found).
    pub fn found_at(site: Site) -> Result<Self> {
        let directory = site.host.directory().join("core");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let mailbox = Mailbox::default();
        let listener = runtime.block_on(TcpListener::bind(site.mail))?;
        runtime.spawn(mail::serve(listener, mailbox.clone()));
        let (public, gateways) = (site.public.to_string(), site.gateways.to_string());
        let mut company = Self { directory, site, core: None, mailbox, runtime };
        let url = format!("https://{public}/");
        let listen = ["--listen", &public, "--gateways-listen", &gateways];
        company.admin(&[&["init", "--url", &url][..], &listen].concat())?;
        company.start()?;
        Ok(company)
    }

    /// Starts core and waits until it answers.
    ///
    /// # Errors
    ///
    /// If it does not within ten seconds; with what it said.
    pub fn start(&mut self) -> Result<()> {
        let mut command = self.core_bin()?;
        command.arg("serve").env("WGMFA_SESSIONS__CHECK_PERIOD", &self.site.check_period);
        let mut core = self.site.host.spawn("core", &mut command)?;
        eventually("core answers", || {
            ensure!(core.is_running(), "core has ended:\n{}", core.log());
            Ok(std::net::TcpStream::connect(self.site.public).is_ok())
        })?;
        self.core = Some(core);
        Ok(())
    }

    /// Stops core as its service manager would, or kills it.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn stop(&mut self, how: Stop) -> Result<()> {
        stop(self.core.take().context("core does not run")?, how)
    }

    /// Types a `core-bin` command and returns its answer.
    ///
    /// # Errors
    ///
    /// If it fails; with what it said.
    pub fn admin(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.core_bin()?.arg("--json").args(arguments).output()?;
        json(&output).with_context(|| format!("core-bin {}", arguments.join(" ")))
    }

    /// What the mail server took.
    #[must_use]
    pub const fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    /// Everything that core has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.core.as_ref().map(Service::log).unwrap_or_default()
    }

    /// Core's process number while it runs.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        self.core.as_ref().map(Service::id)
    }

    /// Puts so many people with a live session each into a location, past the logins. Nobody else joins
    /// by the names `crowd00000` and so on, so it can be done once.
    ///
    /// # Errors
    ///
    /// What core's store says.
    pub fn crowd(&self, location: &str, count: u32) -> Result<()> {
        self.runtime.block_on(crowd::join(&self.directory, location, count))
    }

    fn core_bin(&self) -> Result<Command> {
        let mut command = self.site.host.command(program("core-bin")?);
        command
            .arg("--dir")
            .arg(&self.directory)
            .env("WGMFA_SMTP__URL", format!("smtp://{}", self.site.mail))
            .env("WGMFA_SMTP__FROM", "wg-mfa <vpn@example.org>")
            .envs(self.site.environment.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }
}

/// How a program is ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stop {
    /// SIGTERM, and it ends by itself.
    Politely,
    /// SIGKILL.
    Killed,
}

fn stop(service: Service, how: Stop) -> Result<()> {
    match how {
        Stop::Politely => {
            let status = service.stop()?;
            ensure!(status.success(), "it ended with {status}");
        }
        Stop::Killed => drop(service),
    }
    Ok(())
}

/// A gateway on a host of its own, with a server behind it.
#[derive(Debug)]
pub struct Gateway {
    host: Host,
    name: String,
    interface: String,
    directory: PathBuf,
    backend: String,
    statistics_period: String,
    log: String,
    service: Option<Service>,
}

impl Gateway {
    /// Enrolls a gateway for `location` and starts it. `server` is the address of the server
    /// behind it, which clients will want to reach.
    ///
    /// # Errors
    ///
    /// If a step fails; with what was said.
    pub fn join(
        company: &Company,
        lab: &mut Lab,
        location: &str,
        name: &str,
        server: &str,
        backend: &str,
    ) -> Result<Self> {
        let ticket = company.admin(&["gateway", "token", location, name])?;
        let ticket = (text(&ticket, "token")?, text(&ticket, "ca_pin")?);
        Self::join_by(company, lab.host(name)?, name, server, backend, ticket)
    }

    /// As [`join`](Self::join), on a host that is there, by a token that core has issued already, with
    /// the pin beside it.
    ///
    /// # Errors
    ///
    /// If a step fails; with what was said.
    pub fn join_by(
        company: &Company,
        host: Host,
        name: &str,
        server: &str,
        backend: &str,
        (token, pin): (&str, &str),
    ) -> Result<Self> {
        host.run("ip", ["address", "add", server, "dev", "lo"])?;
        let mut gateway = Self {
            directory: host.directory().join(name),
            host,
            name: name.to_owned(),
            // Userspace WireGuard has one directory for the sockets of all namespaces.
            interface: format!("wg-{name}"),
            backend: backend.to_owned(),
            statistics_period: company.site.statistics_period.clone(),
            log: company.site.gateway_log.clone(),
            service: None,
        };
        let core = format!("https://{CORE}:8444");
        let output = gateway
            .gateway_bin()?
            .args(["enroll", "--core", &core, "--token", token, "--ca-pin", pin])
            .output()?;
        lab::text(&output).context("gateway-bin enroll")?;
        gateway.start()?;
        Ok(gateway)
    }

    /// Starts the gateway and waits until core's word has reached its interface.
    ///
    /// # Errors
    ///
    /// If it does not within ten seconds; with what it said.
    pub fn start(&mut self) -> Result<()> {
        let mut command = self.gateway_bin()?;
        command
            .args(["run", "--interface", &self.interface, "--backend", &self.backend])
            .env("WGMFA_GATEWAY_LOG", &self.log)
            .env("WGMFA_GATEWAY_STATISTICS_PERIOD", &self.statistics_period);
        let mut service = self.host.spawn(&self.name, &mut command)?;
        eventually("the gateway has core's word", || {
            ensure!(service.is_running(), "the gateway has ended:\n{}", service.log());
            let status = self.status().unwrap_or_default();
            let revision = status.get("applied_revision").and_then(Value::as_u64);
            Ok(revision.is_some_and(|revision| revision > 0)
                && status.get("connected").and_then(Value::as_bool) == Some(true))
        })
        .with_context(|| service.log())?;
        self.service = Some(service);
        Ok(())
    }

    /// Stops the gateway.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn stop(&mut self, how: Stop) -> Result<()> {
        stop(self.service.take().context("the gateway does not run")?, how)
    }

    /// What `gateway-bin status` says.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub fn status(&self) -> Result<Value> {
        json(&self.gateway_bin()?.args(["status", "--json"]).output()?)
    }

    /// What `wg show` says: a witness that is not ours.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub fn wg_show(&self) -> Result<String> {
        self.host.run("wg", ["show", &self.interface])
    }

    /// The public keys that `wg` sees.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub fn peers(&self) -> Result<Vec<String>> {
        let peers = self.host.run("wg", ["show", &self.interface, "peers"])?;
        Ok(peers.split_whitespace().map(str::to_owned).collect())
    }

    /// Everything that it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.service.as_ref().map(Service::log).unwrap_or_default()
    }

    /// The WireGuard interface's name.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// The number of its process while it runs.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        self.service.as_ref().map(Service::id)
    }

    /// Where it stands.
    #[must_use]
    pub const fn host(&self) -> &Host {
        &self.host
    }

    fn gateway_bin(&self) -> Result<Command> {
        let mut command = self.host.command(program("gateway-bin")?);
        command.arg("--dir").arg(&self.directory);
        Ok(command)
    }
}

/// A person's machine.
#[derive(Debug)]
pub struct Laptop {
    host: Host,
    name: String,
    directory: PathBuf,
    backend: String,
}

impl Laptop {
    /// Puts a machine on the internet.
    ///
    /// # Errors
    ///
    /// What `ip` said.
    pub fn new(lab: &mut Lab, name: &str, backend: &str) -> Result<Self> {
        Ok(Self {
            host: lab.host(name)?,
            name: name.to_owned(),
            directory: lab.directory().join(name),
            backend: backend.to_owned(),
        })
    }

    /// Enrolls the machine as a device of `user`.
    ///
    /// # Errors
    ///
    /// If a step fails.
    pub fn enroll(&self, company: &Company, user: &str) -> Result<()> {
        let ticket = company.admin(&["user", "enroll", user])?;
        let (url, token) = (text(&ticket, "url")?, text(&ticket, "token")?);
        self.client(&["enroll", url, token, "--name", &self.name]).map(drop)
    }

    /// Sets up TOTP right after enrollment and returns the authenticator.
    ///
    /// # Errors
    ///
    /// If a step fails.
    pub fn set_up_totp(&self) -> Result<Authenticator> {
        let setup = self.client(&["mfa", "setup", "totp", "--begin"])?;
        let authenticator = Authenticator::new(text(&setup, "secret")?);
        self.confirm_totp(&authenticator)?;
        Ok(authenticator)
    }

    /// Confirms an authenticator by the code of the step before: that burns that step only, and leaves
    /// two for the tests. The step may end before core looks, so there is a second attempt.
    ///
    /// # Errors
    ///
    /// What the client said.
    pub fn confirm_totp(&self, authenticator: &Authenticator) -> Result<Value> {
        let confirm = || self.client(&["mfa", "setup", "totp", "--code", &authenticator.code(-1)?]);
        confirm().or_else(|_| confirm())
    }

    /// Types a `client-bin` command and returns its answer.
    ///
    /// # Errors
    ///
    /// If it fails; with what it said.
    pub fn client(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.client_bin()?.arg("--json").args(arguments).output()?;
        json(&output).with_context(|| format!("client-bin {}", arguments.join(" ")))
    }

    /// Connects and leaves the connection's agent running.
    ///
    /// # Errors
    ///
    /// What the client said.
    pub fn connect(&self, location: &str, more: &[&str]) -> Result<Value> {
        let mut arguments = vec!["connect", location, "--detach", "--backend", &self.backend];
        arguments.extend(more);
        self.client(&arguments)
    }

    /// Connects with a code that can only be had once the client has asked for it, such as one by
    /// mail.
    ///
    /// # Errors
    ///
    /// What the client said, or what `code` did.
    pub fn connect_with(
        &self,
        location: &str,
        method: &str,
        code: &mut dyn FnMut() -> Result<String>,
    ) -> Result<Value> {
        let file = self.host.directory().join(format!("{}.code", self.name));
        let wait = wait_for(&file);
        let child = self
            .client_bin()?
            .args(["--json", "connect", location, "--detach", "--backend", &self.backend])
            .args(["--method", method, "--code-command", &wait])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let code = code();
        if let Ok(code) = &code {
            hand_over(&file, code)?;
        }
        let output = child.wait_with_output()?;
        code?;
        json(&output)
    }

    /// Sets up e-mail as a second factor right after enrollment.
    ///
    /// # Errors
    ///
    /// If a step fails, or the mail does not come.
    pub fn set_up_email(&self, company: &Company) -> Result<()> {
        let seen = company.mailbox().len();
        self.client(&["mfa", "setup", "email", "--begin"])?;
        let (_, code) = company.mailbox().wait_for_code(seen, 8)?;
        self.client(&["mfa", "setup", "email", "--code", &code]).map(drop)
    }

    /// Where it stands.
    #[must_use]
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// A `client-bin` command, not yet run.
    ///
    /// # Errors
    ///
    /// If it has not been built.
    pub fn client_bin(&self) -> Result<Command> {
        let mut command = self.host.command(program("client-bin")?);
        command.arg("--dir").arg(&self.directory).stdin(Stdio::null());
        Ok(command)
    }

    /// The directory with the client's state.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// A shell command that prints a code once somebody has [handed it over](hand_over).
pub(crate) fn wait_for(file: &Path) -> String {
    let path = file.display();
    format!("until [ -s {path} ]; do sleep 0.02; done; cat {path}; rm {path}")
}

/// Hands a code to the command that waits for it, all of it at once.
pub(crate) fn hand_over(file: &Path, code: &str) -> Result<()> {
    let draft = file.with_extension("draft");
    std::fs::write(&draft, code)?;
    std::fs::rename(&draft, file)?;
    Ok(())
}

/// An authenticator app: `oathtool`, which is not ours, where it is installed.
#[derive(Debug)]
pub struct Authenticator {
    secret: String,
}

impl Authenticator {
    /// Takes the base32 secret that the person would scan.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        Self { secret: secret.to_owned() }
    }

    /// The code of the time step `offset` steps from now.
    ///
    /// # Errors
    ///
    /// If the secret is none.
    pub fn code(&self, offset: i64) -> Result<String> {
        if Command::new("oathtool").arg("--version").output().is_err() {
            return self.own_code(offset);
        }
        let when = format!("{} seconds", offset.saturating_mul(30));
        let mut command = Command::new("oathtool");
        // The secret by its standard input: everybody can read a command line.
        command.args(["--totp", "--base32", "--now", &when, "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("`oathtool` is missing")?;
        let mut input = child.stdin.take().context("`oathtool` takes no secret")?;
        writeln!(input, "{}", self.secret)?;
        drop(input);
        Ok(lab::text(&child.wait_with_output()?)?.trim().to_owned())
    }

    /// The same by the library that core uses: for a first look where nothing is installed.
    fn own_code(&self, offset: i64) -> Result<String> {
        let secret = TotpSecret::from_base32(&self.secret).context("this is no TOTP secret")?;
        let span = Duration::from_secs(offset.unsigned_abs().saturating_mul(30));
        let now = core_bin::clock::Clock::system().now();
        let then = if offset < 0 { now.saturating_sub(span) } else { now.saturating_add(span) };
        Ok(secret.code_at(then).expose_text().to_string())
    }
}

/// Reads a text field of an answer.
///
/// # Errors
///
/// If it is not there.
pub fn text<'a>(answer: &'a Value, field: &str) -> Result<&'a str> {
    answer
        .get(field)
        .and_then(Value::as_str)
        .with_context(|| format!("the answer has no field {field}"))
}

/// Waits until something that happens in other processes has happened.
///
/// # Errors
///
/// If it has not within ten seconds, or `check` fails.
pub fn eventually(what: &str, check: impl FnMut() -> Result<bool>) -> Result<()> {
    within(Duration::from_secs(10), what, check)
}

/// As [`eventually`], with another patience.
///
/// # Errors
///
/// As [`eventually`].
pub fn within(
    patience: Duration,
    what: &str,
    mut check: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let deadline = now() + patience;
    while !check()? {
        ensure!(now() < deadline, "within {patience:?} it did not happen that {what}");
        pause();
    }
    Ok(())
}

fn json(output: &Output) -> Result<Value> {
    let answer = lab::text(output)?;
    if answer.trim().is_empty() {
        return Ok(Value::Null);
    }
    match serde_json::from_str(answer.trim()) {
        Ok(value) => Ok(value),
        Err(error) => bail!("not JSON ({error}): {answer}"),
    }
}

/// The real clock: these programs run on it.
#[expect(clippy::disallowed_methods, reason = "real processes live in real time")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "other processes give no event to wait for")]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}
