//! What core says is in the kernel, and what others do to the kernel is not.

use core::time::Duration;

use mfa_wire::gateway as wire;
use mfa_wire::gateway::from_gateway::Message as FromGateway;
use mfa_wire::gateway::to_gateway::Message as ToGateway;
use wg_netlink::fake::FakeKernel;
use wg_netlink::{Error, WireGuard as _};
use wg_types::{PeerConfig, PeerUpdate};

use super::{Running, config, settled, soon};
use crate::clock;
use crate::control::LinkState;
use crate::gateway::Gateway;
use crate::testing::{FakeCore, change, key, peer, psk, snapshot};

#[tokio::test]
async fn a_login_reaches_the_kernel_before_it_is_acknowledged() {
    soon(async {
        let mut core = FakeCore::start().await;
        let (running, mut talk) = settled(&mut core, vec![peer(1, 1, 1)]).await;
        assert_eq!((talk.hello.applied_revision, talk.hello.process_id.len()), (0, 16));
        assert_eq!(talk.hello.backend, "fake");

        talk.change(change(1, vec![peer(2, 2, 1)], &[])).await;
        talk.done(2).await;

        assert_eq!(running.session_of(1), Some(psk(1, 1)));
        assert_eq!(running.session_of(2), Some(psk(2, 1)));
        assert!(running.wg0.is_up());
    })
    .await;
}

#[tokio::test]
async fn an_end_of_a_session_takes_the_peer_out() {
    soon(async {
        let mut core = FakeCore::start().await;
        let (running, mut talk) = settled(&mut core, vec![peer(1, 1, 1), peer(2, 2, 1)]).await;

        talk.change(change(1, vec![], &[1])).await;
        talk.done(2).await;

        assert_eq!((running.session_of(1), running.session_of(2)), (None, Some(psk(2, 1))));
    })
    .await;
}

#[tokio::test]
async fn a_failing_kernel_is_reported_retried_and_never_acknowledged() {
    soon(async {
        let mut core = FakeCore::start().await;
        let (running, mut talk) = settled(&mut core, vec![peer(1, 1, 1)]).await;
        running.wg0.refuse(key(2), Error::NoBuffers);

        talk.change(change(1, vec![peer(2, 2, 1)], &[])).await;
        for _ in 0..2 {
            let ack = talk.ack().await;
            assert_eq!(ack.revision, 2);
            assert!(ack.error.contains("out of buffers"), "{}", ack.error);
        }

        running.wg0.accept(&key(2));
        let mut ack = talk.ack().await;
        while !ack.error.is_empty() {
            ack = talk.ack().await;
        }
        assert_eq!(ack.revision, 2);
        assert_eq!(running.session_of(2), Some(psk(2, 1)));
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_cannot_be_does_not_keep_the_others_out() {
    soon(async {
        let mut core = FakeCore::start().await;
        let (running, mut talk) = settled(&mut core, vec![]).await;
        let own = wire::Peer { public_key: crate::testing::own_key().to_vec(), ..peer(3, 3, 1) };

        talk.change(change(1, vec![own, peer(2, 2, 1)], &[])).await;

        let ack = talk.ack().await;
        assert_eq!(ack.error, "");
        assert!(ack.left_out.contains("was left out"), "{}", ack.left_out);
        assert_eq!(running.session_of(2), Some(psk(2, 1)));
    })
    .await;
}

#[tokio::test]
async fn a_restarted_process_adopts_the_kernel_without_one_update() {
    soon(async {
        let mut core = FakeCore::start().await;
        let peers = || vec![peer(1, 1, 1), peer(2, 2, 3)];
        let (running, talk) = settled(&mut core, peers()).await;
        running.wg0.hear(&key(1), 1000, 1000);
        let first = talk.hello.process_id.clone();
        let (kernel, dir) = running.stop().await;
        let wg0 = kernel.interface("wg0");
        let taken = wg0.updates_taken();

        let restarted = Running::start_with(&kernel, dir, &core, |_| ());
        let mut talk = core.talk().await;
        assert_eq!(wg0.updates_taken(), taken, "before core speaks nothing is touched");
        assert_ne!(talk.hello.process_id, first);
        talk.snapshot(snapshot(1, peers())).await;
        talk.done(1).await;

        assert_eq!(restarted.wg0.updates_taken(), taken);
        assert_eq!(restarted.wg0.peer(&key(1)).unwrap().stats.rx_bytes, 1000);
        // The period is an hour, and core is told at once.
        let told = talk.stats().await.peers;
        assert_eq!(told.iter().map(|peer| peer.rx_bytes).max(), Some(1000));
    })
    .await;
}

#[tokio::test]
async fn strangers_in_the_kernel_are_removed_at_the_start() {
    soon(async {
        let mut core = FakeCore::start().await;
        let kernel = FakeKernel::new();
        let strangers: Vec<_> =
            (100..150).map(|n| PeerUpdate::Put(PeerConfig::new(key(n)))).collect();
        kernel.interface("wg0").apply(&strangers).unwrap();
        let dir = tempfile::tempdir().unwrap();
        crate::testing::enroll(&core.authority, dir.path());

        let running = Running::start_with(&kernel, dir, &core, |config| {
            config.statistics_period = Duration::from_millis(50);
        });
        let mut talk = core.talk().await;
        talk.snapshot(snapshot(1, [peer(1, 1, 1)])).await;
        talk.done(1).await;

        assert_eq!(running.wg0.interface().unwrap().peers.len(), 1);
        assert_eq!(talk.stats().await.strangers_removed, 50);
    })
    .await;
}

#[tokio::test]
async fn what_others_do_to_the_kernel_is_found_set_right_and_counted() {
    soon(async {
        let mut core = FakeCore::start().await;
        let running = Running::start(&core);
        let mut talk = core.talk().await;
        let mut often = snapshot(1, [peer(1, 1, 1), peer(2, 2, 1)]);
        often.interface.as_mut().unwrap().statistics_period_millis = 50;
        talk.snapshot(often).await;
        talk.done(1).await;

        let foreign = PeerUpdate::Put(PeerConfig::new(key(9)));
        running.wg0.apply(&[foreign, PeerUpdate::lock(key(1))]).unwrap();

        let (mut strangers, mut healed) = (0, 0);
        while strangers == 0 || healed == 0 {
            let stats = talk.stats().await;
            strangers += stats.strangers_removed;
            healed += stats.peers_healed;
        }
        assert_eq!((strangers, healed), (1, 1));
        assert!(running.wg0.peer(&key(9)).is_none());
        assert_eq!(running.wg0.peer_for("10.1.0.1".parse().unwrap()), Some(key(1)));
    })
    .await;
}

#[tokio::test]
async fn statistics_come_also_when_nothing_changes() {
    soon(async {
        let mut core = FakeCore::start().await;
        let running = Running::start(&core);
        let mut talk = core.talk().await;
        let mut often = snapshot(1, [peer(1, 1, 1)]);
        often.interface.as_mut().unwrap().statistics_period_millis = 60;
        talk.snapshot(often).await;
        talk.done(1).await;
        running.wg0.hear(&key(1), 148, 92);
        running.wg0.shake_hands(&key(1), clock::wall(), Some("192.0.2.1:4500".parse().unwrap()));

        let mut stats = talk.stats().await;
        while stats.peers[0].rx_bytes == 0 {
            stats = talk.stats().await;
        }
        let next = talk.stats().await;

        assert_eq!(next.number, stats.number + 1);
        assert_eq!(next.period_millis, 60);
        assert_eq!((next.peers[0].rx_bytes, next.peers[0].tx_bytes), (148, 92));
        assert_eq!(next.peers[0].endpoint, "192.0.2.1:4500");
        assert!(next.peers[0].handshake_age_millis.unwrap() < 30_000);
    })
    .await;
}

#[tokio::test]
async fn an_interface_that_was_deleted_is_made_anew() {
    soon(async {
        let mut core = FakeCore::start().await;
        let (running, mut talk) = settled(&mut core, vec![peer(1, 1, 1)]).await;
        running.wg0.remove().unwrap();

        talk.change(change(1, vec![peer(2, 2, 1)], &[])).await;
        let mut ack = talk.ack().await;
        assert!(ack.error.contains("no interface wg0"), "{}", ack.error);
        while !ack.error.is_empty() {
            ack = talk.ack().await;
        }

        assert_eq!(running.session_of(1), Some(psk(1, 1)));
        assert_eq!(running.session_of(2), Some(psk(2, 1)));
    })
    .await;
}

#[tokio::test]
async fn the_status_shows_the_kernel_and_the_line() {
    soon(async {
        let mut core = FakeCore::start().await;
        let (running, _talk) = settled(&mut core, vec![peer(1, 1, 1)]).await;
        running.wg0.hear(&key(1), 148, 92);

        let status = running.until(|status| status.applied_revision == 1).await;

        assert_eq!(status.core.state, LinkState::Connected);
        assert_eq!(
            (status.interface.location.as_str(), status.interface.mfa_required),
            ("Office", true)
        );
        assert_eq!(status.interface.peers[0].rx_bytes, 148);
        let text = serde_json::to_string(&status).unwrap();
        let secret = wg_types::PresharedKey::from_bytes(psk(1, 1)).expose_base64();
        assert!(!text.contains(secret.as_str()), "no secret is shown");
    })
    .await;
}

#[tokio::test]
async fn one_directory_has_one_process() {
    soon(async {
        let mut core = FakeCore::start().await;
        let (running, _talk) = settled(&mut core, vec![]).await;
        let second = config(running.dir.path().to_owned(), &core.url());
        let wg1 = FakeKernel::new().interface("wg1");

        let error = Gateway::run(second, Box::new(wg1), core::future::pending()).await.unwrap_err();

        assert!(error.to_string().contains("already runs"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn the_gate_opens_when_the_kernel_is_right_and_core_has_answered() {
    soon(async {
        let mut core = FakeCore::start().await;
        let running = Running::start(&core);
        let mut talk = core.talk().await;
        let FromGateway::Heartbeat(beat) = talk.hear_all().await else { panic!("no heartbeat") };
        assert!(!running.gate.is_built(), "before core speaks nothing is touched");

        talk.snapshot(snapshot(1, [peer(1, 1, 1)])).await;
        talk.done(1).await;
        assert!(running.gate.is_built());
        assert_eq!(running.gate.open(), None, "a heartbeat is not answered yet");

        talk.say(ToGateway::Heartbeat(beat)).await;
        let status = running.until(|status| status.lease.as_ref().unwrap().remaining_ms > 0).await;
        assert!(status.lease.unwrap().remaining_ms <= 90_000);
    })
    .await;
}

#[tokio::test]
async fn a_location_without_mfa_has_no_gate() {
    soon(async {
        let mut core = FakeCore::start().await;
        let (running, mut talk) = settled(&mut core, vec![peer(1, 1, 1)]).await;
        assert!(running.gate.is_built());

        let mut open = snapshot(2, [peer(1, 0, 0)]);
        open.interface.as_mut().unwrap().mfa_required = false;
        talk.snapshot(open).await;
        talk.done(2).await;

        assert!(!running.gate.is_built());
        let status = running.until(|_| true).await;
        assert_eq!(status.lease, None);
    })
    .await;
}
