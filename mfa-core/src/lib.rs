//! Multi-factor sessions for WireGuard, without IO.

#![warn(clippy::wildcard_enum_match_arm)]

pub mod id;
pub mod time;
