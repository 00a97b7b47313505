//! Feeds damaged input to everything that reads what a stranger sends.
//!
//! A [target](target::all) is a function of bytes that must return, whatever they are. The
//! [driver] damages seeds at random, from one number, so that what it finds can be found
//! again; it knows nothing of coverage. The `flood` sends requests of the same kind to a running
//! core; [timing] asks one what its times tell.

pub mod driver;
pub mod flood;
pub mod mutate;
pub mod target;
pub mod timing;
