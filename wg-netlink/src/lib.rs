//! Programs WireGuard interfaces and reads their statistics.

pub mod diff;
pub mod error;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod gate;
pub mod interface;
pub mod kernel;
pub mod link;
#[cfg(any(test, feature = "fake", feature = "userspace"))]
mod model;
#[cfg(feature = "userspace")]
pub mod userspace;

pub use error::{ApplyError, Error, Outcome, Refused};
pub use interface::{Backend, Want, WireGuard};
pub use kernel::KernelInterface;

/// Opens the WireGuard interface `name`, or creates it, in the calling thread's network namespace.
///
/// # Errors
///
/// [`Error::BadName`], [`Error::NameTaken`], [`Error::PermissionDenied`]; [`Error::NoWireGuard`] if
/// the kernel's was wanted and there is none.
pub fn open(name: &str, want: Want) -> Result<Box<dyn WireGuard>, Error> {
    link::check_name(name)?;
    match want {
        Want::Kernel => Ok(Box::new(KernelInterface::open(name)?)),
        Want::Userspace => open_userspace(name),
        Want::Auto => match KernelInterface::open(name) {
            Ok(interface) => Ok(Box::new(interface)),
            Err(Error::NoWireGuard) => open_userspace(name),
            Err(error) => Err(error),
        },
    }
}

#[cfg(feature = "userspace")]
fn open_userspace(name: &str) -> Result<Box<dyn WireGuard>, Error> {
    Ok(Box::new(userspace::UserspaceInterface::open(name)?))
}

#[cfg(not(feature = "userspace"))]
fn open_userspace(_: &str) -> Result<Box<dyn WireGuard>, Error> {
    Err(Error::NoWireGuard)
}
