//! Programs WireGuard interfaces and reads their statistics.

pub mod error;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod gate;
pub mod interface;
pub mod kernel;

pub use error::{ApplyError, Error, Outcome, Refused};
pub use interface::{Backend, Want, WireGuard};

/// Opens the WireGuard interface `name`, or creates it.
///
/// # Errors
///
/// [`Error::BadName`], [`Error::NameTaken`], [`Error::PermissionDenied`]; [`Error::NoWireGuard`] if
/// the kernel's was wanted and there is none.
pub fn open(name: &str, want: Want) -> Result<Box<dyn WireGuard>, Error> {
    let _ = (name, want);
    Err(Error::NoWireGuard)
}
