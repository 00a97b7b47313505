//! What every run of the tests feeds: the seeds, and a little damage of them.

#![cfg(test)]

use fuzz::{driver, target};

#[test]
fn no_reader_panics_whatever_it_reads() {
    for one in target::all() {
        for seed in one.seeds {
            (one.read)(seed);
        }
        assert_eq!(driver::run(&one, 0..5_000), None, "{}", one.name);
    }
}

#[test]
fn a_reader_that_panics_is_found() {
    let fragile = target::Target {
        name: "fragile",
        read: |bytes| assert!(!bytes.contains(&0xff)),
        seeds: &[b"seed"],
    };
    let found = driver::run(&fragile, 0..5_000).expect("some damage has the byte");
    let again = driver::run(&fragile, found.seed..found.seed + 1);
    assert_eq!(again, Some(found), "the same number makes the same input");
}
