//! The control server: people, factors, sessions.

pub mod clock;
pub mod config;
pub mod dir;
pub mod http;
pub mod link;
pub mod log;
pub mod mail;
pub mod pki;
pub mod rng;
pub mod span;
pub mod text;
