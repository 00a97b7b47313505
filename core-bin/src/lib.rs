//! The control server: people, factors, sessions.

pub mod link;
