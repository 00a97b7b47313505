//! Load for running cores, over their public API and over TLS, and what they must withstand.
//!
//! A [world](world::World) is an installation with people who have an authenticator app each. Its
//! [cores](core::Core) are processes of the shipped program, its [gateway] says at once that it did
//! what core wants, and its database is [SQLite or a PostgreSQL of its own](database::Database).
//! [`storm`] lets many people log in at once and writes down what was answered; [`audit`] compares that
//! with the database. The binary `load` measures; tests of core-bin stand on the same parts.
//!
//! Not shipped. Nothing here reaches into core: what it knows of core is in the database and on the wire.

pub mod audit;
pub mod clock;
pub mod core;
pub mod database;
pub mod figures;
pub mod flood;
pub mod gateway;
pub mod kill;
pub mod line;
pub mod malformed;
pub mod storm;
pub mod world;
