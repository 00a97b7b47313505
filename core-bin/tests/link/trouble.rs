//! Gateways that break the rules, and gateways that must go.

use core::time::Duration;

use core_bin::link::{Patience, Plaintext};
use mfa_core::policy::LocationPolicy;
use mfa_wire::gateway::{Ack, Heartbeat, Resync, from_gateway};
use tonic::Code;

use crate::rig::{Rig, SOON, hello};

#[tokio::test]
async fn a_stream_begins_with_a_hello() {
    let rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    let papers = rig.enrolled(paris, "gw1").await;
    let mut stream = rig.open_link(&papers).await.unwrap();
    stream.say(from_gateway::Message::Heartbeat(Heartbeat { number: 1 })).await;
    assert_eq!(stream.end().await, Err(Code::InvalidArgument));
    assert_eq!(rig.registry.connected(paris), 0);
}

#[tokio::test]
async fn a_gateway_that_never_says_hello_is_not_waited_for() {
    let patience = Patience { hello: Duration::from_millis(50), ..Patience::default() };
    let rig = Rig::start_with(patience, Plaintext::Refused).await;
    let paris = rig.open_location("Paris").await;
    let papers = rig.enrolled(paris, "gw1").await;
    let mut stream = rig.open_link(&papers).await.unwrap();
    assert_eq!(stream.end().await, Err(Code::DeadlineExceeded));
}

#[tokio::test]
async fn a_stream_has_one_hello_and_a_process_a_name() {
    let rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    let papers = rig.enrolled(paris, "gw1").await;
    let (mut stream, _) = rig.linked(&papers).await;
    stream.say(from_gateway::Message::Hello(hello(1))).await;
    assert_eq!(stream.end().await, Err(Code::InvalidArgument));

    for process_id in [Vec::new(), vec![1; 65]] {
        let mut stream = rig.open_link(&papers).await.unwrap();
        let nameless = mfa_wire::gateway::Hello { process_id, ..hello(1) };
        stream.say(from_gateway::Message::Hello(nameless)).await;
        assert_eq!(stream.end().await, Err(Code::InvalidArgument));
    }
}

#[tokio::test]
async fn nobody_acknowledges_what_was_not_sent() {
    let rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    let papers = rig.enrolled(paris, "gw1").await;
    for revision in [u64::MAX, 1_000] {
        let (mut stream, _) = rig.linked(&papers).await;
        let ack = Ack { revision, error: String::new(), ..Ack::default() };
        stream.say(from_gateway::Message::Ack(ack)).await;
        assert_eq!(stream.end().await, Err(Code::InvalidArgument));
    }
}

#[tokio::test]
async fn a_flood_of_messages_ends_the_stream_and_harms_nobody_else() {
    let rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    let (loud, quiet) = (rig.enrolled(paris, "gw1").await, rig.enrolled(paris, "gw2").await);
    let (mut quiet, _) = rig.linked(&quiet).await;
    let (stream, _) = rig.linked(&loud).await;
    let (up, mut down) = (stream.up, stream.down);
    let flood = tokio::spawn(async move {
        for number in 0..50_000 {
            let beat = from_gateway::Message::Heartbeat(Heartbeat { number });
            let message = mfa_wire::gateway::FromGateway { message: Some(beat) };
            if up.send(message).await.is_err() {
                return;
            }
        }
    });
    let status = loop {
        match tokio::time::timeout(SOON, down.message()).await.unwrap() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("ended without a word"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::ResourceExhausted);
    drop(down);
    flood.await.unwrap();

    rig.device(1).await;
    rig.registry.wake(paris);
    assert_eq!(quiet.change().await.peers.len(), 1);
}

#[tokio::test]
async fn a_gateway_that_never_reads_costs_its_own_stream_and_comes_back_to_a_snapshot() {
    let patience = Patience { unread: Duration::from_secs(2), ..Patience::default() };
    let rig = Rig::start_with(patience, Plaintext::Refused).await;
    let paris = rig.location("Paris", LocationPolicy::recommended()).await;
    let device = rig.device(1).await;
    let (deaf, well) = (rig.enrolled(paris, "gw1").await, rig.enrolled(paris, "gw2").await);
    let (mut well, _) = rig.linked(&well).await;
    let mut stream = rig.try_link(&deaf, 1).await.unwrap();

    // It sends, so that it is alive, and never reads: what core has to say fills all buffers.
    let (up, deaf_stream) = (stream.up.clone(), &mut stream);
    let talking = tokio::spawn(async move {
        loop {
            let resync = from_gateway::Message::Resync(Resync { reason: "x".repeat(200) });
            let message = mfa_wire::gateway::FromGateway { message: Some(resync) };
            if up.send(message).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    });
    let gone = async {
        while rig.registry.connected(paris) == 2 {
            let session = rig.begin_session(&device, paris, 1).await;
            rig.registry.wake(paris);
            let change = well.change().await;
            well.ack(change.revision).await;
            rig.end_session(session).await;
            rig.registry.wake(paris);
            let change = well.change().await;
            well.ack(change.revision).await;
        }
    };
    tokio::time::timeout(SOON, gone).await.expect("the deaf gateway was never dropped");
    deaf_stream.end().await.unwrap_err();
    talking.abort();

    rig.linked(&deaf).await;
}

#[tokio::test]
async fn a_revoked_gateway_is_cut_within_seconds() {
    let rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    let papers = rig.enrolled(paris, "gw1").await;
    let (mut stream, _) = rig.linked(&papers).await;
    let id = papers.id;
    rig.write(move |tx, by| tx.revoke_gateway(by, id)).await;
    let cut = tokio::time::timeout(Duration::from_secs(5), stream.end());
    assert_eq!(cut.await.expect("it is still connected"), Err(Code::PermissionDenied));
    assert_eq!(rig.registry.connected(paris), 0);
}

#[tokio::test]
async fn a_deleted_gateway_is_cut_within_seconds() {
    let rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    let papers = rig.enrolled(paris, "gw1").await;
    let (mut stream, _) = rig.linked(&papers).await;
    let id = papers.id;
    rig.write(move |tx, by| tx.remove_gateway(by, id)).await;
    let cut = tokio::time::timeout(Duration::from_secs(5), stream.end());
    assert_eq!(cut.await.expect("it is still connected"), Err(Code::PermissionDenied));
}

#[tokio::test]
async fn a_location_that_is_deleted_takes_its_gateways_with_it() {
    let rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    let papers = rig.enrolled(paris, "gw1").await;
    let (mut stream, _) = rig.linked(&papers).await;
    rig.write(move |tx, by| tx.remove_location(by, paris)).await;
    rig.registry.wake(paris);
    assert_eq!(stream.end().await, Err(Code::PermissionDenied));
}

#[tokio::test]
async fn gateways_hear_that_core_stops_and_it_stops() {
    let mut rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    let papers = rig.enrolled(paris, "gw1").await;
    let (mut stream, _) = rig.linked(&papers).await;
    let ended = tokio::join!(stream.end(), rig.stop()).0;
    assert_eq!(ended, Err(Code::Unavailable));
    assert!(!rig.socket.exists());
}
