//! The machine's root: a base of tools and modules, made once and cached, and on top of it the
//! files of one run. The kernel unpacks both, one after the other.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::archive::{Archive, MERGED};
use super::kernel::Kernel;
use super::{Task, libraries};
use crate::cache::{self, Fingerprint};
use crate::process;

/// Programs that every machine has, beside busybox: name and Debian package. The shell is among
/// them because busybox's own prefers its applets to these.
const TOOLS: [(&str, &str); 9] = [
    ("sh", "dash"),
    ("wg", "wireguard-tools"),
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("nft", "nftables"),
    ("ping", "iputils-ping"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
];

/// Programs that a machine has if the host has them.
const EXTRAS: [&str; 7] = ["bash", "curl", "ss", "conntrack", "tcpdump", "oathtool", "strace"];

/// Files that programs expect; the host's own.
const SETTINGS: [&str; 3] =
    ["/etc/protocols", "/etc/services", "/etc/ssl/certs/ca-certificates.crt"];

const INIT: &str = include_str!("init.sh");

/// Writes the root for one run to `path`.
///
/// # Errors
///
/// When a tool is missing or a file cannot be read or written.
pub(super) fn write(path: &Path, kernel: &Kernel, task: &Task) -> Result<()> {
    let base = base(kernel)?;
    let mut to = BufWriter::new(File::create(path)?);
    let mut from = File::open(&base)?;
    std::io::copy(&mut from, &mut to)?;
    let mut archive = Archive::new(to);
    let mut seen = BTreeSet::new();
    for (source, place) in &task.files {
        add(&mut archive, &mut seen, source, place)
            .with_context(|| format!("cannot copy {} into the machine", source.display()))?;
    }
    archive.file("/vm/command", 0o755, task.script().as_bytes())?;
    archive.finish()?.flush()?;
    Ok(())
}

fn base(kernel: &Kernel) -> Result<PathBuf> {
    let busybox = process::need("busybox", "busybox-static")?;
    let mut tools = Vec::new();
    for (tool, package) in TOOLS {
        tools.push((tool, process::need(tool, package)?));
    }
    tools.extend(EXTRAS.iter().filter_map(|tool| Some((*tool, process::find(tool)?))));

    let mut inputs = Fingerprint::new().add(kernel.name.as_bytes()).add(INIT.as_bytes());
    for module in &kernel.modules {
        inputs = inputs.add(module.as_os_str().as_encoded_bytes());
    }
    for (_, path) in tools.iter().chain([&("busybox", busybox.clone())]) {
        let about = fs::metadata(path)?;
        inputs = inputs
            .add(path.as_os_str().as_encoded_bytes())
            .add(&about.size().to_le_bytes())
            .add(&about.mtime().to_le_bytes());
    }
    cache::once(&format!("initramfs/{inputs}.cpio"), |path| {
        write_base(path, kernel, &busybox, &tools)
    })
}

fn write_base(
    path: &Path,
    kernel: &Kernel,
    busybox: &Path,
    tools: &[(&str, PathBuf)],
) -> Result<()> {
    let mut archive = Archive::new(BufWriter::new(File::create(path)?));
    let mut seen = BTreeSet::new();
    for top in MERGED {
        archive.directory(&format!("/usr/{top}"))?;
        archive.symlink(top, &format!("usr/{top}"))?;
    }
    for place in
        ["/dev", "/proc", "/sys", "/run", "/tmp", "/root", "/run/out", "/var", super::FILES]
    {
        archive.directory(place)?;
    }
    archive.symlink("/var/run", "/run")?;
    archive.symlink("/var/tmp", "/tmp")?;
    archive.device("/dev/console", (5, 1))?;
    archive.file("/init", 0o755, INIT.as_bytes())?;
    archive.file("/etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n")?;
    archive.file("/etc/group", 0o644, b"root:x:0:\n")?;
    archive.file("/etc/hosts", 0o644, b"127.0.0.1 localhost\n::1 localhost\n")?;
    archive.file(
        "/etc/nsswitch.conf",
        0o644,
        b"passwd: files\ngroup: files\nhosts: files dns\n",
    )?;
    for setting in SETTINGS {
        if let Ok(content) = fs::read(setting) {
            archive.file(setting, 0o644, &content)?;
        }
    }

    add(&mut archive, &mut seen, busybox, "/bin/busybox")?;
    let known: BTreeSet<&str> = tools.iter().map(|(tool, _)| *tool).collect();
    let applets = process::output(Command::new(busybox).arg("--list"))?;
    for applet in applets.lines().filter(|applet| *applet != "busybox" && !known.contains(applet)) {
        archive.symlink(&format!("/bin/{applet}"), "busybox")?;
    }
    for (tool, source) in tools {
        add(&mut archive, &mut seen, source, &format!("/usr/bin/{tool}"))?;
    }

    let mut order = String::new();
    for module in &kernel.modules {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        let (name, content) = plain_module(module, &name)?;
        let place = format!("/lib/modules/{name}");
        archive.file(&place, 0o644, &content)?;
        order.push_str(&place);
        order.push('\n');
    }
    archive.file("/vm/modules", 0o644, order.as_bytes())?;
    archive.finish()?.flush()?;
    Ok(())
}

/// A module's file name and content, unpacked if the kernel's package has it compressed.
fn plain_module(path: &Path, name: &str) -> Result<(String, Vec<u8>)> {
    let (plain, unpacker) = if let Some(plain) = name.strip_suffix(".xz") {
        (plain, "xz")
    } else if let Some(plain) = name.strip_suffix(".zst") {
        (plain, "zstd")
    } else {
        let content =
            fs::read(path).with_context(|| format!("cannot read module {}", path.display()))?;
        return Ok((name.to_owned(), content));
    };
    let done = Command::new(unpacker).arg("-dc").arg(path).output()?;
    anyhow::ensure!(done.status.success(), "`{unpacker}` cannot unpack {}", path.display());
    Ok((plain.to_owned(), done.stdout))
}

/// Adds a file with its libraries, or a directory with what is in it. Files of the host's root
/// are written once, however many programs need them.
fn add(
    archive: &mut Archive<BufWriter<File>>,
    seen: &mut BTreeSet<PathBuf>,
    source: &Path,
    place: &str,
) -> Result<()> {
    if source.is_dir() {
        archive.directory(place)?;
        for entry in fs::read_dir(source)? {
            let entry = entry?;
            let inside = format!("{place}/{}", entry.file_name().to_string_lossy());
            add(archive, seen, &entry.path(), &inside)?;
        }
        return Ok(());
    }
    let mode = fs::metadata(source)?.mode() & 0o777;
    let content = fs::read(source)?;
    if content.starts_with(b"\x7fELF") {
        archive.file(place, mode, &stripped(source, content))?;
        for library in libraries::of(source) {
            if seen.insert(library.clone()) {
                archive.file(&library.to_string_lossy(), 0o755, &fs::read(&library)?)?;
            }
        }
    } else {
        archive.file(place, mode, &content)?;
    }
    Ok(())
}

/// The program without debugging information, which only takes the machine's memory; as it is if
/// it is small already or there is no `strip`.
fn stripped(source: &Path, content: Vec<u8>) -> Vec<u8> {
    const SMALL: usize = 4 << 20;
    if content.len() < SMALL {
        return content;
    }
    let done =
        Command::new("strip").args(["--strip-debug", "-o", "/dev/stdout"]).arg(source).output();
    match done {
        Ok(done) if done.status.success() && done.stdout.starts_with(b"\x7fELF") => done.stdout,
        _ => content,
    }
}
