//! The demonstration: the whole journey on one machine, for real.

use std::fs::File;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, ValueEnum};
use demo::alone;
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
        return in_process("as was asked");
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
    say(&format!("WireGuard: userspace in this process ({reason})."));
    let directory = tempfile::tempdir()?;
    let mut teller = Teller::new();
    if let Err(error) = alone::tell(&mut teller, directory.path()) {
        complain(&format!("{error:#}\n{}", lab::logs(directory.path())));
        teller.check("the story was told to its end", false);
    }
    Ok(teller.finish())
}

fn in_lab(arguments: &Arguments) -> Result<bool> {
    let directory = tempfile::tempdir()?;
    let mut lab = Lab::new(directory.path())?;
    let Some(backend) = choose(arguments.backend)? else {
        return in_process("neither the kernel's WireGuard nor /dev/net/tun can be used here");
    };
    let mut teller = Teller::new();
    // What the story has set up runs until this function ends.
    let stage = story_in_lab(&mut teller, &mut lab, backend);
    if let Err(error) = &stage {
        complain(&format!("{error:#}\n{}", lab.logs()));
        teller.check("the story was told to its end", false);
    }
    let passed = teller.finish();
    if stage.is_ok() && !arguments.once {
        stay(&lab)?;
    }
    Ok(passed)
}

/// Picks the back end inside the lab and says why; `None`: neither can be had.
fn choose(wanted: Backend) -> Result<Option<&'static str>> {
    let kernel = lab::run("ip", ["link", "add", "probe", "type", "wireguard"])
        .and_then(|_| lab::run("ip", ["link", "delete", "probe"]));
    // The device may be there and yet be root's alone.
    let tun = File::options().read(true).write(true).open("/dev/net/tun").is_ok();
    match (wanted, kernel, tun) {
        (Backend::Kernel, Err(error), _) => {
            Err(error).context("this kernel has no WireGuard: `modprobe wireguard`")
        }
        (Backend::Auto | Backend::Kernel, Ok(_), _) => {
            say("WireGuard: the kernel's, in network namespaces.");
            Ok(Some("kernel"))
        }
        (_, _, true) => {
            say(
                "WireGuard: userspace on TUN, in network namespaces (this kernel has no WireGuard).",
            );
            Ok(Some("userspace"))
        }
        (Backend::Userspace, ..) => {
            bail!("/dev/net/tun cannot be opened; try --backend in-process")
        }
        _ => Ok(None),
    }
}

/// Leaves everything running for a person who wants to look around.
fn stay(lab: &Lab) -> Result<()> {
    let directory = lab.directory().display();
    let bin = demo::company::program("core-bin")?;
    let bin = bin.parent().unwrap_or(&bin).display();
    let run = lab::outer_process();
    say(&format!(
        "\nEverything keeps running. From another terminal, as the same user:\n\n  \
         nsenter --target $(pgrep --parent {run} | head -1) --all\n\nThere, with \
         PATH={bin}:$PATH:\n\n  \
         core-bin --dir {directory}/core session list --all\n  \
         core-bin --dir {directory}/core audit list\n  \
         ip netns exec gateway wg show\n  \
         ip netns exec laptop client-bin --dir {directory}/laptop status\n\nEnter or Ctrl-C ends it, \
         and nothing is left behind."
    ));
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

fn story_in_lab(teller: &mut Teller, lab: &mut Lab, backend: &str) -> Result<(Company, InLab)> {
    teller.say("core", "starts from an empty directory: SQLite, its own CA, a mail server");
    let company = Company::found(lab)?;
    story::add_office(teller, &company, "10.77.0.2:51820")?;
    teller.say("gateway", "enrolls with a one-use token and programs WireGuard");
    let gateway = Gateway::join(&company, lab, "office", "gateway", "10.99.0.1", backend)?;
    story::add_alice(teller, &company)?;
    let laptop = Laptop::new(lab, "laptop", backend)?;
    teller.say("laptop", "enrolls: its private key never leaves it");
    laptop.enroll(&company, "alice")?;
    teller.say("laptop", "sets up an authenticator (TOTP) and e-mail");
    let authenticator = laptop.set_up_totp()?;
    laptop.set_up_email(&company)?;
    let world = InLab { gateway, laptop };
    story::tell(teller, &world, &authenticator, company.mailbox())?;
    Ok((company, world))
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

    fn status(&self) -> Result<Value> {
        self.laptop.client(&["status"])
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
