//! Operations in any order, against a tracker that is as simple as can be.

use proptest::prelude::*;

use super::*;

/// One thing that can happen.
#[derive(Clone, Copy, Debug)]
enum Op {
    Track {
        session: i64,
        threshold: u64,
    },
    Resume {
        session: i64,
        threshold: u64,
        age: u64,
    },
    SetPolicy {
        session: i64,
        threshold: u64,
    },
    Forget {
        session: i64,
    },
    Report {
        session: i64,
        gateway: i64,
        rx: u64,
        tx: u64,
        age: Option<u64>,
        mark: u64,
    },
    /// Time passes, perhaps backwards, and the driver looks.
    Time {
        secs: i64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let session = 0_i64..4;
    let threshold = prop_oneof![Just(180_u64), 5_u64..400];
    let bytes = prop_oneof![Just(0_u64), Just(32), Just(148), Just(160), 0_u64..10_000];
    prop_oneof![
        3 => (session.clone(), threshold.clone())
            .prop_map(|(session, threshold)| Op::Track { session, threshold }),
        1 => (session.clone(), threshold.clone(), 0_u64..400)
            .prop_map(|(session, threshold, age)| Op::Resume { session, threshold, age }),
        1 => (session.clone(), threshold)
            .prop_map(|(session, threshold)| Op::SetPolicy { session, threshold }),
        1 => session.clone().prop_map(|session| Op::Forget { session }),
        12 => (session, 0_i64..3, bytes.clone(), bytes, prop::option::of(0_u64..400), 0_u64..3)
            .prop_map(|(session, gateway, rx, tx, age, mark)| {
                Op::Report { session, gateway, rx, tx, age, mark }
            }),
        6 => (-5_i64..90).prop_map(|secs| Op::Time { secs }),
    ]
}

/// Looks at every session at every turn, and remembers each report.
#[derive(Default)]
struct Simple {
    sessions: BTreeMap<SessionId, (IdlePolicy, Timestamp)>,
    /// What each gateway said last, and since when a gateway that is silent stands at zero.
    seen: BTreeMap<(SessionId, GatewayId), (Counters, Option<NonZeroU64>, Timestamp)>,
    fresh: BTreeMap<SessionId, Timestamp>,
}

impl Simple {
    fn begin(&mut self, session: SessionId, policy: IdlePolicy, last: Timestamp) {
        self.sessions.insert(session, (policy, last));
        self.seen.retain(|(other, _), _| *other != session);
        self.fresh.remove(&session);
    }

    fn report(&mut self, report: &Report, now: Timestamp) {
        let Some((policy, last)) = self.sessions.get_mut(&report.session) else { return };
        let key = (report.session, report.gateway);
        let zero = self.fresh.get(&report.session).map(|since| (Counters::ZERO, None, *since));
        let before = self.seen.insert(key, (report.counters, report.handshake_mark, now)).or(zero);
        let active = match policy.mode() {
            IdleMode::Handshake => report
                .handshake_age
                .filter(|_| {
                    before.is_none_or(|(counters, mark, _)| match (mark, report.handshake_mark) {
                        (Some(then), Some(now)) => then != now,
                        _ => counters != report.counters,
                    })
                })
                .map(|age| now.saturating_sub(age)),
            IdleMode::Transfer => before
                .filter(|(counters, _, since)| {
                    let window = Window {
                        added: report.counters.since(*counters),
                        length: now.since(*since),
                        handshake_age: report.handshake_age,
                        gateway_keepalive: None,
                    };
                    window.carries_data()
                })
                .map(|_| now),
        };
        *last = active.map_or(*last, |active| active.max(*last));
    }

    fn due(&self, now: Timestamp) -> Vec<SessionId> {
        let mut due: Vec<(Timestamp, SessionId)> = self
            .sessions
            .iter()
            .map(|(session, (policy, last))| (last.saturating_add(policy.threshold()), *session))
            .filter(|(deadline, _)| *deadline <= now)
            .collect();
        due.sort_unstable();
        due.into_iter().map(|(_, session)| session).collect()
    }

    fn next(&self) -> Option<Timestamp> {
        self.sessions.values().map(|(policy, last)| last.saturating_add(policy.threshold())).min()
    }
}

proptest! {
    #[test]
    fn the_tracker_does_what_the_simple_one_does(
        by_handshake: bool,
        ops in prop::collection::vec(op(), 1..60),
    ) {
        let policy = |secs: u64| {
            let mode = if by_handshake { IdleMode::Handshake } else { IdleMode::Transfer };
            let span = Duration::from_secs(secs).max(mode.min_threshold());
            IdlePolicy::new(mode, span).unwrap()
        };
        let (mut tracker, mut simple) = (IdleTracker::new(), Simple::default());
        let mut now = at(0);
        let mut latest = now;
        for op in ops {
            match op {
                Op::Track { session, threshold } => {
                    let session = SessionId::new(session);
                    tracker.track(session, policy(threshold), now);
                    simple.begin(session, policy(threshold), now);
                    simple.fresh.insert(session, now);
                }
                Op::Resume { session, threshold, age } => {
                    let session = SessionId::new(session);
                    let last = now.saturating_sub(Duration::from_secs(age));
                    tracker.resume(session, policy(threshold), last);
                    simple.begin(session, policy(threshold), last);
                }
                Op::SetPolicy { session, threshold } => {
                    let session = SessionId::new(session);
                    tracker.set_policy(session, policy(threshold));
                    if let Some((old, _)) = simple.sessions.get_mut(&session) {
                        *old = policy(threshold);
                    }
                }
                Op::Forget { session } => {
                    tracker.forget(SessionId::new(session));
                    simple.sessions.remove(&SessionId::new(session));
                }
                Op::Report { session, gateway, rx, tx, age, mark } => {
                    let report = Report {
                        session: SessionId::new(session),
                        gateway: GatewayId::new(gateway),
                        counters: counters(rx, tx),
                        handshake_age: age.map(Duration::from_secs),
                        handshake_mark: NonZeroU64::new(mark),
                    };
                    let over = simple.due(now).contains(&report.session);
                    let before = tracker.last_activity(report.session);
                    let observed = tracker.handle_report(&report, now);
                    if over {
                        prop_assert_eq!(observed, Observation::NotFollowed);
                        prop_assert_eq!(tracker.last_activity(report.session), None);
                    } else {
                        simple.report(&report, now);
                        if let Observation::Active(when) = observed {
                            prop_assert!(when <= now && before.is_some_and(|before| when > before));
                        }
                    }
                }
                Op::Time { secs } => {
                    let step = Duration::from_secs(secs.unsigned_abs());
                    now = if secs < 0 { now.saturating_sub(step) } else { now.saturating_add(step) };
                    tracker.handle_timeout(now);
                }
            }
            latest = latest.max(now);
            // A late report may have brought the ends of others to light; so they count as looked at.
            let late = tracker.len() < simple.sessions.len();
            if late || matches!(op, Op::Time { .. }) {
                let ended: Vec<SessionId> = core::iter::from_fn(|| tracker.poll_event())
                    .map(|IdleEvent::Idle { session, .. }| session)
                    .collect();
                prop_assert_eq!(&ended, &simple.due(now));
                for session in ended {
                    simple.sessions.remove(&session);
                }
            }
            prop_assert_eq!(tracker.len(), simple.sessions.len());
            prop_assert_eq!(tracker.poll_timeout(), simple.next());
            prop_assert_eq!(tracker.poll_event(), None);
            for (session, (_, last)) in &simple.sessions {
                prop_assert_eq!(tracker.last_activity(*session), Some(*last));
                prop_assert!(*last <= latest, "nothing comes from the future");
            }
        }
    }
}
