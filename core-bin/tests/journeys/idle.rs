//! Statistics end a session.

use core::time::Duration;

use core_bin::drivers::idle::IdleDriver;
use core_bin::link::{PeerReport, StatsReport};
use mfa_core::id::GatewayId;
use mfa_wire::http::path;
use serde_json::json;

use crate::rig::{Device, Rig};

/// A gateway's report of one peer.
fn report(rig: &Rig, device: &Device, rx_bytes: u64) -> StatsReport {
    let peer = PeerReport {
        public_key: device.key.public_key(),
        rx_bytes,
        tx_bytes: rx_bytes,
        handshake_age: Some(Duration::from_secs(1)),
        endpoint: None,
    };
    StatsReport {
        gateway: GatewayId::new(1),
        location: rig.paris,
        received_at: rig.clock.now(),
        period: Duration::from_secs(30),
        peers: vec![peer],
    }
}

#[tokio::test]
async fn silence_ends_a_session_at_the_check_after_its_threshold() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    let mut driver = IdleDriver::new(rig.app.clone());
    driver.check(rig.clock.now()).await.unwrap();
    rig.connect(&device).await;
    rig.clock.advance(Duration::from_secs(269));
    driver.check(rig.clock.now()).await.unwrap();
    assert_eq!(rig.live_sessions().await, 1, "299 s");
    rig.clock.advance(Duration::from_secs(1));
    driver.check(rig.clock.now()).await.unwrap();
    assert_eq!(rig.live_sessions().await, 0, "300 s");

    let status = rig.prove(&device.key, path::DEVICE_STATUS, json!({})).await.ok();
    assert_eq!(status["locations"][0]["ended"]["reason"], "idle");
}

#[tokio::test]
async fn traffic_keeps_a_session_and_is_written_down() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    let mut driver = IdleDriver::new(rig.app.clone());
    driver.check(rig.clock.now()).await.unwrap();
    rig.connect(&device).await;
    for number in 1..=40_u64 {
        rig.clock.advance(Duration::from_secs(30));
        driver.handle_report(&report(&rig, &device, number * 100_000)).await.unwrap();
        driver.check(rig.clock.now()).await.unwrap();
    }
    let live = rig.read(|view| view.live_sessions(mfa_store::Scope::All)).await;
    assert_eq!(live.len(), 1, "20 min in use");
    assert_eq!(live[0].rx_bytes, 4_000_000);
    assert_eq!(live[0].last_activity, rig.clock.now());
    assert!(live[0].connected.is_some());
}

#[tokio::test]
async fn a_session_in_use_ends_with_its_lifetime() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    let mut driver = IdleDriver::new(rig.app.clone());
    driver.check(rig.clock.now()).await.unwrap();
    rig.connect(&device).await;
    let mut bytes = 0;
    while rig.live_sessions().await == 1 {
        bytes += 100_000;
        rig.clock.advance(Duration::from_secs(240));
        driver.handle_report(&report(&rig, &device, bytes)).await.unwrap();
        driver.check(rig.clock.now()).await.unwrap();
        assert!(bytes < 100_000 * 200, "it ends at last");
    }
    let ended = rig.read(|view| view.newest_sessions(1)).await;
    assert_eq!(ended[0].ended.unwrap().1.code(), "lifetime");
}

#[tokio::test]
async fn a_restarted_core_goes_on_where_the_old_one_was() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    rig.connect(&device).await;
    let mut driver = IdleDriver::new(rig.app.clone());
    driver.check(rig.clock.now()).await.unwrap();
    for number in 1..=20_u64 {
        rig.clock.advance(Duration::from_secs(30));
        driver.handle_report(&report(&rig, &device, number * 100_000)).await.unwrap();
        driver.check(rig.clock.now()).await.unwrap();
    }
    assert_eq!(rig.live_sessions().await, 1);
    rig.clock.advance(Duration::from_secs(300));
    driver.check(rig.clock.now()).await.unwrap();
    assert_eq!(rig.live_sessions().await, 0);
}

#[tokio::test]
async fn a_session_lives_while_any_core_hears_of_it() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    // Two cores on one database; the gateway reports to the second alone.
    let (mut deaf, mut hearing) =
        (IdleDriver::new(rig.app.clone()), IdleDriver::new(rig.app.clone()));
    deaf.check(rig.clock.now()).await.unwrap();
    hearing.check(rig.clock.now()).await.unwrap();
    rig.connect(&device).await;
    for number in 1..=40_u64 {
        rig.clock.advance(Duration::from_secs(30));
        hearing.handle_report(&report(&rig, &device, number * 100_000)).await.unwrap();
        hearing.check(rig.clock.now()).await.unwrap();
        deaf.check(rig.clock.now()).await.unwrap();
    }
    assert_eq!(rig.live_sessions().await, 1, "20 min in use");
    // The deaf one did not look since, and what it knows is too old to end anything by.
    rig.clock.advance(Duration::from_secs(200));
    hearing.handle_report(&report(&rig, &device, 9_000_000)).await.unwrap();
    hearing.check(rig.clock.now()).await.unwrap();
    rig.clock.advance(Duration::from_secs(200));
    deaf.check(rig.clock.now()).await.unwrap();
    assert_eq!(rig.live_sessions().await, 1, "200 s of silence");
    // The gateway dials the other core: its bytes so far are neither news nor counted twice.
    deaf.handle_report(&report(&rig, &device, 9_000_000)).await.unwrap();
    deaf.check(rig.clock.now()).await.unwrap();
    let live = rig.read(|view| view.live_sessions(mfa_store::Scope::All)).await;
    assert_eq!(live[0].rx_bytes, 9_000_000);
    rig.clock.advance(Duration::from_secs(100));
    deaf.check(rig.clock.now()).await.unwrap();
    assert_eq!(rig.live_sessions().await, 0, "300 s of silence, whoever ends it");
}
