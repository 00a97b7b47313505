//! What can go wrong, in words for the person who must repair it.

use std::io;

use ipnet::IpNet;
use wg_types::PublicKey;

use crate::kernel::decode::DecodeError;

/// Why a call did not do what it was asked.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The interface is not there, or not any more (ENODEV).
    #[error("there is no interface {name}; open it again to create it")]
    NoSuchInterface {
        /// Its name.
        name: String,
    },
    /// The process may not do this (EPERM).
    #[error("not permitted to {doing}; run as root or with the capability CAP_NET_ADMIN")]
    PermissionDenied {
        /// What was tried.
        doing: &'static str,
    },
    /// The kernel has no WireGuard: neither built in nor as a module that could be loaded.
    #[error(
        "this kernel has no WireGuard; load it with `modprobe wireguard`, or use the userspace \
         backend"
    )]
    NoWireGuard,
    /// A link of another kind has the name.
    #[error("{name} exists but is not a WireGuard interface; choose another name or delete it")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// A userspace WireGuard of another handle or process has the name, perhaps in another network
    /// namespace.
    #[error("{name} is run by another userspace WireGuard; stop that or choose another name")]
    InUse {
        /// The name.
        name: String,
    },
    /// No interface can have this name.
    #[error(
        "{name:?} cannot name an interface; use 1 to 15 ASCII letters, digits and any of '_=+.-'"
    )]
    BadName {
        /// The refused name.
        name: String,
    },
    /// Another request is under way and did not end in time (EBUSY).
    #[error("the kernel is busy with another request; try again")]
    Busy,
    /// Peers came and went during every attempt at a dump, so none was consistent
    /// (`NLM_F_DUMP_INTR`).
    #[error("the peers of {name} changed while they were read, several times; try again")]
    Interrupted {
        /// The interface.
        name: String,
    },
    /// The kernel ran out of buffers, and again when asked anew (ENOBUFS, ENOMEM).
    #[error("the kernel is out of buffers or memory; free some and try again")]
    NoBuffers,
    /// A message was longer than the kernel takes (EMSGSIZE).
    #[error("the kernel refused a message as too long; raise net.core.wmem_max or report this")]
    TooLong,
    /// The UDP port is in use (EADDRINUSE).
    #[error("UDP port {port} is in use; choose another or stop the program that has it")]
    PortInUse {
        /// The port.
        port: u16,
    },
    /// Another interface has the route (EEXIST).
    #[error("there is a route to {route} already; remove it or choose other routes")]
    RouteTaken {
        /// The route.
        route: IpNet,
    },
    /// The interface has as many peers as it can have: 2^20 (E2BIG).
    #[error("the interface has 1,048,576 peers and takes no more; remove some")]
    TooManyPeers,
    /// The kernel found a value invalid (EINVAL).
    #[error("the kernel refused to {doing}: {said}")]
    Refused {
        /// What was tried.
        doing: &'static str,
        /// The kernel's own words if it gave any.
        said: String,
    },
    /// This backend cannot do this.
    #[error("the {backend} backend cannot {doing}")]
    Unsupported {
        /// Which.
        backend: crate::Backend,
        /// What was asked.
        doing: &'static str,
    },
    /// An answer that is not understood. Nothing was taken from it.
    #[error("the kernel's answer is not understood")]
    Answer(#[from] DecodeError),
    /// The kernel gave no answer where it always gives one.
    #[error("the kernel did not answer the request to {doing}; try again")]
    NoAnswer {
        /// What was tried.
        doing: &'static str,
    },
    /// The userspace WireGuard failed.
    #[error("userspace WireGuard could not {doing}: {said}")]
    Userspace {
        /// What was tried.
        doing: &'static str,
        /// Its words. They never hold a key.
        said: String,
    },
    /// Any other error of the operating system.
    #[error("could not {doing}: {}", io::Error::from_raw_os_error(*.code))]
    Os {
        /// What was tried.
        doing: &'static str,
        /// The positive errno.
        code: i32,
    },
}

/// What became of one update of a batch that did not wholly succeed.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// The interface has it.
    Applied,
    /// It was refused, and those after it went on.
    Refused(&'a Error),
    /// The batch stopped at or before it. It is not applied; only if the connection to the
    /// interface itself was lost can it have been. Applying it again is safe.
    NotReached(&'a Error),
}

/// One update that was refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refused {
    /// Its place in the slice that was given, from zero.
    pub index: usize,
    /// Whom it was about.
    pub public_key: PublicKey,
    /// Why.
    pub error: Error,
}

/// Why a batch of updates was not wholly applied, and which part was.
///
/// Every update is either applied, refused by itself, or not reached. Updates state what is to be,
/// so applying [`unapplied`](Self::unapplied) again, in order, is always safe.
///
/// ```
/// # use wg_netlink::{Error, WireGuard as _};
/// # use wg_types::{PeerUpdate, PublicKey};
/// # let wg0 = wg_netlink::fake::FakeKernel::new().interface("wg0");
/// # let updates = [PeerUpdate::lock(PublicKey::from_bytes([1; 32]))];
/// # wg0.fail_next(Error::Busy);
/// if let Err(error) = wg0.apply(&updates) {
///     eprintln!("{error}: {:?}", error.cause());
///     let again: Vec<_> = error.unapplied().map(|at| updates[at].clone()).collect();
///     wg0.apply(&again)?;
/// }
/// # Ok::<(), wg_netlink::ApplyError>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApplyError {
    total: usize,
    refused: Vec<Refused>,
    stopped: Option<(usize, Error)>,
}

impl ApplyError {
    /// The batch of `total` updates was applied up to and without `index`, then ended.
    #[must_use]
    pub const fn stopped(total: usize, index: usize, error: Error) -> Self {
        Self { total, refused: Vec::new(), stopped: Some((index, error)) }
    }

    /// Puts together what was refused, in ascending order, and where the batch ended early.
    ///
    /// # Errors
    ///
    /// `Err` of itself unless all was applied.
    pub fn check(
        total: usize,
        refused: Vec<Refused>,
        stopped: Option<(usize, Error)>,
    ) -> Result<(), Self> {
        if refused.is_empty() && stopped.is_none() {
            return Ok(());
        }
        Err(Self { total, refused, stopped })
    }

    /// Those that were refused by themselves, in order.
    #[must_use]
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }

    /// The first cause.
    #[must_use]
    pub fn cause(&self) -> Option<&Error> {
        let stopped = self.stopped.as_ref().map(|(_, error)| error);
        self.refused.first().map(|refused| &refused.error).or(stopped)
    }

    /// What became of the update at `index` of the slice that was given.
    #[must_use]
    pub fn outcome(&self, index: usize) -> Outcome<'_> {
        if let Ok(at) = self.refused.binary_search_by_key(&index, |refused| refused.index)
            && let Some(refused) = self.refused.get(at)
        {
            return Outcome::Refused(&refused.error);
        }
        match &self.stopped {
            Some((from, error)) if index >= *from => Outcome::NotReached(error),
            _ => Outcome::Applied,
        }
    }

    /// The places of all updates that were not applied, ascending.
    pub fn unapplied(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.total).filter(|&index| !matches!(self.outcome(index), Outcome::Applied))
    }
}

impl core::fmt::Display for ApplyError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let count = self.unapplied().count();
        write!(f, "{count} of {} peer updates were not applied", self.total)
    }
}

impl core::error::Error for ApplyError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        let cause: &(dyn core::error::Error + 'static) = self.cause()?;
        Some(cause)
    }
}

/// Why an interface does not have exactly the peers that it should.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SetPeersError {
    /// What is there could not be read; nothing was changed.
    #[error("the peers that there are could not be read")]
    Read(#[from] Error),
    /// Not all changes were made.
    #[error("not all peers could be set")]
    Apply(#[from] ApplyError),
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: PublicKey = PublicKey::from_bytes([1; 32]);

    #[test]
    fn every_update_has_one_outcome() {
        let refused = vec![Refused { index: 1, public_key: ALICE, error: Error::NoBuffers }];
        let error = ApplyError::check(4, refused, Some((3, Error::Busy))).unwrap_err();
        assert!(matches!(error.outcome(0), Outcome::Applied));
        assert!(matches!(error.outcome(1), Outcome::Refused(Error::NoBuffers)));
        assert!(matches!(error.outcome(2), Outcome::Applied));
        assert!(matches!(error.outcome(3), Outcome::NotReached(Error::Busy)));
        assert_eq!(error.unapplied().collect::<Vec<_>>(), [1, 3]);
        assert_eq!(error.to_string(), "2 of 4 peer updates were not applied");
        assert_eq!(error.cause(), Some(&Error::NoBuffers));
    }

    #[test]
    fn nothing_refused_is_no_error() {
        assert_eq!(ApplyError::check(4, Vec::new(), None), Ok(()));
    }
}
