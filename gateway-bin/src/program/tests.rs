use core::time::Duration;

use wg_netlink::fake::{FakeInterface, FakeKernel};
use wg_netlink::{Error, WireGuard as _};
use wg_types::{PeerConfig, PeerUpdate};

use super::*;
use crate::clock;
use crate::lease::Without;
use crate::testing::{FakeGate, change, key, no_lease, peer, psk, snapshot};

fn scene() -> (FakeInterface, Program) {
    let wg0 = FakeKernel::new().interface("wg0");
    let program = Program::new(Box::new(wg0.clone()), no_lease());
    (wg0, program)
}

fn fresh(snapshot: wire::Snapshot) -> Update {
    Update::Snapshot { snapshot, fresh: true }
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)
}

#[test]
fn a_snapshot_makes_an_interface_of_nothing() {
    let (wg0, mut program) = scene();

    program.take(fresh(snapshot(7, [peer(1, 1, 1)]))).unwrap();
    assert_eq!(program.sync(clock::now()).unwrap(), Some(7));

    let found = wg0.interface().unwrap();
    assert_eq!(found.public_key.unwrap().as_bytes(), &crate::testing::own_key());
    assert_eq!((found.listen_port, found.peers.len()), (51820, 1));
    assert_eq!(wg0.psk(&key(1)).unwrap().expose_secret(), &psk(1, 1));
    assert_eq!(wg0.addresses(), ["10.1.0.254/24".parse().unwrap()]);
    assert!(wg0.is_up());
}

#[test]
fn before_core_has_spoken_nothing_is_touched() {
    let (wg0, mut program) = scene();
    wg0.apply(&[PeerUpdate::Put(PeerConfig::new(key(9)))]).unwrap();

    assert_eq!(program.sync(clock::now()).unwrap(), None);
    assert!(program.check(clock::now(), now()).unwrap().peers.is_empty());

    assert!(wg0.peer(&key(9)).is_some());
    assert_eq!(wg0.updates_taken(), 1);
}

#[test]
fn a_restarted_process_adopts_the_kernel_without_one_update() {
    let (wg0, mut program) = scene();
    program.take(fresh(snapshot(7, [peer(1, 1, 1), peer(2, 2, 1)]))).unwrap();
    program.sync(clock::now()).unwrap();
    let before = wg0.updates_taken();

    let mut restarted = Program::new(Box::new(wg0.clone()), no_lease());
    restarted.take(fresh(snapshot(7, [peer(1, 1, 1), peer(2, 2, 1)]))).unwrap();

    assert_eq!(restarted.sync(clock::now()).unwrap(), Some(7));
    assert_eq!(wg0.updates_taken(), before);
}

#[test]
fn a_login_takes_two_updates_and_touches_nobody_else() {
    let (wg0, mut program) = scene();
    program.take(fresh(snapshot(1, [peer(1, 1, 1)]))).unwrap();
    program.sync(clock::now()).unwrap();
    let before = wg0.updates_taken();

    program.take(Update::Change(change(1, vec![peer(2, 2, 1)], &[]))).unwrap();

    assert_eq!(program.sync(clock::now()).unwrap(), Some(2));
    assert_eq!(wg0.updates_taken() - before, 2);
}

#[test]
fn a_rotation_keeps_the_counters_and_a_login_does_not() {
    let (wg0, mut program) = scene();
    program.take(fresh(snapshot(1, [peer(1, 1, 1)]))).unwrap();
    program.sync(clock::now()).unwrap();
    wg0.hear(&key(1), 1000, 1000);

    program.take(Update::Change(change(1, vec![peer(1, 1, 2)], &[]))).unwrap();
    program.sync(clock::now()).unwrap();
    assert_eq!(wg0.peer(&key(1)).unwrap().stats.rx_bytes, 1000);
    assert_eq!(wg0.psk(&key(1)).unwrap().expose_secret(), &psk(1, 2));

    program.take(Update::Change(change(2, vec![peer(1, 2, 1)], &[]))).unwrap();
    program.sync(clock::now()).unwrap();
    assert_eq!(wg0.peer(&key(1)).unwrap().stats.rx_bytes, 0);
}

#[test]
fn a_failing_kernel_is_never_called_done() {
    let (wg0, mut program) = scene();
    program.take(fresh(snapshot(1, [peer(1, 1, 1)]))).unwrap();
    program.sync(clock::now()).unwrap();
    program.take(Update::Change(change(1, vec![peer(2, 2, 1)], &[]))).unwrap();

    wg0.refuse(key(2), Error::NoBuffers);
    let error = program.sync(clock::now()).unwrap_err();
    assert!(matches!(error, SyncError::Peers(_)), "{error}");
    assert_eq!((program.verified(), program.is_behind()), (Some(1), true));

    wg0.accept(&key(2));
    assert_eq!(program.sync(clock::now()).unwrap(), Some(2));
    assert!(wg0.peer(&key(2)).is_some());
}

#[test]
fn a_kernel_that_cannot_be_read_is_never_called_done() {
    let (wg0, mut program) = scene();
    program.take(fresh(snapshot(1, [peer(1, 1, 1)]))).unwrap();
    wg0.fail_next(Error::Busy);
    assert!(matches!(program.sync(clock::now()), Err(SyncError::Interface(Error::Busy))));
    assert_eq!(program.verified(), None);
    assert_eq!(program.sync(clock::now()).unwrap(), Some(1));
}

#[test]
fn a_check_removes_strangers_heals_peers_and_counts_both_once() {
    let (wg0, mut program) = scene();
    program.take(fresh(snapshot(1, [peer(1, 1, 1), peer(2, 2, 1)]))).unwrap();
    program.sync(clock::now()).unwrap();
    wg0.apply(&[
        PeerUpdate::Put(PeerConfig::new(key(9))),
        PeerUpdate::lock(key(1)),
        PeerUpdate::Remove(key(2)),
    ])
    .unwrap();

    let check = program.check(clock::now(), now()).unwrap();

    assert_eq!(check.drift, Drift { strangers_removed: 1, peers_healed: 2, interfaces_remade: 0 });
    assert!(wg0.peer(&key(9)).is_none());
    assert_eq!(wg0.peer_for("10.1.0.1".parse().unwrap()), Some(key(1)));
    assert!(wg0.peer(&key(2)).is_some());
    assert_eq!(program.check(clock::now(), now()).unwrap().drift, Drift::default());
}

#[test]
fn an_interface_that_was_deleted_is_counted_with_the_peers_that_it_had() {
    let (kernel, gate) = (FakeKernel::new(), FakeGate::default());
    let lease = Lease::new(Some(Box::new(gate)), Duration::from_secs(90), Without::Serve);
    let mut program = Program::new(Box::new(kernel.interface("wg0")), lease);
    program.take(fresh(snapshot(1, [peer(1, 1, 1), peer(2, 2, 1)]))).unwrap();
    program.sync(clock::now()).unwrap();
    kernel.interface("wg0").remove().unwrap();
    program.check(clock::now(), now()).unwrap_err();

    // While it is made anew one leaves and one comes.
    program.take(Update::Change(change(1, vec![peer(3, 3, 1)], &[2]))).unwrap();
    program.replace(Box::new(kernel.interface("wg0")));
    program.sync(clock::now()).unwrap();

    let drift = program.check(clock::now(), now()).unwrap().drift;
    assert_eq!(drift, Drift { strangers_removed: 0, peers_healed: 1, interfaces_remade: 1 });
    assert_eq!(kernel.interface("wg0").interface().unwrap().peers.len(), 2);
    assert_eq!(program.check(clock::now(), now()).unwrap().drift, Drift::default());
}

#[test]
fn drift_that_a_login_comes_across_is_healed_with_it() {
    let (wg0, mut program) = scene();
    program.take(fresh(snapshot(1, [peer(1, 1, 1)]))).unwrap();
    program.sync(clock::now()).unwrap();
    wg0.apply(&[PeerUpdate::Put(PeerConfig::new(key(9))), PeerUpdate::lock(key(1))]).unwrap();

    program.take(Update::Change(change(1, vec![peer(2, 2, 1)], &[]))).unwrap();
    program.sync(clock::now()).unwrap();

    assert!(wg0.peer(&key(9)).is_none());
    let drift = program.check(clock::now(), now()).unwrap().drift;
    assert_eq!(drift, Drift { strangers_removed: 1, peers_healed: 1, interfaces_remade: 0 });
}

#[test]
fn a_lower_revision_counts_only_at_the_start_of_a_stream() {
    let (_, mut program) = scene();
    program.take(fresh(snapshot(7, [peer(1, 1, 1)]))).unwrap();
    let lower = || snapshot(6, []);

    let stale = program.take(Update::Snapshot { snapshot: lower(), fresh: false });
    assert_eq!(stale, Err(DesiredError::Older { given: 6, have: 7 }));

    program.take(fresh(lower())).unwrap();
    assert_eq!(program.sync(clock::now()).unwrap(), Some(6));
}

#[test]
fn who_stands_down_leaves_the_kernel_alone() {
    let (wg0, mut program) = scene();
    program.take(fresh(snapshot(7, [peer(1, 1, 1)]))).unwrap();
    program.sync(clock::now()).unwrap();
    program.stand_down();
    wg0.apply(&[PeerUpdate::Put(PeerConfig::new(key(9)))]).unwrap();

    program.check(clock::now(), now()).unwrap();

    assert!(wg0.peer(&key(9)).is_some() && wg0.peer(&key(1)).is_some());
    assert_eq!(program.verified(), None);
}

#[test]
fn who_is_dismissed_takes_out_the_peers_of_a_location_with_mfa_only() {
    for (mfa_required, left) in [(true, 0), (false, 1)] {
        let (wg0, mut program) = scene();
        let mut state = snapshot(7, [peer(1, 1, 1)]);
        state.interface.as_mut().unwrap().mfa_required = mfa_required;
        program.take(fresh(state)).unwrap();
        program.sync(clock::now()).unwrap();

        program.dismiss();
        program.sync(clock::now()).unwrap();

        assert_eq!(wg0.interface().unwrap().peers.len(), left);
    }
}

#[test]
fn who_was_dismissed_takes_no_change_before_a_snapshot() {
    let (_, mut program) = scene();
    program.take(fresh(snapshot(7, [peer(1, 1, 1)]))).unwrap();
    program.dismiss();
    let next = program.take(Update::Change(change(7, vec![peer(2, 2, 1)], &[])));
    assert_eq!(next, Err(DesiredError::Gap { base: 7, have: 0 }));
}

#[test]
fn an_interface_with_another_key_or_port_is_set_right() {
    let (wg0, mut program) = scene();
    program.take(fresh(snapshot(7, [peer(1, 1, 1)]))).unwrap();
    program.sync(clock::now()).unwrap();
    let foreign = InterfaceConfig {
        private_key: Some(wg_types::PrivateKey::from_bytes([3; 32])),
        listen_port: Some(1),
        fwmark: None,
    };
    wg0.configure(&foreign).unwrap();

    program.check(clock::now(), now()).unwrap();

    let found = wg0.interface().unwrap();
    assert_eq!(found.public_key.unwrap().as_bytes(), &crate::testing::own_key());
    assert_eq!(found.listen_port, 51820);
}

/// A program whose gate the test can look at.
fn gated(without: Without) -> (FakeInterface, FakeGate, Program) {
    let wg0 = FakeKernel::new().interface("wg0");
    let gate = FakeGate::default();
    let lease = Lease::new(Some(Box::new(gate.clone())), Duration::from_secs(90), without);
    let program = Program::new(Box::new(wg0.clone()), lease);
    (wg0, gate, program)
}

#[test]
fn the_gate_is_there_and_shut_before_the_first_peer() {
    let (wg0, gate, mut program) = gated(Without::Serve);
    program.take(fresh(snapshot(1, [peer(1, 1, 1)]))).unwrap();
    wg0.refuse(key(1), Error::NoBuffers);
    program.sync(clock::now()).unwrap_err();
    assert!(gate.is_built());
    assert_eq!(gate.open(), None);
}

#[test]
fn an_answer_of_cores_opens_the_gate_only_once_the_kernel_is_right() {
    let (_, gate, mut program) = gated(Without::Serve);
    let now = clock::now();
    program.confirm(now);
    program.renew(now).unwrap();
    program.take(fresh(snapshot(1, [peer(1, 1, 1)]))).unwrap();
    program.confirm(now);
    program.renew(now).unwrap();
    assert_eq!(gate.open(), None);

    program.sync(now).unwrap();

    assert_eq!(gate.open(), Some(Duration::from_secs(90)));
}

#[test]
fn the_lease_runs_out_while_a_peer_cannot_be_taken_out() {
    let (wg0, gate, mut program) = gated(Without::Serve);
    let now = clock::now();
    program.take(fresh(snapshot(1, [peer(1, 1, 1), peer(2, 2, 1)]))).unwrap();
    program.sync(now).unwrap();
    program.confirm(now);
    program.renew(now).unwrap();
    let granted = gate.open();
    wg0.refuse(key(1), Error::NoBuffers);

    program.take(Update::Change(change(1, vec![], &[1]))).unwrap();
    program.sync(now).unwrap_err();
    let later = now + Duration::from_secs(10);
    gate.shut_by_time();
    program.confirm(later);
    program.renew(later).unwrap();
    assert_eq!((granted, gate.open()), (Some(Duration::from_secs(90)), None));

    // One that cannot enter is no reason to stop the others.
    wg0.accept(&key(1));
    wg0.refuse(key(3), Error::NoBuffers);
    program.take(Update::Change(change(2, vec![peer(3, 3, 1)], &[]))).unwrap();
    program.sync(later).unwrap_err();
    program.confirm(later);
    program.renew(later).unwrap();
    assert_eq!(gate.open(), Some(Duration::from_secs(90)));
}

#[test]
fn where_a_gate_is_required_and_cannot_be_peers_leave_and_none_enters() {
    let (wg0, gate, mut program) = gated(Without::Refuse);
    program.take(fresh(snapshot(1, [peer(1, 1, 1), peer(2, 2, 1)]))).unwrap();
    program.sync(clock::now()).unwrap();
    gate.take_nftables_away();

    program.take(fresh(snapshot(2, [peer(2, 2, 1), peer(3, 3, 1)]))).unwrap();
    let error = program.sync(clock::now()).unwrap_err();

    assert!(matches!(error, SyncError::Gate(_)), "{error}");
    assert!(wg0.peer(&key(1)).is_none() && wg0.peer(&key(3)).is_none());
    assert!(wg0.peer(&key(2)).is_some(), "the lease that runs is its bound");
    assert_eq!(program.verified(), Some(1));
}

#[test]
fn a_gate_that_someone_flushed_is_built_anew_by_the_next_sync() {
    let (_, gate, mut program) = gated(Without::Serve);
    let now = clock::now();
    program.take(fresh(snapshot(1, [peer(1, 1, 1)]))).unwrap();
    program.sync(now).unwrap();
    gate.flush();

    program.confirm(now);
    assert!(matches!(program.renew(now), Err(GateError::Gone)));
    assert!(program.is_behind());
    program.sync(now).unwrap();

    assert_eq!(gate.open(), Some(Duration::from_secs(90)));
    assert_eq!(program.lease().unwrap().1, 1);
}

/// A location whose sessions outlive core's absence for an hour, each for `left` seconds.
fn held(revision: u64, left: u64) -> Update {
    let living = |n| wire::Peer { lifetime_left_millis: Some(left * 1000), ..peer(n, n.into(), 1) };
    let mut snapshot = snapshot(revision, [living(1), living(2)]);
    let interface = snapshot.interface.as_mut().unwrap();
    interface.outage_hold_millis = 3_600_000;
    interface.idle_threshold_millis = 300_000;
    fresh(snapshot)
}

#[test]
fn while_core_is_away_held_sessions_pass_until_their_own_ends() {
    let (wg0, gate, mut program) = gated(Without::Serve);
    let start = clock::now();
    let at = |secs| start + Duration::from_secs(secs);
    program.take(held(1, 1000)).unwrap();
    program.sync(start).unwrap();
    program.confirm(start);
    program.renew(start).unwrap();
    let mut seen = Vec::new();
    for secs in (15..=1200_u64).step_by(15) {
        if secs.is_multiple_of(30) {
            // One works, the other only keeps its tunnel open.
            wg0.hear(&key(1), 1000, 1000);
            wg0.hear(&key(2), 32, 0);
            program.check(at(secs), now()).unwrap();
        }
        assert!(!program.endure(at(secs)), "core cannot be asked");
        program.sync(at(secs)).unwrap();
        program.renew(at(secs)).unwrap();
        let there = [1, 2].map(|n| wg0.peer(&key(n)).is_some());
        if seen.last().is_none_or(|(_, before)| *before != there) {
            seen.push((secs, there));
        }
        assert!(gate.open().is_some_and(|open| open <= Duration::from_secs(90)), "{secs}");
    }
    assert_eq!(seen, [(15, [true, true]), (300, [true, false]), (1005, [false, false])]);

    // It comes back and has not judged yet: who was over stays out.
    program.confirm(at(1200));
    program.take(held(1, 1000)).unwrap();
    program.endure(at(1200));
    assert_eq!(program.sync(at(1200)).unwrap(), Some(1));
    assert!(wg0.peer(&key(1)).is_none() && wg0.peer(&key(2)).is_none());
}

#[test]
fn a_hold_is_over_when_its_time_is() {
    let (_, gate, mut program) = gated(Without::Serve);
    let start = clock::now();
    assert_eq!(program.held(start), None, "core has said nothing");
    program.take(held(1, 99_999)).unwrap();
    program.sync(start).unwrap();
    let limit = Duration::from_secs(3600);
    assert_eq!(program.held(start), Some(Held { limit, left: None, away: true }));
    program.confirm(start);
    assert_eq!(program.held(start), Some(Held { limit, left: Some(limit), away: false }));
    let later = start + Duration::from_secs(3590);
    program.renew(later).unwrap();
    assert_eq!(gate.open(), Some(Duration::from_secs(10)));
    let left = Some(Duration::from_secs(10));
    assert_eq!(program.held(later), Some(Held { limit, left, away: true }));
    gate.shut_by_time();
    program.renew(start + Duration::from_secs(3600)).unwrap();
    assert_eq!(gate.open(), None);
}

#[test]
fn a_core_that_does_not_know_this_gateway_holds_nothing_open() {
    let (_, gate, mut program) = gated(Without::Serve);
    let start = clock::now();
    program.take(held(1, 99_999)).unwrap();
    program.sync(start).unwrap();
    program.confirm(start);
    program.distrust();
    program.renew(start + Duration::from_secs(1)).unwrap();
    assert_eq!(gate.open(), None);
}

#[test]
fn after_a_suspend_the_gate_is_as_open_as_cores_word_is_fresh() {
    let (_, gate, mut program) = gated(Without::Serve);
    let start = clock::now();
    program.take(fresh(snapshot(1, [peer(1, 1, 1)]))).unwrap();
    program.sync(start).unwrap();
    program.confirm(start);
    program.renew(start).unwrap();
    program.resumed(start + Duration::from_secs(70)).unwrap();
    assert_eq!(gate.open(), Some(Duration::from_secs(20)));
    program.resumed(start + Duration::from_secs(9 * 3600)).unwrap();
    assert_eq!(gate.open(), None);
}

#[test]
fn when_all_are_to_leave_the_gate_shuts_before_the_first_does() {
    let (wg0, gate, mut program) = gated(Without::Serve);
    let start = clock::now();
    let all = || (1..=255).map(|n| peer(n, n.into(), 1));
    let wide = |n: u16| {
        let mut one = peer(7, i64::from(n) + 1000, 1);
        one.public_key[30..].copy_from_slice(&n.to_be_bytes());
        one.allowed_ips = vec![format!("10.2.{}.{}/32", n >> 8, n & 255)];
        one
    };
    program.take(fresh(snapshot(1, all().chain((0..1000).map(wide))))).unwrap();
    program.sync(start).unwrap();
    program.confirm(start);
    program.renew(start).unwrap();
    assert!(gate.open().is_some());

    // The kernel is at a loss: nobody leaves, and nobody passes.
    wg0.fail_next(Error::Busy);
    program.take(fresh(snapshot(2, []))).unwrap();
    program.sync(start).unwrap_err();
    assert_eq!(gate.open(), None);

    program.sync(start).unwrap();
    assert_eq!(wg0.interface().unwrap().peers.len(), 0);
    assert_eq!(gate.open(), Some(Duration::from_secs(90)), "for those who come");
}
