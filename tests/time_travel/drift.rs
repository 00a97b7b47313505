//! Somebody else changes what the gateway has put into the kernel: each time it is found within a
//! statistics period, set right, counted and logged, with `wg`, `nft` and `ip` as witnesses.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use demo::lab;
use serde_json::Value;

use super::office::{Office, SERVER};
use super::{asked, now, say, wait, wait_until};

/// The default, in seconds.
const PERIOD: u64 = 30;

/// What a second look and a first attempt that failed may take beyond it, in seconds.
const BEYOND: u64 = 2;

/// A peer that core has never heard of.
const STRANGER: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";

/// What is done, and which counts then rise by one: `strangers_removed`, `peers_healed`,
/// `lease.rebuilt`, `interfaces_remade`. `$I` is the interface, `$P` the peer, `$A` its address, `$K` a file with a
/// pre-shared key, `$T` the table of the lease.
const DEEDS: [(&str, &str, [u64; 4]); 9] = [
    ("a foreign peer", "wg set $I peer $S allowed-ips 10.1.0.99/32", [1, 0, 0, 0]),
    ("a foreign peer with a session's address", "wg set $I peer $S allowed-ips $A", [1, 1, 0, 0]),
    ("more allowed IPs", "wg set $I peer $P allowed-ips $A,0.0.0.0/0", [0, 1, 0, 0]),
    ("no allowed IP", "wg set $I peer $P allowed-ips ''", [0, 1, 0, 0]),
    ("another pre-shared key", "wg set $I peer $P preshared-key $K", [0, 1, 0, 0]),
    ("a missing peer", "wg set $I peer $P remove", [0, 1, 0, 0]),
    ("a missing rule", "nft flush chain inet $T forward", [0, 0, 1, 0]),
    ("a missing table", "nft delete table inet $T", [0, 0, 1, 0]),
    ("a missing interface", "ip link delete $I", [0, 1, 0, 1]),
];

#[test]
#[ignore = "waits for some minutes; runs where time travels"]
fn whatever_others_do_to_the_kernel_is_set_right_within_a_statistics_period() -> Result<()> {
    let name = "drift::whatever_others_do_to_the_kernel_is_set_right_within_a_statistics_period";
    lab::within(name, |lab| {
        let patient = ["--peer-disconnect-threshold", "3600", "--session-lifetime", "30d"];
        let office = Office::open(lab, &patient)?;
        for (what, deed, counts) in DEEDS {
            let mut longest = Duration::ZERO;
            let turns = asked("WGMFA_TURNS", 1);
            for turn in 0..turns {
                // Another place in the period each time.
                wait(turn.wrapping_mul(11) % PERIOD);
                longest = longest.max(office.suffer_from(what, deed, counts)?);
            }
            say(&format!("{what}, {turns} times: set right within {longest:.1?}"))?;
        }
        Ok(())
    })
}

impl Office {
    /// Does it, and waits until all is as it was. How long that took.
    fn suffer_from(&self, what: &str, deed: &str, counts: [u64; 4]) -> Result<Duration> {
        let (right, before) = (self.kernel()?, self.counts()?);
        let said = self.gateway.log().matches(" by others and was set right").count();
        let began = now();
        self.gateway.host().run("sh", ["-c", &self.command(deed)?])?;
        ensure!(self.kernel().ok().as_ref() != Some(&right), "{what}: it changed nothing");
        let within = PERIOD + BEYOND;
        wait_until(&format!("{what} is set right"), within, || {
            Ok(self.kernel().is_ok_and(|found| found == right))
        })?;
        let took = began.elapsed();
        // Whoever lost its keys shakes hands again as soon as it notices.
        wait_until("the session passes again", 60, || self.laptop.host().ping(SERVER))?;
        // What others did to the gate is counted at once, and the rest with the next report.
        wait_until(&format!("{what} is counted"), within, || Ok(self.counts()? != before))?;
        let after = self.counts()?;
        let added: Vec<u64> =
            after.iter().zip(before).map(|(after, before)| after - before).collect();
        ensure!(added == counts, "{what}: {before:?} became {after:?}");
        let log = self.gateway.log();
        let again = log.matches(" by others and was set right").count();
        ensure!(again > said, "{what} is not logged:\n{log}");
        Ok(took)
    }

    /// All that the gateway has put into the kernel, as others see it; not how long the lease still lasts.
    fn kernel(&self) -> Result<String> {
        let look = "wg show $I private-key && wg show $I listen-port && wg show $I allowed-ips && \
             wg show $I preshared-keys && ip -o address show $I | cut -d ' ' -f 2-7 && \
             nft list table inet $T | grep -v elements";
        self.gateway.host().run(
            "sh",
            ["-c", &fill(look, &[("$I", self.gateway.interface()), ("$T", &self.table())])],
        )
    }

    fn command(&self, deed: &str) -> Result<String> {
        let shown =
            self.gateway.host().run("wg", ["show", self.gateway.interface(), "allowed-ips"])?;
        let (peer, addresses) = shown.trim().split_once('\t').context("there is no peer")?;
        let key = self.gateway.host().directory().join("another.psk");
        std::fs::write(&key, self.gateway.host().run("wg", ["genpsk"])?)?;
        let (table, addresses) = (self.table(), addresses.replace(' ', ","));
        Ok(fill(
            deed,
            &[
                ("$I", self.gateway.interface()),
                ("$P", peer),
                ("$A", &addresses),
                ("$S", STRANGER),
                ("$T", &table),
                ("$K", &key.display().to_string()),
            ],
        ))
    }

    fn table(&self) -> String {
        format!("wg-mfa-{}", self.gateway.interface())
    }

    fn counts(&self) -> Result<[u64; 4]> {
        let status = self.gateway.status()?;
        let count = |at: &str| {
            status.pointer(at).and_then(Value::as_u64).with_context(|| format!("{at}: {status}"))
        };
        Ok([
            count("/strangers_removed")?,
            count("/peers_healed")?,
            count("/lease/rebuilt")?,
            count("/interfaces_remade")?,
        ])
    }
}

fn fill(text: &str, words: &[(&str, &str)]) -> String {
    words.iter().fold(text.to_owned(), |text, (name, word)| text.replace(name, word))
}
