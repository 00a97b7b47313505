//! A WireGuard interface as configured and as found.

use core::num::NonZeroU32;

use crate::{Peer, PrivateKey, PublicKey};

/// What to set of an interface; `None` leaves a thing as it is.
#[derive(Clone, Debug, Default)]
pub struct InterfaceConfig {
    /// The interface's own key.
    pub private_key: Option<PrivateKey>,
    /// The UDP port; zero: the kernel chooses one.
    pub listen_port: Option<u16>,
    /// The mark of outgoing packets; zero: none.
    pub fwmark: Option<u32>,
}

/// An interface as dumped. The private key is left out: nobody needs it back.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Its name, such as `wg0`.
    pub name: String,
    /// Its public key; `None`: no private key is set yet.
    pub public_key: Option<PublicKey>,
    /// The UDP port in use.
    pub listen_port: u16,
    /// The mark of outgoing packets; `None`: none.
    pub fwmark: Option<NonZeroU32>,
    /// Its peers, in the kernel's order.
    pub peers: Vec<Peer>,
}
