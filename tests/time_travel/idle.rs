//! Idleness with the real thresholds and everybody's real periods: a keepalive is not activity, and
//! one ping a minute is.

use std::time::Duration;

use anyhow::{Result, ensure};
use demo::lab;

use super::office::{Office, SERVER};
use super::{asked, now, say, wait};

#[test]
#[ignore = "waits for a quarter of an hour; runs where time travels"]
fn one_ping_a_minute_keeps_a_session_and_300_s_of_silence_end_it() -> Result<()> {
    let name = "idle::one_ping_a_minute_keeps_a_session_and_300_s_of_silence_end_it";
    lab::within(name, |lab| in_use_then_silent(&Office::open(lab, &threshold("300"))?, 300))
}

#[test]
#[ignore = "waits for a quarter of an hour; runs where time travels"]
fn one_ping_a_minute_keeps_a_session_and_180_s_of_silence_end_it() -> Result<()> {
    let name = "idle::one_ping_a_minute_keeps_a_session_and_180_s_of_silence_end_it";
    lab::within(name, |lab| in_use_then_silent(&Office::open(lab, &threshold("180"))?, 180))
}

fn threshold(seconds: &str) -> [&str; 4] {
    ["--peer-disconnect-threshold", seconds, "--session-lifetime", "30d"]
}

/// Lives on with a ping a minute, ends in silence, and connects anew: so often as is asked for.
fn in_use_then_silent(office: &Office, threshold: u64) -> Result<()> {
    let laptop = office.laptop.host();
    let turns = asked("WGMFA_TURNS", 1);
    let mut longest = Duration::ZERO;
    for turn in 1..=turns {
        for minute in 0..asked("WGMFA_MINUTES", 12) {
            ensure!(laptop.ping(SERVER)?, "after {minute} minutes in use");
            wait(60);
        }
        ensure!(office.gateway.peers()?.len() == 1, "a session in use lives on");

        // The keepalive goes on, every 25 s, and handshakes with it: silence all the same. It
        // begins at another place in the periods each time.
        wait(turn.wrapping_mul(37) % 60);
        ensure!(laptop.ping(SERVER)?);
        let silent = now();
        while !office.gateway.peers()?.is_empty() {
            ensure!(now() < silent + Duration::from_secs(2 * threshold), "it never ends");
            wait(if silent.elapsed().as_secs() < threshold - 10 { 10 } else { 1 });
        }
        let took = silent.elapsed();
        // The threshold; then at most a report's period, a check's, and our own look.
        ensure!(took >= Duration::from_secs(threshold - 5), "too early: {took:?}");
        ensure!(took <= Duration::from_secs(threshold + 30 + 60 + 3), "too late: {took:?}");
        ensure!(!laptop.ping(SERVER)?);
        longest = longest.max(took);
        wait(40);
        let status = office.laptop.client(&["status"])?.to_string();
        ensure!(status.contains(&format!("no activity for {threshold} seconds")), "{status}");
        if turn < turns {
            office.connect(0)?;
        }
    }
    say(&format!("{turns} silences of {threshold} s: ended after {longest:.1?} at most"))
}
