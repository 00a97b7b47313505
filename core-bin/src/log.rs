//! The log: what goes to standard error, and how it looks.
//!
//! Codes, keys, tokens and passwords are never logged: their types print their own names, and no
//! request or answer is logged whole.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Log, LogFormat};

/// The level or format cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("log.level: {0}")]
pub struct BadLevel(String);

/// Starts the log of this process. A log that another part of the process has started stays.
///
/// # Errors
///
/// [`BadLevel`] if `log.level` is no level.
pub fn start(log: &Log) -> Result<(), BadLevel> {
    let filter = EnvFilter::try_new(&log.level).map_err(|error| BadLevel(error.to_string()))?;
    // WireGuard and database crates print keys and statements at their finest levels.
    let filter = ["defguard_wireguard_rs=info", "diesel=info", "lettre=info", "rustls=info"]
        .into_iter()
        .filter_map(|directive| directive.parse().ok())
        .fold(filter, EnvFilter::add_directive);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let started = match log.format {
        LogFormat::Human => builder.with_ansi(colours).with_target(false).finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    if started.is_err() {
        tracing::debug!("a log is running already");
    }
    Ok(())
}
