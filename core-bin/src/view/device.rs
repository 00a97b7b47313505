//! Devices.

use mfa_store::{Device, Scope, Snapshot, StoreError};
use serde::Serialize;
use utoipa::ToSchema;

use super::time;

/// An enrolled device.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Device)]
pub struct DeviceView {
    /// Names the device for ever.
    pub id: i64,
    /// What the person calls it.
    pub name: String,
    /// The login of its owner.
    pub user: String,
    /// Its WireGuard key.
    pub public_key: String,
    /// When it last asked for its configuration.
    pub last_heard_at: Option<String>,
    /// How many sessions are live.
    pub sessions: usize,
    /// When it was enrolled.
    pub created_at: String,
}

impl DeviceView {
    /// Gathers what there is to say of a device of `login`.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn of(view: &mut Snapshot, device: Device, login: String) -> Result<Self, StoreError> {
        Ok(Self {
            id: device.id.get(),
            user: login,
            public_key: device.public_key.to_string(),
            last_heard_at: device.last_poll.map(|poll| time(poll.at)),
            sessions: view.live_count(Scope::Device(device.id))?,
            created_at: time(device.created),
            name: device.name,
        })
    }
}
