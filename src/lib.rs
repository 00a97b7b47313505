//! Multi-factor authentication for kernel WireGuard.
