//! Puts the parts of a long snapshot together.

use mfa_wire::gateway::Snapshot;
use wg_types::timers::MAX_PEERS;

/// The parts that have come so far.
#[derive(Debug, Default)]
pub struct Assembly {
    begun: Option<(Snapshot, u32)>,
}

/// The parts do not make a snapshot. They are thrown away, and another must be asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AssemblyError {
    /// A part is missing or belongs to another snapshot.
    #[error("part {part} of the snapshot of revision {revision} came out of order")]
    OutOfOrder {
        /// What came.
        part: u32,
        /// Of which revision.
        revision: u64,
    },
    /// Something else came before the last part.
    #[error("the snapshot of revision {revision} was interrupted by another message")]
    Interrupted {
        /// Of which revision.
        revision: u64,
    },
    /// More peers than an interface can have.
    #[error("the snapshot has more than 1,048,576 peers")]
    TooLong,
}

impl Assembly {
    /// Takes the next part and returns the whole once it is the last one.
    ///
    /// # Errors
    ///
    /// [`AssemblyError::OutOfOrder`] and [`AssemblyError::TooLong`]; the parts so far are void.
    pub fn take(&mut self, mut part: Snapshot) -> Result<Option<Snapshot>, AssemblyError> {
        let (number, last) = (part.part, part.last);
        let out_of_order = AssemblyError::OutOfOrder { part: number, revision: part.revision };
        let whole = match (self.begun.take(), number) {
            (_, 0) => part,
            (Some((mut begun, expected)), number)
                if number == expected && begun.revision == part.revision =>
            {
                begun.peers.append(&mut part.peers);
                begun
            }
            _ => return Err(out_of_order),
        };
        if whole.peers.len() > MAX_PEERS {
            return Err(AssemblyError::TooLong);
        }
        if last {
            return Ok(Some(whole));
        }
        self.begun = Some((whole, number.saturating_add(1)));
        Ok(None)
    }

    /// Notes that a message came which is neither a part nor a heartbeat.
    ///
    /// # Errors
    ///
    /// [`AssemblyError::Interrupted`] if a snapshot had begun; it is void.
    pub fn interrupt(&mut self) -> Result<(), AssemblyError> {
        match self.begun.take() {
            None => Ok(()),
            Some((begun, _)) => Err(AssemblyError::Interrupted { revision: begun.revision }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{peer, snapshot};

    fn part(revision: u64, part: u32, last: bool) -> Snapshot {
        let who = peer(u8::try_from(part + 1).unwrap(), 1, 1);
        let mut snapshot = Snapshot { part, last, ..snapshot(revision, [who]) };
        if part > 0 {
            snapshot.interface = None;
        }
        snapshot
    }

    #[test]
    fn parts_in_order_make_a_whole() {
        let mut assembly = Assembly::default();
        assert_eq!(assembly.take(part(3, 0, false)), Ok(None));
        assert_eq!(assembly.take(part(3, 1, false)), Ok(None));
        let whole = assembly.take(part(3, 2, true)).unwrap().unwrap();
        assert_eq!((whole.revision, whole.peers.len()), (3, 3));
        assert!(whole.interface.is_some());
    }

    #[test]
    fn a_missing_part_or_one_of_another_revision_voids_all() {
        for wrong in [part(3, 2, true), part(4, 1, true), part(3, 9, true)] {
            let mut assembly = Assembly::default();
            assembly.take(part(3, 0, false)).unwrap();
            assert!(matches!(assembly.take(wrong), Err(AssemblyError::OutOfOrder { .. })));
            assert!(assembly.take(part(3, 1, true)).is_err(), "what came before is void");
        }
    }

    #[test]
    fn another_message_in_between_voids_all() {
        let mut assembly = Assembly::default();
        assert_eq!(assembly.interrupt(), Ok(()));
        assembly.take(part(3, 0, false)).unwrap();
        assert_eq!(assembly.interrupt(), Err(AssemblyError::Interrupted { revision: 3 }));
        assert!(assembly.take(part(3, 1, true)).is_err());
    }

    #[test]
    fn a_new_beginning_replaces_an_unfinished_one() {
        let mut assembly = Assembly::default();
        assembly.take(part(3, 0, false)).unwrap();
        let whole = assembly.take(part(4, 0, true)).unwrap().unwrap();
        assert_eq!((whole.revision, whole.peers.len()), (4, 1));
    }
}
