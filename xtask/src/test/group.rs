//! Groups of test programs, and where each runs: here, or on one of the machines of `vm`.
//!
//! A test program belongs to the group that its file's name begins with: `tests/kernel*.rs`,
//! `tests/time_travel*.rs`, `tests/userspace*.rs`. Those in `tests/netns` run twice: here, and on a
//! machine with `$WGMFA_BACKEND=kernel`. Tests that cannot run everywhere are `#[ignore]`d
//! there, so that plain `cargo test` passes on any machine; their group runs them. They find the
//! programs of the product in `$WGMFA_BIN_DIR`.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result};

use super::stage::BUILD;
use super::tally::Tally;
use crate::built::{Built, Program};
use crate::process;

/// The programs that journeys start.
const PROGRAMS: [&str; 4] = ["core-bin", "gateway-bin", "client-bin", "demo"];

/// The most that one test program may take on a machine, in seconds: an emulated machine on a busy
/// host is slow.
const MACHINE_SECONDS: &str = "2400";

/// A group, and arguments for its test programs.
#[derive(Debug, clap::Args)]
pub(crate) struct GroupArgs {
    group: Group,
    #[arg(last = true)]
    arguments: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Group {
    Unit,
    Databases,
    Userspace,
    Kernel,
    TimeTravel,
    Browser,
}

/// Builds all test programs and runs those of the group, every one of them whatever fails.
///
/// # Errors
///
/// When the build fails or a test program cannot be started.
pub(crate) fn run(args: &GroupArgs) -> Result<ExitCode> {
    let built = Built::make(&BUILD)?;
    let logs = Path::new("target/xtask/tests");
    fs::create_dir_all(logs).with_context(|| format!("cannot make {}", logs.display()))?;
    let mut total = Tally::default();
    let mut failed = Vec::new();
    for test in built.tests.iter().filter(|test| belongs(test, args.group)) {
        eprintln!("\n     Running {} of {} ({})", test.name, test.package, test.path.display());
        let log = logs.join(format!("{}-{}.log", test.package, test.name));
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let status = command(args, &built, test)
            .stdout(file.try_clone()?)
            .stderr(file)
            .status()
            .with_context(|| format!("cannot start {}", test.path.display()))?;
        let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        eprint!("{said}");
        total.add(&Tally::last(&said));
        if !status.success() {
            failed.push((test, status, said));
        }
    }
    eprintln!("\n{}", total.total());
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    for (test, status, said) in failed {
        eprintln!("\n{} of {} failed ({status}):", test.name, test.package);
        eprintln!("{}", failures(&said));
    }
    Ok(ExitCode::FAILURE)
}

/// What a test program said about its failures; all that it said if it did not come that far.
fn failures(said: &str) -> &str {
    said.rfind("\nfailures:\n\n---- ").and_then(|at| said.get(at..)).unwrap_or(said).trim()
}

fn command(args: &GroupArgs, built: &Built, test: &Program) -> Command {
    let mut command = match args.group {
        Group::Kernel => in_machine(built, test, &[]),
        Group::TimeTravel => in_machine(built, test, &["--time-travel"]),
        Group::Unit | Group::Databases | Group::Userspace | Group::Browser => here(built, test),
    };
    if args.group != Group::Unit {
        command.arg("--include-ignored");
    }
    if matches!(args.group, Group::Userspace | Group::Kernel | Group::TimeTravel) {
        command.arg("--test-threads=1");
    }
    if args.group == Group::Kernel && test.name == "netns" {
        // They are about PostgreSQL and a mail server, which the host has and the machine has not.
        command.args(["--skip", "independent::"]);
    }
    command.args(&args.arguments);
    command
}

/// Whether a test program runs in a group: the journeys in network namespaces do on userspace
/// WireGuard and on the kernel's, all others in one.
fn belongs(test: &Program, group: Group) -> bool {
    let starts = |prefix| test.name.starts_with(prefix);
    match group {
        Group::Userspace => starts("userspace") || starts("netns"),
        Group::Kernel => starts("kernel") || starts("netns"),
        Group::TimeTravel => starts("time_travel"),
        Group::Browser => starts("browser"),
        Group::Databases => test.package == "mfa-store",
        Group::Unit => {
            let others = [
                Group::Userspace,
                Group::Kernel,
                Group::TimeTravel,
                Group::Databases,
                Group::Browser,
            ];
            !others.iter().any(|other| belongs(test, *other))
        }
    }
}

fn here(built: &Built, test: &Program) -> Command {
    let mut command = test.command();
    if let Some(dir) = built.programs.first().and_then(|program| program.path.parent()) {
        command.env("WGMFA_BIN_DIR", dir);
    }
    command
}

fn in_machine(built: &Built, test: &Program, options: &[&str]) -> Command {
    let mut command = process::this();
    command.arg("vm").args(options).args(["--timeout", MACHINE_SECONDS]).stdin(Stdio::null());
    command.args(["--env", "WGMFA_BACKEND=kernel"]);
    for program in built.programs.iter().filter(|it| PROGRAMS.contains(&it.name.as_str())) {
        command.arg("--file").arg(&program.path);
    }
    command.arg("--").arg(&test.path);
    command
}

#[cfg(test)]
mod tests {
    use super::{Group, belongs, failures, in_machine};
    use crate::built::{Built, Program};
    use clap::ValueEnum as _;

    fn program(package: &str, name: &str) -> Program {
        Program {
            package: package.to_owned(),
            name: name.to_owned(),
            path: format!("/t/{name}").into(),
            dir: "/s".into(),
        }
    }

    #[test]
    fn a_test_program_belongs_to_the_groups_that_its_name_begins_with() {
        let cases: [(&str, &str, &[Group]); 7] = [
            ("wg-mfa", "kernel_idle", &[Group::Kernel]),
            ("wg-netlink", "kernel", &[Group::Kernel]),
            ("wg-mfa", "time_travel_idle", &[Group::TimeTravel]),
            ("wg-netlink", "userspace", &[Group::Userspace]),
            ("wg-mfa", "netns", &[Group::Userspace, Group::Kernel]),
            ("mfa-store", "mfa_store", &[Group::Databases]),
            ("mfa-core", "mfa_core", &[Group::Unit]),
        ];
        for (package, name, expected) in cases {
            let test = program(package, name);
            let groups: Vec<Group> =
                Group::value_variants().iter().copied().filter(|it| belongs(&test, *it)).collect();
            assert_eq!(groups, expected, "{package} {name}");
        }
    }

    #[test]
    fn of_a_failed_program_only_the_failures_are_repeated() {
        let said = "test a ... ok\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\nno\n";

        assert_eq!(failures(said), "failures:\n\n---- b stdout ----\nno");
        assert_eq!(failures("core dumped\n"), "core dumped");
    }

    #[test]
    fn a_test_on_a_machine_brings_the_programs_that_it_starts() {
        let built = Built {
            programs: vec![program("core-bin", "core-bin"), program("xtask", "xtask")],
            ..Built::default()
        };

        let command = in_machine(&built, &program("wg-mfa", "kernel"), &["--time-travel"]);

        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        assert_eq!(
            words.join(" "),
            "vm --time-travel --timeout 2400 --env WGMFA_BACKEND=kernel --file /t/core-bin -- /t/kernel"
        );
    }
}
