//! The same gateway on a real WireGuard and a real nftables, with `wg` and `nft` as witnesses: the
//! kernel's WireGuard where there is one, else userspace.
//!
//! `cargo test -p gateway-bin real -- --ignored`, as root.

use core::time::Duration;
use std::path::Path;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use wg_netlink::Want;
use wg_netlink::gate::Gate;

use super::config;
use crate::gateway::Gateway;
use crate::testing::{FakeCore, Talk, change, enroll, key, peer, psk, snapshot};

/// An emulated machine on a busy host is slow.
const DEADLINE: Duration = Duration::from_secs(180);

/// Runs a test in a network namespace of its own. Threads that it starts are in it too.
fn in_namespace(test: impl Future<Output = ()> + Send + 'static) {
    let thread = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("this test needs root");
        run("ip link set lo up");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            tokio::time::timeout(DEADLINE, test).await.expect("it did not come in time");
        });
    });
    thread.join().unwrap();
}

fn run(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A gateway in this namespace that has applied a snapshot with peer 1; its lease is three heartbeats.
/// Userspace WireGuard's sockets are the host's, so each test has an interface of its own.
async fn settled(core: &mut FakeCore, dir: &Path, interface: &str, beat: Duration) -> Talk {
    enroll(&core.authority, dir);
    let mut config = config(dir.to_owned(), &core.url());
    config.interface = interface.into();
    config.heartbeat_period = beat;
    config.lease = beat * 3;
    config.statistics_period = Duration::from_millis(200);
    let wireguard = wg_netlink::open(interface, Want::Auto).unwrap();
    let gateway = Gateway::new(config, wireguard).gate_with(Gate::new(interface).unwrap());
    tokio::spawn(gateway.serve(core::future::pending()));
    let mut talk = core.talk().await;
    talk.snapshot(snapshot(1, [peer(1, 1, 1)])).await;
    talk.done(1).await;
    talk
}

#[test]
#[ignore = "needs root, /dev/net/tun and wg"]
fn what_is_acknowledged_is_what_wg_shows() {
    const INTERFACE: &str = "wgt-gw-peers";
    in_namespace(async {
        let dir = tempfile::tempdir().unwrap();
        let mut core = FakeCore::start().await;
        let mut talk = settled(&mut core, dir.path(), INTERFACE, Duration::from_secs(10)).await;
        let secret = |session| wg_types::PresharedKey::from_bytes(psk(session, 1)).expose_base64();
        let line = |n, session| format!("{}\t{}\n", key(n), *secret(session));
        let shown = || run(&format!("wg show {INTERFACE} preshared-keys"));
        assert_eq!(shown(), line(1, 1));
        assert!(run(&format!("ip address show {INTERFACE}")).contains("10.1.0.254/24"));

        talk.change(change(1, vec![peer(1, 2, 1)], &[])).await;
        talk.done(2).await;
        assert_eq!(shown(), line(1, 2));

        // Someone puts a peer there by hand; it is gone with the next look.
        run(&format!("wg set {INTERFACE} peer {} allowed-ips 10.1.0.9/32", key(9)));
        while talk.stats().await.strangers_removed == 0 {}
        assert_eq!(shown(), line(1, 2));

        talk.change(change(2, vec![], &[1])).await;
        talk.done(3).await;
        assert_eq!(shown(), "");
    });
}

#[test]
#[ignore = "needs root, /dev/net/tun, nftables in the kernel, and nft"]
fn the_kernel_shuts_the_gate_when_core_is_silent() {
    const INTERFACE: &str = "wgt-gw-gate";
    in_namespace(async {
        let dir = tempfile::tempdir().unwrap();
        let mut core = FakeCore::start().await;
        let mut talk = settled(&mut core, dir.path(), INTERFACE, Duration::from_secs(3)).await;
        let elements = || run(&format!("nft list set inet wg-mfa-{INTERFACE} open"));
        // Every report comes with the heartbeats before it answered.
        while !elements().contains("elements") {
            talk.stats().await;
        }

        // Nobody answers now. The gateway dials again after three heartbeats, and so long is the
        // lease too, counted from a little earlier.
        let mut talk = core.talk().await;
        assert!(!elements().contains("elements"));
        talk.snapshot(snapshot(2, [peer(1, 1, 1)])).await;
        while !elements().contains("elements") {
            talk.stats().await;
        }
        run(&format!("nft delete table inet wg-mfa-{INTERFACE}"));
        while !run("nft list tables").contains(INTERFACE) {
            talk.stats().await;
        }
    });
}
