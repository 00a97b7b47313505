//! A ping that goes on, and what came of it.

use std::fmt;

use anyhow::{Context as _, Result};
use demo::lab::{self, Host, Service};

use super::{time_of_day, wait};

/// A ping that goes on.
pub(super) struct Ping(Service);

impl Ping {
    /// Starts it, one each so many seconds: `0.1`.
    pub(super) fn start(host: &Host, name: &str, to: &str, each: &str) -> Result<Self> {
        // ping takes the first second after the machine's start for no time at all, and floods.
        let up = std::fs::read_to_string("/proc/uptime")?;
        if up.starts_with("0.") {
            wait(1);
        }
        let mut command = host.command("ping");
        command.args(["-n", "-D", "-i", each, to]);
        let _ = std::fs::remove_file(host.directory().join(format!("{name}.log")));
        host.spawn(name, &mut command).map(Self)
    }

    /// Ends it when what is under way has arrived.
    pub(super) fn stop(self) -> Result<Tally> {
        let process = self.0.id().to_string();
        // It says how many it has sent, and goes on.
        lab::run("kill", ["-QUIT", &process])?;
        wait(2);
        lab::run("kill", ["-INT", &process])?;
        wait(1);
        Tally::read(&self.0.log())
    }

    /// When the last answer came, in seconds as [`time_of_day`].
    pub(super) fn last_answer(&self) -> Option<f64> {
        last_answer(&self.0.log())
    }

    /// Whether one came within the last two seconds.
    pub(super) fn is_answered(&self) -> Result<bool> {
        let now = time_of_day()?;
        Ok(self.last_answer().is_some_and(|last| now - last < 2.0))
    }
}

/// What came of the pings that had been sent some seconds before the end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) sent: u64,
    pub(super) received: u64,
    /// The most that were lost in a row.
    pub(super) run: u64,
}

impl Tally {
    /// Reads ping's output, in which it was asked once how far it is: `12/13 packets, 7% loss`.
    fn read(log: &str) -> Result<Self> {
        let said = log.lines().find_map(|line| line.split_once(" packets, "));
        let sent = said.and_then(|(counts, _)| counts.split_once('/')?.1.parse::<u64>().ok());
        let sent = sent.with_context(|| format!("ping did not say how far it is: {log}"))?;
        let mut came: Vec<u64> = log.lines().filter_map(sequence).collect();
        // ping's own numbers begin anew after 65,535.
        unfold(&mut came);
        came.retain(|number| (1..=sent).contains(number));
        came.sort_unstable();
        came.dedup();
        let received = u64::try_from(came.len())?;
        let ends = came.iter().copied().chain([sent + 1]);
        let gaps = [0].into_iter().chain(came.iter().copied()).zip(ends);
        let run = gaps.map(|(one, next)| next - one - 1).max().unwrap_or(sent);
        Ok(Self { sent, received, run })
    }

    pub(super) fn lost(&self) -> u64 {
        self.sent - self.received
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} (longest gap {})", self.received, self.sent, self.run)
    }
}

fn sequence(line: &str) -> Option<u64> {
    line.split_once("icmp_seq=")?.1.split(' ').next()?.parse().ok()
}

/// The time in front of the last answer: `[1700000000.123456] 64 bytes from …`.
fn last_answer(log: &str) -> Option<f64> {
    let line = log.lines().rev().find(|line| line.contains(" bytes from "))?;
    line.trim_start().strip_prefix('[')?.split_once(']')?.0.parse().ok()
}

fn unfold(numbers: &mut [u64]) {
    let (mut base, mut last) = (0, 0);
    for number in numbers {
        let folded = *number;
        if folded + 32_768 < last {
            base += 65_536;
        }
        // One of before the fold that came late.
        let late = folded > last + 32_768 && base > 0;
        if !late {
            last = folded;
        }
        *number = folded + base - if late { 65_536 } else { 0 };
    }
}

#[test]
fn a_tally_counts_what_had_been_sent_when_it_was_asked() -> Result<()> {
    let answer =
        |n: u64| format!("[17.5] 64 bytes from 10.99.0.1: icmp_seq={n} ttl=64 time=0.2 ms\n");
    let answers = |numbers: &[u64]| numbers.iter().map(|n| answer(*n)).collect::<String>();
    let asked = "\r4/6 packets, 33% loss, min/avg/ewma/max = 0.2/0.2/0.2/0.2 ms\n";
    let end = "\n--- 10.99.0.1 ping statistics ---\n8 packets transmitted, 6 received\n";

    let log = [&answers(&[1, 4, 2, 5]), asked, &answers(&[6, 7]), end].concat();
    assert_eq!(Tally::read(&log)?, Tally { sent: 6, received: 5, run: 1 });
    assert_eq!(last_answer(&log), Some(17.5));
    let log = [&answers(&[1, 2, 2]), asked, end].concat();
    assert_eq!(Tally::read(&log)?, Tally { sent: 6, received: 2, run: 4 });
    assert!(Tally::read(&answers(&[1, 2])).is_err());
    Ok(())
}
