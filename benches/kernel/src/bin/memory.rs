//! How much memory wg-netlink takes beside what its caller has, for many peers on one interface.
//!
//! `cargo xtask bench memory` runs it in a virtual machine. The writer's must not grow with the peers,
//! the reader's only with what the caller keeps. One JSON object a line goes to standard output.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use peak_alloc::PeakAlloc;
use wg_netlink::Want;
use wg_types::{PeerConfig, PeerUpdate, PresharedKey, PublicKey};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const NAME: &str = "wgmemory";

fn main() -> Result<()> {
    for size in std::env::args().skip(1) {
        measure(size.parse().context("arguments are numbers of peers")?)?;
    }
    Ok(())
}

fn measure(size: u32) -> Result<()> {
    let wg = wg_netlink::open(NAME, Want::Kernel)?;
    let peers: Vec<_> = (0..size).map(peer).collect();
    let puts: Vec<_> = peers.iter().cloned().map(PeerUpdate::Put).collect();
    let psks: Vec<_> =
        (0..size).map(|number| PeerUpdate::set_psk(key(number), psk(number ^ 1))).collect();
    let locks: Vec<_> = (0..size).map(|number| PeerUpdate::lock(key(number))).collect();
    report(size, "add", || Ok(wg.apply(&puts)?))?;
    drop(puts);
    report(size, "psk", || Ok(wg.apply(&psks)?))?;
    report(size, "lock", || Ok(wg.apply(&locks)?))?;
    report(size, "unlock and set back, by set_peers", || Ok(wg.set_peers(&peers)?))?;
    report(size, "statistics, none kept", || Ok(wg.stats(&mut |_| {})?))?;
    report(size, "statistics, all kept", || Ok(drop(wg.all_stats()?)))?;
    report(size, "dump, none kept", || Ok(wg.peers(&mut |_| {})?))?;
    report(size, "dump, all kept", || Ok(drop(wg.interface()?)))?;
    let shown = Command::new("wg").args(["show", NAME, "preshared-keys"]).output()?.stdout;
    let lines = String::from_utf8(shown)?.lines().count();
    ensure!(lines == usize::try_from(size)?, "wg shows {lines} peers, not {size}");
    Ok(wg.remove()?)
}

/// The most bytes of the heap that the call had beyond those that there were before it.
fn report(size: u32, name: &str, run: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    run().context(name.to_owned())?;
    let most = HEAP.peak_usage().saturating_sub(before);
    let line = serde_json::json!({"operation": name, "peers": size, "bytes": most});
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(())
}

fn peer(number: u32) -> PeerConfig {
    let [_, a, b, c] = number.to_be_bytes();
    let net = IpNet::from(IpAddr::V4(Ipv4Addr::new(10, a, b, c)));
    PeerConfig {
        preshared_key: Some(psk(number)),
        allowed_ips: vec![net],
        ..PeerConfig::new(key(number))
    }
}

fn key(number: u32) -> PublicKey {
    PublicKey::from_bytes(spread(number, 1))
}

fn psk(number: u32) -> PresharedKey {
    PresharedKey::from_bytes(spread(number, 2))
}

/// The number, in 32 bytes of which the first ones differ much.
fn spread(number: u32, salt: u8) -> [u8; 32] {
    let mut bytes = [salt; 32];
    bytes[..8].copy_from_slice(
        &u64::from(number.wrapping_add(1)).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes(),
    );
    bytes
}
