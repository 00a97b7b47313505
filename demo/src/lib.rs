//! A laboratory for the whole journey: a small internet on one machine, a mail server that takes
//! everything, and WireGuard without privileges. The demonstration and the journeys' tests use it.

pub mod alone;
pub mod company;
mod crowd;
pub mod in_process;
pub mod lab;
pub mod mail;
pub mod story;
