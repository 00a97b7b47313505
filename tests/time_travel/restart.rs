//! Core and the gateway restart under a ping each ten milliseconds.

use anyhow::{Result, ensure};
use demo::company::Stop;
use demo::lab;

use super::office::{Office, SERVER};
use super::ping::Ping;
use super::{asked, say, wait};

#[test]
#[ignore = "needs a kernel's WireGuard; runs where time travels"]
fn restarts_of_core_and_the_gateway_lose_no_packet() -> Result<()> {
    lab::within("restart::restarts_of_core_and_the_gateway_lose_no_packet", |lab| {
        let mut office = Office::open(lab, &["--session-lifetime", "30d"])?;
        let turns = asked("WGMFA_TURNS", 2);
        let ping = Ping::start(office.laptop.host(), "restart", SERVER, "0.01")?;
        let before = office.gateway.wg_show()?;
        for turn in 0..turns {
            let how = if turn % 2 == 0 { Stop::Politely } else { Stop::Killed };
            office.company.stop(how)?;
            wait(2);
            office.company.start()?;
            wait(2);
            office.gateway.stop(how)?;
            wait(2);
            office.gateway.start()?;
            wait(2);
        }
        let tally = ping.stop()?;
        say(&format!("{turns} restarts of each: {tally}"))?;
        ensure!(tally.lost() == 0, "{tally}");
        ensure!(tally.sent > 400 * turns, "{tally}");
        ensure!(office.gateway.peers()?.len() == 1, "before: {before}");
        Ok(())
    })
}
