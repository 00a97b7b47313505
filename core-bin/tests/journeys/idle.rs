//! Statistics end a session.

use core::time::Duration;

use core_bin::drivers::idle::IdleDriver;
use core_bin::flows::location::LocationChange;
use core_bin::link::{PeerReport, StatsReport};
use mfa_core::id::GatewayId;
use mfa_core::policy::{LinkLoss, OutageHold};
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
        handshake_mark: None,
        endpoint: None,
        quiet: None,
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

/// What a gateway says of a peer that it judges itself, as it does where sessions outlive an outage.
fn judged(rig: &Rig, device: &Device, rx_bytes: u64, quiet: u64) -> StatsReport {
    let mut report = report(rig, device, rx_bytes);
    report.peers[0].quiet = Some(Duration::from_secs(quiet));
    report
}

async fn hold(rig: &Rig, hours: u64) {
    let hold = OutageHold::new(Duration::from_secs(hours * 3600)).unwrap();
    let change = LocationChange { outage_hold: Some(Some(hold)), ..LocationChange::default() };
    rig.set_location("paris", change).await;
}

#[tokio::test]
async fn where_sessions_are_held_a_core_that_was_away_asks_the_gateways_first() {
    let rig = Rig::new().await;
    hold(&rig, 4).await;
    rig.add_user("bob", &[]).await;
    let (busy, gone) = (rig.enroll_with_totp("ada").await, rig.enroll_with_totp("bob").await);
    rig.connect(&busy).await;
    rig.connect(&gone).await;
    // Core is away for an hour and comes back.
    rig.clock.advance(Duration::from_secs(3600));
    let mut driver = IdleDriver::new(rig.app.clone());
    driver.check(rig.clock.now()).await.unwrap();
    assert_eq!(rig.live_sessions().await, 2, "the gateways have not been heard yet");

    rig.clock.advance(Duration::from_secs(30));
    driver.handle_report(&judged(&rig, &busy, 5000, 7)).await.unwrap();
    driver.handle_report(&judged(&rig, &gone, 148, 2400)).await.unwrap();
    rig.clock.advance(Duration::from_secs(120));
    driver.check(rig.clock.now()).await.unwrap();

    let live = rig.read(|view| view.live_sessions(mfa_store::Scope::All)).await;
    assert_eq!(live.len(), 1, "who was active while core was away stays");
    assert_eq!(live[0].last_activity, rig.clock.now().saturating_sub(Duration::from_secs(127)));
    let ended = rig.read(|view| view.newest_sessions(1)).await;
    assert_eq!(ended[0].ended.unwrap().1.code(), "idle");
}

#[tokio::test]
async fn without_a_hold_a_gateways_own_judgement_counts_for_nothing() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    rig.connect(&device).await;
    rig.clock.advance(Duration::from_secs(3600));
    let mut driver = IdleDriver::new(rig.app.clone());
    driver.handle_report(&judged(&rig, &device, 5000, 0)).await.unwrap();
    rig.clock.advance(Duration::from_secs(119));
    driver.check(rig.clock.now()).await.unwrap();
    assert_eq!(rig.live_sessions().await, 1, "gateways still have the time to report use");
    rig.clock.advance(Duration::from_secs(1));
    driver.check(rig.clock.now()).await.unwrap();
    assert_eq!(rig.live_sessions().await, 0);
}

#[tokio::test]
async fn who_sends_all_the_time_outlives_an_outage_of_core_beyond_the_threshold() {
    let rig = Rig::new().await;
    let change = LocationChange {
        link_loss: Some(Some(LinkLoss::new(Duration::from_secs(120)).unwrap())),
        ..LocationChange::default()
    };
    rig.set_location("paris", change).await;
    let device = rig.enroll_with_totp("ada").await;
    rig.connect(&device).await;
    rig.clock.advance(Duration::from_secs(290));
    // Core is back, and looks at once; then the gateway says twice what it has counted.
    let mut driver = IdleDriver::new(rig.app.clone());
    for sent in [1_000_000, 2_000_000] {
        driver.check(rig.clock.now()).await.unwrap();
        rig.clock.advance(Duration::from_secs(30));
        driver.handle_report(&report(&rig, &device, sent)).await.unwrap();
    }
    for _ in 0..5 {
        rig.clock.advance(Duration::from_secs(20));
        driver.check(rig.clock.now()).await.unwrap();
    }
    assert_eq!(rig.live_sessions().await, 1, "350 s after the login, in use all the time");
    rig.clock.advance(Duration::from_secs(200));
    driver.check(rig.clock.now()).await.unwrap();
    assert_eq!(rig.live_sessions().await, 0, "300 s of silence end it as ever");
}

#[tokio::test]
async fn a_lost_link_ends_a_session_whose_threshold_is_long() {
    let rig = Rig::new().await;
    let link_loss = Some(Some(LinkLoss::new(Duration::from_secs(120)).unwrap()));
    let idle_threshold = Some(Duration::from_secs(8 * 3600));
    let change = LocationChange { link_loss, idle_threshold, ..LocationChange::default() };
    rig.set_location("paris", change).await;
    let device = rig.enroll_with_totp("ada").await;
    let (mut driver, mut deaf) =
        (IdleDriver::new(rig.app.clone()), IdleDriver::new(rig.app.clone()));
    driver.check(rig.clock.now()).await.unwrap();
    rig.connect(&device).await;
    // Nothing but keepalives for half an hour; another core hears of none of them.
    for number in 1..=60_u64 {
        rig.clock.advance(Duration::from_secs(30));
        let mut report = report(&rig, &device, 148 + 32 * number);
        report.peers[0].tx_bytes = 92;
        report.peers[0].handshake_age = None;
        driver.handle_report(&report).await.unwrap();
        driver.check(rig.clock.now()).await.unwrap();
        deaf.check(rig.clock.now()).await.unwrap();
    }
    assert_eq!(rig.live_sessions().await, 1, "its link was there");
    for seconds in [60, 59] {
        rig.clock.advance(Duration::from_secs(seconds));
        let mut silent = report(&rig, &device, 148 + 32 * 60);
        silent.peers[0].tx_bytes = 92;
        silent.peers[0].handshake_age = None;
        driver.handle_report(&silent).await.unwrap();
        driver.check(rig.clock.now()).await.unwrap();
    }
    assert_eq!(rig.live_sessions().await, 1, "119 s");
    rig.clock.advance(Duration::from_secs(1));
    driver.check(rig.clock.now()).await.unwrap();
    assert_eq!(rig.live_sessions().await, 0, "120 s");
    let ended = rig.read(|view| view.newest_sessions(1)).await;
    assert_eq!(ended[0].ended.unwrap().1.code(), "link_lost");
}
