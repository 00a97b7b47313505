//! Keeps a process's memory, and the keys in it, to itself.
//!
//! The first thing that each of the three programs does. What it cannot do: hide anything from
//! root, or from a swap partition that is not encrypted.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

#[cfg(feature = "testing")]
pub mod testing;

/// Switches core dumps off for this process, and for those that it starts; and makes its memory
/// and `/proc/PID` root's, so that another process of the same user can neither read nor trace it.
///
/// The limit alone is not enough: where `core_pattern` is a pipe the kernel does not look at it. The
/// second call covers that, and is undone by `exec`, which is why each program makes it.
///
/// # Errors
///
/// What the operating system reports. It never does, unless a filter of system calls forbids one of
/// the two; the program should not run then.
pub fn keep_memory_private() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}
