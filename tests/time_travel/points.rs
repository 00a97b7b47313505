//! SIGKILL at points that have names: at the entry of the n-th message of a running gateway to its kernel or
//! to core, while somebody logs in. `strace` counts and kills; the shipped program knows nothing of it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use demo::company::Stop;
use demo::lab;

use super::office::{Office, SERVER};
use super::{asked, say, wait, wait_until};

/// The kinds of messages: netlink and core's stream alike, and how many of a login are gone through.
const CALLS: [(&str, u64); 2] = [("sendto", 6), ("writev", 1)];

#[test]
#[ignore = "waits for some minutes; runs where time travels"]
fn a_gateway_killed_at_a_point_comes_back_to_what_core_wants() -> Result<()> {
    lab::within("points::a_gateway_killed_at_a_point_comes_back_to_what_core_wants", |lab| {
        let patient = ["--peer-disconnect-threshold", "3600", "--session-lifetime", "30d"];
        let mut office = Office::open(lab, &patient)?;
        for turn in 0..asked("WGMFA_TURNS", 1) {
            for (call, most) in CALLS {
                for nth in 1..=most {
                    let nth = nth + turn * most;
                    office
                        .lose_the_gateway_at(call, nth)
                        .with_context(|| format!("{call} {nth}"))?;
                }
                say(&format!("{call}: killed at 1 to {most} of turn {turn}, and came back"))?;
            }
        }
        Ok(())
    })
}

impl Office {
    /// Lets the gateway die at the entry of its `nth` such call from now, and be started again.
    fn lose_the_gateway_at(&mut self, call: &str, nth: u64) -> Result<()> {
        // Ends with a peer that is taken out; the next login puts one in, with a new code.
        self.laptop.client(&["disconnect", "office"])?;
        wait(31);
        let process = self.gateway.process().context("the gateway does not run")?;
        let mut death = Death::at(process, call, nth)?;
        let code = self.authenticator.code(0)?;
        // Whether this login succeeds depends on where the gateway dies.
        let login = self.laptop.connect("office", &["--method", "totp", "--code", &code]);
        // A heartbeat each 10 s is a message, too.
        wait_until("the gateway is dead", 300, || death.has_come())?;

        self.gateway.stop(Stop::Killed)?;
        self.gateway.start()?;
        let mut passes = || self.laptop.host().ping(SERVER);
        let came = wait_until("packets pass again", 60, &mut passes);
        if login.is_err() && came.is_err() {
            // What is left of that login goes, its session and its agent, if there are any.
            let _ = self.laptop.client(&["disconnect", "office"]);
            wait(31);
            self.connect(0)?;
        } else {
            came?;
        }
        ensure!(self.gateway.peers()?.len() == 1, "{}", self.gateway.wg_show()?);
        let sessions = self.company.admin(&["session", "list"])?;
        let live = sessions.as_array().map(Vec::len);
        ensure!(live == Some(1), "one session lives: {sessions}");
        Ok(())
    }
}

/// What kills a process.
struct Death(Child);

impl Death {
    fn at(process: u32, call: &str, nth: u64) -> Result<Self> {
        let inject = format!("--inject={call}:signal=KILL:when={nth}");
        let mut strace = Command::new("strace")
            .args(["-f", "-o", "/dev/null", "-p", &process.to_string()])
            .args([&format!("--trace={call}"), &inject])
            .stderr(Stdio::piped())
            .spawn()
            .context("`strace` is missing")?;
        let mut said = String::new();
        let error = strace.stderr.take().context("its words")?;
        BufReader::new(error).read_line(&mut said)?;
        ensure!(said.contains("attached"), "strace: {said}");
        Ok(Self(strace))
    }

    /// It ends with the last process that it follows.
    fn has_come(&mut self) -> Result<bool> {
        Ok(self.0.try_wait()?.is_some())
    }
}

impl Drop for Death {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
