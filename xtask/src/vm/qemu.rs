//! Debian's cloud kernel under QEMU, in software emulation: three seconds to a working `wg0`.
//!
//! Serial lines: the first is the console (kernel messages, and what `init.sh` reports), kept in a
//! file; the second carries the command's output, straight to ours.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::kernel::Kernel;
use super::{Args, Task, console, initramfs};
use crate::process;

/// The most that a run may hand out, in bytes; the file is sparse.
const OUT_SIZE: u64 = 1 << 30;

/// Boots the machine, runs the task, and returns its exit code.
///
/// # Errors
///
/// When the machine cannot be made, does not report an exit code, or its time is up.
pub(super) fn boot(args: &Args, task: &Task, scratch: &Path) -> Result<u8> {
    let qemu = process::need("qemu-system-x86_64", "qemu-system-x86")?;
    let kernel = Kernel::obtain()?;
    let root = scratch.join("root.cpio");
    initramfs::write(&root, &kernel, task)?;
    let line = scratch.join("console");
    let disk = scratch.join("out.tar");

    let mut command = process::bounded(&qemu, args.timeout);
    command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
    command.args(["-cpu", "max", "-m", &args.memory.to_string()]);
    if args.icount {
        command.args(["-accel", "tcg,thread=single", "-smp", "1"]);
        command.args(["-icount", "shift=0,sleep=off"]);
    } else {
        command.args(["-accel", "tcg,thread=multi", "-smp", &args.smp.to_string()]);
    }
    command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(&root);
    command.args(["-append", "console=ttyS0 quiet panic=-1 random.trust_cpu=on"]);
    command.args(["-serial", &format!("file:{}", line.display()), "-serial", "stdio"]);
    if args.out.is_some() {
        File::create(&disk)?.set_len(OUT_SIZE)?;
        command.args(["-drive", &format!("file={},format=raw,if=virtio", disk.display())]);
    }
    let warnings = scratch.join("warnings");
    command.stdin(Stdio::null()).stderr(File::create(&warnings)?);
    let status = command.status().context("cannot start QEMU")?;

    let said = String::from_utf8_lossy(&fs::read(&line).unwrap_or_default()).into_owned();
    if args.console {
        eprintln!("{}", said.trim_end());
    }
    let code = console::result(&said, status, args.timeout).with_context(|| {
        let warnings = fs::read_to_string(&warnings).unwrap_or_default();
        format!("QEMU said: {}", warnings.trim())
    })?;
    if let Some(out) = &args.out {
        fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
        process::output(Command::new("tar").arg("-xf").arg(&disk).arg("-C").arg(out))?;
    }
    Ok(code)
}
