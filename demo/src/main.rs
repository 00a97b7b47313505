//! The demonstration: the whole journey on one machine, for real.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, ValueEnum};
use demo::company::{Company, Gateway, Laptop};
use demo::lab::{self, Lab};
use demo::story::{self, Teller, World};
use serde_json::Value;

/// Runs core, a gateway and a client with a second factor, and shows that packets pass then, and
/// only then.
///
/// Everything runs in namespaces of its own and is gone afterwards. Without root it uses a user
/// namespace; where there can be none, it runs wholly in one process.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask demo")]
struct Arguments {
    /// End after the story: exit 0 if every check passed, else 1.
    #[arg(long)]
    once: bool,
    /// How WireGuard is to run; by default the best that works here.
    #[arg(long, value_enum, default_value_t)]
    backend: Backend,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
enum Backend {
    /// The best that works here.
    #[default]
    Auto,
    /// The kernel's WireGuard.
    Kernel,
    /// Userspace WireGuard on TUN devices.
    Userspace,
    /// Userspace WireGuard in this process, without any privilege.
    InProcess,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain(&format!("the demonstration broke: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    if arguments.backend == Backend::InProcess {
        return in_process("it was asked for");
    }
    if !lab::is_inside() {
        if let Err(reason) = lab::possible() {
            if arguments.backend != Backend::Auto {
                return Err(reason);
            }
            return in_process(&format!("{reason:#}"));
        }
        lab::enter()?;
    }
    in_lab(arguments)
}

fn in_process(reason: &str) -> Result<bool> {
    bail!("not yet ({reason})")
}

fn in_lab(arguments: &Arguments) -> Result<bool> {
    let directory = tempfile::tempdir()?;
    let mut lab = Lab::new(directory.path())?;
    let backend = choose(arguments.backend)?;
    let mut teller = Teller::new();
    let outcome = story_in_lab(&mut teller, &mut lab, backend);
    if let Err(error) = &outcome {
        complain(&format!("{error:#}\n{}", lab.logs()));
        teller.check("the story was told to its end", false);
    }
    let passed = teller.finish();
    Ok(passed)
}

/// Picks the back end inside the lab and says why.
fn choose(wanted: Backend) -> Result<&'static str> {
    let kernel = lab::run("ip", ["link", "add", "probe", "type", "wireguard"])
        .and_then(|_| lab::run("ip", ["link", "delete", "probe"]));
    let tun = std::path::Path::new("/dev/net/tun").exists();
    match (wanted, kernel, tun) {
        (Backend::Kernel, Err(error), _) => {
            Err(error).context("this kernel has no WireGuard: `modprobe wireguard`")
        }
        (Backend::Auto | Backend::Kernel, Ok(_), _) => {
            say("WireGuard: the kernel's, in network namespaces.");
            Ok("kernel")
        }
        (_, _, true) => {
            say(
                "WireGuard: userspace on TUN, in network namespaces (this kernel has no WireGuard).",
            );
            Ok("userspace")
        }
        _ => bail!("neither kernel WireGuard nor /dev/net/tun is here; try --backend in-process"),
    }
}

fn story_in_lab(teller: &mut Teller, lab: &mut Lab, backend: &str) -> Result<()> {
    teller.say("core", "starts from an empty directory: SQLite, its own CA, a mail server");
    let company = Company::found(lab)?;
    let threshold = story::THRESHOLD.as_secs().to_string();
    teller.say("admin", "adds the location \u{201c}office\u{201d}: MFA required, TOTP or e-mail");
    company.admin(&[
        "location",
        "add",
        "office",
        "--address",
        "10.1.0.1/24",
        "--endpoint",
        "10.77.0.2:51820",
        "--allowed-ips",
        "10.99.0.0/24",
        "--mfa",
        "on",
        "--mfa-methods",
        "totp,email",
        "--peer-disconnect-threshold",
        &threshold,
    ])?;
    teller.say("gateway", "enrolls with a one-use token and programs WireGuard");
    let gateway = Gateway::join(&company, lab, "office", "gateway", "10.99.0.1", backend)?;
    teller.say("admin", "adds the user alice and gives her an enrollment link");
    company.admin(&["user", "add", "alice", "--email", "alice@example.org"])?;
    let laptop = Laptop::new(lab, "laptop", backend)?;
    teller.say("laptop", "enrolls: its private key never leaves it");
    laptop.enroll(&company, "alice")?;
    teller.say("laptop", "sets up an authenticator (TOTP) and e-mail");
    let authenticator = laptop.set_up_totp()?;
    laptop.set_up_email(&company)?;
    let world = InLab { gateway, laptop };
    story::tell(teller, &world, &authenticator, company.mailbox())
}

struct InLab {
    gateway: Gateway,
    laptop: Laptop,
}

impl World for InLab {
    fn connect(&self, method: &str, code: &mut dyn FnMut() -> Result<String>) -> Result<Value> {
        // A code by mail can only be had once the client has asked for it.
        if method == "email" {
            return self.laptop.connect_with("office", method, code);
        }
        self.laptop.connect("office", &["--method", method, "--code", &code()?])
    }

    fn disconnect(&self) -> Result<()> {
        self.laptop.client(&["disconnect", "office"]).map(drop)
    }

    fn ping(&self) -> Result<bool> {
        self.laptop.host().ping("10.99.0.1")
    }

    fn peers(&self) -> Result<usize> {
        Ok(self.gateway.peers()?.len())
    }

    fn status(&self) -> Result<String> {
        let status = self.laptop.client(&["status"])?;
        let said = status.pointer("/locations/0/last_end/detail").and_then(Value::as_str);
        Ok(said.unwrap_or("no word of an end").to_owned())
    }

    fn wg_show(&self) -> Result<String> {
        self.gateway.wg_show()
    }
}

#[expect(clippy::print_stdout, reason = "the demonstration's output")]
fn say(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "the demonstration's complaints")]
fn complain(text: &str) {
    eprintln!("{text}");
}
