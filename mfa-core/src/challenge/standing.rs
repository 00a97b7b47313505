//! Who wants in, and whether the store lets them try.

use crate::id::{DeviceId, LocationId, UserId};
use crate::method::{Method, MethodSet};
use crate::policy::{LocationPolicy, MethodRefused};

/// Who wants in, with what, and where to.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Subject {
    /// The person.
    pub user: UserId,
    /// The person's device.
    pub device: DeviceId,
    /// Where to.
    pub location: LocationId,
}

/// Whether the subject may use the location at all, as the store says at this moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// It may.
    Granted,
    /// The user is disabled or gone.
    UserDisabled,
    /// The device is disabled, gone, or of another user.
    DeviceRemoved,
    /// The location is gone, or none of the user's groups may use it.
    NotPermitted,
}

/// What the store says of a subject at this moment: read for
/// [`Challenge::start`](super::Challenge::start), and read again for
/// [`Challenge::verify`](super::Challenge::verify).
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// Whether the subject may use the location.
    pub access: Access,
    /// What the location asks.
    pub policy: &'a LocationPolicy,
    /// The methods that the account has enabled and the installation offers: without SMTP there is
    /// no e-mail.
    pub enabled: MethodSet,
}

impl Standing<'_> {
    /// Decides whether `method` may be used now.
    ///
    /// # Errors
    ///
    /// [`NotAdmitted`], access before method.
    pub fn admit(&self, method: Method) -> Result<(), NotAdmitted> {
        match self.access {
            Access::Granted => Ok(self.policy.admit(method, self.enabled)?),
            Access::UserDisabled => Err(NotAdmitted::UserDisabled),
            Access::DeviceRemoved => Err(NotAdmitted::DeviceRemoved),
            Access::NotPermitted => Err(NotAdmitted::NotPermitted),
        }
    }
}

/// Why a subject may not prove anything here.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotAdmitted {
    /// The user is disabled or gone.
    #[error("this account is disabled; ask an administrator")]
    UserDisabled,
    /// The device is disabled, gone, or of another user.
    #[error("this device is not registered any more; enroll it again")]
    DeviceRemoved,
    /// The location is gone, or not for this user.
    #[error("this account may not use this location; ask an administrator")]
    NotPermitted,
    /// The method may not be used.
    #[error(transparent)]
    Method(#[from] MethodRefused),
}
