//! `cargo xtask bench`: the benchmarks. Those of the kernel run on the emulated machine, whose clock
//! counts instructions: their figures compare, on any host, with those of another day.

mod figures;
mod plot;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result};

use crate::built::Built;
use crate::process;
use figures::Figures;

/// Which benchmarks to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Compare ways to program a real kernel; without it, run the benchmarks of `benches/` here.
    #[arg(value_enum)]
    which: Option<Which>,
    /// With `kernel`: run on this host's kernel, by the wall clock; needs root and WireGuard.
    #[arg(long, requires = "which")]
    native: bool,
    /// With `kernel`: write the figures as JSON, the tables and the plots into this directory, such
    /// as docs/bench.
    #[arg(long, value_name = "DIR", requires = "which")]
    publish: Option<PathBuf>,
    /// With `kernel`: take the figures from these files instead of measuring. A whole run takes hours;
    /// each operation can be measured by itself, and the pieces put together here.
    #[arg(long, value_name = "FILE", requires = "which", conflicts_with = "native")]
    from: Vec<PathBuf>,
    /// Arguments for the benchmarks: a part of a benchmark's name; with `kernel`, numbers of peers
    /// [default: 1000 10000 50000].
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    /// Ours and others' ways to program WireGuard, one by one, with real netlink calls.
    Kernel,
    /// The memory that wg-netlink takes for 1,000 to 100,000 peers on one interface.
    Memory,
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
        Some(Which::Memory) => memory(args)?,
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

/// Builds the workspace of the kernel's benchmarks and finds one of its programs.
fn build(name: &str) -> Result<PathBuf> {
    let manifest = ["--manifest-path", KERNEL_BENCH, "--target-dir", "target/kernel-bench"];
    let arguments: Vec<&str> = ["build", "--release"].into_iter().chain(manifest).collect();
    let built = Built::make(&arguments)?;
    let program = built.programs.iter().find(|program| program.name == name);
    Ok(program.with_context(|| format!("there is no program {name}"))?.path.clone())
}

fn memory(args: &Args) -> Result<()> {
    let bench = build("memory")?;
    let mut command = if args.native { Command::new(&bench) } else { process::this() };
    if !args.native {
        command.args(["vm", "--memory", "4096", "--timeout", "3600", "--"]).arg(&bench);
    }
    if args.arguments.is_empty() {
        command.args(["1000", "10000", "100000"]);
    } else {
        command.args(&args.arguments);
    }
    process::check(&mut command)
}

#[expect(clippy::print_stdout, reason = "the table is this chore's result")]
fn kernel(args: &Args) -> Result<()> {
    let mut raw = String::new();
    for file in &args.from {
        raw +=
            &fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    }
    if args.from.is_empty() {
        raw = measure(args)?;
    }
    let figures = Figures::read(&raw)?;
    println!("{}", figures.tables());
    if let Some(dir) = &args.publish {
        publish(&figures, dir)?;
    }
    Ok(())
}

/// Runs the benchmark of the kernel and returns what it printed, which is kept in a file.
fn measure(args: &Args) -> Result<String> {
    let bench = build("kernel-bench")?;
    let mut command = if args.native { Command::new(&bench) } else { process::this() };
    if !args.native {
        command.args(["vm", "--icount", "--memory", "4096", "--timeout", "14400"]);
        for variable in ["BENCH_OPERATIONS", "BENCH_CONTENDERS"] {
            if std::env::var_os(variable).is_some() {
                command.args(["--env", variable]);
            }
        }
        command.arg("--").arg(&bench);
    }
    if args.arguments.is_empty() {
        command.args(["1000", "10000", "50000"]);
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
    eprintln!("all figures are in {KERNEL_FIGURES}");
    Ok(figures)
}

/// Writes what the documentation shows.
fn publish(figures: &Figures, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    write("kernel.json", &figures.json()?)?;
    let mut page = vec![
        "# Programming the kernel: the figures".to_owned(),
        "Written by `cargo xtask bench kernel --publish docs/bench`; what they mean is in \
         [README.md](README.md)."
            .to_owned(),
    ];
    for operation in figures.operations() {
        write(&format!("kernel-{operation}.svg"), &plot::bars(figures, operation))?;
        page.push(figures.table(operation));
        page.push(format!("![{operation}](kernel-{operation}.svg)"));
    }
    write("kernel-scale.svg", &plot::scale(figures, "wg-netlink"))?;
    page.push("The cost of a peer by the number of peers:".to_owned());
    page.push("![scale](kernel-scale.svg)\n".to_owned());
    write("kernel.md", &page.join("\n\n"))?;
    eprintln!("the pages and plots are in {}", dir.display());
    Ok(())
}
