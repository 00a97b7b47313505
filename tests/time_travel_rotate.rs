//! Rotation after rotation under a ping that never stops: on a kernel in which waiting takes no
//! time, with everybody's real periods.
//!
//! `$WGMFA_ROTATIONS` says how many, by default two; `docs/operate/rotation.md` has the command
//! for a thousand.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use demo::company::{Authenticator, Company, Gateway, Laptop, Site, Stop};
use demo::lab::{self, Host, Lab, Service};
use serde_json::Value;

const SERVER: &str = "10.99.0.1";
const SERVER_SIX: &str = "fd99::1";

/// The shortest period: a key a handshake, nearly.
const PERIOD: &str = "120s";

/// Pings that may be lost in a row where the network loses 5 % each way: more have a cause. An
/// interruption by keys that differ is 5 s at least, 50 pings.
const RUN: u64 = 15;

#[test]
#[ignore = "waits for an hour; runs where time travels"]
fn no_packet_is_lost_in_many_rotations_while_the_client_roams() -> Result<()> {
    lab::within("no_packet_is_lost_in_many_rotations_while_the_client_roams", |lab| {
        let office = Office::open(lab)?;
        let (four, six) = office.start_pings()?;
        office.rotate(rotations(), |turn| office.roam(turn))?;
        let (four, six) = (four.stop()?, six.stop()?);
        say(&format!("{} rotations: IPv4 {four}, IPv6 {six}", rotations()))?;
        ensure!(four.lost() == 0 && six.lost() == 0, "IPv4 {four}, IPv6 {six}");
        ensure!(four.sent > 100, "{four}");
        Ok(())
    })
}

#[test]
#[ignore = "waits for an hour; runs where time travels"]
fn nothing_but_what_the_network_loses_is_lost_under_loss_and_jitter() -> Result<()> {
    lab::within("nothing_but_what_the_network_loses_is_lost_under_loss_and_jitter", |lab| {
        let office = Office::open(lab)?;
        for host in [office.laptop.host(), office.gateway.host()] {
            let netem = ["qdisc", "add", "dev", "eth0", "root", "netem", "limit", "10000"];
            let bad = ["delay", "100ms", "100ms", "loss", "5%"];
            lab::text(&host.command("tc").args(netem).args(bad).output()?)?;
        }
        let (four, six) = office.start_pings()?;
        office.rotate(rotations(), |_| Ok(()))?;
        let (four, six) = (four.stop()?, six.stop()?);
        // Counted last: what the network swallows until a ping has stopped counts for both.
        let dropped = dropped(office.laptop.host())? + dropped(office.gateway.host())?;
        let n = rotations();
        say(&format!("{n} rotations: IPv4 {four}, IPv6 {six}; the network lost {dropped}"))?;
        ensure!(four.lost() + six.lost() <= dropped, "{four}, {six}, the network lost {dropped}");
        ensure!(four.run <= RUN && six.run <= RUN, "IPv4 {four}, IPv6 {six}");
        ensure!(four.lost() > 0, "the network was not bad at all");
        Ok(())
    })
}

#[test]
#[ignore = "waits for half an hour; runs where time travels"]
fn a_gateway_that_restarts_in_the_middle_of_a_rotation_interrupts_nothing() -> Result<()> {
    lab::within("a_gateway_that_restarts_in_the_middle_of_a_rotation_interrupts_nothing", |lab| {
        let mut office = Office::open(lab)?;
        let (four, six) = office.start_pings()?;
        for round in 0..3 {
            // The moment in which the client may set the key and the gateway cannot.
            wait_until("a key is staged", 1200, || Ok(office.next_generation()?.is_some()))?;
            office.gateway.stop(if round == 0 { Stop::Politely } else { Stop::Killed })?;
            wait_until("the client has set it", 60, || Ok(office.next_generation()?.is_none()))?;
            let before = office.generation()?;
            office.gateway.start()?;
            wait_until("it is promoted", 600, || Ok(office.generation()? > before))?;
        }
        let (four, six) = (four.stop()?, six.stop()?);
        say(&format!("3 restarts: IPv4 {four}, IPv6 {six}"))?;
        ensure!(four.lost() == 0 && six.lost() == 0, "IPv4 {four}, IPv6 {six}");
        Ok(())
    })
}

#[test]
#[ignore = "waits for an hour; runs where time travels"]
fn a_client_that_cannot_reach_core_keeps_its_keys_for_a_while_and_then_ends() -> Result<()> {
    lab::within("a_client_that_cannot_reach_core_keeps_its_keys_for_a_while_and_then_ends", |lab| {
        let office = Office::open(lab)?;
        let (four, six) = office.start_pings()?;
        // Core's address is gone for the laptop, and for it alone.
        office.laptop.host().run("ip", ["route", "add", "blackhole", "10.77.0.1/32"])?;
        let began = now();
        wait(600)?;
        ensure!(office.gateway.peers()?.len() == 1, "10 minutes are nothing");
        let (four, six) = (four.stop()?, six.stop()?);
        ensure!(four.lost() == 0 && six.lost() == 0, "IPv4 {four}, IPv6 {six}");

        let (four, _six) = office.start_pings()?;
        wait_until("it ends", 1200, || Ok(office.gateway.peers()?.is_empty()))?;
        let took = now().duration_since(began);
        ensure!(took >= Duration::from_secs(900), "before its time: {took:?}");
        ensure!(office.ended()? == "rotation_failed", "{}", office.ended()?);
        drop(four);
        Ok(())
    })
}

fn rotations() -> u64 {
    std::env::var("WGMFA_ROTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

/// A company with a connected laptop.
struct Office {
    company: Company,
    gateway: Gateway,
    laptop: Laptop,
}

impl Office {
    fn open(lab: &mut Lab) -> Result<Self> {
        let mut site = Site::in_lab(lab);
        site.check_period = "60s".into();
        site.statistics_period = "30s".into();
        let company = Company::found_at(site)?;
        let office = ["location", "add", "office", "--address", "10.1.0.1/24,fd10::1/64"];
        let more = ["--endpoint", "10.77.0.2:51820", "--allowed-ips", "10.99.0.0/24,fd99::/64"];
        let policy = ["--mfa", "on", "--psk-rotation", PERIOD, "--session-lifetime", "30d"];
        company.admin(&[&office[..], &more, &policy].concat())?;
        let gateway = Gateway::join(&company, lab, "office", "gateway", SERVER, "kernel")?;
        let six = [&format!("{SERVER_SIX}/128"), "dev", "lo"];
        gateway.host().run("ip", ["address", "add", six[0], six[1], six[2]])?;
        company.admin(&["user", "add", "alice"])?;
        let laptop = Laptop::new(lab, "laptop", "kernel")?;
        laptop.enroll(&company, "alice")?;
        let authenticator: Authenticator = laptop.set_up_totp()?;
        let code = authenticator.code(0)?;
        laptop.connect("office", &["--method", "totp", "--code", &code])?;
        ensure!(laptop.host().ping(SERVER)?);
        Ok(Self { company, gateway, laptop })
    }

    fn start_pings(&self) -> Result<(Ping, Ping)> {
        Ok((Ping::start(self, "four", SERVER)?, Ping::start(self, "six", SERVER_SIX)?))
    }

    /// Waits for so many rotations, and does something after each.
    fn rotate(&self, count: u64, mut after: impl FnMut(u64) -> Result<()>) -> Result<()> {
        let first = self.generation()?;
        for turn in 1..=count {
            let what = format!("rotation {turn} is done");
            wait_until(&what, 600, || Ok(self.generation()? >= first + turn))?;
            after(turn)?;
        }
        Ok(())
    }

    /// Moves the laptop to another port, and every third time to another address.
    fn roam(&self, turn: u64) -> Result<()> {
        let host = self.laptop.host();
        let interface = host.run("wg", ["show", "interfaces"])?;
        let port = (40_000 + turn % 10_000).to_string();
        host.run("wg", ["set", interface.trim(), "listen-port", &port])?;
        if turn.is_multiple_of(3) {
            let (old, new) = (100 + (turn / 3 + 1) % 2, 100 + (turn / 3) % 2);
            let address = |n: u64| format!("10.77.0.{n}/24");
            host.run("ip", ["address", "replace", &address(new), "dev", "eth0"])?;
            let (net, new) = ("10.77.0.0/24", format!("10.77.0.{new}"));
            host.run("ip", ["route", "replace", net, "dev", "eth0", "src", &new])?;
            // The first time there is none to take away.
            drop(host.run("ip", ["address", "del", &address(old), "dev", "eth0"]));
        }
        Ok(())
    }

    fn session(&self) -> Result<Value> {
        let all = self.company.admin(&["session", "list"])?;
        all.as_array().and_then(|all| all.first()).cloned().context("there is no session")
    }

    fn generation(&self) -> Result<u64> {
        let session = self.session()?;
        session.get("generation").and_then(Value::as_u64).with_context(|| session.to_string())
    }

    /// The generation that waits for the client, as core tells it.
    fn next_generation(&self) -> Result<Option<u64>> {
        let status = self.laptop.client(&["status"])?;
        let next = status.pointer("/locations/0/session/next_generation");
        Ok(next.and_then(Value::as_u64))
    }

    fn ended(&self) -> Result<String> {
        let log = self.company.log();
        let line = log.lines().rev().find(|line| line.contains("session ended"));
        let line = line.with_context(|| log.clone())?;
        Ok(if line.contains("rotation_failed") { "rotation_failed" } else { line }.to_owned())
    }
}

/// A ping that goes on, ten a second.
struct Ping(Service);

/// What came of the pings that had been sent some seconds before the end.
#[derive(Debug, PartialEq, Eq)]
struct Tally {
    sent: u64,
    received: u64,
    /// The most that were lost in a row.
    run: u64,
}

impl Ping {
    fn start(office: &Office, name: &str, to: &str) -> Result<Self> {
        let host = office.laptop.host();
        let mut command = host.command("ping");
        command.args(["-n", "-i", "0.1", to]);
        let _ = std::fs::remove_file(host.directory().join(format!("{name}.log")));
        host.spawn(name, &mut command).map(Self)
    }

    fn stop(self) -> Result<Tally> {
        let process = self.0.id().to_string();
        // It says how many it has sent, and goes on: what is under way arrives.
        lab::run("kill", ["-QUIT", &process])?;
        wait(2)?;
        lab::run("kill", ["-INT", &process])?;
        wait(1)?;
        Tally::read(&self.0.log())
    }
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

    fn lost(&self) -> u64 {
        self.sent - self.received
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} (longest gap {})", self.received, self.sent, self.run)
    }
}

fn sequence(line: &str) -> Option<u64> {
    line.split_once("icmp_seq=")?.1.split(' ').next()?.parse().ok()
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

/// What the host's bad network has swallowed.
fn dropped(host: &Host) -> Result<u64> {
    let said = host.run("tc", ["-s", "qdisc", "show", "dev", "eth0"])?;
    let number = said.split_once("dropped ").and_then(|(_, rest)| rest.split([',', ' ']).next());
    number.and_then(|number| number.parse().ok()).context(said.clone())
}

/// Tells what was measured.
fn say(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}").map_err(Into::into)
}

fn wait_until(what: &str, seconds: u64, mut check: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = now() + Duration::from_secs(seconds);
    while !check().with_context(|| format!("waiting until {what}"))? {
        ensure!(now() < deadline, "within {seconds} s it did not happen that {what}");
        wait(2)?;
    }
    Ok(())
}

fn wait(seconds: u64) -> Result<()> {
    lab::run("sleep", [&seconds.to_string()]).map(drop)
}

#[expect(clippy::disallowed_methods, reason = "the kernel's own clock, which travels")]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn a_tally_counts_what_had_been_sent_when_it_was_asked() -> Result<()> {
    let answer = |n: u64| format!("64 bytes from 10.99.0.1: icmp_seq={n} ttl=64 time=0.2 ms\n");
    let answers = |numbers: &[u64]| numbers.iter().map(|n| answer(*n)).collect::<String>();
    let asked = "\r4/6 packets, 33% loss, min/avg/ewma/max = 0.2/0.2/0.2/0.2 ms\n";
    let end = "\n--- 10.99.0.1 ping statistics ---\n8 packets transmitted, 6 received\n";

    let log = [&answers(&[1, 4, 2, 5]), asked, &answers(&[6, 7]), end].concat();
    assert_eq!(Tally::read(&log)?, Tally { sent: 6, received: 5, run: 1 });
    let log = [&answers(&[1, 2, 2]), asked, end].concat();
    assert_eq!(Tally::read(&log)?, Tally { sent: 6, received: 2, run: 4 });
    assert!(Tally::read(&answers(&[1, 2])).is_err());
    Ok(())
}
