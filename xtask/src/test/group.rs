//! Groups of test programs, and where each runs: here, or on one of the machines of `vm`.
//!
//! A test program belongs to the group that its file's name begins with: `tests/kernel*.rs`,
//! `tests/time_travel*.rs`, `tests/userspace*.rs`. Tests that cannot run everywhere are `#[ignore]`d
//! there, so that plain `cargo test` passes on any machine; their group runs them. They find the
//! three programs in `$WGMFA_BIN_DIR`.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result};

use super::stage::BUILD;
use crate::process;

/// The programs that journeys start.
const PROGRAMS: [&str; 3] = ["core-bin", "gateway-bin", "client-bin"];

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
}

/// Builds all test programs and runs those of the group, every one of them whatever fails.
///
/// # Errors
///
/// When the build fails or a test program cannot be started.
pub(crate) fn run(args: &GroupArgs) -> Result<ExitCode> {
    let built = Built::make()?;
    let mut failed = Vec::new();
    for test in built.tests.iter().filter(|test| test.group() == args.group) {
        eprintln!("\n     Running {} of {} ({})", test.name, test.package, test.path.display());
        let mut command = match args.group {
            Group::Kernel => built.in_machine(test, &[]),
            Group::TimeTravel => built.in_machine(test, &["--time-travel"]),
            Group::Unit | Group::Databases | Group::Userspace => built.here(test),
        };
        if args.group != Group::Unit {
            command.arg("--include-ignored");
        }
        if matches!(args.group, Group::Userspace | Group::Kernel | Group::TimeTravel) {
            command.arg("--test-threads=1");
        }
        let status = command
            .args(&args.arguments)
            .stdin(Stdio::null())
            .status()
            .with_context(|| format!("cannot start {}", test.path.display()))?;
        if !status.success() {
            failed.push(format!("{} of {} ({status})", test.name, test.package));
        }
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("\nfailed:\n  {}", failed.join("\n  "));
    Ok(ExitCode::FAILURE)
}

/// What cargo built.
#[derive(Debug, Default)]
struct Built {
    tests: Vec<TestProgram>,
    programs: Vec<PathBuf>,
}

#[derive(Debug)]
struct TestProgram {
    package: String,
    name: String,
    path: PathBuf,
    /// The package's directory, in which its tests run.
    dir: PathBuf,
}

impl TestProgram {
    fn group(&self) -> Group {
        let starts = |prefix| self.name.starts_with(prefix);
        if starts("kernel") {
            Group::Kernel
        } else if starts("time_travel") {
            Group::TimeTravel
        } else if starts("userspace") {
            Group::Userspace
        } else if self.package == "mfa-store" {
            Group::Databases
        } else {
            Group::Unit
        }
    }
}

impl Built {
    fn make() -> Result<Self> {
        let done = Command::new("cargo")
            .args(BUILD)
            .arg("--message-format=json-render-diagnostics")
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start cargo")?;
        anyhow::ensure!(done.status.success(), "the tests do not build");
        Self::read(&String::from_utf8_lossy(&done.stdout))
    }

    /// Reads cargo's messages, one JSON object a line.
    fn read(messages: &str) -> Result<Self> {
        let mut built = Self::default();
        for line in messages.lines() {
            let message: serde_json::Value =
                serde_json::from_str(line).context("cargo wrote a message that is not JSON")?;
            let Some(path) = message.get("executable").and_then(|path| path.as_str()) else {
                continue;
            };
            built.add(&message, path).context("cargo wrote a message of unknown shape")?;
        }
        Ok(built)
    }

    fn add(&mut self, message: &serde_json::Value, path: &str) -> Option<()> {
        let target = message.get("target")?;
        let name = target.get("name")?.as_str()?;
        let kind = target.get("kind")?.get(0)?.as_str()?;
        let path = PathBuf::from(path);
        let tested = message.get("profile")?.get("test")?.as_bool()?;
        if tested && kind != "bench" {
            let dir = Path::new(message.get("manifest_path")?.as_str()?).parent()?;
            self.tests.push(TestProgram {
                package: package_name(message.get("package_id")?.as_str()?).to_owned(),
                name: name.to_owned(),
                path,
                dir: dir.to_owned(),
            });
        } else if kind == "bin" && PROGRAMS.contains(&name) {
            self.programs.push(path);
        }
        Some(())
    }

    fn here(&self, test: &TestProgram) -> Command {
        let mut command = Command::new(&test.path);
        command.current_dir(&test.dir).env("CARGO_MANIFEST_DIR", &test.dir);
        if let Some(dir) = self.programs.first().and_then(|program| program.parent()) {
            command.env("WGMFA_BIN_DIR", dir);
        }
        command
    }

    fn in_machine(&self, test: &TestProgram, options: &[&str]) -> Command {
        let mut command = process::this();
        command.arg("vm").args(options);
        for program in &self.programs {
            command.arg("--file").arg(program);
        }
        command.arg("--").arg(&test.path);
        command
    }
}

/// The name in an id such as `path+file:///src/mfa-core#0.1.0` or `path+file:///src#wg-mfa@0.1.0`.
fn package_name(id: &str) -> &str {
    let (location, fragment) = id.rsplit_once('#').unwrap_or(("", id));
    match fragment.split_once('@') {
        Some((name, _)) => name,
        None => location.rsplit('/').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Built, Group, package_name};

    const MESSAGES: &str = concat!(
        r#"{"reason":"compiler-artifact","package_id":"path+file:///s#wg-mfa@0.1.0","#,
        r#""manifest_path":"/s/Cargo.toml","target":{"kind":["test"],"name":"kernel_idle"},"#,
        r#""profile":{"test":true},"executable":"/t/debug/deps/kernel_idle-1"}"#,
        "\n",
        r#"{"reason":"compiler-artifact","package_id":"path+file:///s/core-bin#0.1.0","#,
        r#""manifest_path":"/s/core-bin/Cargo.toml","target":{"kind":["bin"],"name":"core-bin"},"#,
        r#""profile":{"test":false},"executable":"/t/debug/core-bin"}"#,
        "\n",
        r#"{"reason":"compiler-artifact","package_id":"path+file:///s/mfa-store#0.1.0","#,
        r#""manifest_path":"/s/mfa-store/Cargo.toml","target":{"kind":["lib"],"name":"mfa_store"},"#,
        r#""profile":{"test":true},"executable":"/t/debug/deps/mfa_store-2"}"#,
        "\n",
        r#"{"reason":"build-finished","success":true}"#,
    );

    #[test]
    fn a_test_program_belongs_to_the_group_that_its_name_begins_with() {
        let built = Built::read(MESSAGES).unwrap();

        let groups: Vec<Group> = built.tests.iter().map(super::TestProgram::group).collect();
        assert_eq!(groups, [Group::Kernel, Group::Databases]);
        assert_eq!(built.programs, [std::path::Path::new("/t/debug/core-bin")]);
    }

    #[test]
    fn a_test_on_a_machine_brings_the_programs_that_it_starts() {
        let built = Built::read(MESSAGES).unwrap();

        let command = built.in_machine(&built.tests[0], &["--time-travel"]);

        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        let expected = "vm --time-travel --file /t/debug/core-bin -- /t/debug/deps/kernel_idle-1";
        assert_eq!(words.join(" "), expected);
    }

    #[test]
    fn packages_are_named_in_both_shapes_of_their_ids() {
        assert_eq!(package_name("path+file:///s/mfa-core#0.1.0"), "mfa-core");
        assert_eq!(package_name("path+file:///s#wg-mfa@0.1.0"), "wg-mfa");
    }
}
