//! How a command tells a running core to look at the store at once.
//!
//! A datagram to a socket in the state directory, which only its owner may enter. What it says does
//! not matter: core looks at the store, and would have within a second anyway.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tokio::net::UnixDatagram;

/// Pokes a running core. Returns whether one was there.
#[must_use]
pub fn poke(socket: &Path) -> bool {
    let sent = std::os::unix::net::UnixDatagram::unbound().and_then(|from| {
        from.set_nonblocking(true)?;
        from.send_to(b"look\n", socket)
    });
    match sent {
        Ok(_) => true,
        // Its queue is full: it has been poked.
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

/// The socket of a running core; dropping it removes it.
#[derive(Debug)]
pub struct Pokes {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Pokes {
    /// Listens at `path`; a socket that a dead core left there is removed.
    ///
    /// # Errors
    ///
    /// What the operating system reports.
    pub fn listen(path: &Path) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let socket = UnixDatagram::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        Ok(Self { socket, path: path.to_owned() })
    }

    /// Waits for the next poke. Those that wait beside it count as one.
    pub async fn next(&self) {
        let mut byte = [0];
        if self.socket.recv(&mut byte).await.is_err() {
            // The socket is broken; the look each second does without it.
            core::future::pending::<()>().await;
        }
        while self.socket.try_recv(&mut byte).is_ok() {}
    }
}

impl Drop for Pokes {
    fn drop(&mut self) {
        // If it cannot be removed, the next core will.
        drop(fs::remove_file(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_poke_arrives_and_many_count_as_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("core.sock");
        assert!(!poke(&path));
        let pokes = Pokes::listen(&path).unwrap();
        for _ in 0..5 {
            assert!(poke(&path));
        }
        pokes.next().await;
        let again = tokio::time::timeout(core::time::Duration::from_millis(20), pokes.next());
        assert!(again.await.is_err());
    }

    #[tokio::test]
    async fn a_dead_cores_socket_is_replaced_and_the_last_one_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("core.sock");
        core::mem::forget(Pokes::listen(&path).unwrap());
        let pokes = Pokes::listen(&path).unwrap();
        assert!(poke(&path));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(pokes);
        assert!(!path.exists());
    }
}
