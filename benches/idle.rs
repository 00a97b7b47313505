//! What it costs to follow a million sessions: `cargo bench --package mfa-core --bench idle`.

use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use mfa_core::id::{GatewayId, SessionId};
use mfa_core::idle::{Counters, IdleTracker, Report};
use mfa_core::policy::IdlePolicy;
use mfa_core::time::Timestamp;

/// Sessions that are live.
const LIVE: i64 = 1_000_000;
/// Sessions of these that have been quiet for the whole threshold.
const DUE: i64 = 100;

const START: Timestamp = Timestamp::from_unix_millis(1_700_000_000_000);
/// How long after the start all the others were active.
const ACTIVE: Duration = Duration::from_secs(3_600);

fn sweep(c: &mut Criterion) {
    let threshold = IdlePolicy::default().threshold();
    let mut tracker = tracker();
    let mut now = START.saturating_add(ACTIVE);
    let mut group = c.benchmark_group("idle, 1,000,000 sessions");
    group.throughput(Throughput::Elements(DUE.unsigned_abs()));
    group.bench_function("end the 100 that are due", |b| {
        b.iter_batched(
            || (),
            |()| {
                // The hundred are followed anew at each turn, and are the only ones that fall due.
                for session in 0..DUE {
                    tracker.resume(SessionId::new(session), IdlePolicy::default(), START);
                }
                tracker.handle_timeout(START.saturating_add(threshold));
                let mut ended = 0;
                while tracker.poll_event().is_some() {
                    ended += 1;
                }
                assert_eq!(ended, DUE);
            },
            BatchSize::PerIteration,
        );
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("find that nothing is due", |b| {
        b.iter(|| tracker.handle_timeout(START));
    });
    group.finish();

    let mut group = c.benchmark_group("idle, reports among 1,000,000 sessions");
    group.throughput(Throughput::Elements(1_000));
    for (name, added) in [("1,000 of data", 160), ("1,000 of keepalives", 32)] {
        let mut counters = Counters::ZERO;
        group.bench_function(name, |b| {
            b.iter(|| {
                now = now.saturating_add(Duration::from_millis(1));
                counters.rx_bytes += added;
                counters.tx_bytes += if added == 160 { 160 } else { 0 };
                // Spread over all sessions, as a gateway's dump is.
                for session in (DUE..LIVE).step_by(1_000) {
                    let report = Report {
                        session: SessionId::new(session),
                        gateway: GatewayId::new(1),
                        counters,
                        handshake_age: Some(Duration::from_secs(30)),
                        handshake_mark: None,
                    };
                    tracker.handle_report(&report, now);
                }
            });
        });
    }
    group.finish();
}

/// A tracker of sessions that were active an hour after the start.
fn tracker() -> IdleTracker {
    let mut tracker = IdleTracker::new();
    for session in 0..LIVE {
        let active = START.saturating_add(ACTIVE);
        tracker.resume(SessionId::new(session), IdlePolicy::default(), active);
    }
    tracker
}

criterion_group!(benches, sweep);
criterion_main!(benches);
