//! The netfilter netlink socket: thin.

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use super::encode::{Batch, messages};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RECEIVE: usize = 64 * 1024;

pub(super) struct NftSocket(Socket);

impl NftSocket {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // The kernel handles a request and queues its answers while we send it.
        socket.set_non_blocking(true)?;
        Ok(Self(socket))
    }

    /// Sends a batch and takes its acknowledgements.
    pub(super) fn commit(&mut self, batch: Batch<'_>) -> io::Result<()> {
        let (bytes, expected) = batch.finish();
        self.send(&bytes)?;
        let mut failure = None;
        let mut acknowledged = 0;
        while let Some(received) = self.receive()? {
            for (kind, number, payload) in messages(&received) {
                if kind != NLMSG_ERROR {
                    continue;
                }
                match error_of(payload) {
                    Some(error) => failure = failure.or(Some(error)),
                    // The marks at both ends carry no number and may be acknowledged too.
                    None if number > 0 => acknowledged += 1,
                    None => {}
                }
            }
        }
        match failure {
            Some(error) => Err(error),
            None if acknowledged < expected => Err(cut_short()),
            None => Ok(()),
        }
    }

    /// Sends a dump request and returns the payload of each message.
    pub(super) fn dump(&mut self, request: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        self.send(request)?;
        let mut payloads = Vec::new();
        while let Some(received) = self.receive()? {
            for (kind, _, payload) in messages(&received) {
                match kind {
                    NLMSG_ERROR => {
                        if let Some(error) = error_of(payload) {
                            return Err(error);
                        }
                    }
                    NLMSG_DONE => return error_of(payload).map_or(Ok(payloads), Err),
                    _ => payloads.push(payload.to_vec()),
                }
            }
        }
        Err(cut_short())
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        // What a failed call left unread must not answer this one.
        while self.receive()?.is_some() {}
        let sent = self.0.send(bytes, 0)?;
        if sent == bytes.len() { Ok(()) } else { Err(cut_short()) }
    }

    fn receive(&self) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = Vec::with_capacity(RECEIVE);
        match self.0.recv(&mut buffer, 0) {
            Ok(_) => Ok(Some(buffer)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// `nlmsgerr` begins with a negative errno, or zero for an acknowledgement.
fn error_of(payload: &[u8]) -> Option<io::Error> {
    let code = i32::from_ne_bytes(payload.get(..4)?.try_into().ok()?);
    (code < 0).then(|| io::Error::from_raw_os_error(code.saturating_neg()))
}

fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the kernel's answer was cut short")
}
