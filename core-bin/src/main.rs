//! The control server: people, factors, sessions.

fn main() {}
