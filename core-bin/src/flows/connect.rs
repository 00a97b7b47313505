//! **connect** — a fresh factor buys a session and its PSK.

mod finish;
pub mod login;
pub mod records;
mod start;

pub use finish::{FinishError, Finished, finish};
pub use start::{StartError, StartOrder, Started, start};
