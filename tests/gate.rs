//! The lease that the kernel holds, with `ping` and `nft` as witnesses.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use demo::lab::{self, CORE, Lab};
use wg_netlink::gate::{Gate, GateError};

/// The lab's own interface; the gate works for any.
const INTERFACE: &str = "internet";

#[test]
fn a_gate_is_shut_until_renewed_and_shuts_by_itself() -> Result<()> {
    lab::within("a_gate_is_shut_until_renewed_and_shuts_by_itself", |lab: &mut Lab| {
        let host = lab.host("host")?;
        ensure!(host.ping(CORE)?, "without a gate packets pass");

        let mut gate = Gate::new(INTERFACE)?;
        ensure!(!gate.is_whole()?);
        gate.ensure()?;
        ensure!(gate.is_whole()? && gate.remaining()?.is_none());
        ensure!(!host.ping(CORE)?, "a new gate is shut");

        gate.renew(Duration::from_secs(60))?;
        ensure!(host.ping(CORE)?, "an open gate lets packets pass");
        gate.renew(Duration::from_secs(90))?;
        let left = gate.remaining()?.unwrap_or_default();
        ensure!(left > Duration::from_secs(80), "a renewal extends: {left:?} are left");
        gate.ensure()?;
        ensure!(gate.remaining()?.is_some(), "a repair keeps the lease");

        gate.renew(Duration::from_millis(300))?;
        let rules = lab::run("nft", ["list", "table", "inet", "wg-mfa-internet"])?;
        ensure!(rules.contains(r#"iifname "internet" iifname != @open"#), "{rules}");
        ensure!(rules.contains(r#"elements = { "internet" timeout"#), "{rules}");
        // Whoever renews is gone: its socket is closed. The kernel keeps the time.
        drop(gate);
        let mut witness = Gate::new(INTERFACE)?;
        eventually(|| Ok(witness.remaining()?.is_none()))?;
        ensure!(!host.ping(CORE)?, "an expired lease shuts the gate");

        witness.renew(Duration::from_secs(60))?;
        witness.shut()?;
        ensure!(!host.ping(CORE)?, "the gate can be shut at once");
        witness.remove()?;
        ensure!(host.ping(CORE)?, "without a gate packets pass again");
        Ok(())
    })
}

#[test]
fn a_flushed_ruleset_is_noticed_and_healed() -> Result<()> {
    lab::within("a_flushed_ruleset_is_noticed_and_healed", |lab: &mut Lab| {
        let host = lab.host("host")?;
        let mut gate = Gate::new(INTERFACE)?;
        gate.ensure()?;
        lab::run("nft", ["flush", "ruleset"])?;
        ensure!(!gate.is_whole()?);
        ensure!(matches!(gate.renew(Duration::from_secs(1)), Err(GateError::Gone)));
        gate.ensure()?;
        ensure!(!host.ping(CORE)?);

        lab::run("nft", ["flush", "chain", "inet", "wg-mfa-internet", "input"])?;
        ensure!(!gate.is_whole()?, "one chain without its rule is a hole");
        gate.ensure()?;
        ensure!(gate.is_whole()? && !host.ping(CORE)?);
        Ok(())
    })
}

/// Waits for the kernel's own clock: there is no event to wait for.
fn eventually(mut check: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = clock() + Duration::from_secs(10);
    while !check()? {
        ensure!(clock() < deadline, "it did not happen within ten seconds");
        std::thread::yield_now();
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the kernel's timer runs on the real clock")]
fn clock() -> Instant {
    Instant::now()
}
