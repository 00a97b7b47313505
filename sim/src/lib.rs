//! A deterministic simulator of the whole system, from one seed, on a virtual clock.
//!
//! It drives what ships: `mfa-core`, the transactions of `core-bin`'s login, its `Feed`, `Reports` and
//! `Follower`, and `gateway-bin`'s `Program` with its lease and its reconciling, over models of what
//! is outside: a [store](db), a [kernel] with the real one's semantics, links, clients, an
//! attacker. After every [step](world::World::step) the [oracle] checks what must always be true.
//!
//! docs/simulation.md says what is real, what is a model, and what is left out.

#![expect(
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a tool for tests: an index out of range is a mistake in it, and it prints its findings"
)]

pub mod action;
pub mod cli;
pub mod client;
pub mod core;
pub mod coverage;
pub mod db;
pub mod gateway;
pub mod kernel;
pub mod oracle;
pub mod rng;
pub mod run;
pub mod world;

/// Users.
pub const USERS: usize = 3;
/// Places for devices; one that was removed makes room for another.
pub const DEVICES: usize = 4;
/// Whose device each is.
pub const OWNERS: [usize; DEVICES] = [0, 0, 1, 2];
/// Locations.
pub const LOCATIONS: usize = 2;
/// Gateways.
pub const GATEWAYS: usize = 3;
/// Which location each gateway serves.
pub const SERVES: [usize; GATEWAYS] = [0, 0, 1];
/// Cores on one database.
pub const CORES: usize = 2;
