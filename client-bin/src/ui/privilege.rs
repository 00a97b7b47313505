//! The page's server needs no privilege, so it keeps none.
//!
//! A program with a file capability, or started by root, gets it back when it starts itself anew:
//! the connection's agent has what it needs, and what talks HTTP has nothing.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

/// Drops every capability of this thread, for good. Call it before there is a second thread.
///
/// # Errors
///
/// What the operating system says. It never does: giving up is always allowed.
pub fn drop_all() -> io::Result<()> {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    Ok(set_capabilities(None, sets)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_capability_is_left() {
        // Threads have capabilities of their own: this test's are not the others'.
        std::thread::spawn(|| {
            drop_all().unwrap();
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            for set in ["CapEff", "CapPrm", "CapInh"] {
                let line = status.lines().find(|line| line.starts_with(set)).unwrap();
                assert!(line.ends_with("\t0000000000000000"), "{line}");
            }
        })
        .join()
        .unwrap();
    }
}
