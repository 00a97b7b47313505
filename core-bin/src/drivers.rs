//! The loops around what must happen by itself. Each is one task; if one ends before core is told to
//! stop, core stops.

pub mod idle;
pub mod mail_settings;
pub mod rotate;
pub mod sweep;

use core::time::Duration;

use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Turns of a loop: one at once, then one each period; one that came late puts off the next.
fn each(period: Duration) -> Interval {
    let mut turns = interval(period);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    turns
}

/// Waits for the next turn; `false`: core stops.
async fn turn(turns: &mut Interval, stop: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        _ = turns.tick() => true,
        () = stopped(stop) => false,
    }
}

/// Waits until core is told to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error: who could stop core is gone, so it stops.
    let _ = stop.wait_for(|stop| *stop).await;
}
