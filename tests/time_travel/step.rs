//! Those who do not go along with a rotation, and those who must go in step.

use std::time::Duration;

use anyhow::{Result, ensure};
use demo::company::Gateway;
use demo::lab;

use super::office::{Office, SERVER};
use super::ping::Ping;
use super::rotate::{CLIENT_TELLS, OFTEN};
use super::{asked, now, say, wait, wait_until};

#[test]
#[ignore = "waits for half an hour; runs where time travels"]
fn a_client_that_never_rotates_keeps_its_tunnel_until_the_limit() -> Result<()> {
    lab::within("step::a_client_that_never_rotates_keeps_its_tunnel_until_the_limit", |lab| {
        let office = Office::open(lab, &OFTEN)?;
        wait(CLIENT_TELLS);
        // Its tunnel is the kernel's and stays; nobody answers for it any more.
        lab::run("busybox", ["killall", "-KILL", "client-bin"])?;
        let ping = Ping::start(office.laptop.host(), "old", SERVER, "0.1")?;
        let began = now();
        wait(870);
        ensure!(ping.is_answered()?);
        let tally = ping.stop()?;
        let _in_use = Ping::start(office.laptop.host(), "in-use", SERVER, "1")?;
        ensure!(tally.lost() == 0, "{tally}");
        ensure!(office.done("promoted") == 0, "nobody has said that the key was set");
        wait_until("it ends", 600, || Ok(office.ended().is_ok()))?;
        let took = now().duration_since(began);
        ensure!(took >= Duration::from_secs(880), "before its time: {took:?}");
        ensure!(office.ended()? == "rotation_failed", "{}", office.ended()?);
        wait_until("the peer is gone", 30, || Ok(office.gateway.peers()?.is_empty()))?;
        say(&format!("a client that never rotates: {tally}, ended after {took:.0?}"))
    })
}

#[test]
#[ignore = "waits for half an hour; runs where time travels"]
fn two_gateways_of_a_location_have_the_same_key_after_each_rotation() -> Result<()> {
    lab::within("step::two_gateways_of_a_location_have_the_same_key_after_each_rotation", |lab| {
        let office = Office::open(lab, &OFTEN)?;
        let second = Office::gateway(lab, &office.company, "second")?;
        let laptop = office.laptop.host();
        let interface = laptop.run("wg", ["show", "interfaces"])?;
        let peer = laptop.run("wg", ["show", interface.trim(), "peers"])?;
        let (interface, peer) = (interface.trim(), peer.trim());
        wait_until("it has the peer", 30, || Ok(second.peers()?.len() == 1))?;
        let mut known = key(&office.gateway)?;
        let rotations = asked("WGMFA_ROTATIONS", 2);
        let mut ping = Ping::start(laptop, "step", SERVER, "0.1")?;
        office.rotate(rotations, |turn| {
            let (one, two) = (key(&office.gateway)?, key(&second)?);
            ensure!(one == two && one != known, "rotation {turn}: the keys are not in step");
            known = one;
            Ok(())
        })?;
        let tally =
            std::mem::replace(&mut ping, Ping::start(laptop, "again", SERVER, "0.1")?).stop()?;
        ensure!(tally.lost() == 0, "{tally}");

        // The second takes over from the first: one handshake with the key that both have.
        let endpoint = format!("{}:51820", second.host().address());
        laptop.run("wg", ["set", interface, "peer", peer, "endpoint", &endpoint])?;
        wait_until("the second answers", 60, || ping.is_answered())?;
        office.rotate(1, |_| Ok(()))?;
        ensure!(key(&office.gateway)? == key(&second)?, "the keys are not in step");
        ensure!(ping.is_answered()?, "after a rotation at the second");
        say(&format!("{rotations} rotations at two gateways in step: {tally}"))
    })
}

/// The peer's pre-shared key as `wg` sees it.
fn key(gateway: &Gateway) -> Result<String> {
    let keys = gateway.host().run("wg", ["show", gateway.interface(), "preshared-keys"])?;
    ensure!(keys.lines().count() == 1, "{} peers", keys.lines().count());
    Ok(keys)
}
