//! Builds the User-Mode Linux kernel from Debian's kernel source: once a machine, some minutes.

use std::fs;
use std::io::{BufRead as _, BufReader, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result, bail};

use crate::cache::{self, Fingerprint};
use crate::{debian, process};

const CONFIG: &str = include_str!("../../kernel/uml.config");

/// Raised when the way of building changes, so that old results are not used.
const RECIPE: &[u8] = b"2";

/// The package of the kernel's source: a long-term one that Debian 12 and 13 both have.
const SOURCE: &str = "linux-source-6.12";

/// Where the size of a process's floating-point state is said, and how large it is with AMX: a host
/// that has it takes the state back in its full size only. Others take what they need of it. Without
/// this the first process dies there.
const FP_SIZE: (&str, &str, &str) = (
    "arch/x86/um/user-offsets.c",
    "DEFINE_LONGS(HOST_FP_SIZE, 2696);",
    "DEFINE_LONGS(HOST_FP_SIZE, 11008);",
);

/// C files in a build with this configuration, to say how far it is.
const OBJECTS: usize = 970;

/// The kernel, a program of the host; built now if it is not in the cache.
///
/// # Errors
///
/// When the source cannot be fetched, or the build fails.
pub(super) fn obtain() -> Result<PathBuf> {
    let key = Fingerprint::new().add(RECIPE).add(CONFIG.as_bytes());
    let entry = cache::once(&format!("uml/{key}"), build)?;
    Ok(entry.join("linux"))
}

fn build(dir: &Path) -> Result<()> {
    for (program, package) in
        [("make", "make"), ("gcc", "gcc"), ("flex", "flex"), ("bison", "bison"), ("bc", "bc")]
    {
        process::need(program, package)?;
    }
    let source = dir.join("source");
    fs::create_dir_all(&source)?;
    fetch(dir, &source)?;

    mend(&source)?;
    fs::write(source.join(".config"), CONFIG)?;
    process::output(make(&source).arg("olddefconfig"))?;
    let config = fs::read_to_string(source.join(".config"))?;
    let lost = lost(CONFIG, &config);
    if !lost.is_empty() {
        bail!("this kernel source does not know, or does not allow: {}", lost.join(", "));
    }

    compile(&source)?;
    process::output(
        Command::new("strip")
            .args(["--strip-debug", "-o"])
            .arg(dir.join("linux"))
            .arg(source.join("linux")),
    )?;
    process::output(Command::new(dir.join("linux")).arg("--version"))?;
    fs::remove_dir_all(&source).with_context(|| format!("cannot remove {}", source.display()))
}

/// Makes the kernel start on hosts with AMX.
fn mend(source: &Path) -> Result<()> {
    let (file, small, large) = FP_SIZE;
    let path = source.join(file);
    let text = fs::read_to_string(&path).with_context(|| format!("no {file}"))?;
    anyhow::ensure!(text.contains(small), "{file} is another than the one that is mended here");
    fs::write(&path, text.replace(small, large))?;
    Ok(())
}

/// Fetches the source and unpacks it into `source`.
fn fetch(dir: &Path, source: &Path) -> Result<()> {
    let downloads = cache::dir()?.join("downloads");
    let deb = if let Some(deb) = debian::given("WGMFA_KERNEL_SOURCE_DEB") {
        deb
    } else {
        eprintln!("fetching Debian's {SOURCE} (once, about 140 MB)");
        debian::download(SOURCE, &downloads)?
    };
    eprintln!("unpacking {}", deb.display());
    let unpacked = dir.join("deb");
    debian::unpack(&deb, &unpacked)?;
    let archive = fs::read_dir(unpacked.join("usr/src"))?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.to_string_lossy().contains(".tar"))
        .with_context(|| format!("{} holds no kernel source", deb.display()))?;
    process::output(
        Command::new("tar")
            .arg("-xf")
            .arg(archive)
            .arg("--strip-components=1")
            .arg("-C")
            .arg(source),
    )?;
    fs::remove_dir_all(unpacked)?;
    if deb.starts_with(&downloads) {
        fs::remove_file(deb)?;
    }
    Ok(())
}

fn make(source: &Path) -> Command {
    let mut command = Command::new("nice");
    command.args(["-n", "10", "make", "ARCH=um", "-C"]).arg(source);
    command
}

/// Runs the build, and says now and then how far it is.
fn compile(source: &Path) -> Result<()> {
    let jobs = thread::available_parallelism().map_or(2, std::num::NonZero::get);
    eprintln!("building User-Mode Linux (once; about 11 minutes of one core, {jobs} at work)");
    let log = source.with_file_name("build.log");
    let mut child = make(source)
        .arg(format!("-j{jobs}"))
        .arg("linux")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(fs::File::create(&log)?)
        .spawn()
        .context("cannot start make")?;
    let output = child.stdout.take().context("make has a standard output")?;
    let terminal = std::io::stderr().is_terminal();
    let step = if terminal { 10 } else { 250 };
    let mut objects = 0_usize;
    for line in BufReader::new(output).lines() {
        if !line?.trim_start().starts_with("CC ") {
            continue;
        }
        objects = objects.saturating_add(1);
        if objects.is_multiple_of(step) {
            let percent = (objects.saturating_mul(100) / OBJECTS).min(99);
            let (start, end) = if terminal { ("\r", "") } else { ("", "\n") };
            eprint!("{start}  {objects} files compiled, {percent} %{end}");
        }
    }
    if terminal {
        eprintln!();
    }
    let status = child.wait()?;
    if !status.success() {
        let said = fs::read_to_string(&log).unwrap_or_default();
        let last: Vec<&str> = said.lines().rev().take(20).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        bail!("building User-Mode Linux failed ({status}):\n{}", last.join("\n"));
    }
    eprintln!("  {objects} files compiled, done");
    Ok(())
}

/// The lines of `wanted` that the final configuration does not have.
fn lost<'a>(wanted: &'a str, config: &str) -> Vec<&'a str> {
    let set = |line: &str| config.lines().any(|had| had == line);
    wanted
        .lines()
        .filter(|line| line.starts_with("CONFIG_") && !set(line))
        .chain(wanted.lines().filter(|line| {
            // What is to be off may be absent as well.
            let name =
                line.strip_prefix("# CONFIG_").and_then(|rest| rest.strip_suffix(" is not set"));
            name.is_some_and(|name| set(&format!("CONFIG_{name}=y")))
        }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::lost;

    #[test]
    fn an_option_that_the_kernel_dropped_is_named_and_one_that_is_off_may_be_absent() {
        let wanted =
            "# a comment\nCONFIG_A=y\nCONFIG_B=y\n# CONFIG_C is not set\n# CONFIG_D is not set\n";
        let config = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_D=y\n";

        assert_eq!(lost(wanted, config), ["CONFIG_B=y", "# CONFIG_D is not set"]);
    }
}
