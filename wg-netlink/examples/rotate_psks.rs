//! Gives every peer of an interface a new pre-shared key, and says what did not work:
//! `cargo run -p wg-netlink --example rotate_psks -- wg0`, as root.
//!
//! Without a name it works on a model of the kernel, so that anybody may try it:
//! `cargo run -p wg-netlink --features fake --example rotate_psks`.

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::error::Error;
use std::fs::File;
use std::io::Read as _;

use wg_netlink::{Want, WireGuard};
use wg_types::{PeerUpdate, PresharedKey};

fn main() -> Result<(), Box<dyn Error>> {
    let wireguard = match std::env::args().nth(1) {
        Some(name) => wg_netlink::open(&name, Want::Kernel)?,
        None => model()?,
    };
    // Statistics are read without a copy of the rest: what is kept is what is wanted.
    let mut peers = Vec::new();
    wireguard.stats(&mut |peer| peers.push(peer.public_key))?;

    let mut random = File::open("/dev/urandom")?;
    let mut updates = Vec::with_capacity(peers.len());
    for peer in &peers {
        let mut key = [0; 32];
        random.read_exact(&mut key)?;
        updates.push(PeerUpdate::set_psk(*peer, PresharedKey::from_bytes(key)));
    }
    if let Err(error) = wireguard.apply(&updates) {
        println!("{error}");
        for index in error.unapplied() {
            if let Some(peer) = peers.get(index) {
                println!("{peer}: {:?}", error.outcome(index));
            }
        }
        return Err(error.into());
    }
    // A peer that went meanwhile is no error to the kernel.
    let gone = wireguard.missing(&peers)?;
    println!("{} peers have new keys, {} are gone", peers.len() - gone.len(), gone.len());
    Ok(())
}

#[cfg(feature = "fake")]
fn model() -> Result<Box<dyn WireGuard>, Box<dyn Error>> {
    use wg_types::{PeerConfig, PublicKey};

    let wg0 = wg_netlink::fake::FakeKernel::new().interface("wg0");
    let peers: Vec<_> = (1..=3).map(|n| PeerConfig::new(PublicKey::from_bytes([n; 32]))).collect();
    wg0.set_peers(&peers)?;
    Ok(Box::new(wg0))
}

#[cfg(not(feature = "fake"))]
fn model() -> Result<Box<dyn WireGuard>, Box<dyn Error>> {
    Err("say the name of an interface".into())
}
