//! A signal that userspace WireGuard takes for itself still reaches the program. In a process of its
//! own: the signal is for all of it.
//!
//! `cargo test -p wg-netlink --test userspace_signals -- --ignored`, as root.
#![cfg(feature = "userspace")]

use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};
use wg_netlink::Want;

#[test]
#[ignore = "needs root and /dev/net/tun"]
fn a_signal_to_stop_reaches_the_program() {
    unshare(CloneFlags::CLONE_NEWNET).expect("this test needs root");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).unwrap();
        // It is chance who gets one; of twelve the program would hardly get all.
        for n in 0..12 {
            let server = wg_netlink::open(&format!("wgt-sig{n}"), Want::Userspace).unwrap();
            kill(Pid::this(), Signal::SIGTERM).unwrap();
            let received = tokio::time::timeout(Duration::from_secs(10), terminate.recv());
            received.await.expect("the signal was lost");
            drop(server);
        }
    });
}
