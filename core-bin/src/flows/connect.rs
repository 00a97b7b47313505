//! **connect** — a fresh factor buys a session and its PSK.

mod finish;
mod start;

pub use finish::{FinishError, Finished, finish};
pub use start::{StartError, StartOrder, Started, start};

use mfa_core::challenge::{Access, Subject};
use mfa_store::{Device, Location, Snapshot, StoreError, User};

/// What the store says of a subject now.
struct Standings {
    access: Access,
    user: Option<User>,
    device: Option<Device>,
    location: Option<Location>,
}

/// Reads anew whether a subject may use its location.
fn standings(view: &mut Snapshot, subject: Subject) -> Result<Standings, StoreError> {
    let user = view.user(subject.user)?;
    let device = view.device(subject.device)?.filter(|device| device.user == subject.user);
    let location = view.location(subject.location)?;
    let access = if !user.as_ref().is_some_and(|user| user.active) {
        Access::UserDisabled
    } else if device.is_none() {
        Access::DeviceRemoved
    } else if location.is_some() && view.may_use(subject.user, subject.location)? {
        Access::Granted
    } else {
        Access::NotPermitted
    };
    Ok(Standings { access, user, device, location })
}
