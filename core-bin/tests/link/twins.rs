//! Two processes with one gateway's identity.

use tonic::Code;

use crate::rig::Rig;

#[tokio::test]
async fn the_newer_process_wins_and_the_older_stays_out() {
    let rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    let papers = rig.enrolled(paris, "gw1").await;
    let mut older = rig.try_link(&papers, 1).await.unwrap();
    older.snapshot().await;

    let mut newer = rig.try_link(&papers, 2).await.unwrap();
    let snapshot = newer.snapshot().await;
    assert_eq!(older.end().await, Err(Code::Aborted));
    for _ in 0..3 {
        let mut again = rig.try_link(&papers, 1).await.unwrap();
        assert_eq!(again.end().await, Err(Code::Aborted));
    }
    newer.ack(snapshot.revision).await;
    assert_eq!(rig.registry.connected(paris), 1);

    drop(newer);
    while rig.registry.connected(paris) > 0 {
        tokio::task::yield_now().await;
    }
    rig.try_link(&papers, 1).await.unwrap().snapshot().await;
}

#[tokio::test]
async fn a_process_that_dials_again_goes_on_at_once() {
    let rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    let papers = rig.enrolled(paris, "gw1").await;
    let mut first = rig.try_link(&papers, 1).await.unwrap();
    first.snapshot().await;
    let mut second = rig.try_link(&papers, 1).await.unwrap();
    let snapshot = second.snapshot().await;
    second.ack(snapshot.revision).await;
    assert_eq!(first.end().await, Err(Code::Unavailable));
    rig.device(1).await;
    rig.registry.wake(paris);
    assert_eq!(second.change().await.peers.len(), 1);
}
