//! Several cores on one database.

use core_bin::link::Applied;
use mfa_core::policy::LocationPolicy;
use tonic::Code;

use crate::rig::{Rig, SOON};

/// Waits until a core counts so many gateways.
async fn until_connected(rig: &Rig, location: mfa_core::id::LocationId, count: usize) {
    let counted = async {
        while rig.registry.connected(location) != count {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(SOON, counted).await.is_ok(), "they do not hear of each other");
}

#[tokio::test]
async fn a_core_waits_for_the_gateways_of_another() {
    let here = Rig::start().await;
    let elsewhere = here.another().await;
    let paris = here.location("Paris", LocationPolicy::recommended()).await;
    let papers = here.enrolled(paris, "gw1").await;
    let (mut gateway, _) = elsewhere.linked(&papers).await;
    until_connected(&here, paris, 1).await;

    let device = here.device(1).await;
    here.begin_session(&device, paris, 5).await;
    let revision = here.write(move |tx, _| tx.revision(paris)).await.unwrap();
    let waiting = here.registry.wait_applied(paris, revision, SOON);
    let applying = async {
        // No poke: the other core finds the session by itself.
        let change = gateway.change().await;
        assert_eq!(change.peers.len(), 1);
        assert_eq!(here.registry.applied(paris, revision).applied, 0, "nobody has it yet");
        gateway.ack(change.revision).await;
    };
    let (applied, ()) = tokio::join!(waiting, applying);
    assert_eq!(applied, Applied { connected: 1, applied: 1 });
}

#[tokio::test]
async fn a_gateway_that_dials_another_core_is_one_gateway() {
    let here = Rig::start().await;
    let elsewhere = here.another().await;
    let paris = here.open_location("Paris").await;
    let papers = here.enrolled(paris, "gw1").await;
    let (mut first, _) = here.linked(&papers).await;
    until_connected(&elsewhere, paris, 1).await;
    // The same process, as after a change of an address.
    let (mut second, _) = elsewhere.linked(&papers).await;
    assert_eq!(first.end().await, Err(Code::Unavailable));
    until_connected(&here, paris, 1).await;
    here.device(1).await;
    assert_eq!(second.change().await.peers.len(), 1);
    drop(second);
    until_connected(&here, paris, 0).await;
}

#[tokio::test]
async fn of_two_processes_at_two_cores_the_older_is_shut_out_of_both() {
    let here = Rig::start().await;
    let elsewhere = here.another().await;
    let paris = here.open_location("Paris").await;
    let papers = here.enrolled(paris, "gw1").await;
    let mut older = here.try_link(&papers, 1).await.unwrap();
    older.snapshot().await;
    until_connected(&elsewhere, paris, 1).await;

    let mut newer = elsewhere.try_link(&papers, 2).await.unwrap();
    newer.snapshot().await;
    assert_eq!(older.end().await, Err(Code::Aborted));
    until_connected(&here, paris, 1).await;
    for core in [&here, &elsewhere, &here] {
        let mut again = core.try_link(&papers, 1).await.unwrap();
        assert_eq!(again.end().await, Err(Code::Aborted));
    }
    // The newer one was not disturbed.
    here.device(1).await;
    assert_eq!(newer.change().await.peers.len(), 1);
}

#[tokio::test]
async fn a_core_that_stops_takes_its_gateways_along() {
    let here = Rig::start().await;
    let mut elsewhere = here.another().await;
    let paris = here.open_location("Paris").await;
    let papers = here.enrolled(paris, "gw1").await;
    let (gateway, _) = elsewhere.linked(&papers).await;
    until_connected(&here, paris, 1).await;
    elsewhere.stop().await;
    until_connected(&here, paris, 0).await;
    drop(gateway);
    let (_gateway, _) = here.linked(&papers).await;
    assert_eq!(here.registry.connected(paris), 1);
}
