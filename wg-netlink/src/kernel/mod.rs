//! WireGuard in the kernel, through generic netlink.
//!
//! `encode`, `decode` and `batch` are pure; `socket` moves bytes; `channel` holds the conversation
//! and knows what may go wrong in it. Interfaces come and go in [`link`](crate::link).

mod abi;
pub mod batch;
pub mod channel;
pub mod decode;
mod device;
pub mod encode;
pub mod socket;

pub use device::KernelInterface;
