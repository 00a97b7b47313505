//! WireGuard in the kernel, through generic netlink.

pub mod decode;
