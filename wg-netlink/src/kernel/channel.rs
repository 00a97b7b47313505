//! One conversation with the kernel: requests, acknowledgements, dumps, and what goes wrong.
//!
//! One request is under way at a time. Each is acknowledged before the next is sent, so what a
//! failure left undone is known; with some 780 peers a message this costs next to nothing.

use core::ops::Range;
use std::io;

use wg_types::{
    AllowedIpsChange, Interface, InterfaceConfig, Peer, PeerConfig, PeerStats, PeerUpdate,
    PublicKey,
};
use zeroize::Zeroize as _;

use super::abi::{NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR};
use super::batch::{MESSAGE_MAX, Packer};
use super::decode::{self, DecodeError, Messages};
use super::encode::{self, Target};
use super::socket::Transport;
use crate::{ApplyError, Error, Refused};

/// How often a dump that changed under the reader is begun anew.
const DUMP_ATTEMPTS: u32 = 8;

/// How often a request is sent again while the kernel says that it is busy or was interrupted.
const BUSY_ATTEMPTS: u32 = 4;

/// Bytes of a dump's datagram, at most; the kernel sends up to 32 KiB to readers with room for it.
const ANSWER_MAX: usize = 65_536;

/// A socket, the interface it is used for, and the buffers.
#[derive(Debug)]
pub struct Channel<T> {
    transport: T,
    target: Target,
    sequence: u32,
    request: Wiped,
    answer: Wiped,
}

/// A buffer that is wiped before it is freed.
struct Wiped(Vec<u8>);

/// Takes each message of a dump; the flag is set for the first of them.
type Show<'a> = dyn FnMut(&[u8], bool) -> Result<(), DecodeError> + 'a;

/// What stood in the way of one request.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Fault {
    /// The kernel's or the socket's errno, and the kernel's words if it had any.
    System { code: i32, said: String },
    /// There was no answer.
    Silent,
    /// The answer made no sense.
    Nonsense(DecodeError),
    /// The dump showed more than one state.
    Interrupted,
}

impl<T: Transport> Channel<T> {
    /// Finds the family `wireguard`; the kernel loads its module if it has one.
    ///
    /// # Errors
    ///
    /// [`Error::NoWireGuard`], and those of any request.
    pub fn open(transport: T, name: &str) -> Result<Self, Error> {
        let mut channel = Self {
            transport,
            target: Target { family: 0, name: name.to_owned() },
            sequence: 0,
            request: Wiped(Vec::with_capacity(MESSAGE_MAX + 4)),
            answer: Wiped(Vec::with_capacity(ANSWER_MAX)),
        };
        match channel.resolve() {
            Ok(family) => channel.target.family = family,
            Err(Fault::System { code: libc::ENOENT, .. }) => return Err(Error::NoWireGuard),
            Err(fault) => return Err(channel.error(fault, "look for WireGuard")),
        }
        Ok(channel)
    }

    /// Sets what is given of the interface.
    ///
    /// # Errors
    ///
    /// [`Error::PortInUse`] and those of any request.
    pub fn configure(&mut self, config: &InterfaceConfig) -> Result<(), Error> {
        let sequence = self.next_sequence();
        encode::set_device(&mut self.request.0, &self.target, sequence, config);
        let done = self.exchange(sequence);
        self.request.wipe();
        done.map_err(|fault| match (fault, config.listen_port) {
            (Fault::System { code: libc::EADDRINUSE, .. }, Some(port)) => Error::PortInUse { port },
            (fault, _) => self.error(fault, "configure the interface"),
        })
    }

    /// Applies updates in order.
    ///
    /// # Errors
    ///
    /// [`ApplyError`] tells of each what became of it.
    pub fn apply(&mut self, updates: &[PeerUpdate]) -> Result<(), ApplyError> {
        let mut refused = Vec::new();
        let stopped = self.apply_packed(updates, &mut refused).err();
        self.request.wipe();
        ApplyError::check(updates.len(), refused, stopped)
    }

    /// Removes every peer in one request, then lets these in.
    ///
    /// # Errors
    ///
    /// [`ApplyError`] tells of each of `peers` what became of it; none is there if the old ones
    /// could not be removed.
    pub fn replace_peers(&mut self, peers: &[PeerConfig]) -> Result<(), ApplyError> {
        let sequence = self.next_sequence();
        encode::remove_all_peers(&mut self.request.0, &self.target, sequence);
        if let Err(fault) = self.exchange(sequence) {
            let error = self.error(fault, "remove all peers");
            return Err(ApplyError::stopped(peers.len(), 0, error));
        }
        let puts: Vec<_> = peers.iter().cloned().map(PeerUpdate::Put).collect();
        self.apply(&puts)
    }

    /// Reads all of it.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`] and those of any request.
    pub fn interface(&mut self) -> Result<Interface, Error> {
        let mut interface = self.unread();
        let unread = interface.clone();
        self.dump(&mut |payload, is_first| {
            if is_first {
                interface = unread.clone();
            }
            decode::device(payload, &mut interface)
        })?;
        Ok(interface)
    }

    /// Shows each peer, and keeps one at a time.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`] and those of any request; peers before the error were shown.
    pub fn peers(&mut self, visit: &mut dyn FnMut(&Peer)) -> Result<(), Error> {
        let mut held = None;
        self.dump(&mut |payload, is_first| {
            if is_first {
                held = None;
            }
            decode::each_peer(payload, &mut held, visit)
        })?;
        if let Some(peer) = &held {
            visit(peer);
        }
        Ok(())
    }

    /// Reads the interface without its peers.
    ///
    /// # Errors
    ///
    /// Those of any request.
    pub fn device(&mut self) -> Result<Interface, Error> {
        let mut interface = self.unread();
        self.dump(&mut |payload, _| decode::device_alone(payload, &mut interface))?;
        Ok(interface)
    }

    fn unread(&self) -> Interface {
        let name = self.target.name.clone();
        Interface { name, public_key: None, listen_port: 0, fwmark: None, peers: Vec::new() }
    }

    /// Shows the statistics of each peer.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`] and those of any request.
    pub fn stats(&mut self, visit: &mut dyn FnMut(&PeerStats)) -> Result<(), Error> {
        let mut last: Option<PublicKey> = None;
        self.dump(&mut |payload, is_first| {
            if is_first {
                last = None;
            }
            decode::stats(payload, &mut last, visit)
        })
    }

    fn resolve(&mut self) -> Result<u16, Fault> {
        let sequence = self.next_sequence();
        encode::get_family(&mut self.request.0, sequence);
        self.send()?;
        loop {
            self.receive()?;
            for message in Messages(&self.answer.0) {
                let message = message?;
                if message.sequence != sequence {
                    continue;
                }
                if message.kind == NLMSG_ERROR {
                    let (code, said) = decode::acknowledgement(&message)?;
                    return Err(Fault::System { code, said });
                }
                return Ok(decode::family(message.payload)?);
            }
        }
    }

    fn apply_packed(
        &mut self,
        updates: &[PeerUpdate],
        refused: &mut Vec<Refused>,
    ) -> Result<(), (usize, Error)> {
        let target = self.target.clone();
        let mut packer = Packer::new(&target, updates);
        loop {
            let sequence = self.next_sequence();
            let Some(range) = packer.pack(&mut self.request.0, sequence) else { return Ok(()) };
            match self.exchange(sequence) {
                Ok(()) => {}
                Err(fault) if fault.concerns_all() => {
                    return Err((range.start, self.error(fault, "change peers")));
                }
                Err(_) => self.apply_singly(updates, range, refused)?,
            }
        }
    }

    /// Sends again, one by one, the updates of a message that failed: the kernel stops within a
    /// message at the first error without saying where.
    fn apply_singly(
        &mut self,
        updates: &[PeerUpdate],
        range: Range<usize>,
        refused: &mut Vec<Refused>,
    ) -> Result<(), (usize, Error)> {
        for (index, update) in updates.iter().enumerate().take(range.end).skip(range.start) {
            let Err(fault) = self.apply_one(update) else { continue };
            let ends_batch = fault.concerns_all();
            let error = self.error(fault, "change a peer");
            if ends_batch || error == Error::NoBuffers {
                return Err((index, error));
            }
            // An update that is cut over several messages is refused once.
            if refused.last().is_none_or(|last| last.index != index) {
                refused.push(Refused { index, public_key: *update.public_key(), error });
            }
        }
        Ok(())
    }

    fn apply_one(&mut self, update: &PeerUpdate) -> Result<(), Fault> {
        match self.send_one(update) {
            Err(Fault::System { code: libc::EINVAL, said }) => match self.without_removal(update) {
                Some(update) => self.send_one(&update),
                None => Err(Fault::System { code: libc::EINVAL, said }),
            },
            done => done,
        }
    }

    fn send_one(&mut self, update: &PeerUpdate) -> Result<(), Fault> {
        let target = self.target.clone();
        let mut packer = Packer::new(&target, core::slice::from_ref(update));
        loop {
            let sequence = self.next_sequence();
            if packer.pack(&mut self.request.0, sequence).is_none() {
                return Ok(());
            }
            self.exchange(sequence)?;
        }
    }

    /// For a kernel that cannot take single allowed IPs away (before Linux 6.16): replaces them by
    /// those that are to stay.
    fn without_removal(&mut self, update: &PeerUpdate) -> Option<PeerUpdate> {
        let PeerUpdate::Update {
            public_key,
            psk,
            allowed_ips: AllowedIpsChange::Remove(nets),
            endpoint,
            persistent_keepalive,
        } = update
        else {
            return None;
        };
        let peers = self.interface().ok()?.peers;
        let mut peer = peers.into_iter().find(|peer| peer.config.public_key == *public_key)?;
        peer.config.allowed_ips.retain(|held| !nets.iter().any(|net| net.trunc() == *held));
        Some(PeerUpdate::Update {
            public_key: *public_key,
            psk: psk.clone(),
            allowed_ips: AllowedIpsChange::Replace(peer.config.allowed_ips),
            endpoint: *endpoint,
            persistent_keepalive: *persistent_keepalive,
        })
    }

    /// Sends the request and waits for its acknowledgement.
    fn exchange(&mut self, sequence: u32) -> Result<(), Fault> {
        let mut attempt = 1;
        loop {
            match self.exchange_once(sequence) {
                Err(fault) if fault.is_passing() && attempt < BUSY_ATTEMPTS => {
                    self.drain();
                    attempt += 1;
                }
                done => return done,
            }
        }
    }

    fn exchange_once(&mut self, sequence: u32) -> Result<(), Fault> {
        self.send()?;
        loop {
            self.receive()?;
            for message in Messages(&self.answer.0) {
                let message = message?;
                if message.sequence == sequence && message.kind == NLMSG_ERROR {
                    return match decode::acknowledgement(&message)? {
                        (0, _) => Ok(()),
                        (code, said) => Err(Fault::System { code, said }),
                    };
                }
            }
        }
    }

    /// Shows each message of a consistent dump; the flag is set for the first one, also when the
    /// dump had to begin anew.
    fn dump(&mut self, show: &mut Show<'_>) -> Result<(), Error> {
        let mut attempt = 1;
        let done = loop {
            match self.dump_once(show) {
                Err(Fault::Interrupted) if attempt < DUMP_ATTEMPTS => attempt += 1,
                Err(fault) if fault.is_passing() && attempt < BUSY_ATTEMPTS => attempt += 1,
                done => break done,
            }
            self.drain();
        };
        if done.is_err() {
            self.drain();
        }
        self.answer.wipe();
        done.map_err(|fault| self.error(fault, "read the interface"))
    }

    fn dump_once(&mut self, show: &mut Show<'_>) -> Result<(), Fault> {
        let sequence = self.next_sequence();
        encode::get_device(&mut self.request.0, &self.target, sequence);
        self.send()?;
        let mut is_first = true;
        loop {
            self.receive()?;
            for message in Messages(&self.answer.0) {
                let message = message?;
                if message.sequence != sequence {
                    continue;
                }
                if message.flags & NLM_F_DUMP_INTR != 0 {
                    return Err(Fault::Interrupted);
                }
                if message.kind == NLMSG_ERROR || message.kind == NLMSG_DONE {
                    return match decode::acknowledgement(&message)? {
                        (0, _) => Ok(()),
                        (code, said) => Err(Fault::System { code, said }),
                    };
                }
                show(message.payload, is_first)?;
                is_first = false;
            }
        }
    }

    fn send(&mut self) -> Result<(), Fault> {
        loop {
            match self.transport.send(&self.request.0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done.map_err(|error| Fault::from(&error)),
            }
        }
    }

    fn receive(&mut self) -> Result<(), Fault> {
        loop {
            match self.transport.receive(&mut self.answer.0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done.map_err(|error| Fault::from(&error)),
            }
        }
    }

    /// Takes what is left of an answer out of the socket, so that the next request finds it free.
    fn drain(&mut self) {
        loop {
            match self.receive() {
                Ok(()) | Err(Fault::System { code: libc::ENOBUFS, .. }) => {}
                Err(_) => return,
            }
        }
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    fn error(&self, fault: Fault, doing: &'static str) -> Error {
        let name = || self.target.name.clone();
        match fault {
            Fault::Silent => Error::NoAnswer { doing },
            Fault::Nonsense(error) => Error::Answer(error),
            Fault::Interrupted => Error::Interrupted { name: name() },
            Fault::System { code, said } => match code {
                libc::ENODEV => Error::NoSuchInterface { name: name() },
                libc::EOPNOTSUPP => Error::NameTaken { name: name() },
                libc::EPERM | libc::EACCES => Error::PermissionDenied { doing },
                libc::EBUSY | libc::EINTR | libc::EAGAIN => Error::Busy,
                libc::ENOBUFS | libc::ENOMEM => Error::NoBuffers,
                libc::EMSGSIZE => Error::TooLong,
                libc::E2BIG => Error::TooManyPeers,
                libc::EINVAL | libc::ERANGE => Error::Refused { doing, said },
                code => Error::Os { doing, code },
            },
        }
    }
}

impl Fault {
    /// Sending anything else to this interface would fail in the same way.
    const fn concerns_all(&self) -> bool {
        match self {
            Self::System { code, .. } => {
                matches!(*code, libc::ENODEV | libc::EOPNOTSUPP | libc::EPERM | libc::EACCES)
            }
            Self::Silent | Self::Nonsense(_) | Self::Interrupted => false,
        }
    }

    /// Sending the same again can help.
    const fn is_passing(&self) -> bool {
        matches!(self, Self::System { code: libc::EBUSY | libc::EINTR | libc::EAGAIN, .. })
    }
}

impl From<&io::Error> for Fault {
    fn from(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::WouldBlock {
            return Self::Silent;
        }
        let code = error.raw_os_error().unwrap_or(libc::EIO);
        Self::System { code, said: String::new() }
    }
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        Self::Nonsense(error)
    }
}

impl Wiped {
    /// Overwrites all of it. In pieces that fit registers: a `memset` of this size is microcode,
    /// which starts slowly.
    fn wipe(&mut self) {
        self.0.clear();
        let (pieces, rest) = self.0.spare_capacity_mut().as_chunks_mut::<64>();
        for piece in pieces {
            piece.as_mut_slice().zeroize();
        }
        rest.zeroize();
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        self.wipe();
    }
}

impl core::fmt::Debug for Wiped {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Wiped(..)")
    }
}

#[cfg(test)]
mod tests;
