//! Gateways, as administrators handle them.

use core::time::Duration;

use mfa_core::id::GatewayId;
use mfa_core::time::Timestamp;
use mfa_core::token::TokenDigest;
use mfa_store::{By, Gateway, Snapshot, StoreError, TokenPurpose, Tx};

use super::location::{self, LocationError};
use super::name::{self, NameError};

/// How long a gateway's token waits, unless somebody says otherwise.
pub const TOKEN_LIFE: Duration = Duration::from_secs(15 * 60);

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// No such gateway.
    #[error("there is no gateway {0}; `core-bin gateway list` shows which there are")]
    NotFound(String),
    /// The gateway serves another location.
    #[error("gateway {name} serves {location}; choose another name, or remove it first")]
    Elsewhere {
        /// The gateway.
        name: String,
        /// Where it serves.
        location: String,
    },
    /// The location.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// The name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Finds a gateway by name.
///
/// # Errors
///
/// [`GatewayError::NotFound`].
pub fn find(view: &mut Snapshot, name: &str) -> Result<Gateway, GatewayError> {
    view.gateway_by_name(name)?.ok_or_else(|| GatewayError::NotFound(name.to_owned()))
}

/// Issues a token by which a gateway of `location` enrolls. A gateway of this name that is there
/// already enrolls anew with it; one that is not is added.
///
/// # Errors
///
/// [`GatewayError`].
pub fn token(
    tx: &mut Tx,
    by: By,
    (location, name): (&str, &str),
    token: TokenDigest,
    life: Duration,
) -> Result<(Gateway, Timestamp), GatewayError> {
    let id = find_or_add(tx, by, location, name)?;
    let expires = by.now.saturating_add(life);
    tx.add_token(by, TokenPurpose::Gateway(id), &token, expires)?;
    Ok((reread(tx, id, name)?, expires))
}

/// Gives a gateway of another make a token that is good until it is replaced. A gateway of this name
/// that is there already gets it in place of what it had; one that is not is added.
///
/// # Errors
///
/// [`GatewayError`].
pub fn legacy_token(
    tx: &mut Tx,
    by: By,
    (location, name): (&str, &str),
    token: TokenDigest,
) -> Result<Gateway, GatewayError> {
    let id = find_or_add(tx, by, location, name)?;
    tx.set_legacy_token(by, id, &token)?;
    reread(tx, id, name)
}

fn reread(view: &mut Snapshot, id: GatewayId, name: &str) -> Result<Gateway, GatewayError> {
    view.gateway(id)?.ok_or_else(|| GatewayError::NotFound(name.to_owned()))
}

fn find_or_add(tx: &mut Tx, by: By, location: &str, name: &str) -> Result<GatewayId, GatewayError> {
    let location = location::find(tx, location)?;
    let name = name::word("gateway", name)?;
    match tx.gateway_by_name(&name)? {
        Some(gateway) if gateway.location == location.id => Ok(gateway.id),
        Some(gateway) => {
            let other = tx.location(gateway.location)?;
            let location = other.map_or_else(String::new, |other| other.settings.name);
            Err(GatewayError::Elsewhere { name, location })
        }
        None => Ok(tx.add_gateway(by, location.id, &name)?),
    }
}

/// Removes a gateway: its certificate is worth nothing from now on.
///
/// # Errors
///
/// [`GatewayError::NotFound`].
pub fn remove(tx: &mut Tx, by: By, name: &str) -> Result<Gateway, GatewayError> {
    let gateway = find(tx, name)?;
    tx.remove_gateway(by, gateway.id)?;
    Ok(gateway)
}
