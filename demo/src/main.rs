//! The demonstration: the whole journey on one machine.

fn main() {}
