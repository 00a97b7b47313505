//! Whatever fails between core and the gateway's kernel: when the lease is over nothing passes, and
//! when it is mended the session passes again with the same keys.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use demo::company::Stop;
use demo::lab;

use super::office::{Office, SERVER};
use super::ping::Ping;
use super::{asked, say, time_of_day, wait, wait_for, wait_until};

/// The default, in seconds.
const LEASE: f64 = 90.0;

/// The default, in seconds: core's word may be so old when something fails.
const HEARTBEAT: f64 = 10.0;

#[derive(Clone, Copy, Debug)]
enum Trouble {
    CoreKilled,
    NothingFromCore,
    NothingToCore,
    GatewayKilled,
    GatewayStopped,
}

#[test]
#[ignore = "waits for a quarter of an hour; runs where time travels"]
fn nothing_passes_two_seconds_after_the_lease_whatever_fails() -> Result<()> {
    lab::within("lease::nothing_passes_two_seconds_after_the_lease_whatever_fails", |lab| {
        // By core's account a session is idle while its gateway is out of reach, and this test
        // does little but that.
        let patient = ["--peer-disconnect-threshold", "3600", "--session-lifetime", "30d"];
        let mut office = Office::open(lab, &patient)?;
        let turns = asked("WGMFA_TURNS", 1);
        for trouble in [
            Trouble::CoreKilled,
            Trouble::NothingFromCore,
            Trouble::NothingToCore,
            Trouble::GatewayKilled,
            Trouble::GatewayStopped,
        ] {
            let (mut soonest, mut latest) = (f64::MAX, f64::MIN);
            for turn in 0..turns {
                let took = office.suffer(trouble, turn)?;
                ensure!(took <= LEASE + 2.0, "{trouble:?}: something passed after {took:.1} s");
                // Nobody is cut off sooner than the lease that was granted says.
                let at_least = LEASE - 2.0 * HEARTBEAT;
                ensure!(took >= at_least, "{trouble:?}: nothing passed after {took:.1} s");
                (soonest, latest) = (soonest.min(took), latest.max(took));
            }
            say(&format!(
                "{trouble:?}, {turns} times: the last packet passed {soonest:.1} to {latest:.1} s after"
            ))?;
        }
        Ok(())
    })
}

impl Office {
    /// Lets it happen, and mends it. How long packets passed, in seconds.
    fn suffer(&mut self, trouble: Trouble, turn: u64) -> Result<f64> {
        let ping = Ping::start(self.laptop.host(), "lease", SERVER, "0.2")?;
        // Another place in the heartbeat's period each time.
        wait_for(Duration::from_millis(3000 + turn.wrapping_mul(7919) % 10_000));
        ensure!(ping.is_answered()?, "before {trouble:?}");
        let began = time_of_day()?;
        self.begin(trouble)?;
        wait(100);
        let last = ping.last_answer().context("no answer at all")?;
        self.mend(trouble)?;
        wait_until("packets pass again", 120, || ping.is_answered())?;
        Ok(last - began)
    }

    fn begin(&mut self, trouble: Trouble) -> Result<()> {
        match trouble {
            Trouble::CoreKilled => self.company.stop(Stop::Killed),
            Trouble::NothingFromCore => self.cut("ip saddr 10.77.0.1 tcp sport 8444"),
            Trouble::NothingToCore => {
                let rule = "ip saddr 10.77.0.2 tcp dport 8444";
                lab::run("nft", [&cut(rule)]).map(drop)
            }
            Trouble::GatewayKilled => self.gateway.stop(Stop::Killed),
            Trouble::GatewayStopped => self.signal("-STOP"),
        }
    }

    fn mend(&mut self, trouble: Trouble) -> Result<()> {
        match trouble {
            Trouble::CoreKilled => self.company.start(),
            Trouble::NothingFromCore => {
                self.gateway.host().run("nft", ["delete table inet cut"]).map(drop)
            }
            Trouble::NothingToCore => lab::run("nft", ["delete table inet cut"]).map(drop),
            Trouble::GatewayKilled => self.gateway.start(),
            Trouble::GatewayStopped => self.signal("-CONT"),
        }
    }

    fn cut(&self, packets: &str) -> Result<()> {
        self.gateway.host().run("nft", [cut(packets).as_str()]).map(drop)
    }

    fn signal(&self, signal: &str) -> Result<()> {
        let process = self.gateway.process().context("the gateway does not run")?;
        lab::run("kill", [signal, &process.to_string()]).map(drop)
    }
}

/// Rules that drop these packets on their way in.
fn cut(packets: &str) -> String {
    let chain = format!("type filter hook input priority -300; {packets} drop;");
    format!("table inet cut {{ chain in {{ {chain} }}; }}")
}
