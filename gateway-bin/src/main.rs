//! The gateway: programs WireGuard as core says.

fn main() {}
