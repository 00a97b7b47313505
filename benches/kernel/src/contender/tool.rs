//! The tool `wg`, spawned.

use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use super::{Contender, Job};
use crate::NAME;
use crate::workload::{Operation, Workload, base64};

const FILE: &str = "/run/bench.conf";

/// How many peers `wg set` is spawned for; with more it would take hours.
const SPAWNS: usize = 100;

/// `wg syncconf` with all peers; `wg show dump` to read.
pub(crate) struct Syncconf;

/// `wg addconf` with all peers, `wg setconf` to replace them; `wg show latest-handshakes` to read.
pub(crate) struct Addconf;

/// `wg set` for each peer.
pub(crate) struct Set;

impl Contender for Syncconf {
    fn name(&self) -> &'static str {
        "wg syncconf"
    }

    fn prepare<'a>(
        &'a mut self,
        operation: Operation,
        workload: &'a Workload,
    ) -> Result<Option<Job<'a>>> {
        match operation {
            Operation::Dump | Operation::Statistics => {
                Ok(Job::all(workload, || wg(&["show", NAME, "dump"])))
            }
            Operation::Remove => {
                fs::write(FILE, "")?;
                Ok(Job::all(workload, || wg(&["syncconf", NAME, FILE])))
            }
            _ => {
                fs::write(FILE, file(operation, workload))?;
                Ok(Job::all(workload, || wg(&["syncconf", NAME, FILE])))
            }
        }
    }
}

impl Contender for Addconf {
    fn name(&self) -> &'static str {
        "wg addconf"
    }

    fn prepare<'a>(
        &'a mut self,
        operation: Operation,
        workload: &'a Workload,
    ) -> Result<Option<Job<'a>>> {
        match operation {
            Operation::Dump | Operation::Remove => Ok(None),
            Operation::Statistics => {
                Ok(Job::all(workload, || wg(&["show", NAME, "latest-handshakes"])))
            }
            _ => {
                fs::write(FILE, file(operation, workload))?;
                let how = if operation == Operation::Replace { "setconf" } else { "addconf" };
                Ok(Job::all(workload, move || wg(&[how, NAME, FILE])))
            }
        }
    }
}

impl Contender for Set {
    fn name(&self) -> &'static str {
        "wg set, spawned for each peer"
    }

    fn prepare<'a>(
        &'a mut self,
        operation: Operation,
        workload: &'a Workload,
    ) -> Result<Option<Job<'a>>> {
        if matches!(operation, Operation::Replace | Operation::Dump | Operation::Statistics) {
            return Ok(None);
        }
        let texts: Vec<_> = workload.sample(SPAWNS).map(Workload::as_text).collect();
        Ok(Job::some(texts.len(), move || {
            for (key, psk, ip) in &texts {
                fs::write(FILE, psk)?;
                match operation {
                    Operation::Add => {
                        wg(&["set", NAME, "peer", key, "preshared-key", FILE, "allowed-ips", ip])?;
                    }
                    Operation::Psk => wg(&["set", NAME, "peer", key, "preshared-key", FILE])?,
                    Operation::Lock => wg(&["set", NAME, "peer", key, "allowed-ips", ""])?,
                    Operation::Unlock => wg(&["set", NAME, "peer", key, "allowed-ips", ip])?,
                    _ => wg(&["set", NAME, "peer", key, "remove"])?,
                }
            }
            Ok(())
        }))
    }
}

fn file(operation: Operation, workload: &Workload) -> String {
    let mut file = String::new();
    if operation == Operation::Add {
        // `syncconf` takes the interface's key away if the file has none.
        let _ = write!(file, "[Interface]\nPrivateKey = {}\n", base64(&[0x42; 32]));
    }
    for (key, psk, ip) in workload.peers.iter().map(Workload::as_text) {
        let _ = write!(file, "[Peer]\nPublicKey = {key}\nPresharedKey = {psk}\n");
        if operation != Operation::Lock {
            let _ = writeln!(file, "AllowedIPs = {ip}");
        }
    }
    file
}

fn wg(arguments: &[&str]) -> Result<()> {
    let output =
        Command::new("wg").args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "wg {arguments:?}: {said}");
    Ok(())
}
