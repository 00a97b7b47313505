//! What administrators are shown of each noun, the same in commands, in the REST API and on pages.
//!
//! Field names are kept from version to version. Times are RFC 3339, in UTC.

mod audit;
mod device;
mod gateway;
mod location;
mod session;
mod token;
mod user;

use std::collections::HashMap;

use mfa_core::time::Timestamp;
use mfa_store::{Snapshot, StoreError};

pub use audit::AuditView;
pub use device::DeviceView;
pub use gateway::{GatewayState, GatewayView};
pub use location::LocationView;
pub use session::SessionView;
pub use token::TokenView;
pub use user::{GroupView, UserView};

/// A time as programs read it.
fn time(at: Timestamp) -> String {
    crate::text::rfc3339(at)
}

/// Who is who, looked up once for a whole list.
#[derive(Debug)]
struct Names(HashMap<i64, String>);

impl Names {
    fn of_users(view: &mut Snapshot) -> Result<Self, StoreError> {
        let users = view.users()?.into_iter();
        Ok(Self(users.map(|user| (user.id.get(), user.details.login)).collect()))
    }

    fn of_devices(view: &mut Snapshot) -> Result<Self, StoreError> {
        let devices = view.devices()?.into_iter();
        Ok(Self(devices.map(|device| (device.id.get(), device.name)).collect()))
    }

    fn of_locations(view: &mut Snapshot) -> Result<Self, StoreError> {
        let locations = view.locations()?.into_iter();
        Ok(Self(locations.map(|place| (place.id.get(), place.settings.name)).collect()))
    }

    fn get(&self, id: i64) -> String {
        self.0.get(&id).cloned().unwrap_or_default()
    }
}
