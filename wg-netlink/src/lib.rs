//! Programs WireGuard interfaces and reads their statistics.
//!
//! In the kernel through generic netlink, at the speed of the kernel: one socket, peers packed into
//! messages of 64 KiB, no allocation for a peer. Where the kernel has no WireGuard, in this process
//! (feature `userspace`, on by default). In tests, a model of the kernel (feature `fake`).
//!
//! Every backend is a [`WireGuard`]. Its calls block and may come from any thread; with feature
//! `tokio` the module `asynchronous` has the same calls to be awaited.
//!
//! ```no_run
//! use wg_netlink::Want;
//! use wg_types::{InterfaceConfig, PeerConfig, PeerUpdate, PresharedKey, PrivateKey, PublicKey};
//!
//! # fn example(key: PrivateKey, alice: PublicKey, psk: PresharedKey, next: PresharedKey)
//! #     -> Result<(), Box<dyn std::error::Error>> {
//! let wg0 = wg_netlink::open("wg0", Want::Auto)?;
//! let listen_port = Some(51820);
//! wg0.configure(&InterfaceConfig { private_key: Some(key), listen_port, fwmark: None })?;
//! wg0.set_addresses(&["10.1.0.1/24".parse()?])?;
//! wg0.set_up(None)?;
//!
//! let allowed_ips = vec!["10.1.0.7/32".parse()?];
//! let peer = PeerConfig { preshared_key: Some(psk), allowed_ips, ..PeerConfig::new(alice) };
//! wg0.apply(&[PeerUpdate::Put(peer)])?; // let her in
//! wg0.apply(&[PeerUpdate::set_psk(alice, next)])?; // from the next handshake on
//! wg0.apply(&[PeerUpdate::lock(alice)])?; // cut her off at once; her session stays
//! wg0.apply(&[PeerUpdate::Remove(alice)])?; // forget her
//! wg0.stats(&mut |peer| println!("{}: {} bytes", peer.public_key, peer.rx_bytes))?;
//! # Ok(())
//! # }
//! ```
//!
//! # What must be known
//!
//! - A pre-shared key that changes on a live session takes effect with the next handshake; the keys
//!   in use serve for up to 180 s. Who must not go on is removed or locked.
//! - [`PeerUpdate::Update`](wg_types::PeerUpdate::Update) of a peer that is not there does nothing
//!   and succeeds; [`WireGuard::missing`] tells.
//! - An allowed IP belongs to one peer of the interface: giving it to one takes it from another.
//! - An update that the kernel refuses does not stop the others; [`ApplyError`] tells which were
//!   applied. Applying again what was not is always safe.
//! - A process that ends between two messages leaves the first ones applied: after a start,
//!   [`WireGuard::set_peers`] or [`diff`] makes good what is missing, from what is really there.
//! - An interface in the kernel outlives the process, one in userspace does not; further differences
//!   are told in [`userspace`].
//! - The socket stays in the network namespace of the thread that opened the interface.
//!
//! No call logs a key, and buffers that held keys are wiped.

#[cfg(feature = "tokio")]
pub mod asynchronous;
pub mod diff;
pub mod error;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod gate;
pub mod interface;
pub mod kernel;
pub mod link;
#[cfg(any(test, feature = "fake", feature = "userspace"))]
mod model;
#[cfg(feature = "userspace")]
pub mod userspace;
pub mod watch;

pub use error::{ApplyError, Error, Outcome, Refused, SetPeersError};
pub use interface::{Backend, Want, WireGuard};
pub use kernel::KernelInterface;

/// Opens the WireGuard interface `name`, or creates it, in the calling thread's network namespace.
///
/// # Errors
///
/// [`Error::BadName`], [`Error::NameTaken`], [`Error::PermissionDenied`]; [`Error::NoWireGuard`] if
/// the kernel's was wanted and there is none.
pub fn open(name: &str, want: Want) -> Result<Box<dyn WireGuard>, Error> {
    link::check_name(name)?;
    match want {
        Want::Kernel => Ok(Box::new(KernelInterface::open(name)?)),
        Want::Userspace => open_userspace(name),
        Want::Auto => match KernelInterface::open(name) {
            Ok(interface) => Ok(Box::new(interface)),
            Err(Error::NoWireGuard) => open_userspace(name),
            Err(error) => Err(error),
        },
    }
}

#[cfg(feature = "userspace")]
fn open_userspace(name: &str) -> Result<Box<dyn WireGuard>, Error> {
    Ok(Box::new(userspace::UserspaceInterface::open(name)?))
}

#[cfg(not(feature = "userspace"))]
fn open_userspace(_: &str) -> Result<Box<dyn WireGuard>, Error> {
    Err(Error::NoWireGuard)
}
