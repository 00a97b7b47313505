//! Programs WireGuard interfaces and reads their statistics.
