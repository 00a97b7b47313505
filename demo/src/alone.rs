//! The demonstration without namespaces, TUN or root: core as a process on loopback, the gateway and
//! the laptop in this process, with WireGuard between them over loopback UDP.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Parser as _;
use client_bin::cli::Cli;
use client_bin::console::Console;
use client_bin::dns::{Change, Resolver};
use client_bin::host::{Backend, Host};
use client_bin::person::Nobody;
use client_bin::state::Store;
use client_bin::{Client, exit};
use gateway_bin::config::{Config, Overrides};
use serde_json::Value;
use tokio::runtime::Runtime;
use wg_netlink::{Error, WireGuard};

use crate::company::{self, Authenticator, Company, Site, eventually};
use crate::in_process::Tunnel;
use crate::story::{self, Teller, World};

/// The server behind the gateway; only the gateway's end of the tunnel answers for it.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);

/// Tells the story in this process.
///
/// # Errors
///
/// If the stage breaks.
pub fn tell(teller: &mut Teller, directory: &Path) -> Result<()> {
    let runtime = Runtime::new()?;
    teller.say("core", "starts from an empty directory: SQLite, its own CA, a mail server");
    let site = Site::on_loopback(directory)?;
    let gateways = site.gateways;
    let company = Company::found_at(site)?;
    let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    story::add_office(teller, &company, &format!("127.0.0.1:{port}"))?;

    teller.say("gateway", "enrolls with a one-use token and programs WireGuard");
    let gateway = runtime.block_on(Tunnel::new("gateway"))?;
    join(&runtime, &company, gateways, &directory.join("gateway"), &gateway)?;

    let laptop = Laptop::new(&runtime, directory);
    story::add_alice(teller, &company)?;
    let ticket = company.admin(&["user", "enroll", "alice"])?;
    let (url, token) = (company::text(&ticket, "url")?, company::text(&ticket, "token")?);
    teller.say("laptop", "enrolls: its private key never leaves it");
    laptop.client(&["enroll", url, token, "--name", "laptop"])?;
    teller.say("laptop", "sets up an authenticator (TOTP) and e-mail");
    let setup = laptop.client(&["mfa", "setup", "totp", "--begin"])?;
    let authenticator = Authenticator::new(company::text(&setup, "secret")?);
    laptop.client(&["mfa", "setup", "totp", "--code", &authenticator.code(-1)?])?;
    let seen = company.mailbox().len();
    laptop.client(&["mfa", "setup", "email", "--begin"])?;
    let (_, code) = company.mailbox().wait_for_code(seen, 8)?;
    laptop.client(&["mfa", "setup", "email", "--code", &code])?;

    let world = InProcess { gateway, laptop };
    story::tell(teller, &world, &authenticator, company.mailbox())
}

/// Enrolls and runs the gateway of `office` in this process; returns when it has core's word.
///
/// # Errors
///
/// If a step fails; with what was said.
pub fn join(
    runtime: &Runtime,
    company: &Company,
    core: std::net::SocketAddr,
    directory: &Path,
    tunnel: &Tunnel,
) -> Result<()> {
    let ticket = company.admin(&["gateway", "token", "office", "gateway"])?;
    let (token, pin) = (company::text(&ticket, "token")?, company::text(&ticket, "ca_pin")?);
    let core = format!("https://{core}");
    let output = std::process::Command::new(company::program("gateway-bin")?)
        .arg("--dir")
        .arg(directory)
        .args(["enroll", "--core", &core, "--token", token, "--ca-pin", pin])
        .output()?;
    crate::lab::text(&output).context("gateway-bin enroll")?;
    let mut config = Config::load(directory, Overrides::default())?;
    config.statistics_period = core::time::Duration::from_secs(1);
    let answering = tunnel.clone();
    runtime.spawn(async move { answering.answer_pings().await });
    let wireguard = Box::new(tunnel.clone());
    runtime.spawn(gateway_bin::Gateway::run(config, wireguard, std::future::pending()));
    eventually("the gateway has core's word", || Ok(tunnel.interface()?.public_key.is_some()))
}

/// The laptop: a client whose machine makes no interfaces but tunnels in this process.
struct Laptop {
    directory: PathBuf,
    machine: Arc<Machine>,
    /// Where the connection that lives will say how it ended.
    connection: Mutex<Option<Receiver<Outcome>>>,
}

/// A command's exit code and words.
type Outcome = (u8, String);

impl Laptop {
    fn new(runtime: &Runtime, directory: &Path) -> Self {
        Self {
            directory: directory.join("laptop"),
            machine: Arc::new(Machine::new(runtime)),
            connection: Mutex::new(None),
        }
    }

    /// Types a `client-bin` command and waits for its answer.
    fn client(&self, arguments: &[&str]) -> Result<Value> {
        let (code, said) = self.begin(arguments)?.recv()?;
        answer(code, &said)
    }

    /// Types a command that goes on in the background.
    fn begin(&self, arguments: &[&str]) -> Result<Receiver<Outcome>> {
        let directory = self.directory.display().to_string();
        let line = ["client-bin", "--json", "--dir", &directory];
        let cli = Cli::try_parse_from(line.iter().chain(arguments))?;
        let client = Client::on(Store::new(&self.directory), self.machine.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (done, outcome) = channel();
        thread::spawn(move || {
            let paper = Paper::default();
            let mut console = Console::to(true, Box::new(paper.clone()), Box::new(paper.clone()));
            let code =
                runtime.block_on(client_bin::run::run(&client, cli, &mut console, &mut Nobody));
            // Nobody listens any more when the story is over.
            let _ = done.send((code, paper.text()));
        });
        Ok(outcome)
    }
}

fn answer(code: u8, said: &str) -> Result<Value> {
    let value = said.lines().last().and_then(|line| serde_json::from_str(line).ok());
    let value = value.or_else(|| serde_json::from_str(said).ok()).unwrap_or(Value::Null);
    if code == exit::DONE { Ok(value) } else { Err(anyhow!("{said}")) }
}

struct InProcess {
    gateway: Tunnel,
    laptop: Laptop,
}

impl World for InProcess {
    fn connect(&self, method: &str, code: &mut dyn FnMut() -> Result<String>) -> Result<Value> {
        let file = self.laptop.directory.with_extension("code");
        let wait = company::wait_for(&file);
        let mut arguments = vec!["connect", "office", "--method", method];
        let given;
        if method == "email" {
            arguments.extend(["--code-command", &wait]);
        } else {
            given = code()?;
            arguments.extend(["--code", &given]);
        }
        let outcome = self.laptop.begin(&arguments)?;
        if method == "email" {
            company::hand_over(&file, &code()?)?;
        }
        eventually("the client is connected", || match outcome.try_recv() {
            Ok((code, said)) => answer(code, &said).map(|_| true),
            Err(TryRecvError::Disconnected) => bail!("the client is gone"),
            Err(TryRecvError::Empty) => Ok(story::state(&self.laptop.client(&["status"])?)
                .is_some_and(|state| state == "connected")),
        })?;
        *self.laptop.connection.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        Ok(Value::Null)
    }

    fn disconnect(&self) -> Result<()> {
        self.laptop.client(&["disconnect", "office"]).map(drop)
    }

    fn ping(&self) -> Result<bool> {
        static NUMBER: AtomicU16 = AtomicU16::new(1);
        let tunnel = self.laptop.machine.tunnel.lock().unwrap_or_else(PoisonError::into_inner);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Ok(tunnel.clone().is_some_and(|tunnel| tunnel.pings(SERVER, number)))
    }

    fn peers(&self) -> Result<usize> {
        Ok(self.gateway.interface()?.peers.len())
    }

    fn status(&self) -> Result<Value> {
        self.laptop.client(&["status"])
    }

    fn wg_show(&self) -> Result<String> {
        let interface = self.gateway.interface()?;
        let key = interface.public_key.context("the gateway has no key")?;
        let mut text = format!(
            "interface: {} (in this process)\n  public key: {key}\n  private key: (hidden)\n  \
             listening port: {}\n",
            interface.name, interface.listen_port
        );
        for peer in interface.peers {
            let endpoint = peer.config.endpoint.map(|endpoint| endpoint.to_string());
            let ips: Vec<String> =
                peer.config.allowed_ips.iter().map(ToString::to_string).collect();
            text = format!(
                "{text}\npeer: {}\n  preshared key: (hidden)\n  endpoint: {}\n  allowed ips: {}\n  \
                 transfer: {} B received, {} B sent\n",
                peer.config.public_key,
                endpoint.unwrap_or_default(),
                ips.join(", "),
                peer.stats.rx_bytes,
                peer.stats.tx_bytes
            );
        }
        Ok(text)
    }
}

/// A machine whose interfaces are tunnels in this process, one at a time.
#[derive(Debug)]
pub struct Machine {
    runtime: tokio::runtime::Handle,
    tunnel: Mutex<Option<Tunnel>>,
    dns: NoDns,
}

impl Machine {
    /// A machine whose tunnels run on `runtime`.
    #[must_use]
    pub fn new(runtime: &Runtime) -> Self {
        Self { runtime: runtime.handle().clone(), tunnel: Mutex::new(None), dns: NoDns }
    }
}

impl Host for Machine {
    fn may_create(&self) -> Result<(), Error> {
        Ok(())
    }

    fn exists(&self, _: &str) -> bool {
        false
    }

    fn open(&self, interface: &str, _: Backend) -> Result<Box<dyn WireGuard>, Error> {
        let mut current = self.tunnel.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tunnel) = current.as_ref().filter(|tunnel| tunnel.is_up()) {
            return Ok(Box::new(tunnel.clone()));
        }
        let (done, made) = channel();
        let name = interface.to_owned();
        self.runtime.spawn(async move {
            // Nobody waits any more when the story is over.
            let _ = done.send(Tunnel::new(&name).await);
        });
        let failed = |said: String| Error::Userspace { doing: "start", said };
        let tunnel = made
            .recv()
            .map_err(|error| failed(error.to_string()))?
            .map_err(|error| failed(error.to_string()))?;
        *current = Some(tunnel.clone());
        Ok(Box::new(tunnel))
    }

    fn send_empty(&self, _: IpAddr, _: IpAddr) {
        if let Some(tunnel) = &*self.tunnel.lock().unwrap_or_else(PoisonError::into_inner) {
            tunnel.wake(SERVER);
        }
    }

    fn resolver(&self) -> &dyn Resolver {
        &self.dns
    }
}

/// The demonstration's location has no name servers.
#[derive(Debug)]
struct NoDns;

impl Resolver for NoDns {
    fn set(&self, _: &str, _: &[IpAddr], _: &[String]) -> io::Result<Change> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn restore(&self, _: &str, _: &Change) -> io::Result<()> {
        Ok(())
    }
}

/// What a command writes, kept.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Paper {
    fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
