//! `cargo xtask setup`: the programs that demo and tests use beside Rust and a C compiler.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{debian, demo, process};

/// A Debian package, and how to see that what it is for is there.
#[derive(Debug)]
struct Package {
    name: &'static str,
    probe: Probe,
}

#[derive(Debug)]
enum Probe {
    /// A program in `$PATH` or in root's directories.
    Program(&'static str),
    /// `DIR/*/REST`: some version's directory has the file.
    Versioned(&'static str, &'static str),
}

use Probe::{Program, Versioned};

/// What the demonstration makes use of: networks, and independent witnesses of what happens.
const DEMO: [Package; 4] = [
    Package { name: "iproute2", probe: Program("ip") },
    Package { name: "iputils-ping", probe: Program("ping") },
    Package { name: "nftables", probe: Program("nft") },
    Package { name: "wireguard-tools", probe: Program("wg") },
];

/// What the tests need besides: the two machines, codes, mail, and the other database.
const TEST: [Package; 21] = [
    Package { name: "bc", probe: Program("bc") },
    Package { name: "bison", probe: Program("bison") },
    Package { name: "busybox-static", probe: Program("busybox") },
    Package { name: "chromium", probe: Program("chromium") },
    Package { name: "chromium-driver", probe: Program("chromedriver") },
    Package { name: "curl", probe: Program("curl") },
    Package { name: "flex", probe: Program("flex") },
    Package { name: "gcc", probe: Program("gcc") },
    Package { name: "kmod", probe: Program("modprobe") },
    Package { name: "libc6-dev", probe: Versioned("/usr/lib", "crt1.o") },
    Package { name: "libfaketime", probe: Versioned("/usr/lib", "faketime/libfaketimeMT.so.1") },
    Package { name: "make", probe: Program("make") },
    Package { name: "oathtool", probe: Program("oathtool") },
    Package { name: "postgresql", probe: Versioned("/usr/lib/postgresql", "bin/postgres") },
    Package { name: "python3-aiosmtpd", probe: Program("aiosmtpd") },
    Package { name: "python3-pip", probe: Program("pip3") },
    Package { name: "qemu-system-x86", probe: Program("qemu-system-x86_64") },
    Package { name: "strace", probe: Program("strace") },
    Package { name: "tcpdump", probe: Program("tcpdump") },
    Package { name: "wireguard-go", probe: Program("wireguard-go") },
    Package { name: "xz-utils", probe: Program("xz") },
];

/// What a run of all tests writes where nothing is compiled yet, in GB, with some to spare.
const ROOM: u64 = 7;

/// What to do on a machine that lacks something.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only say what is missing; exit 1 if anything is.
    #[arg(long)]
    check: bool,
}

/// Installs what is missing, if this process may.
///
/// # Errors
///
/// When something is missing and cannot be installed; the text says what and how.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let missing = missing(DEMO.iter().chain(&TEST));
    if missing.is_empty() {
        eprintln!("nothing is missing for demo and test");
    } else if args.check {
        bail!("{}", advice(&missing));
    } else {
        install(&missing)?;
    }
    room(&demo::target_dir()?)?;
    Ok(ExitCode::SUCCESS)
}

/// Tells that the disk will be full before half an hour is spent, not after.
fn room(target: &Path) -> Result<()> {
    if target.join("sim").is_dir() {
        // Nearly all of it is there already.
        return Ok(());
    }
    fs::create_dir_all(target)?;
    let mut df = Command::new("df");
    let said = process::output(df.args(["--output=avail", "--block-size=GB"]).arg(target))?;
    let free = said.lines().last().and_then(|line| line.trim().strip_suffix("GB"));
    let free: u64 = free.and_then(|free| free.parse().ok()).context("df said no size")?;
    let place = target.display();
    ensure!(
        free >= ROOM,
        "the tests need {ROOM} GB in {place}, where {free} GB are free; make room, or set CARGO_TARGET_DIR"
    );
    Ok(())
}

/// Installs what the demonstration would use, or says what it will go without.
pub(crate) fn for_demo() {
    let missing = missing(&DEMO);
    if missing.is_empty() {
        return;
    }
    if let Err(error) = install(&missing) {
        eprintln!("going on without some tools: {error:#}");
    }
}

fn missing(packages: impl IntoIterator<Item = &'static Package>) -> Vec<&'static str> {
    packages.into_iter().filter(|it| !it.probe.found()).map(|it| it.name).collect()
}

impl Probe {
    fn found(&self) -> bool {
        match self {
            Program(name) => process::find(name).is_some(),
            Versioned(dir, rest) => fs::read_dir(dir)
                .is_ok_and(|entries| entries.flatten().any(|it| it.path().join(rest).is_file())),
        }
    }
}

fn install(missing: &[&str]) -> Result<()> {
    if !debian::is_root() || process::find("apt-get").is_none() {
        bail!("{}", advice(missing));
    }
    debian::update()?;
    eprintln!("installing {}", missing.join(" "));
    process::output(
        Command::new("apt-get")
            .args(["--quiet", "--yes", "--no-install-recommends", "install"])
            .args(missing)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
    .map(drop)
}

fn advice(missing: &[&str]) -> String {
    let names = missing.join(" ");
    format!("these packages are missing; as root: apt-get install --no-install-recommends {names}")
}

#[cfg(test)]
mod tests {
    use super::{Package, Probe, advice, missing};

    #[test]
    fn what_is_missing_is_named_in_the_command_to_type() {
        static PACKAGES: [Package; 3] = [
            Package { name: "dash", probe: Probe::Program("sh") },
            Package { name: "nothing", probe: Probe::Program("no such program") },
            Package { name: "nowhere", probe: Probe::Versioned("/no such directory", "x") },
        ];

        let missing = missing(&PACKAGES);

        assert_eq!(missing, ["nothing", "nowhere"]);
        assert!(advice(&missing).ends_with("nothing nowhere"));
    }
}
