//! What administrators are shown of each noun, the same in commands, in the REST API and on pages.
//!
//! Field names are kept from version to version. Times are RFC 3339, in UTC.

mod audit;
mod device;
mod gateway;
mod location;
mod session;
mod token;
mod trail;
mod user;

use mfa_core::time::Timestamp;

pub use audit::{AuditView, ChainedView};
pub use device::DeviceView;
pub use gateway::{GatewayState, GatewayView};
pub use location::LocationView;
pub use session::SessionView;
pub use token::TokenView;
pub use trail::{Delays, StepView, TrailStep, trail};
pub use user::{GroupView, UserView};

/// A time as programs read it.
fn time(at: Timestamp) -> String {
    crate::text::rfc3339(at)
}
