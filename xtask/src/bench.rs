//! `cargo xtask bench`: the benchmarks. Those of the kernel run on the emulated machine, whose clock
//! counts instructions: their figures compare, on any host, with those of another day.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::built::Built;
use crate::process;

/// Which benchmarks to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Compare ways to program a real kernel; without it, run the benchmarks of `benches/` here.
    #[arg(value_enum)]
    which: Option<Which>,
    /// With `kernel`: run on this host's kernel, by the wall clock; needs root and WireGuard.
    #[arg(long, requires = "which")]
    native: bool,
    /// Arguments for the benchmarks: a part of a benchmark's name; with `kernel`, numbers of peers
    /// [default: 1000 10000].
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    /// Ours and others' ways to program WireGuard, one by one, with real netlink calls.
    Kernel,
}

/// Where the benchmark of the kernel is: a workspace of its own.
const KERNEL_BENCH: &str = "benches/kernel/Cargo.toml";

/// Its raw figures, one JSON object a line.
const KERNEL_FIGURES: &str = "target/xtask/bench-kernel.jsonl";

/// Builds and runs the benchmarks.
///
/// # Errors
///
/// When they do not build or one of them fails.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    match args.which {
        Some(Which::Kernel) => kernel(args)?,
        None => here(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn here(args: &Args) -> Result<()> {
    let built = Built::make(&["bench", "--workspace", "--no-run", "--bench", "*"])?;
    for bench in &built.benches {
        eprintln!("\n     Running {} of {}", bench.name, bench.package);
        process::check(bench.command().arg("--bench").args(&args.arguments))?;
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the table is this chore's result")]
fn kernel(args: &Args) -> Result<()> {
    let manifest = ["--manifest-path", KERNEL_BENCH, "--target-dir", "target/kernel-bench"];
    let arguments: Vec<&str> = ["build", "--release"].into_iter().chain(manifest).collect();
    let built = Built::make(&arguments)?;
    let bench = built.programs.first().context("the benchmark of the kernel is no program")?;

    let mut command = if args.native { Command::new(&bench.path) } else { process::this() };
    if !args.native {
        command.args(["vm", "--icount", "--memory", "4096", "--timeout", "14400"]);
        for variable in ["BENCH_OPERATIONS", "BENCH_CONTENDERS"] {
            if std::env::var_os(variable).is_some() {
                command.args(["--env", variable]);
            }
        }
        command.arg("--").arg(&bench.path);
    }
    if args.arguments.is_empty() {
        command.args(["1000", "10000"]);
    } else {
        command.args(&args.arguments);
    }
    eprintln!("comparing ways to program the kernel; this takes minutes");
    let figures = process::output(command.stdin(Stdio::null()).stderr(Stdio::inherit()))?;
    if let Some(dir) = Path::new(KERNEL_FIGURES).parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(KERNEL_FIGURES, &figures)
        .with_context(|| format!("cannot write {KERNEL_FIGURES}"))?;
    println!("{}", tables(&figures)?);
    eprintln!("all figures are in {KERNEL_FIGURES}");
    Ok(())
}

/// One figure of the benchmark of the kernel, as it prints it.
#[derive(Debug, serde::Deserialize)]
struct Figure {
    contender: String,
    operation: String,
    interface_peers: u64,
    measured_peers: u32,
    nanoseconds: u64,
}

/// A table for each operation, in Markdown: microseconds a peer.
fn tables(figures: &str) -> Result<String> {
    let mut operations: Vec<String> = Vec::new();
    let mut sizes = BTreeSet::new();
    // Of operation, contender and size; contenders in the order in which they came.
    let mut contenders: Vec<String> = Vec::new();
    let mut cells: BTreeMap<(String, String, u64), f64> = BTreeMap::new();
    for line in figures.lines().filter(|line| line.starts_with('{')) {
        let figure: Figure =
            serde_json::from_str(line).with_context(|| format!("not a figure: {line}"))?;
        if !operations.contains(&figure.operation) {
            operations.push(figure.operation.clone());
        }
        if !contenders.contains(&figure.contender) {
            contenders.push(figure.contender.clone());
        }
        sizes.insert(figure.interface_peers);
        let all = Duration::from_nanos(figure.nanoseconds).as_secs_f64();
        let each = all * 1e6 / f64::from(figure.measured_peers.max(1));
        cells.insert((figure.operation, figure.contender, figure.interface_peers), each);
    }
    let mut lines = Vec::new();
    for operation in operations {
        let heads: Vec<String> = sizes.iter().map(|size| format!(" {size} peers |")).collect();
        lines.push(format!("\n| {operation}, µs a peer |{}", heads.concat()));
        lines.push(format!("|---|{}", "---:|".repeat(sizes.len())));
        for contender in &contenders {
            let row: Vec<Option<&f64>> = sizes
                .iter()
                .map(|size| cells.get(&(operation.clone(), contender.clone(), *size)))
                .collect();
            if row.iter().all(Option::is_none) {
                continue;
            }
            let row: Vec<String> = row.into_iter().map(cell).collect();
            lines.push(format!("| {contender} |{}", row.concat()));
        }
    }
    Ok(lines.join("\n").trim_start().to_owned())
}

/// Three significant digits, as far as there are any after the point.
fn cell(each: Option<&f64>) -> String {
    match each {
        None => " — |".to_owned(),
        Some(each) if *each < 10.0 => format!(" {each:.2} |"),
        Some(each) if *each < 100.0 => format!(" {each:.1} |"),
        Some(each) => format!(" {each:.0} |"),
    }
}

#[cfg(test)]
mod tests {
    use super::tables;

    #[test]
    fn figures_become_a_table_for_each_operation() {
        let figure = |contender: &str, size: u32, nanoseconds: u32| {
            serde_json::json!({
                "contender": contender, "operation": "psk", "interface_peers": size,
                "measured_peers": size, "nanoseconds": nanoseconds,
            })
            .to_string()
        };
        let figures = [
            figure("ours", 10, 15_600),
            figure("tool", 10, 1_740_000),
            figure("ours", 100, 156_000),
        ];

        let table = tables(&figures.join("\r\n")).unwrap();

        let expected = "\
            | psk, µs a peer | 10 peers | 100 peers |\n\
            |---|---:|---:|\n\
            | ours | 1.56 | 1.56 |\n\
            | tool | 174 | — |";
        assert_eq!(table, expected);
    }
}
