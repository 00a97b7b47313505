//! Statistics and signs of life, on their way to those who use them.

use core::time::Duration;

use mfa_core::policy::LocationPolicy;
use mfa_wire::gateway::{Heartbeat, PeerStats, Stats, from_gateway};

use crate::rig::{Linked, Rig, SOON, device_key};

#[tokio::test]
async fn a_report_reaches_the_idle_driver_as_of_cores_clock() {
    let mut rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    rig.device(1).await;
    let papers = rig.enrolled(paris, "gw1").await;
    let (mut linked, _) = rig.linked(&papers).await;
    rig.clock.advance(Duration::from_secs(60));

    report(&mut linked, 1, &[1, 99]).await;

    let report = tokio::time::timeout(SOON, rig.stats.recv()).await.unwrap().unwrap();
    assert_eq!((report.gateway, report.location), (papers.id, paris));
    assert_eq!(report.received_at, rig.clock.now());
    assert_eq!(report.period, Duration::from_secs(30));
    let [peer] = report.peers.as_slice() else { panic!("the stranger is left out") };
    assert_eq!(peer.public_key, device_key(1));
    assert_eq!((peer.rx_bytes, peer.tx_bytes), (100, 200));
    assert_eq!(peer.handshake_age, Some(Duration::from_secs(5)));
    assert_eq!(peer.endpoint, Some("192.0.2.1:9".parse().unwrap()));
}

#[tokio::test]
async fn a_gateway_reports_on_its_own_location_only() {
    let mut rig = Rig::start().await;
    let paris = rig.location("Paris", LocationPolicy::recommended()).await;
    let rome = rig.location("Rome", LocationPolicy::recommended()).await;
    let device = rig.device(1).await;
    rig.begin_session(&device, paris, 1).await;
    let papers = rig.enrolled(rome, "gw1").await;
    let (mut linked, _) = rig.linked(&papers).await;
    report(&mut linked, 1, &[1]).await;
    let report = tokio::time::timeout(SOON, rig.stats.recv()).await.unwrap().unwrap();
    assert!(report.peers.is_empty());
}

#[tokio::test]
async fn repeated_and_hurried_reports_are_not_heard() {
    let mut rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    let papers = rig.enrolled(paris, "gw1").await;
    let (mut linked, _) = rig.linked(&papers).await;
    for number in [5, 5, 4, 6, 7] {
        report(&mut linked, number, &[]).await;
    }
    // An answer to this means that all before it was read.
    linked.say(from_gateway::Message::Heartbeat(Heartbeat { number: 1 })).await;
    linked.hear().await;
    assert!(rig.stats.try_recv().is_ok());
    assert!(rig.stats.try_recv().is_err());
}

#[tokio::test]
async fn a_full_queue_drops_reports_and_stops_nobody() {
    let rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    let papers = rig.enrolled(paris, "gw1").await;
    let (mut linked, _) = rig.linked(&papers).await;
    let Rig { mut stats, .. } = rig;
    stats.close();
    report(&mut linked, 1, &[]).await;
    linked.say(from_gateway::Message::Heartbeat(Heartbeat { number: 1 })).await;
    linked.hear().await;
}

#[tokio::test]
async fn the_store_learns_what_a_gateway_is_and_has_applied() {
    let mut rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    let papers = rig.enrolled(paris, "gw1").await;
    let (mut linked, snapshot) = rig.linked(&papers).await;
    rig.clock.advance(Duration::from_secs(60));
    linked.say(from_gateway::Message::Heartbeat(Heartbeat { number: 1 })).await;
    linked.hear().await;

    // The last note is written before core has stopped.
    rig.stop().await;
    let id = papers.id;
    let row = rig.write(move |tx, _| tx.gateway(id)).await.unwrap();
    assert_eq!(u64::try_from(row.applied_revision).unwrap(), snapshot.revision);
    assert_eq!(row.heard, Some(rig.clock.now()));
    let said = (row.version.as_str(), row.backend.as_str(), row.hostname.as_str());
    assert_eq!(said, ("1.2.3", "kernel", "gw.example"));
}

async fn report(linked: &mut Linked, number: u64, devices: &[u32]) {
    let peer = |n: &u32| PeerStats {
        public_key: device_key(*n).as_bytes().to_vec(),
        rx_bytes: 100,
        tx_bytes: 200,
        handshake_age_millis: Some(5_000),
        endpoint: "192.0.2.1:9".to_owned(),
        quiet_millis: None,
        handshake_mark: 0,
    };
    let peers = devices.iter().map(peer).collect();
    let stats = Stats { number, peers, period_millis: 30_000, ..Stats::default() };
    linked.say(from_gateway::Message::Stats(stats)).await;
}
