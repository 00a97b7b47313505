//! The ways to program WireGuard, each from its own types.

use anyhow::Result;

use crate::workload::{Operation, Workload};

pub(crate) mod control;
pub(crate) mod defguard;
pub(crate) mod floor;
pub(crate) mod generic;
pub(crate) mod ours;
pub(crate) mod tool;
pub(crate) mod uapi;

/// What is timed, and for how many of the peers it is done.
pub(crate) struct Job<'a> {
    pub(crate) peers: usize,
    pub(crate) run: Box<dyn FnMut() -> Result<()> + 'a>,
}

impl<'a> Job<'a> {
    fn all(workload: &Workload, run: impl FnMut() -> Result<()> + 'a) -> Option<Self> {
        Some(Self { peers: workload.peers.len(), run: Box::new(run) })
    }

    fn some(peers: usize, run: impl FnMut() -> Result<()> + 'a) -> Option<Self> {
        Some(Self { peers, run: Box::new(run) })
    }
}

/// One way.
pub(crate) trait Contender {
    fn name(&self) -> &'static str;

    /// Whether it would take longer than anybody waits: the kernel's own curve for each of so many
    /// peers, which is the same for all.
    fn is_too_slow(&self, operation: Operation, size: usize) -> bool {
        size > 10_000 && operation == Operation::Add
    }

    /// Gets ready, in its own types. `None`: it cannot do this, or not in any sensible time.
    fn prepare<'a>(
        &'a mut self,
        operation: Operation,
        workload: &'a Workload,
    ) -> Result<Option<Job<'a>>>;
}

pub(crate) fn all() -> Result<Vec<Box<dyn Contender>>> {
    Ok(vec![
        Box::new(floor::Floor),
        Box::new(ours::Ours::open()?),
        Box::new(ours::OneByOne::open()?),
        Box::new(generic::Generic::batched()?),
        Box::new(generic::Generic::singly()?),
        Box::new(control::Control),
        Box::new(uapi::Uapi::open()?),
        Box::new(defguard::Defguard::open()?),
        Box::new(tool::Syncconf),
        Box::new(tool::Addconf),
        Box::new(tool::Set),
    ])
}
