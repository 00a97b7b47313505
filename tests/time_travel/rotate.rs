//! Rotation after rotation under pings and a TCP connection that never stop.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use demo::company::Stop;
use demo::lab::{self, Host};
use serde_json::Value;

use super::office::Office;
use super::{asked, now, say, wait, wait_for, wait_until};

/// The shortest period: a key a handshake, nearly.
pub(super) const OFTEN: [&str; 4] = ["--psk-rotation", "120s", "--session-lifetime", "30d"];

/// Seconds after which a client has told core that it takes keys, by its first call after the first
/// handshake. One that never tells keeps its first key for as long as the session lives.
pub(super) const CLIENT_TELLS: u64 = 10;

/// Pings that may be lost in a row where the network loses 5 % each way: more have a cause. An
/// interruption by keys that differ is 5 s at least, 50 pings.
const RUN: u64 = 15;

#[test]
#[ignore = "waits for an hour; runs where time travels"]
fn no_packet_is_lost_in_many_rotations_while_the_client_roams() -> Result<()> {
    lab::within("rotate::no_packet_is_lost_in_many_rotations_while_the_client_roams", |lab| {
        let office = Office::open(lab, &OFTEN)?;
        let stream = office.open_stream()?;
        let (four, six) = office.start_pings()?;
        office.rotate(rotations(), |turn| roam(office.laptop.host(), turn))?;
        let (four, six) = (four.stop()?, six.stop()?);
        let lines = stream.close()?;
        let n = rotations();
        say(&format!("{n} rotations: IPv4 {four}, IPv6 {six}; {lines} lines over one TCP"))?;
        ensure!(four.lost() == 0 && six.lost() == 0, "IPv4 {four}, IPv6 {six}");
        ensure!(four.sent > 100, "{four}");
        Ok(())
    })
}

#[test]
#[ignore = "waits for an hour; runs where time travels"]
fn nothing_but_what_the_network_loses_is_lost_under_loss_and_jitter() -> Result<()> {
    lab::within("rotate::nothing_but_what_the_network_loses_is_lost_under_loss_and_jitter", |lab| {
        let office = Office::open(lab, &OFTEN)?;
        for host in [office.laptop.host(), office.gateway.host()] {
            let netem = ["qdisc", "add", "dev", "eth0", "root", "netem", "limit", "10000"];
            let bad = ["delay", "100ms", "100ms", "loss", "5%"];
            lab::text(&host.command("tc").args(netem).args(bad).output()?)?;
        }
        let stream = office.open_stream()?;
        let (four, six) = office.start_pings()?;
        office.rotate(rotations(), |_| Ok(()))?;
        let (four, six) = (four.stop()?, six.stop()?);
        let lines = stream.close()?;
        // Counted last: what the network swallows until a ping has stopped counts for both.
        let dropped = dropped(office.laptop.host())? + dropped(office.gateway.host())?;
        let n = rotations();
        say(&format!(
            "{n} rotations: IPv4 {four}, IPv6 {six}; the network lost {dropped}; {lines} lines \
             over one TCP"
        ))?;
        ensure!(four.lost() + six.lost() <= dropped, "{four}, {six}, the network lost {dropped}");
        ensure!(four.run <= RUN && six.run <= RUN, "IPv4 {four}, IPv6 {six}");
        ensure!(four.lost() > 0, "the network was not bad at all");
        Ok(())
    })
}

#[test]
#[ignore = "waits for half an hour; runs where time travels"]
fn a_gateway_that_restarts_in_the_middle_of_a_rotation_interrupts_nothing() -> Result<()> {
    lab::within(
        "rotate::a_gateway_that_restarts_in_the_middle_of_a_rotation_interrupts_nothing",
        |lab| {
            let mut office = Office::open(lab, &OFTEN)?;
            let (four, six) = office.start_pings()?;
            for round in 0..3 {
                // The moment in which the client may set the key and the gateway cannot.
                let (staged, promoted) = (office.done("staged"), office.done("promoted"));
                wait_until("a key is staged", 1200, || Ok(office.done("staged") > staged))?;
                ensure!(next_generation(&office)?.is_some(), "the client has been too quick");
                office.gateway.stop(if round == 0 { Stop::Politely } else { Stop::Killed })?;
                wait_until(
                    "the client has set it",
                    60,
                    || Ok(next_generation(&office)?.is_none()),
                )?;
                ensure!(office.done("promoted") == promoted, "the gateway is gone");
                office.gateway.start()?;
                wait_until("it is promoted", 600, || Ok(office.done("promoted") > promoted))?;
            }
            let (four, six) = (four.stop()?, six.stop()?);
            say(&format!("3 restarts: IPv4 {four}, IPv6 {six}"))?;
            ensure!(four.lost() == 0 && six.lost() == 0, "IPv4 {four}, IPv6 {six}");
            Ok(())
        },
    )
}

#[test]
#[ignore = "waits for some minutes; runs where time travels"]
fn a_client_that_is_asked_all_the_time_takes_its_key_all_the_same() -> Result<()> {
    lab::within("rotate::a_client_that_is_asked_all_the_time_takes_its_key_all_the_same", |lab| {
        let office = Office::open(lab, &OFTEN)?;
        let (four, six) = office.start_pings()?;
        wait_until("a key is staged", 1200, || Ok(office.done("staged") > 0))?;
        let deadline = now() + Duration::from_secs(200);
        while office.done("promoted") == 0 {
            ensure!(now() < deadline, "it does not take the key");
            office.laptop.client(&["status"])?;
            wait_for(Duration::from_millis(900));
        }
        let (four, six) = (four.stop()?, six.stop()?);
        ensure!(four.lost() == 0 && six.lost() == 0, "IPv4 {four}, IPv6 {six}");
        Ok(())
    })
}

#[test]
#[ignore = "waits for an hour; runs where time travels"]
fn a_client_that_cannot_reach_core_keeps_its_keys_for_a_while_and_then_ends() -> Result<()> {
    lab::within(
        "rotate::a_client_that_cannot_reach_core_keeps_its_keys_for_a_while_and_then_ends",
        |lab| {
            let office = Office::open(lab, &OFTEN)?;
            wait(CLIENT_TELLS);
            let (four, six) = office.start_pings()?;
            // Core's address is gone for the laptop, and for it alone.
            office.laptop.host().run("ip", ["route", "add", "blackhole", "10.77.0.1/32"])?;
            let began = now();
            wait(600);
            ensure!(office.gateway.peers()?.len() == 1, "10 minutes are nothing");
            let (four, six) = (four.stop()?, six.stop()?);
            ensure!(four.lost() == 0 && six.lost() == 0, "IPv4 {four}, IPv6 {six}");

            let (four, _six) = office.start_pings()?;
            wait_until("it ends", 1200, || Ok(office.ended().is_ok()))?;
            let took = now().duration_since(began);
            ensure!(took >= Duration::from_secs(900), "before its time: {took:?}");
            ensure!(office.ended()? == "rotation_failed", "{}", office.ended()?);
            wait_until("the peer is gone", 30, || Ok(office.gateway.peers()?.is_empty()))?;
            drop(four);
            Ok(())
        },
    )
}

fn rotations() -> u64 {
    asked("WGMFA_ROTATIONS", 2)
}

/// Moves the laptop to another port, and every third time to another address.
fn roam(laptop: &Host, turn: u64) -> Result<()> {
    let interface = laptop.run("wg", ["show", "interfaces"])?;
    let port = (40_000 + turn % 10_000).to_string();
    laptop.run("wg", ["set", interface.trim(), "listen-port", &port])?;
    if turn.is_multiple_of(3) {
        let (old, new) = (100 + (turn / 3 + 1) % 2, 100 + (turn / 3) % 2);
        let address = |n: u64| format!("10.77.0.{n}/24");
        laptop.run("ip", ["address", "replace", &address(new), "dev", "eth0"])?;
        let (net, new) = ("10.77.0.0/24", format!("10.77.0.{new}"));
        laptop.run("ip", ["route", "replace", net, "dev", "eth0", "src", &new])?;
        // The first time there is none to take away.
        drop(laptop.run("ip", ["address", "del", &address(old), "dev", "eth0"]));
    }
    Ok(())
}

/// The generation that waits for the client, as core tells it.
fn next_generation(office: &Office) -> Result<Option<u64>> {
    let status = office.laptop.client(&["status"])?;
    let next = status.pointer("/locations/0/session/next_generation");
    Ok(next.and_then(Value::as_u64))
}

/// What the host's bad network has swallowed.
fn dropped(host: &Host) -> Result<u64> {
    let said = host.run("tc", ["-s", "qdisc", "show", "dev", "eth0"])?;
    let number = said.split_once("dropped ").and_then(|(_, rest)| rest.split([',', ' ']).next());
    number.and_then(|number| number.parse().ok()).context(said.clone())
}
