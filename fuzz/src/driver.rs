//! Runs a target many times.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::mutate::Mutator;
use crate::target::Target;

/// Input for which a target did not return.
#[derive(Debug, Eq, PartialEq)]
pub struct Found {
    /// The number that made it.
    pub seed: u64,
    /// The input.
    pub input: Vec<u8>,
}

/// Runs `target` with input of the numbers `seeds`; returns the first for which it panics.
#[must_use]
pub fn run(target: &Target, seeds: core::ops::Range<u64>) -> Option<Found> {
    for seed in seeds {
        // A mutator for each hundred would be quicker; one for each can be run again alone.
        let input = Mutator::new(seed).make(target.seeds);
        let read = catch_unwind(AssertUnwindSafe(|| (target.read)(&input)));
        if read.is_err() {
            return Some(Found { seed, input });
        }
    }
    None
}
