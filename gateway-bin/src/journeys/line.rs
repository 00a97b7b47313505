//! The line to core: lost, found again, given up.

use core::time::Duration;

use mfa_wire::gateway as wire;
use mfa_wire::gateway::from_gateway::Message as FromGateway;
use tonic::Status;
use wg_netlink::WireGuard as _;
use wg_netlink::fake::FakeKernel;

use super::{Running, settled, soon};
use crate::clock;
use crate::control::LinkState;
use crate::testing::{FakeCore, change, enroll_due, peer, psk, snapshot};

#[tokio::test]
async fn while_core_is_away_nothing_is_touched_and_then_it_goes_on() {
    soon(async {
        let mut core = FakeCore::start().await;
        let (running, talk) = settled(&mut core, vec![peer(1, 1, 1)]).await;
        let taken = running.wg0.updates_taken();
        let (address, authority) = (core.address, core.authority.clone());

        drop((talk, core));
        running.until(|status| status.core.state == LinkState::Waiting).await;
        assert_eq!(running.session_of(1), Some(psk(1, 1)));

        let mut core = FakeCore::start_at(address, authority).await;
        let mut talk = core.talk().await;
        assert_eq!(talk.hello.applied_revision, 1);
        talk.change(change(1, vec![peer(2, 2, 1)], &[])).await;
        talk.done(2).await;
        // One peer entered; the one that was there saw nothing of it all.
        assert_eq!(running.wg0.updates_taken() - taken, 2);
    })
    .await;
}

#[tokio::test]
async fn a_gap_is_answered_by_asking_for_a_snapshot() {
    soon(async {
        let mut core = FakeCore::start().await;
        let (running, mut talk) = settled(&mut core, vec![peer(1, 1, 1)]).await;

        talk.change(change(5, vec![peer(2, 2, 1)], &[])).await;
        assert!(matches!(talk.hear().await, FromGateway::Resync(_)));
        talk.snapshot(snapshot(6, [peer(2, 2, 1)])).await;
        talk.done(6).await;

        assert_eq!((running.session_of(1), running.session_of(2)), (None, Some(psk(2, 1))));
    })
    .await;
}

#[tokio::test]
async fn an_older_snapshot_is_refused_in_the_middle_of_a_stream() {
    soon(async {
        let mut core = FakeCore::start().await;
        let (running, mut talk) = settled(&mut core, vec![peer(1, 1, 1)]).await;
        talk.change(change(1, vec![], &[1])).await;
        talk.done(2).await;

        talk.snapshot(snapshot(1, [peer(1, 1, 1)])).await;

        let ack = talk.ack().await;
        assert_eq!(ack.revision, 1);
        assert!(ack.error.contains("revision 2 is known"), "{}", ack.error);
        assert_eq!(running.session_of(1), None);
    })
    .await;
}

#[tokio::test]
async fn a_snapshot_in_parts_is_applied_as_one() {
    soon(async {
        let mut core = FakeCore::start().await;
        let running = Running::start(&core);
        let mut talk = core.talk().await;
        let part = |part, last, n| wire::Snapshot { part, last, ..snapshot(1, [peer(n, 1, 1)]) };

        talk.snapshot(part(0, false, 1)).await;
        talk.snapshot(wire::Snapshot { interface: None, ..part(1, true, 2) }).await;
        talk.done(1).await;

        assert_eq!(running.wg0.interface().unwrap().peers.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_silent_core_is_dialled_again() {
    soon(async {
        let mut core = FakeCore::start().await;
        let dir = tempfile::tempdir().unwrap();
        crate::testing::enroll(&core.authority, dir.path());
        let running = Running::start_with(&FakeKernel::new(), dir, &core, |config| {
            config.heartbeat_period = Duration::from_millis(50);
        });
        let mut silent = core.talk().await;
        assert!(matches!(silent.hear_all().await, FromGateway::Heartbeat(_)));

        let _again = core.talk().await;

        let status = running.until(|status| status.core.state == LinkState::Connected).await;
        assert_eq!(status.core.error, None);
    })
    .await;
}

#[tokio::test]
async fn a_core_that_answers_heartbeats_is_kept() {
    soon(async {
        let mut core = FakeCore::start().await;
        let dir = tempfile::tempdir().unwrap();
        crate::testing::enroll(&core.authority, dir.path());
        let _running = Running::start_with(&FakeKernel::new(), dir, &core, |config| {
            config.heartbeat_period = Duration::from_millis(50);
        });
        let mut talk = core.talk().await;
        let mut numbers = Vec::new();
        // Ten beats are three times as long as silence is borne.
        while numbers.len() < 10 {
            let FromGateway::Heartbeat(beat) = talk.hear_all().await else { continue };
            numbers.push(beat.number);
            talk.say(wire::to_gateway::Message::Heartbeat(beat)).await;
        }
        assert_eq!(numbers, (1..=10).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test]
async fn who_is_dismissed_takes_the_peers_out() {
    soon(async {
        let mut core = FakeCore::start().await;
        let (running, talk) = settled(&mut core, vec![peer(1, 1, 1)]).await;

        talk.end(Status::permission_denied("gw1 was disabled")).await;

        let status = running.until(|status| status.interface.peers.is_empty()).await;
        assert!(status.core.error.unwrap().contains("gw1 was disabled"));
        assert_eq!(running.gate.open(), None);
    })
    .await;
}

#[tokio::test]
async fn the_older_of_two_processes_leaves_the_kernel_to_the_newer() {
    soon(async {
        let mut core = FakeCore::start().await;
        let (running, talk) = settled(&mut core, vec![peer(1, 1, 1)]).await;

        talk.end(Status::aborted("a newer process is there")).await;

        let status = running.until(|status| status.wanted_revision == 0).await;
        assert_eq!(status.interface.peers.len(), 1);
        assert!(status.core.error.unwrap().contains("two hosts have the same files"));
    })
    .await;
}

#[tokio::test]
async fn a_certificate_is_renewed_in_time_and_used_at_once() {
    soon(async {
        let mut core = FakeCore::start().await;
        let dir = tempfile::tempdir().unwrap();
        enroll_due(&core.authority, dir.path(), clock::wall());
        let key = std::fs::read(dir.path().join("key.pem")).unwrap();
        let old = std::fs::read(dir.path().join("cert.pem")).unwrap();
        let running = Running::start_with(&FakeKernel::new(), dir, &core, |_| ());
        let first = core.talk().await;

        let second = core.talk().await;

        assert_eq!(first.hello.process_id, second.hello.process_id);
        let path = running.dir.path();
        assert_ne!(std::fs::read(path.join("cert.pem")).unwrap(), old);
        assert_eq!(std::fs::read(path.join("key.pem")).unwrap(), key);
    })
    .await;
}
