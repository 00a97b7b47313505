//! `cargo xtask test`: everything that must hold, in stages, on any machine.
//!
//! Each stage is a process of its own with its output in `target/xtask/STAGE.log`. All stages run,
//! whatever fails, and a table says what became of each.

mod group;
mod stage;
mod tally;

pub(crate) use group::{GroupArgs, run as run_group};

use std::fs;
use std::path::Path;
use std::process::{Child, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::{clock, process, vm};
use stage::Stage;
use tally::Tally;

/// How many lines of a failed stage are shown.
const SHOWN: usize = 120;

/// Which stages to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run only these stages.
    #[arg(long, value_name = "STAGE", value_delimiter = ',', conflicts_with = "skip")]
    only: Vec<String>,
    /// Run all but these stages.
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    skip: Vec<String>,
    /// List the stages.
    #[arg(long)]
    list: bool,
    /// Arguments for the test programs of these stages: a part of a test's name, --nocapture …
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

/// Runs the stages; the exit code is 1 if any of them failed.
///
/// # Errors
///
/// When a stage's name is unknown, or its log cannot be written.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.list {
        for stage in stage::all() {
            eprintln!("{:14} {}", stage.name, stage.what);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let stages = select(stage::all(), &args.only, &args.skip)?;
    let logs = Path::new("target/xtask");
    fs::create_dir_all(logs).with_context(|| format!("cannot make {}", logs.display()))?;

    let mut kernel = None;
    let mut unbuilt = false;
    let mut results = Vec::new();
    let start = clock::Stopwatch::start();
    for stage in &stages {
        eprint!("{:14} ", stage.name);
        let log = logs.join(format!("{}.log", stage.name));
        let result = if stage.needs_build() && unbuilt {
            Outcome::not_run()
        } else {
            stage.run(&log, &args.arguments)?
        };
        eprintln!("{}", result.line());
        // A second attempt is told with what went wrong at the first.
        if result.verdict == Verdict::Failed || result.tally.again > 0 {
            eprintln!("{}", last_lines(&log, SHOWN));
            unbuilt |= stage.name == "build" && result.verdict == Verdict::Failed;
        }
        results.push((stage.name, result));
        // Building that kernel takes minutes, niced; from here on it uses what the stages leave.
        if stage.name == "setup" && stages.iter().any(|stage| stage.name == "time-travel") {
            kernel = prepare_kernel(&logs.join("time-travel-kernel.log")).ok();
        }
    }
    if let Some(mut kernel) = kernel {
        kernel.wait().context("cannot wait for the kernel's build")?;
    }

    eprintln!("\n{:14} {:8} {:>8}  tests", "stage", "result", "seconds");
    let mut tally = Tally::default();
    for (name, result) in &results {
        eprintln!("{name:14} {}", result.line());
        tally.add(&result.tally);
        // A stage that is one check counts as one when it fails.
        if result.verdict != Verdict::Passed && result.tally.failed == 0 {
            tally.failed = tally.failed.saturating_add(1);
        }
    }
    eprintln!("{:14} {:8} {:>8.1}", "all", "", start.elapsed().as_secs_f64());
    let again = if tally.again > 0 {
        format!(" ({} of them at the second attempt)", tally.again)
    } else {
        String::new()
    };
    eprintln!("{} passed{again}, {} failed", tally.passed, tally.failed);
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What became of a stage.
#[derive(Debug)]
struct Outcome {
    verdict: Verdict,
    took: Duration,
    tally: Tally,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed,
    /// It needs a build, and the build failed. That counts as a failure.
    NotRun,
}

impl Outcome {
    fn not_run() -> Self {
        Self { verdict: Verdict::NotRun, took: Duration::ZERO, tally: Tally::default() }
    }

    fn line(&self) -> String {
        let result = match self.verdict {
            Verdict::Passed => "ok",
            Verdict::Failed => "FAILED",
            Verdict::NotRun => "not run",
        };
        let seconds = self.took.as_secs_f64();
        let line = format!("{result:8} {seconds:>8.1}  {}", self.tally);
        line.trim_end().to_owned()
    }
}

fn select(all: Vec<Stage>, only: &[String], skip: &[String]) -> Result<Vec<Stage>> {
    if let Some(unknown) =
        only.iter().chain(skip).find(|name| !all.iter().any(|stage| stage.name == name.as_str()))
    {
        bail!("there is no stage {unknown:?}; `cargo xtask test --list` lists them");
    }
    let named = |list: &[String], stage: &Stage| list.iter().any(|name| name == stage.name);
    let wanted = |stage: &Stage| {
        if only.is_empty() { !named(skip, stage) } else { named(only, stage) }
    };
    Ok(all.into_iter().filter(wanted).collect())
}

/// Starts building the time-travelling kernel beside the other stages.
fn prepare_kernel(log: &Path) -> Result<Child> {
    let log = fs::File::create(log)?;
    process::this()
        .args(["vm", "--time-travel", "--timeout", vm::BOOT_SECONDS, "--", "true"])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start the kernel's build")
}

fn last_lines(log: &Path, count: usize) -> String {
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.get(lines.len().saturating_sub(count)..).unwrap_or_default();
    let mut shown = String::new();
    for line in last {
        shown.push_str("    | ");
        shown.push_str(line);
        shown.push('\n');
    }
    shown.push_str(&format_path(log));
    shown
}

fn format_path(log: &Path) -> String {
    format!("    all of it: {}", log.display())
}

#[cfg(test)]
mod tests {
    use super::{select, stage};

    fn names(only: &[&str], skip: &[&str]) -> Vec<&'static str> {
        let owned = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let stages = select(stage::all(), &owned(only), &owned(skip)).unwrap();
        stages.iter().map(|stage| stage.name).collect()
    }

    #[test]
    fn stages_keep_their_order_however_they_are_asked_for() {
        assert_eq!(names(&["unit", "format"], &[]), ["format", "unit"]);
    }

    #[test]
    fn a_skipped_stage_is_the_only_one_that_is_left_out() {
        let all = names(&[], &[]);

        let some = names(&[], &["kernel"]);

        assert_eq!(some.len() + 1, all.len());
        assert!(!some.contains(&"kernel"));
    }

    #[test]
    fn an_unknown_stage_is_an_error_rather_than_nothing_to_do() {
        assert!(select(stage::all(), &["unti".to_owned()], &[]).is_err());
    }
}
