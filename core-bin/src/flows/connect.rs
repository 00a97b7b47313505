//! **connect** — a fresh factor buys a session and its PSK.

pub mod extend;
mod finish;
pub mod login;
pub mod records;
mod renew;
mod start;
pub mod tokens;

pub use finish::{FinishError, Finished, finish};
pub use renew::{RenewError, renew};
pub use start::{StartError, StartOrder, Started, start};
