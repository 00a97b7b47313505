//! Hours of sessions' lives on a kernel in which waiting takes no time, by the shipped programs
//! with everybody's real periods; `ping`, `wg`, `nft` and a TCP connection of `busybox` as witnesses.
//!
//! Each test does little by default. For a figure, environment variables ask for more:
//! `$WGMFA_ROTATIONS` and `$WGMFA_TURNS`; `docs/measured.md` has the commands.
//!
//! Waiting is free there and work is not: what waits looks seldom, and at files rather than by
//! starting programs.

mod drift;
mod ends;
mod idle;
mod lease;
mod mass;
mod office;
mod ping;
mod points;
mod restart;
mod rotate;
mod step;
mod stream;

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// A number from the environment.
fn asked(name: &str, by_default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(by_default)
}

/// Tells what was measured.
fn say(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}").map_err(Into::into)
}

/// Waits until something is so, looking each second.
fn wait_until(what: &str, seconds: u64, mut check: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = now() + Duration::from_secs(seconds);
    while !check().with_context(|| format!("waiting until {what}"))? {
        ensure!(now() < deadline, "within {seconds} s it did not happen that {what}");
        wait(1);
    }
    Ok(())
}

fn wait(seconds: u64) {
    wait_for(Duration::from_secs(seconds));
}

#[expect(clippy::disallowed_methods, reason = "waiting is what these tests are about")]
fn wait_for(time: Duration) {
    std::thread::sleep(time);
}

#[expect(clippy::disallowed_methods, reason = "the kernel's own clock, which travels")]
fn now() -> Instant {
    Instant::now()
}

/// The time of day in seconds, as `ping -D` prints it.
#[expect(clippy::disallowed_methods, reason = "the kernel's own clock, which travels")]
fn time_of_day() -> Result<f64> {
    Ok(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs_f64())
}
