//! The shipped program, killed, raced and starved while people log in over TLS.

#![cfg(test)]

mod kill;
mod malformed;
mod points;
mod race;
mod rig;
mod trouble;
