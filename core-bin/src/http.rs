//! The public API: extract, call the flow, answer.

pub mod listener;
pub mod source;
pub mod throttle;
pub mod tls;
