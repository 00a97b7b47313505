//! The command line of `gateway-bin`: what it is called, and what it does.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;
use wg_netlink::gate::Gate;
use wg_netlink::{Error, WireGuard};
use zeroize::Zeroizing;

use crate::config::{Backend, Config, CoreUrl, DEFAULT_DIR, DEFAULT_INTERFACE, Overrides, Period};
use crate::enroll::{self, Enrollment};
use crate::gateway::Gateway;
use crate::status::{self, render};
use crate::tls::Pin;

/// A gateway of wg-mfa: it programs a WireGuard interface with the peers that core has let in.
///
/// It needs root, or the capability `CAP_NET_ADMIN`. It decides nothing by itself: users, codes and
/// sessions are core's.
#[derive(Debug, Parser)]
#[command(
    name = "gateway-bin",
    version,
    after_help = "\
Examples:
  On the host where core runs, make a token; it prints the second command with all its values:
    core-bin gateway token office gw1
  On the gateway:
    gateway-bin enroll --core https://core.example.com:8444 --token TOKEN --ca-pin HEX
    gateway-bin run
    gateway-bin status"
)]
pub struct Cli {
    /// Where the gateway's files are.
    #[arg(long, global = true, default_value = DEFAULT_DIR, env = "WGMFA_GATEWAY_DIR")]
    dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes this host a gateway, with a token from core.
    ///
    /// A private key is made here and never leaves this host; core signs for it. Core is believed
    /// only if its certificate authority has the pin. Writes gateway.toml, key.pem, cert.pem and
    /// ca.pem.
    #[command(after_help = "\
Example:
  gateway-bin enroll --core https://core.example.com:8444 \\
      --token 4VX2… --ca-pin 9f86d081884c7d65…

The token is for one use and a short time. `core-bin gateway token LOCATION NAME`, run where core \
runs, prints the whole line.")]
    Enroll(EnrollArgs),

    /// Runs the gateway until it is told to stop.
    ///
    /// The interface is made if it is not there, and keeps its peers when the gateway stops, so that
    /// a restart interrupts nobody. While core is away the peers stay; in a location with MFA their
    /// traffic passes until the lease is over.
    #[command(after_help = "\
Examples:
  gateway-bin run
  gateway-bin run --interface wg1 --backend kernel
  WGMFA_GATEWAY_LOG=gateway_bin=debug gateway-bin run

What is not said here is taken from the environment, then from gateway.toml.")]
    Run(RunArgs),

    /// Shows the interface, its peers and the line to core, in the manner of `wg show`.
    #[command(after_help = "\
Examples:
  gateway-bin status
  gateway-bin status -o json | jq -r '.core.state'
  gateway-bin status --dump | awk -F'\\t' '$5 > 0 {print $1}'    peers that ever shook hands

The columns of --dump are those of `wg show INTERFACE dump`; secret keys are (hidden).")]
    Status(StatusArgs),

    /// Prints completions for a shell.
    #[command(after_help = "\
Example:
  gateway-bin completions bash > /etc/bash_completion.d/gateway-bin")]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },

    /// Prints the manual page.
    #[command(after_help = "\
Example:
  gateway-bin man | man -l -")]
    Man,
}

#[derive(Args)]
struct EnrollArgs {
    /// Where core listens for gateways.
    #[arg(long, value_name = "URL", env = "WGMFA_GATEWAY_CORE")]
    core: CoreUrl,
    /// The one-use token.
    #[arg(long, env = "WGMFA_GATEWAY_TOKEN", hide_env_values = true)]
    token: String,
    /// The SHA-256 of core's certificate authority.
    #[arg(long, value_name = "HEX", env = "WGMFA_GATEWAY_CA_PIN")]
    ca_pin: Pin,
    /// The interface that the gateway shall program.
    #[arg(long, value_name = "NAME", default_value = DEFAULT_INTERFACE,
          env = "WGMFA_GATEWAY_INTERFACE")]
    interface: String,
    /// How WireGuard shall run.
    #[arg(long, default_value = "auto", env = "WGMFA_GATEWAY_BACKEND")]
    backend: Backend,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Where core listens for gateways.
    #[arg(long, value_name = "URL", env = "WGMFA_GATEWAY_CORE")]
    core: Option<CoreUrl>,
    /// The interface to program.
    #[arg(long, value_name = "NAME", env = "WGMFA_GATEWAY_INTERFACE")]
    interface: Option<String>,
    /// How WireGuard is to run: auto takes the kernel's if it has it.
    #[arg(long, env = "WGMFA_GATEWAY_BACKEND")]
    backend: Option<Backend>,
    /// How often statistics are sent, such as 30s, unless core says otherwise.
    #[arg(long, value_name = "SPAN", env = "WGMFA_GATEWAY_STATISTICS_PERIOD")]
    statistics_period: Option<Period>,
    /// How often core is asked for a sign of life, such as 10s.
    #[arg(long, value_name = "SPAN", env = "WGMFA_GATEWAY_HEARTBEAT_PERIOD")]
    heartbeat_period: Option<Period>,
    /// How long, in a location with MFA, traffic passes after core was last heard, such as 90s.
    #[arg(long, value_name = "SPAN", env = "WGMFA_GATEWAY_LEASE")]
    lease: Option<Period>,
    /// Whether to let no peer in where the kernel has no nftables to hold the lease.
    #[arg(long, value_name = "BOOL", env = "WGMFA_GATEWAY_REQUIRE_GATE", num_args = 0..=1,
          default_missing_value = "true")]
    require_gate: Option<bool>,
    /// What is logged: error, warn, info, debug, trace, or a filter by module.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "WGMFA_GATEWAY_LOG")]
    log: String,
    /// How it is logged.
    #[arg(long, value_name = "FORMAT", default_value = "text", env = "WGMFA_GATEWAY_LOG_FORMAT")]
    log_format: LogFormat,
}

#[derive(Debug, Args)]
struct StatusArgs {
    /// For whom.
    #[arg(short, long, default_value = "human")]
    output: Output,
    /// The same as -o json.
    #[arg(long, conflicts_with = "output")]
    json: bool,
    /// One line a peer, separated by tabs.
    #[arg(long, conflicts_with_all = ["output", "json"])]
    dump: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object a line.
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// People.
    Human,
    /// Programs, over several lines.
    Json,
    /// Programs, on one line.
    JsonLine,
}

impl Cli {
    /// Does what was asked for.
    ///
    /// # Errors
    ///
    /// A sentence for the person at the terminal, with its causes.
    pub async fn execute(self) -> anyhow::Result<()> {
        match self.command {
            Command::Enroll(args) => enroll(self.dir, args).await,
            Command::Run(args) => run(&self.dir, args).await,
            Command::Status(args) => show(&self.dir, &args).await,
            Command::Completions { shell } => {
                let mut text = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), "gateway-bin", &mut text);
                print(&text)
            }
            Command::Man => {
                let mut text = Vec::new();
                let mut command = Self::command();
                command.build();
                clap_mangen::Man::new(command.clone()).render(&mut text)?;
                for subcommand in command.get_subcommands().filter(|one| !one.is_hide_set()) {
                    clap_mangen::Man::new(subcommand.clone()).render(&mut text)?;
                }
                print(&text)
            }
        }
    }
}

async fn enroll(dir: PathBuf, args: EnrollArgs) -> anyhow::Result<()> {
    let EnrollArgs { core, token, ca_pin, interface, backend } = args;
    let token = Zeroizing::new(token);
    let enrolled =
        enroll::enroll(Enrollment { core, token, ca_pin, dir: dir.clone(), interface, backend })
            .await?;
    let run = run_command(&dir);
    print(
        format!(
            "This host is now the gateway {} of the location {}.\n\
             Its key and certificate are in {}.\n\n\
             Start it:\n  {run}\n",
            enrolled.name,
            enrolled.location,
            dir.display()
        )
        .as_bytes(),
    )
}

fn run_command(dir: &Path) -> String {
    if dir == Path::new(DEFAULT_DIR) {
        "systemctl enable --now wg-mfa-gateway        or, in the foreground: gateway-bin run".into()
    } else {
        format!("gateway-bin run --dir {}", dir.display())
    }
}

async fn run(dir: &Path, args: RunArgs) -> anyhow::Result<()> {
    log(&args.log, args.log_format)?;
    let overrides = Overrides {
        core: args.core,
        interface: args.interface,
        backend: args.backend,
        statistics_period: args.statistics_period,
        heartbeat_period: args.heartbeat_period,
        lease: args.lease,
        require_gate: args.require_gate,
    };
    let config = Config::load(dir, overrides)?;
    let wireguard = open(&config)?;
    let (interface, backend) = (config.interface.clone(), config.backend);
    let reopen = move || wg_netlink::open(&interface, backend.into());
    let stop = stop()?;
    let gate = Gate::new(&config.interface);
    let mut gateway = Gateway::new(config, wireguard).reopen_with(reopen);
    match gate {
        Ok(gate) => gateway = gateway.gate_with(gate),
        Err(error) => tracing::warn!("the kernel cannot hold the lease: {error}"),
    }
    Ok(gateway.serve(stop).await?)
}

fn open(config: &Config) -> anyhow::Result<Box<dyn WireGuard>> {
    let Config { interface, backend, .. } = config;
    let wireguard = wg_netlink::open(interface, (*backend).into()).map_err(|error| {
        let next = match error {
            Error::NoWireGuard => {
                "On Debian and Ubuntu a current kernel has the module: `apt install \
                 linux-image-$(dpkg --print-architecture)` and restart; then `modprobe wireguard`. \
                 Without it: --backend userspace"
            }
            Error::PermissionDenied { .. } => {
                "Under systemd: AmbientCapabilities=CAP_NET_ADMIN. In a container: --cap-add \
                 NET_ADMIN"
            }
            _ => "`ip link` shows what is there",
        };
        anyhow::anyhow!("cannot open {interface}: {error}. {next}")
    })?;
    if *backend == Backend::Auto && wireguard.backend() == wg_netlink::Backend::Userspace {
        tracing::warn!(
            "this kernel has no WireGuard, so packets are encrypted in this process: slower, and \
             the tunnels end when it stops. `modprobe wireguard` may load it"
        );
    }
    Ok(wireguard)
}

/// Waits for a signal to stop.
fn stop() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn log(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter: EnvFilter = format!("{filter},{}", wg_netlink::userspace::LOG_FILTER)
        .parse()
        .with_context(|| format!("{filter:?} is no log filter; try info or gateway_bin=debug"))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Json => log.json().init(),
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).with_target(false).init(),
    }
    Ok(())
}

async fn show(dir: &Path, args: &StatusArgs) -> anyhow::Result<()> {
    let status = status::ask(dir).await?;
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colour = if io::stdout().is_terminal() && !plain {
        render::Colour::Ansi
    } else {
        render::Colour::None
    };
    let output = if args.json { Output::Json } else { args.output };
    let text = match (args.dump, output) {
        (true, _) => render::dump(&status),
        (false, Output::Human) => render::human(&status, colour),
        (false, Output::Json) => format!("{}\n", serde_json::to_string_pretty(&status)?),
        (false, Output::JsonLine) => format!("{}\n", serde_json::to_string(&status)?),
    };
    print(text.as_bytes())
}

/// Writes to standard output. Who closed it has seen enough: `gateway-bin status | head` is no
/// error.
fn print(text: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

impl core::fmt::Debug for EnrollArgs {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("EnrollArgs").field("core", &self.core).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_enrollment_command_that_core_prints_is_understood() {
        let pin = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let line =
            ["gateway-bin", "enroll", "--core", "https://c:8444", "--token", "T", "--ca-pin"];
        let parsed = Cli::try_parse_from(line.into_iter().chain([pin])).unwrap();
        assert!(!format!("{parsed:?}").contains("\"T\""), "the token is not shown");
        let Command::Enroll(args) = parsed.command else { panic!("another command") };
        assert_eq!(args.ca_pin.to_string(), pin);
        assert_eq!(parsed.dir, Path::new(DEFAULT_DIR));
    }

    #[test]
    fn the_directory_can_be_said_before_and_after_the_command() {
        for line in [["--dir", "/d", "status"], ["status", "--dir", "/d"]] {
            let parsed = Cli::try_parse_from(["gateway-bin"].into_iter().chain(line)).unwrap();
            assert_eq!(parsed.dir, Path::new("/d"));
        }
    }

    #[test]
    fn a_mistyped_pin_is_explained() {
        let line =
            ["gateway-bin", "enroll", "--core", "https://c", "--token", "T", "--ca-pin", "9f"];
        let error = Cli::try_parse_from(line).unwrap_err().to_string();
        assert!(error.contains("64 hexadecimal digits"), "{error}");
    }
}
