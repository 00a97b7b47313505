//! Everybody's sessions end in one act: how long until nothing passes, and until the kernel has none of
//! the peers. And what a live session costs core and the gateway in memory.
//!
//! A few hundred by default; `$WGMFA_ENDS` asks for more. Where waiting takes no time only memory is a
//! figure; for the times let it take its time (`$WGMFA_WALL_CLOCK`).

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use demo::company::text;
use demo::lab::{self, Host};
use serde_json::Value;

use super::office::{Office, SERVER};
use super::ping::Ping;
use super::{asked, now, say, time_of_day, wait, wait_for, wait_until};

/// So many peers reach and leave the kernel within this, in seconds, on a host as busy as you like.
const PATIENCE: u64 = 1200;

#[test]
#[ignore = "needs a kernel's WireGuard; runs where time travels"]
fn everybodys_sessions_end_in_one_act() -> Result<()> {
    lab::within("mass::everybodys_sessions_end_in_one_act", |lab| {
        let policy = ["--peer-disconnect-threshold", "604800", "--session-lifetime", "30d"];
        let office = Office::open(lab, &policy)?;
        let count = asked("WGMFA_ENDS", 300);
        let session = office.session()?.get("id").and_then(Value::as_i64).context("no id")?;
        wait(65);
        let before = office.memory()?;

        office.company.crowd("office", u32::try_from(count)?)?;
        let all = usize::try_from(count)? + 1;
        wait_until("all peers are in the kernel", PATIENCE, || {
            Ok(office.gateway.peers()?.len() == all)
        })?;
        // Reports of everybody, so that whoever remembers anything of them does.
        wait(60 * asked("WGMFA_MINUTES", 2));
        let after = office.memory()?;
        let each = |after: u64, before: u64| after.saturating_sub(before) / count.max(1);
        say(&format!(
            "memory with 1 and with {all} live sessions: core {} and {} KiB, {} bytes a session; \
             gateway {} and {} KiB, {} bytes a session",
            before.0 / 1024,
            after.0 / 1024,
            each(after.0, before.0),
            before.1 / 1024,
            after.1 / 1024,
            each(after.1, before.1),
        ))?;

        let ends = office.end_all()?;
        ensure!(!office.laptop.host().ping(SERVER)?);
        let [committed, sent, applied, verified] = office.trail(session)?;
        say(&format!(
            "{all} sessions ended, from the start of the request: {ends}; from the decision: committed {committed} ms, \
             sent {sent} ms, applied {applied} ms, verified {verified} ms"
        ))
    })
}

impl Office {
    /// What core's and the gateway's processes have in memory, in bytes.
    fn memory(&self) -> Result<(u64, u64)> {
        let core = self.company.process().context("core does not run")?;
        let gateway = self.gateway.process().context("the gateway does not run")?;
        Ok((resident(core)?, resident(gateway)?))
    }

    /// Ends all sessions of the location by the REST API under a ping; in words, how long what took.
    fn end_all(&self) -> Result<String> {
        let token = self.company.admin(&["token", "add", "ends", "--scopes", "sessions:write"])?;
        let core = Host::core(self.laptop.host().directory());
        let authorization = format!("Authorization: Bearer {}", text(&token, "token")?);
        let url = "https://10.77.0.1:8443/api/v1/sessions/end";
        let (json, body) = ("Content-Type: application/json", r#"{"location":"office"}"#);
        let ping = Ping::start(self.laptop.host(), "ends", SERVER, "0.01")?;
        wait_for(Duration::from_millis(700));
        ensure!(ping.is_answered()?, "there is no traffic");
        let began = time_of_day()?;
        let curl = [
            "-ksS",
            "--fail",
            "-o",
            "/dev/null",
            "-H",
            &authorization,
            "-H",
            json,
            "-d",
            body,
            url,
        ];
        core.run("curl", curl)?;
        let answered = time_of_day()? - began;
        let deadline = now() + Duration::from_secs(PATIENCE);
        while !self.gateway.peers()?.is_empty() {
            ensure!(now() < deadline, "peers are in the kernel still");
            wait_for(Duration::from_millis(20));
        }
        let empty = time_of_day()? - began;
        wait(2);
        let last = ping.last_answer().context("no answer at all")? - began;
        drop(ping);
        Ok(format!(
            "the request was answered after {answered:.2} s, the last packet passed after {last:.2} s, \
             `wg` saw no peer after {empty:.2} s"
        ))
    }
}

/// A process' resident memory in bytes (proc(5)).
fn resident(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).context("no VmRSS")?;
    Ok(kib.trim().parse::<u64>()? * 1024)
}
