//! Devices.

use mfa_store::{Device, Scope, Snapshot, StoreError};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Names, time};

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
    /// Lists `devices`.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn all(view: &mut Snapshot, devices: Vec<Device>) -> Result<Vec<Self>, StoreError> {
        let names = Names::of_users(view)?;
        let mut live = std::collections::HashMap::<i64, usize>::new();
        for session in view.live_sessions(Scope::All)? {
            let count = live.entry(session.subject.device.get()).or_default();
            *count = count.saturating_add(1);
        }
        let one = |device: Device| Self {
            id: device.id.get(),
            user: names.get(device.user.get()),
            public_key: device.public_key.to_string(),
            last_heard_at: device.last_poll.map(|poll| time(poll.at)),
            sessions: live.get(&device.id.get()).copied().unwrap_or(0),
            created_at: time(device.created),
            name: device.name,
        };
        Ok(devices.into_iter().map(one).collect())
    }
}
