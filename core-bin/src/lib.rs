//! The control server: people, factors, sessions.
