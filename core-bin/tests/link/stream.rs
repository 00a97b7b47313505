//! One stream: a snapshot first, changes after it, acknowledgements back.

use core::time::Duration;

use core_bin::link::{Applied, poke};
use mfa_core::policy::LocationPolicy;
use mfa_wire::gateway::{Ack, Heartbeat, Resync, from_gateway, to_gateway};

use crate::rig::{Rig, SOON, device_key, held, settings};

#[tokio::test]
async fn a_gateway_gets_a_snapshot_and_its_acknowledgement_is_known() {
    let rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    rig.device(1).await;
    let papers = rig.enrolled(paris, "gw1").await;

    let mut linked = rig.try_link(&papers, 1).await.unwrap();
    let snapshot = linked.snapshot().await;

    let interface = snapshot.interface.unwrap();
    assert_eq!((interface.location_name.as_str(), interface.listen_port), ("Paris", 51820));
    assert_eq!(interface.private_key.len(), 32);
    assert!(!interface.mfa_required);
    let [peer] = snapshot.peers.as_slice() else { panic!("one peer") };
    assert_eq!(peer.public_key, device_key(1).as_bytes());
    assert_eq!((peer.session_id, &peer.preshared_key), (0, &None));

    let revision = i64::try_from(snapshot.revision).unwrap();
    let waiting = rig.registry.wait_applied(paris, revision, SOON);
    let ack = linked.ack(snapshot.revision);
    assert_eq!(tokio::join!(waiting, ack).0, Applied { connected: 1, applied: 1 });
    let [connected] = rig.registry.list(paris).try_into().unwrap();
    assert_eq!(connected.about.hostname, "gw.example");
}

#[tokio::test]
async fn a_session_is_a_peer_from_its_commit_to_its_end() {
    let rig = Rig::start().await;
    let paris = rig.location("Paris", LocationPolicy::recommended()).await;
    let device = rig.device(1).await;
    let papers = rig.enrolled(paris, "gw1").await;
    let (mut linked, snapshot) = rig.linked(&papers).await;
    assert!(snapshot.interface.unwrap().mfa_required);
    assert!(snapshot.peers.is_empty());

    let session = rig.begin_session(&device, paris, 0x5a).await;
    rig.registry.wake(paris);
    let begun = linked.change().await;
    assert_eq!((begun.base_revision, begun.revision), (snapshot.revision, snapshot.revision + 1));
    let [peer] = begun.peers.as_slice() else { panic!("one peer") };
    assert_eq!((peer.session_id, peer.generation), (session.get(), 1));
    assert_eq!(peer.preshared_key.as_deref(), Some(&[0x5a; 32][..]));
    assert!(peer.allowed_ips.iter().all(|ip| ip.ends_with("/32")));
    assert!(begun.removed.is_empty());

    rig.end_session(session).await;
    rig.registry.wake(paris);
    let ended = linked.change().await;
    assert!(ended.peers.is_empty());
    assert_eq!(ended.removed, [device_key(1).as_bytes().to_vec()]);
}

#[tokio::test]
async fn what_another_process_writes_is_found_without_a_wake() {
    let rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    let papers = rig.enrolled(paris, "gw1").await;
    let (mut linked, _) = rig.linked(&papers).await;
    rig.device(1).await;
    assert_eq!(linked.change().await.peers.len(), 1);
}

#[tokio::test]
async fn a_poke_makes_core_look_at_once() {
    let rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    let papers = rig.enrolled(paris, "gw1").await;
    let (mut linked, _) = rig.linked(&papers).await;
    for n in 1..=20 {
        rig.device(n).await;
        assert!(poke(&rig.socket));
        let change = linked.change().await;
        linked.ack(change.revision).await;
    }
}

#[tokio::test]
async fn changes_are_levels_however_many_there_were() {
    let rig = Rig::start().await;
    let paris = rig.location("Paris", LocationPolicy::recommended()).await;
    let device = rig.device(1).await;
    let papers = rig.enrolled(paris, "gw1").await;
    let (mut linked, snapshot) = rig.linked(&papers).await;
    for psk in 1..=9 {
        rig.begin_session(&device, paris, psk).await;
    }
    rig.registry.wake(paris);

    let mut change = linked.change().await;
    assert_eq!(change.base_revision, snapshot.revision);
    // The look each second may have seen the first few of them.
    while change.peers[0].preshared_key.as_deref() != Some(&[9; 32][..]) {
        change = linked.change().await;
    }
    assert_eq!(change.peers.len(), 1);
}

#[tokio::test]
async fn doubt_of_every_kind_is_answered_by_a_snapshot() {
    let rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    rig.device(1).await;
    let papers = rig.enrolled(paris, "gw1").await;
    let (mut linked, first) = rig.linked(&papers).await;

    let resync = Resync { reason: "drift".to_owned() };
    linked.say(from_gateway::Message::Resync(resync)).await;
    let again = linked.snapshot().await;
    assert_eq!(held(&again.peers), held(&first.peers));
    linked.ack(again.revision).await;

    let failed =
        Ack { revision: again.revision, error: "no such device".to_owned(), ..Ack::default() };
    linked.say(from_gateway::Message::Ack(failed)).await;
    let again = linked.snapshot().await;
    linked.ack(again.revision).await;

    let renamed = settings("Paris 2", 9, LocationPolicy::off());
    rig.write(move |tx, by| tx.set_location(by, paris, &renamed)).await;
    rig.registry.wake(paris);
    let changed = linked.snapshot().await;
    assert!(changed.revision > again.revision);
    assert_eq!(changed.interface.unwrap().location_name, "Paris 2");
}

#[tokio::test]
async fn a_failed_acknowledgement_is_not_an_acknowledgement() {
    let rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    let papers = rig.enrolled(paris, "gw1").await;
    let mut linked = rig.try_link(&papers, 1).await.unwrap();
    let snapshot = linked.snapshot().await;
    let failed = Ack { revision: snapshot.revision, error: "EPERM".to_owned(), ..Ack::default() };
    linked.say(from_gateway::Message::Ack(failed)).await;
    linked.snapshot().await;
    let revision = i64::try_from(snapshot.revision).unwrap();
    let applied = rig.registry.wait_applied(paris, revision, Duration::ZERO).await;
    assert_eq!(applied, Applied { connected: 1, applied: 0 });
}

#[tokio::test]
async fn heartbeats_come_back_with_their_numbers() {
    let rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    let papers = rig.enrolled(paris, "gw1").await;
    let (mut linked, _) = rig.linked(&papers).await;
    for number in [1, 7, u64::MAX] {
        linked.say(from_gateway::Message::Heartbeat(Heartbeat { number })).await;
        match linked.hear().await {
            to_gateway::Message::Heartbeat(heartbeat) => assert_eq!(heartbeat.number, number),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_long_snapshot_comes_in_parts() {
    let rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    rig.devices(0..4_001).await;
    let papers = rig.enrolled(paris, "gw1").await;
    let (_linked, snapshot) = rig.linked(&papers).await;
    assert_eq!((snapshot.part, snapshot.peers.len()), (1, 4_001));
    assert_eq!(held(&snapshot.peers).len(), 4_001);
}

#[tokio::test]
async fn gateways_get_their_own_location_and_no_other() {
    let rig = Rig::start().await;
    let paris = rig.location("Paris", LocationPolicy::recommended()).await;
    let rome = rig.location("Rome", LocationPolicy::recommended()).await;
    let device = rig.device(1).await;
    let (in_paris, in_rome) = (rig.enrolled(paris, "gw1").await, rig.enrolled(rome, "gw2").await);
    let (mut in_paris, _) = rig.linked(&in_paris).await;
    let (mut in_rome, empty) = rig.linked(&in_rome).await;

    rig.begin_session(&device, paris, 1).await;
    rig.registry.wake_all();
    assert_eq!(in_paris.change().await.peers.len(), 1);
    let resync = Resync::default();
    in_rome.say(from_gateway::Message::Resync(resync)).await;
    assert_eq!(in_rome.snapshot().await, empty);
}
