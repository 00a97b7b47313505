//! Sessions, as administrators end them.

use mfa_core::connect::EndReason;
use mfa_core::id::SessionId;
use mfa_store::{By, Scope, StoreError, Tx};

use super::device::{self, DeviceError};
use super::location::{self, LocationError};
use super::user::{self, UserError};

/// Which sessions to end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Which {
    /// By number.
    Number(i64),
    /// All of a user.
    User(String),
    /// All of a device.
    Device(String),
    /// All of a location.
    Location(String),
    /// Every one.
    All,
}

/// Why nothing was ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No such live session.
    #[error("there is no live session {0}; `core-bin session list` shows which there are")]
    NotFound(i64),
    /// The user.
    #[error(transparent)]
    User(#[from] UserError),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The location.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Ends sessions at an administrator's word. Returns which.
///
/// # Errors
///
/// [`SessionError`].
pub fn end(tx: &mut Tx, by: By, which: &Which) -> Result<Vec<SessionId>, SessionError> {
    let scope = match which {
        Which::Number(number) => Scope::Session(SessionId::new(*number)),
        Which::User(login) => Scope::User(user::find(tx, login)?.id),
        Which::Device(name) => Scope::Device(device::find(tx, name)?.id),
        Which::Location(name) => Scope::Location(location::find(tx, name)?.id),
        Which::All => Scope::All,
    };
    let ended = tx.end_sessions(by, scope, EndReason::Administrator)?;
    match which {
        Which::Number(number) if ended.is_empty() => Err(SessionError::NotFound(*number)),
        _ => Ok(ended),
    }
}
