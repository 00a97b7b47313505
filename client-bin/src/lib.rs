//! The client: a second factor, then the tunnel.

pub mod api;
pub mod clock;
pub mod location;
pub mod pin;
pub mod qr;
mod serde_keys;
pub mod state;
pub mod tls;
