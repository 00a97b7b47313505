//! The client: a second factor, then the tunnel.
//!
//! A connect has two halves. [`connect`] tells what is stale, proves the factor and buys the
//! session's pre-shared key; [`agent`] brings the interface up and stays with it until somebody
//! ends it, in this process or in one in the background ([`detach`]). What the device remembers is
//! in [`state`]; a pre-shared key is never among it.
//!
//! [`Client`] is the whole as a value, for tests and embedders; it prints nothing. The command line
//! around it is [`cli`] and [`run`].
//!
//! It knows `mfa-wire`'s bodies and `wg-netlink`'s interfaces, and nothing of core's inside.

pub mod agent;
pub mod api;
pub mod cli;
pub mod client;
pub mod clock;
pub mod code;
pub mod connect;
pub mod console;
pub mod control;
pub mod detach;
pub mod disconnect;
pub mod dns;
pub mod enroll;
pub mod error;
pub mod event;
pub mod host;
pub mod life;
mod listing;
pub mod location;
pub mod mfa;
pub mod person;
pub mod pin;
pub mod qr;
pub mod render;
pub mod rng;
pub mod rotate;
pub mod run;
pub mod running;
mod serde_keys;
pub mod state;
pub mod status;
pub mod tls;
pub mod tunnel;
pub mod ui;
pub mod update;
mod watch;

pub use client::{Client, Periods};
pub use error::{ClientError, exit};
