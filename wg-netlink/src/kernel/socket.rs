//! The socket: it moves bytes and knows nothing of them.

use core::fmt;
use std::io;

use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};

/// Sends a request, receives answers. The kernel's socket, or a test's.
pub trait Transport: Send + fmt::Debug {
    /// Hands one datagram to the kernel, which has dealt with it when this returns.
    ///
    /// # Errors
    ///
    /// The system's; nothing was handed over.
    fn send(&mut self, request: &[u8]) -> io::Result<()>;

    /// Puts the next datagram in place of what `into` held. Never waits: what the kernel has to
    /// say is there once [`send`](Self::send) has returned.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if there is none, and the system's other ones.
    fn receive(&mut self, into: &mut Vec<u8>) -> io::Result<()>;
}

/// A generic netlink socket that talks with the kernel alone.
pub struct KernelSocket(Socket);

impl KernelSocket {
    /// Opens it in the calling thread's network namespace, where it stays.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        // Port 0 is the kernel; nobody else can send to a connected socket.
        socket.connect(&SocketAddr::new(0, 0))?;
        // Acknowledgements must not repeat requests, which hold keys; words are welcome.
        socket.set_cap_ack(true)?;
        socket.set_ext_ack(true)?;
        Ok(Self(socket))
    }
}

impl fmt::Debug for KernelSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KernelSocket")
    }
}

impl Transport for KernelSocket {
    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.0.send(request, 0).map(drop)
    }

    fn receive(&mut self, into: &mut Vec<u8>) -> io::Result<()> {
        into.clear();
        let len = self.0.recv(into, libc::MSG_DONTWAIT | libc::MSG_TRUNC)?;
        if len > into.len() {
            return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
        }
        Ok(())
    }
}
