//! Programs WireGuard in the kernel in every way there is, and takes the time.
//!
//! `cargo xtask bench kernel` runs it in a virtual machine that counts instructions; it needs root,
//! a kernel with WireGuard, and `wg` and `ip`. For each number of peers it sets the same interface
//! up anew, hands each contender the same peers in the contender's own types, and times the call
//! that makes the kernel have them. One JSON object a line goes to standard output.

mod contender;
mod workload;

use std::io::Write as _;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use contender::{Contender, Job};
use workload::{Operation, Workload};

/// The interface that everything is done to.
pub(crate) const NAME: &str = "wgbench";

fn main() -> Result<()> {
    let sizes: Vec<usize> = std::env::args()
        .skip(1)
        .map(|size| size.parse().context("arguments are numbers of peers"))
        .collect::<Result<_>>()?;
    ensure!(!sizes.is_empty(), "usage: kernel-bench PEERS…, such as 1000 10000 50000");
    for size in sizes {
        let mut interface = TestInterface::default();
        for operation in Operation::ALL {
            if !is_wanted("BENCH_OPERATIONS", operation.name()) {
                continue;
            }
            for mut contender in contender::all()? {
                let name = contender.name();
                if !is_wanted("BENCH_CONTENDERS", name) || contender.is_too_slow(operation, size) {
                    continue;
                }
                if let Some(best) = measure(contender.as_mut(), operation, size, &mut interface)
                    .with_context(|| format!("{name}, {operation:?} of {size} peers"))?
                {
                    report(name, operation, size, &best)?;
                }
            }
        }
    }
    shell(&format!("ip link delete {NAME}"))
}

/// Whether the variable, a list with commas, names it by its beginning, or is not set.
fn is_wanted(variable: &str, name: &str) -> bool {
    let Ok(list) = std::env::var(variable) else { return true };
    list.split(',').any(|wanted| name.starts_with(wanted))
}

/// The time that was taken for so many peers.
struct Measured {
    peers: usize,
    nanos: u128,
}

/// What is known of the interface that is measured on.
#[derive(Default)]
struct TestInterface {
    /// It has all peers.
    is_full: bool,
    /// Which pre-shared keys its peers have.
    round: u8,
}

/// The best of a few runs; one run where a run takes long. `None`: the contender cannot do it, or
/// not in any sensible time.
fn measure(
    contender: &mut dyn Contender,
    operation: Operation,
    size: usize,
    interface: &mut TestInterface,
) -> Result<Option<Measured>> {
    let mut best: Option<Measured> = None;
    for _ in 0..operation.rounds(size) {
        interface.set_up(operation, size)?;
        let round = interface.round.wrapping_add(u8::from(operation.changes_psks()));
        let workload = Workload::new(size, round);
        // What the kernel put off, such as freeing memory, must not be in the time.
        thread::sleep(Duration::from_millis(500));
        let Some(Job { peers, mut run }) = contender.prepare(operation, &workload)? else {
            return Ok(None);
        };
        interface.round = round;
        let start = Instant::now();
        run()?;
        let nanos = start.elapsed().as_nanos();
        drop(run);
        // With more, reading what `wg` says takes longer than the run.
        if size <= 10_000 {
            verify(operation, &workload, peers)?;
        }
        interface.is_full = !matches!(operation, Operation::Add | Operation::Remove);
        if operation.changes_psks() {
            // Who had a part of the peers has left the others with the keys before.
            contender::floor::run(Operation::Psk, &workload)?;
        }
        if best.as_ref().is_none_or(|best| nanos < best.nanos) {
            best = Some(Measured { peers, nanos });
        }
    }
    Ok(best)
}

impl TestInterface {
    /// Makes the interface what the operation starts from.
    fn set_up(&mut self, operation: Operation, size: usize) -> Result<()> {
        let workload = Workload::new(size, self.round);
        if operation == Operation::Add {
            make()?;
            std::fs::write("/run/bench.key", workload::base64(&[0x42; 32]))?;
            shell(&format!("wg set {NAME} private-key /run/bench.key"))?;
        } else if !self.is_full {
            make()?;
            // Without a key the kernel has no curve to compute for each peer.
            contender::floor::run(Operation::Add, &workload)?;
        }
        match operation {
            // Some take too long to unlock every peer, and leave the others locked.
            Operation::Lock | Operation::Dump | Operation::Statistics => {
                contender::floor::run(Operation::Unlock, &workload)?;
            }
            Operation::Unlock => contender::floor::run(Operation::Lock, &workload)?,
            _ => {}
        }
        shell(&format!("ip link set {NAME} up"))
    }
}

fn make() -> Result<()> {
    let _ = Command::new("ip").args(["link", "delete", NAME]).output();
    shell(&format!("ip link add {NAME} type wireguard"))
}

/// That the kernel really has it, as `wg` shows it.
fn verify(operation: Operation, workload: &Workload, peers: usize) -> Result<()> {
    let output = Command::new("wg").args(["show", NAME, "dump"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    let step = workload.peers.len() / peers;
    let expected = |index: usize| {
        let (key, psk, ip) = Workload::as_text(&workload.peers[index * step]);
        let ip = if operation == Operation::Lock { "(none)".to_owned() } else { ip };
        format!("{key}\t{psk}\t(none)\t{ip}\t")
    };
    let lines: Vec<&str> = text.lines().skip(1).collect();
    let left = match operation {
        Operation::Remove => workload.peers.len() - peers,
        Operation::Add => peers,
        _ => workload.peers.len(),
    };
    ensure!(lines.len() == left, "{} peers are there, not {left}", lines.len());
    for index in [0, peers / 2, peers - 1] {
        if operation != Operation::Remove {
            let expected = expected(index);
            ensure!(
                lines.iter().any(|line| line.starts_with(&expected)),
                "peer {index} is not as it should be: {expected}"
            );
        }
    }
    Ok(())
}

fn report(name: &str, operation: Operation, size: usize, best: &Measured) -> Result<()> {
    let line = serde_json::json!({
        "contender": name,
        "operation": operation.name(),
        "interface_peers": size,
        "measured_peers": best.peers,
        "nanoseconds": u64::try_from(best.nanos)?,
    });
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(())
}

/// Runs a command that must succeed.
fn shell(command: &str) -> Result<()> {
    let output = Command::new("sh").args(["-c", command]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command}: {said}");
    Ok(())
}
