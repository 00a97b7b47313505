//! Devices, as administrators handle them.

use mfa_core::id::DeviceId;
use mfa_store::{By, Device, Snapshot, StoreError, Tx};
use wg_types::PublicKey;

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// No such device.
    #[error("there is no device {0}; `core-bin device list` shows which there are")]
    NotFound(String),
    /// Several devices have this name.
    #[error("{count} devices are called {name}; name one by its number")]
    Ambiguous {
        /// The name.
        name: String,
        /// How many.
        count: usize,
    },
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Finds a device by its number, its public key, or a name that no other device has.
///
/// # Errors
///
/// [`DeviceError::NotFound`] or [`DeviceError::Ambiguous`].
pub fn find(view: &mut Snapshot, text: &str) -> Result<Device, DeviceError> {
    let missing = || DeviceError::NotFound(text.to_owned());
    if let Ok(number) = text.parse::<i64>() {
        return view.device(DeviceId::new(number))?.ok_or_else(missing);
    }
    if let Ok(key) = text.parse::<PublicKey>() {
        return view.device_by_key(&key)?.ok_or_else(missing);
    }
    let mut named: Vec<Device> =
        view.devices()?.into_iter().filter(|device| device.name == text).collect();
    match (named.pop(), named.len()) {
        (Some(device), 0) => Ok(device),
        (Some(_), others) => {
            let count = others.saturating_add(1);
            Err(DeviceError::Ambiguous { name: text.to_owned(), count })
        }
        (None, _) => Err(missing()),
    }
}

/// Removes a device: its sessions end, its peers go.
///
/// # Errors
///
/// [`DeviceError`].
pub fn remove(tx: &mut Tx, by: By, text: &str) -> Result<Device, DeviceError> {
    let device = find(tx, text)?;
    tx.remove_device(by, device.id)?;
    Ok(device)
}
