//! Groups of test programs, and where each runs: here, or on one of the machines of `vm`.
//!
//! A test program belongs to the group that its file's name begins with: `tests/kernel*.rs`,
//! `tests/time_travel*`, `tests/userspace*.rs`. Those in `tests/netns` run twice: here, and on a
//! machine with `$WGMFA_BACKEND=kernel`. Tests that cannot run everywhere are `#[ignore]`d
//! there, so that plain `cargo test` passes on any machine; their group runs them. They find the
//! programs of the product in `$WGMFA_BIN_DIR`.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use anyhow::{Context as _, Result};

use super::stage::BUILD;
use super::tally::Tally;
use crate::built::{Built, Program};
use crate::{axe, process};

/// The programs that journeys start.
const PROGRAMS: [&str; 4] = ["core-bin", "gateway-bin", "client-bin", "demo"];

/// The most that one test program may take on a machine, in seconds: an emulated machine on a busy
/// host is slow.
const MACHINE_SECONDS: &str = "2400";

/// The most tests of a program that get a second attempt: more at once are no accident.
const STUMBLES: usize = 3;

/// How many lines before a failure are shown.
const BEFORE: usize = 40;

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
    let mut stumbled = Vec::new();
    let mut failed = Vec::new();
    for test in built.tests.iter().filter(|test| belongs(test, args.group)) {
        eprintln!("\n     Running {} of {} ({})", test.name, test.package, test.path.display());
        let log = logs.join(format!("{}-{}.log", test.package, test.name));
        let first = Attempt::make(command(args, &built, test)?, &log)?;
        let again = if first.succeeded() || !by_the_clock(test) { vec![] } else { first.failed() };
        if again.is_empty() || again.len() > STUMBLES {
            total.add(&Tally::last(&first.said));
            if !first.succeeded() {
                failed.push((test, first));
            }
            continue;
        }

        eprintln!("\n     Once more, alone: {}", again.join(", "));
        let mut command = command(args, &built, test)?;
        command.arg("--exact").args(&again);
        let second = Attempt::make(command, &log.with_extension("again.log"))?;
        let mut tally = Tally::last(&first.said);
        if second.succeeded() {
            tally.pass_again();
            stumbled.push((test, first));
        } else {
            failed.push((test, second));
        }
        total.add(&tally);
    }
    eprintln!("\n{}", total.total());
    for (test, first) in stumbled {
        eprintln!("\n{} of {} passed at its second attempt; its first:", test.name, test.package);
        eprintln!("{}", first.failures());
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    for (test, attempt) in failed {
        eprintln!("\n{} of {} failed ({}):", test.name, test.package, attempt.status);
        eprintln!("{}", attempt.failures());
    }
    Ok(ExitCode::FAILURE)
}

/// A test program that ran, and all that it said.
struct Attempt {
    status: ExitStatus,
    said: String,
}

impl Attempt {
    fn make(mut command: Command, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let status = command
            .stdout(file.try_clone()?)
            .stderr(file)
            .status()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let said = String::from_utf8_lossy(&fs::read(log)?).into_owned();
        eprint!("{said}");
        Ok(Self { status, said })
    }

    fn succeeded(&self) -> bool {
        self.status.success()
    }

    /// The tests that failed, as the program lists them at its end; none if it did not come so far.
    fn failed(&self) -> Vec<String> {
        let mut lines: Vec<&str> = self.said.lines().map(str::trim_end).collect();
        let Some(list) = lines.iter().rposition(|line| *line == "failures:") else {
            return Vec::new();
        };
        let listed = lines.split_off(list.saturating_add(1));
        let names = listed.iter().map_while(|line| line.strip_prefix("    "));
        names.map(str::to_owned).collect()
    }

    /// What the program said just before its first failure, and of its failures in the end; all
    /// that it said if it did not come that far.
    fn failures(&self) -> String {
        let Some(end) = self.said.rfind("\nfailures:\n\n---- ") else {
            return self.said.trim().to_owned();
        };
        let (story, failures) = self.said.split_at(end);
        let lines: Vec<&str> = story.lines().collect();
        let first = lines.iter().position(|line| line.trim_end().ends_with("FAILED")).unwrap_or(0);
        let from = first.saturating_sub(BEFORE);
        let before = lines.get(from..first).unwrap_or_default().join("\n");
        format!("{}\n{}", before.trim(), failures.trim()).trim().to_owned()
    }
}

/// Tests of programs that run by real clocks, on machines that others use too: a stall of a few
/// seconds fails them with nothing wrong in the product. A few that failed run once more, alone; the
/// table says so, and the log has what the first attempt said.
fn by_the_clock(test: &Program) -> bool {
    ["userspace", "netns", "kernel", "time_travel", "browser", "process"]
        .iter()
        .any(|prefix| test.name.starts_with(prefix))
}

fn command(args: &GroupArgs, built: &Built, test: &Program) -> Result<Command> {
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
    if args.group == Group::Browser {
        command.env(axe::VARIABLE, axe::obtain()?);
    }
    command.args(&args.arguments);
    Ok(command)
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
        // Core's processes are killed on both databases, and those fail under them.
        Group::Databases => {
            let model = test.package == "sim" && test.name == "store";
            test.package == "mfa-store" || starts("process") || model
        }
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
    use super::{Attempt, Group, belongs, in_machine};
    use std::process::ExitStatus;

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
        let cases: [(&str, &str, &[Group]); 9] = [
            ("wg-mfa", "kernel_idle", &[Group::Kernel]),
            ("wg-netlink", "kernel", &[Group::Kernel]),
            ("wg-mfa", "time_travel_idle", &[Group::TimeTravel]),
            ("wg-netlink", "userspace", &[Group::Userspace]),
            ("wg-mfa", "netns", &[Group::Userspace, Group::Kernel]),
            ("mfa-store", "mfa_store", &[Group::Databases]),
            ("core-bin", "process", &[Group::Databases]),
            ("sim", "store", &[Group::Databases]),
            ("mfa-core", "mfa_core", &[Group::Unit]),
        ];
        for (package, name, expected) in cases {
            let test = program(package, name);
            let groups: Vec<Group> =
                Group::value_variants().iter().copied().filter(|it| belongs(&test, *it)).collect();
            assert_eq!(groups, expected, "{package} {name}");
        }
    }

    fn attempt(said: &str) -> Attempt {
        Attempt { status: ExitStatus::default(), said: said.to_owned() }
    }

    #[test]
    fn of_a_failed_program_the_failures_are_repeated_and_what_came_before() {
        let said = "test a ... ok\ntest b ... FAILED\ntest c ... ok\n\nfailures:\n\n---- b stdout ----\nno\n";

        assert_eq!(attempt(said).failures(), "test a ... ok\nfailures:\n\n---- b stdout ----\nno");
        assert_eq!(attempt("core dumped\n").failures(), "core dumped");
    }

    #[test]
    fn the_tests_that_failed_are_those_of_the_last_list() {
        // A test that starts its own program again leaves that one's list before.
        let said = "failures:\r\n    inner\r\n\r\ntest result: FAILED.\r\nfailures:\r\n\r\n\
            ---- a::b stdout ----\r\nno\r\n\r\n\r\nfailures:\r\n    a::b\r\n    c\r\n\r\n\
            test result: FAILED. 1 passed\r\n";

        assert_eq!(attempt(said).failed(), ["a::b", "c"]);
        assert_eq!(attempt("core dumped\n").failed(), [""; 0]);
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
