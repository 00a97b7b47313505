//! An administrator ends a session: how long packets pass after that.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use demo::company::text;
use demo::lab::{self, Host};
use serde_json::Value;

use super::office::{Office, SERVER};
use super::ping::Ping;
use super::{asked, say, time_of_day, wait_for};

/// How long a code of the authenticator app is the current one, and a moment.
const STEP: Duration = Duration::from_secs(31);

#[test]
#[ignore = "needs a kernel's WireGuard; runs where time travels"]
fn nothing_passes_soon_after_an_administrator_has_ended_a_session() -> Result<()> {
    lab::within("ends::nothing_passes_soon_after_an_administrator_has_ended_a_session", |lab| {
        let office = Office::open(lab, &["--session-lifetime", "30d"])?;
        let token =
            office.company.admin(&["token", "add", "ends", "--scopes", "sessions:write"])?;
        let token = text(&token, "token")?.to_owned();
        let core = Host::core(lab.directory());
        // Where waiting takes its time the clock is set instead, to have another code.
        let wall_clock = asked("WGMFA_WALL_CLOCK", 0) == 1;
        let turns = asked("WGMFA_TURNS", 3);
        let (mut passed, mut after_request, mut answered) = (Vec::new(), Vec::new(), Vec::new());
        let mut steps = [const { Vec::new() }; 4];
        for turn in 1..=turns {
            let session = office.session()?.get("id").and_then(Value::as_i64).context("no id")?;
            let ping = Ping::start(office.laptop.host(), "ends", SERVER, "0.01")?;
            wait_for(Duration::from_millis(200 + turn.wrapping_mul(79) % 100));
            let began = time_of_day()?;
            let authorization = format!("Authorization: Bearer {token}");
            let url = format!("https://10.77.0.1:8443/api/v1/sessions/{session}");
            // It says when its connection stood and the request was about to be sent.
            let when = "%{time_pretransfer}";
            let curl = ["-ksS", "-w", when, "--fail", "-X", "DELETE", "-H", &authorization, &url];
            let sent: f64 = core.run("curl", curl)?.trim().parse()?;
            let done = time_of_day()?;
            wait_for(Duration::from_millis(500));
            let last = ping.last_answer().context("no answer at all")?;
            drop(ping);
            ensure!(last > began - 0.1, "{turn}: there was no traffic");
            ensure!(office.gateway.peers()?.is_empty(), "{turn}: the peer is there");
            passed.push((last - began).max(0.0));
            after_request.push((last - began - sent).max(0.0));
            answered.push(done - began);
            for (all, step) in steps.iter_mut().zip(office.trail(session)?) {
                all.push(Duration::from_millis(step).as_secs_f64());
            }
            if turn < turns {
                // The client may know already.
                drop(office.laptop.client(&["disconnect", "office"]));
                if wall_clock {
                    let then = format!("@{:.3}", time_of_day()? + STEP.as_secs_f64());
                    core.run("date", ["-s", &then])?;
                } else {
                    wait_for(STEP);
                }
                office.connect(0)?;
            }
        }
        say(&format!(
            "{turns} ends, from the start of the administrator's client: the last packet passed {}; \
             the request was answered {}. From when its connection stood: the last packet passed {}",
            spread(&mut passed),
            spread(&mut answered),
            spread(&mut after_request)
        ))?;
        let [committed, sent, applied, verified] = steps.each_mut().map(|all| spread(all));
        say(&format!(
            "from the decision, by the trail: committed {committed}; sent {sent}; applied {applied}; \
             verified {verified}"
        ))?;
        if !wall_clock {
            // Work takes no time there. What remains is what somebody waits for.
            ensure!(passed.iter().all(|time| *time <= 0.1), "{passed:?}");
        }
        Ok(())
    })
}

/// Half, 99 of 100, and the longest, in milliseconds.
fn spread(seconds: &mut [f64]) -> String {
    seconds.sort_by(f64::total_cmp);
    let at = |percent: usize| {
        let place = (seconds.len() * percent).div_ceil(100).saturating_sub(1);
        1000.0 * seconds.get(place).copied().unwrap_or_default()
    };
    format!("p50 {:.0} ms, p99 {:.0} ms, longest {:.0} ms", at(50), at(99), at(100))
}
