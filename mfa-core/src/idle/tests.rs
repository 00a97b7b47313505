use super::*;

mod kernel;
mod promise;

const ALICE: SessionId = SessionId::new(1);
const BOB: SessionId = SessionId::new(2);
const NORTH: GatewayId = GatewayId::new(1);
const SOUTH: GatewayId = GatewayId::new(2);

#[test]
fn silence_ends_the_session_exactly_at_the_threshold() {
    let mut tracker = IdleTracker::new();
    tracker.track(ALICE, by_transfer(300), at(0));
    assert_eq!(tracker.poll_timeout(), Some(at(300)));

    tracker.handle_timeout(at(300).saturating_sub(Duration::from_millis(1)));
    assert_eq!(tracker.poll_event(), None);

    tracker.handle_timeout(at(300));
    let event = IdleEvent::Idle { session: ALICE, last_activity: at(0) };
    assert_eq!(tracker.poll_event(), Some(event));
    assert_eq!(tracker.poll_event(), None, "once");
    assert_eq!(tracker.poll_timeout(), None);
    assert!(tracker.is_empty());
}

#[test]
fn data_on_any_gateway_keeps_the_session() {
    let mut tracker = IdleTracker::new();
    tracker.track(ALICE, by_transfer(300), at(0));

    assert_eq!(tracker.handle_report(&report(NORTH, 0, 0), at(100)), Observation::Quiet);
    let data = tracker.handle_report(&report(SOUTH, 160, 160), at(200));
    assert_eq!(data, Observation::Active(at(200)));
    assert_eq!(tracker.handle_report(&report(NORTH, 0, 0), at(250)), Observation::Quiet);

    assert_eq!(tracker.poll_timeout(), Some(at(500)));
    assert_eq!(tracker.last_activity(ALICE), Some(at(200)));
}

#[test]
fn what_another_core_heard_moves_the_deadline_and_never_back() {
    let mut tracker = IdleTracker::new();
    tracker.track(ALICE, by_transfer(300), at(0));

    tracker.heard_elsewhere(ALICE, at(100));
    assert_eq!(tracker.poll_timeout(), Some(at(400)));
    tracker.heard_elsewhere(ALICE, at(50));
    assert_eq!(tracker.poll_timeout(), Some(at(400)));
    // The gateway's bytes were counted there; that it comes here now is no sign of life.
    let moved = tracker.handle_report(&report(NORTH, 90_000, 90_000), at(200));
    assert_eq!(moved, Observation::Quiet);
    let data = tracker.handle_report(&report(NORTH, 99_000, 99_000), at(230));
    assert_eq!(data, Observation::Active(at(230)));

    tracker.handle_timeout(at(530));
    assert!(tracker.poll_event().is_some());
    tracker.heard_elsewhere(ALICE, at(531));
    assert_eq!((tracker.poll_timeout(), tracker.len()), (None, 0), "nothing is revived");
}

#[test]
fn each_gateway_is_judged_by_its_own_counters() {
    let mut tracker = IdleTracker::new();
    tracker.track(ALICE, by_transfer(300), at(0));
    tracker.handle_report(&report(NORTH, 10_000, 10_000), at(10));
    tracker.handle_report(&report(SOUTH, 500, 500), at(20));

    for second in (30..310).step_by(30) {
        let north = tracker.handle_report(&report(NORTH, 10_000, 10_000), at(second));
        let south = tracker.handle_report(&report(SOUTH, 500, 500), at(second));
        assert_eq!((north, south), (Observation::Quiet, Observation::Quiet));
    }
    assert_eq!(tracker.poll_timeout(), Some(at(320)));
}

#[test]
fn a_late_report_revives_nothing() {
    let mut tracker = IdleTracker::new();
    tracker.track(ALICE, by_transfer(300), at(0));

    let late = tracker.handle_report(&report(NORTH, 5_000, 5_000), at(300));

    assert_eq!(late, Observation::NotFollowed);
    let event = IdleEvent::Idle { session: ALICE, last_activity: at(0) };
    assert_eq!(tracker.poll_event(), Some(event), "the report itself brings the end to light");
    assert_eq!(
        tracker.handle_report(&report(NORTH, 9_000, 9_000), at(301)),
        Observation::NotFollowed
    );
}

#[test]
fn a_missing_report_is_no_sign_of_life() {
    let mut tracker = IdleTracker::new();
    tracker.track(ALICE, by_transfer(300), at(0));
    tracker.handle_report(&report(NORTH, 160, 160), at(30));
    tracker.handle_timeout(at(330));
    assert!(tracker.poll_event().is_some());
}

#[test]
fn restarted_counters_count_from_zero() {
    let mut tracker = IdleTracker::new();
    tracker.track(ALICE, by_transfer(300), at(0));
    tracker.handle_report(&report(NORTH, 10_000, 10_000), at(30));

    let handshake = tracker.handle_report(&report(NORTH, 180, 92), at(60));
    assert_eq!(handshake, Observation::Quiet, "a new handshake is no data");
    let data = tracker.handle_report(&report(NORTH, 340, 252), at(90));
    assert_eq!(data, Observation::Active(at(90)));
    let restarted = tracker.handle_report(&report(NORTH, 160, 160), at(120));
    assert_eq!(restarted, Observation::Active(at(120)), "data right after a restart is data");
}

#[test]
fn never_is_not_1970() {
    let mut tracker = IdleTracker::new();
    tracker.track(ALICE, by_handshake(180), at(0));
    let never = Report { handshake_age: None, ..report(NORTH, 0, 0) };
    assert_eq!(tracker.handle_report(&never, at(30)), Observation::Quiet);
    assert_eq!(tracker.last_activity(ALICE), Some(at(0)));
}

#[test]
fn a_handshake_counts_from_when_it_was_completed() {
    let mut tracker = IdleTracker::new();
    tracker.track(ALICE, by_handshake(180), at(0));
    let seen = |secs, rx_bytes| Report {
        handshake_age: Some(Duration::from_secs(secs)),
        ..report(NORTH, rx_bytes, 92)
    };

    assert_eq!(tracker.handle_report(&seen(20, 180), at(100)), Observation::Active(at(80)));
    assert_eq!(tracker.handle_report(&seen(50, 212), at(130)), Observation::Quiet, "the same one");
    assert_eq!(tracker.poll_timeout(), Some(at(260)));
    assert_eq!(tracker.handle_report(&seen(0, 392), at(259)), Observation::Active(at(259)));
    assert_eq!(
        tracker.handle_report(&seen(u64::MAX / 2_000, 424), at(260)),
        Observation::Quiet,
        "before 1970 is before everything"
    );
}

#[test]
fn a_report_that_took_long_to_arrive_makes_no_new_handshake_of_an_old_one() {
    let mut tracker = IdleTracker::new();
    tracker.track(ALICE, by_handshake(180), at(0));
    let seen =
        |age| Report { handshake_age: Some(Duration::from_secs(age)), ..report(NORTH, 180, 92) };
    assert_eq!(tracker.handle_report(&seen(6), at(16)), Observation::Active(at(10)));

    assert_eq!(tracker.handle_report(&seen(36), at(163)), Observation::Quiet, "117 s on its way");

    assert_eq!(tracker.poll_timeout(), Some(at(190)));
}

#[test]
fn the_mark_tells_an_old_handshake_from_a_new_one_whatever_was_counted_since() {
    let mut tracker = IdleTracker::new();
    tracker.track(ALICE, by_handshake(180), at(0));
    let seen = |age, mark, rx_bytes| Report {
        handshake_age: Some(Duration::from_secs(age)),
        handshake_mark: NonZeroU64::new(mark),
        ..report(NORTH, rx_bytes, 92)
    };
    assert_eq!(tracker.handle_report(&seen(6, 1, 180), at(16)), Observation::Active(at(10)));

    let late = seen(36, 1, 1604);
    assert_eq!(tracker.handle_report(&late, at(163)), Observation::Quiet, "117 s on its way");
    let anew = seen(4, 2, 1604);
    assert_eq!(tracker.handle_report(&anew, at(170)), Observation::Active(at(166)));
    let silent = seen(7, 0, 1700);
    assert_eq!(tracker.handle_report(&silent, at(180)), Observation::Active(at(173)), "by bytes");

    tracker.recall(&seen(0, 3, 2000), at(181));
    assert_eq!(tracker.handle_report(&seen(1, 3, 3000), at(190)), Observation::Quiet);
}

#[test]
fn a_forged_report_buys_one_threshold_at_most() {
    for policy in [by_transfer(300), by_handshake(300)] {
        let mut tracker = IdleTracker::new();
        tracker.track(ALICE, policy, at(0));
        let forged =
            Report { handshake_age: Some(Duration::ZERO), ..report(NORTH, u64::MAX, u64::MAX) };
        assert_eq!(tracker.handle_report(&forged, at(200)), Observation::Active(at(200)));
        assert_eq!(tracker.poll_timeout(), Some(at(500)));
        let again = Report { handshake_age: Some(Duration::from_secs(30)), ..forged };
        assert_eq!(tracker.handle_report(&again, at(230)), Observation::Quiet);
    }
}

#[test]
fn a_resumed_session_learns_its_counters_first() {
    let mut tracker = IdleTracker::new();
    tracker.resume(ALICE, by_transfer(300), at(0));

    let first = tracker.handle_report(&report(NORTH, 7_000, 7_000), at(30));
    assert_eq!(first, Observation::Quiet, "nobody knows when that was");
    let second = tracker.handle_report(&report(NORTH, 7_160, 7_160), at(60));
    assert_eq!(second, Observation::Active(at(60)));
}

#[test]
fn recalled_counters_make_a_restart_cost_nothing() {
    let mut tracker = IdleTracker::new();
    tracker.resume(ALICE, by_transfer(300), at(0));
    tracker.recall(&report(NORTH, 6_000, 6_000), at(0));
    tracker.recall(&report(NORTH, 7_000, 7_000), at(0));
    tracker.recall(&Report { session: BOB, ..report(NORTH, 7_000, 7_000) }, at(0));

    let quiet = tracker.clone_for_test().handle_report(&report(NORTH, 7_032, 7_000), at(30));
    assert_eq!(quiet, Observation::Quiet);
    let data = tracker.handle_report(&report(NORTH, 7_160, 7_160), at(30));
    assert_eq!(data, Observation::Active(at(30)));
    assert_eq!(tracker.len(), 1, "nothing is recalled of a session that is not followed");
}

#[test]
fn a_resumed_session_whose_deadline_passed_is_over() {
    let mut tracker = IdleTracker::new();
    tracker.resume(ALICE, by_transfer(300), at(0));
    let late = tracker.handle_report(&report(NORTH, 9_000, 9_000), at(1_000));
    assert_eq!(late, Observation::NotFollowed);
    assert!(tracker.poll_event().is_some());
}

#[test]
fn a_spared_session_is_heard_although_its_threshold_has_passed() {
    let mut tracker = IdleTracker::new();
    tracker.resume(ALICE, by_transfer(300), at(0));
    tracker.resume(BOB, by_transfer(300), at(0));
    tracker.spare(ALICE, at(420));
    tracker.spare(BOB, at(420));
    tracker.spare(SessionId::new(99), at(420));
    tracker.handle_timeout(at(419));
    assert_eq!(tracker.poll_event(), None);
    tracker.handle_report(&report(NORTH, 7_000, 7_000), at(330));
    let active = tracker.handle_report(&report(NORTH, 8_000, 8_000), at(360));
    assert_eq!(active, Observation::Active(at(360)));

    tracker.handle_timeout(at(420));
    let idle = IdleEvent::Idle { session: BOB, last_activity: at(0) };
    assert_eq!(tracker.poll_event(), Some(idle), "who was not heard");
    assert_eq!(tracker.poll_event(), None);
    assert_eq!(tracker.poll_timeout(), Some(at(660)));
}

#[test]
fn another_policy_moves_the_deadline_either_way() {
    let mut tracker = IdleTracker::new();
    tracker.track(ALICE, by_transfer(300), at(0));
    tracker.set_policy(ALICE, by_transfer(600));
    assert_eq!(tracker.poll_timeout(), Some(at(600)));
    tracker.set_policy(ALICE, by_transfer(60));
    assert_eq!(tracker.poll_timeout(), Some(at(60)));
    tracker.set_policy(BOB, by_transfer(5));
    assert_eq!(tracker.poll_timeout(), Some(at(60)));
}

#[test]
fn a_forgotten_session_says_nothing_any_more() {
    let mut tracker = IdleTracker::new();
    tracker.track(ALICE, by_transfer(300), at(0));
    tracker.track(BOB, by_transfer(300), at(10));
    tracker.forget(ALICE);
    tracker.forget(ALICE);
    assert!(!tracker.is_empty());

    tracker.handle_timeout(at(10_000));

    let event = IdleEvent::Idle { session: BOB, last_activity: at(10) };
    assert_eq!(tracker.poll_event(), Some(event));
    assert_eq!(tracker.poll_event(), None);
    assert!(tracker.is_empty());
}

#[test]
fn a_session_tracked_again_starts_anew() {
    let mut tracker = IdleTracker::new();
    tracker.track(ALICE, by_transfer(300), at(0));
    tracker.handle_report(&report(NORTH, 9_000, 9_000), at(30));
    tracker.track(ALICE, by_transfer(300), at(100));

    assert_eq!(tracker.len(), 1);
    assert_eq!(tracker.poll_timeout(), Some(at(400)));
    let data = tracker.handle_report(&report(NORTH, 9_000, 9_000), at(130));
    assert_eq!(data, Observation::Active(at(130)), "a new peer's counters start at zero");
}

#[test]
fn events_come_in_the_order_of_their_deadlines() {
    let mut tracker = IdleTracker::new();
    tracker.track(ALICE, by_transfer(300), at(50));
    tracker.track(BOB, by_transfer(300), at(0));
    tracker.handle_timeout(at(1_000));
    let sessions: Vec<SessionId> = core::iter::from_fn(|| tracker.poll_event())
        .map(|IdleEvent::Idle { session, .. }| session)
        .collect();
    assert_eq!(sessions, [BOB, ALICE]);
}

#[test]
fn a_clock_that_steps_back_ends_nobody_and_moves_no_activity_back() {
    let mut tracker = IdleTracker::new();
    tracker.track(ALICE, by_transfer(300), at(1_000));
    let data = tracker.handle_report(&report(NORTH, 160, 160), at(900));
    assert_eq!(data, Observation::Quiet);
    tracker.handle_timeout(at(0));
    assert_eq!(tracker.poll_event(), None);
    assert_eq!(tracker.poll_timeout(), Some(at(1_300)));
}

impl IdleTracker {
    /// Tries a report without its consequences.
    fn clone_for_test(&self) -> Self {
        let mut copy = Self::new();
        for (session, followed) in &self.sessions {
            copy.resume(*session, followed.policy, followed.last_activity);
            for Seen { gateway, counters, handshake_mark, at } in &followed.seen {
                let (session, handshake_mark) = (*session, *handshake_mark);
                let told = Report { session, handshake_mark, ..report(*gateway, 0, 0) };
                copy.recall(&Report { counters: *counters, ..told }, *at);
            }
        }
        copy
    }
}

fn report(gateway: GatewayId, rx_bytes: u64, tx_bytes: u64) -> Report {
    Report {
        session: ALICE,
        gateway,
        counters: counters(rx_bytes, tx_bytes),
        handshake_age: Some(Duration::from_secs(20)),
        handshake_mark: None,
    }
}

fn counters(rx_bytes: u64, tx_bytes: u64) -> Counters {
    Counters { rx_bytes, tx_bytes }
}

fn by_transfer(secs: u64) -> IdlePolicy {
    IdlePolicy::new(IdleMode::Transfer, Duration::from_secs(secs)).unwrap()
}

fn by_handshake(secs: u64) -> IdlePolicy {
    IdlePolicy::new(IdleMode::Handshake, Duration::from_secs(secs)).unwrap()
}

fn at(secs: u64) -> Timestamp {
    Timestamp::from_unix_millis(1_700_000_000_000 + secs * 1000)
}
