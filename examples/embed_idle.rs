//! Ten minutes of two laptops' statistics, of which one is left alone: `cargo run --example embed_idle`.

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::time::Duration;

use wg_mfa::mfa_core::id::{GatewayId, SessionId};
use wg_mfa::mfa_core::idle::{Counters, IdleEvent, IdleTracker, Report};
use wg_mfa::mfa_core::policy::{IdleMode, IdlePolicy};
use wg_mfa::mfa_core::time::Timestamp;

const IN_USE: SessionId = SessionId::new(1);
const LEFT_ALONE: SessionId = SessionId::new(2);

fn main() -> anyhow::Result<()> {
    let period = Duration::from_secs(30);
    let policy = IdlePolicy::new(IdleMode::Transfer, Duration::from_secs(180))?;
    policy.check_statistics_period(period)?;

    let start = Timestamp::from_unix_millis(1_700_000_000_000);
    let mut tracker = IdleTracker::new();
    tracker.track(IN_USE, policy, start);
    tracker.track(LEFT_ALONE, policy, start);

    let mut used = Counters::ZERO;
    let mut alone = Counters::ZERO;
    for tick in 1..=20 {
        let now = start.saturating_add(period * tick);
        // Both keep their tunnel open by a keepalive; every other tick the first one pings.
        alone.rx_bytes += 32;
        used.rx_bytes += 32;
        if tick % 2 == 0 {
            used = Counters { rx_bytes: used.rx_bytes + 128, tx_bytes: used.tx_bytes + 128 };
        }
        for (session, counters) in [(IN_USE, used), (LEFT_ALONE, alone)] {
            let handshake_age = Some(period * (tick % 4));
            let report = Report {
                session,
                gateway: GatewayId::new(1),
                counters,
                handshake_age,
                handshake_mark: None,
            };
            let seen = tracker.handle_report(&report, now);
            println!("{:>4} s  session {session}: {seen:?}", now.since(start).as_secs());
        }

        // In earnest, wait until `tracker.poll_timeout()`.
        tracker.handle_timeout(now);
        while let Some(IdleEvent::Idle { session, last_activity }) = tracker.poll_event() {
            let quiet = now.since(last_activity).as_secs();
            println!("        session {session} is idle for {quiet} s: remove its peer");
        }
    }
    Ok(())
}
