//! The gateway: programs WireGuard as core says.
