//! The stages of `cargo xtask test`.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::{Outcome, Tally, Verdict};
use crate::{clock, demo, process};

/// One stage: commands that run one after the other until one fails.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    commands: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    /// cargo with these arguments.
    Cargo(&'static [&'static str]),
    /// This program with these arguments.
    Chore(&'static [&'static str]),
    /// The demonstration as the build stage left it, with these arguments.
    Demo(&'static [&'static str]),
    /// A group of test programs; the arguments of `cargo xtask test -- …` go to them.
    Group(&'static str),
    /// The simulator on seeds that no other change has seen.
    FreshSeeds,
}

use Step::{Cargo, Chore, Demo, FreshSeeds, Group};

/// Steps on fresh seeds: a minute or so of two cores.
const FRESH_STEPS: &str = "150000000";

/// The simulator, built fast and with its seeded bugs.
macro_rules! sim {
    ($($word:literal),+) => {
        ["run", "--quiet", "--profile", "sim", "--package", "sim", "--features", "mutants", "--", $($word),+]
    };
}

/// All stages, in the order in which they run: what fails soonest comes first.
pub(super) fn all() -> Vec<Stage> {
    let stage = |name, what, commands| Stage { name, what, commands };
    vec![
        stage("setup", "programs that the other stages use", vec![Chore(&["setup"])]),
        stage("format", "the sources are formatted", vec![Cargo(&["fmt", "--all", "--check"])]),
        stage("arrows", "dependencies point one way", vec![Chore(&["arrows"])]),
        stage("deny", "licences, sources, banned crates", vec![Chore(&["deny"])]),
        stage(
            "lints",
            "clippy finds nothing",
            vec![Cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])],
        ),
        stage("build", "everything, with its tests", vec![Cargo(&BUILD)]),
        stage("unit", "tests that need nothing but the machine", vec![Group("unit")]),
        stage(
            "sim",
            "the simulator finds nothing, and finds every seeded bug",
            vec![
                Cargo(&sim!("regressions", "sim/regressions")),
                Cargo(&sim!(
                    "run",
                    "--steps",
                    "20000000",
                    "--seed",
                    "1",
                    "--threads",
                    "2",
                    "--coverage"
                )),
                Cargo(&sim!(
                    "mutants",
                    "--steps",
                    "30000000",
                    "--seed",
                    "1",
                    "--threads",
                    "2",
                    "--ways",
                    "sim/regressions"
                )),
                FreshSeeds,
            ],
        ),
        stage("databases", "the store on SQLite and on PostgreSQL", vec![Group("databases")]),
        stage("browser", "the pages in Chromium, with pictures", vec![Group("browser")]),
        stage("userspace", "journeys over userspace WireGuard", vec![Group("userspace")]),
        stage("kernel", "journeys over a real kernel's WireGuard", vec![Group("kernel")]),
        stage("time-travel", "the same, over hours that pass at once", vec![Group("time-travel")]),
        stage(
            "docs",
            "the documentation builds, its examples run",
            vec![
                Cargo(&["doc", "--no-deps", "--workspace"]),
                Cargo(&["test", "--doc", "--workspace"]),
            ],
        ),
        stage("demo", "the demonstration ends well", vec![Cargo(&BUILD), Demo(&["--once"])]),
    ]
}

/// Builds the programs, their tests, benches and examples at once, so that all of them are built
/// with the same features.
pub(super) const BUILD: [&str; 3] = ["build", "--workspace", "--all-targets"];

impl Stage {
    /// Whether the stage runs what the stage "build" makes.
    pub(super) fn needs_build(&self) -> bool {
        self.commands.iter().any(|step| matches!(step, Group(_) | Demo(_)))
    }

    /// Runs the stage with its output in `log`.
    ///
    /// # Errors
    ///
    /// When the log cannot be written or a program cannot be started.
    pub(super) fn run(&self, log: &Path, arguments: &[String]) -> Result<Outcome> {
        let mut file =
            File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let start = clock::Stopwatch::start();
        let mut verdict = Verdict::Passed;
        for step in &self.commands {
            let mut command = step.command(arguments)?;
            writeln!(file, "$ {}", describe(&command))?;
            let status = command
                .stdin(Stdio::null())
                .stdout(file.try_clone()?)
                .stderr(file.try_clone()?)
                .status()
                .with_context(|| format!("cannot start `{}`", describe(&command)))?;
            if !status.success() {
                verdict = Verdict::Failed;
                break;
            }
        }
        let output = String::from_utf8_lossy(&fs::read(log)?).into_owned();
        Ok(Outcome { verdict, took: start.elapsed(), tally: Tally::read(&output) })
    }
}

impl Step {
    fn command(&self, arguments: &[String]) -> Result<Command> {
        let command = match self {
            Cargo(words) => {
                let mut command = Command::new("cargo");
                command.args(*words).env("RUSTDOCFLAGS", "-D warnings");
                command
            }
            Chore(words) => {
                let mut command = process::this();
                command.args(*words);
                command
            }
            Demo(words) => demo::start(words)?,
            Group(name) => {
                let mut command = process::this();
                command.args(["group", name, "--"]).args(arguments);
                command
            }
            FreshSeeds => {
                let mut command = Command::new("cargo");
                command.args(sim!("run", "--threads", "2", "--steps")).arg(FRESH_STEPS);
                if let Some(series) = series_of_the_tree() {
                    command.args(["--seed", &series.to_string()]);
                }
                command
            }
        };
        Ok(command)
    }
}

/// A series of seeds for what is committed here: another one for each change, and the same wherever it is
/// tested, so that a change does not fail in one place what it passed in another. `None`: this is no
/// checkout; the simulator draws one.
fn series_of_the_tree() -> Option<u64> {
    let tree = process::output(Command::new("git").args(["rev-parse", "HEAD^{tree}"])).ok()?;
    series(&tree)
}

fn series(tree: &str) -> Option<u64> {
    u64::from_str_radix(tree.get(..15)?, 16).ok()
}

fn describe(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_a_series_of_its_own() {
        let tree = "4b825dc642cb6eb9a060e54bf8d69288fbee4904\n";
        assert_eq!(series(tree), Some(0x04b8_25dc_642c_b6eb));
        assert_eq!(series("fatal: not a git repository"), None);
    }
}
