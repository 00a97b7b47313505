//! The control server: people, factors, sessions.

pub mod admin;
pub mod api;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dir;
pub mod drivers;
pub mod flows;
pub mod http;
pub mod keys;
pub mod link;
pub mod live;
pub mod log;
pub mod mail;
pub mod passkey;
pub mod password;
pub mod pki;
pub mod rng;
pub mod serve;
pub mod span;
pub mod text;
pub mod view;
mod web;

pub use cli::{Cli, run};
pub use serve::{Core, Setup};
