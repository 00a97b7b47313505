//! How a connection's process and the other commands talk: a line of JSON each way, over a Unix
//! socket in a folder that only the owner can enter.

use core::time::Duration;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::life::LinkState;
use mfa_wire::http::SessionInfo;

/// The longest line.
const MAX_LINE: u64 = 64 << 10;

/// For the process to take the interface down and tell the server.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a command asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// How does the connection stand?
    Status,
    /// End it.
    Disconnect,
}

/// What the connection's process answers.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// A look at the interface, taken for this answer.
    Status(Snapshot),
    /// It is over; the interface is gone.
    Disconnected {
        /// The server knows.
        server_told: bool,
    },
}

/// A look at the interface.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// How the connection stands.
    #[serde(flatten)]
    pub link: LinkState,
    /// The interface's name.
    pub interface: String,
    /// `kernel` or `userspace`.
    pub backend: String,
    /// Seconds since the last handshake; absent: there was none.
    pub handshake_age: Option<u64>,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// The gateway's address.
    pub endpoint: Option<String>,
    /// Seconds since the interface is up.
    pub up_for: u64,
    /// The mark that keeps packets out of the tunnel; absent: there is none.
    pub mark: Option<u32>,
    /// The session as the server last told.
    pub session: Option<SessionInfo>,
}

/// Asks a connection's process; `None`: there is no such process, or it ended before it answered.
///
/// # Errors
///
/// [`io::Error`] if it is there and does not answer.
pub async fn ask(socket: &Path, ask: Ask) -> io::Result<Option<Reply>> {
    let mut stream = match UnixStream::connect(socket).await {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let talk = async {
        write(&mut stream, &ask).await?;
        read(&mut stream).await
    };
    match timeout(PATIENCE, talk).await {
        Ok(Ok(reply)) => Ok(Some(reply)),
        Ok(Err(error)) if hung_up(&error) => Ok(None),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Tells whether the other end went away.
fn hung_up(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), ConnectionReset | BrokenPipe | UnexpectedEof)
}

/// Writes one line.
///
/// # Errors
///
/// [`io::Error`] if the other end is gone.
pub async fn write(stream: &mut UnixStream, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

/// Reads one line.
///
/// # Errors
///
/// [`io::Error`] if the other end is gone or talks nonsense.
pub async fn read<T: serde::de::DeserializeOwned>(stream: &mut UnixStream) -> io::Result<T> {
    let mut line = Vec::new();
    BufReader::new(stream).take(MAX_LINE).read_until(b'\n', &mut line).await?;
    Ok(serde_json::from_slice(&line)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    /// What is asked of a process that takes the call and ends.
    async fn asked_while_ending(hears: bool) -> io::Result<Option<Reply>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let listener = UnixListener::bind(&path).unwrap();
        let ends = async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            if hears {
                let _: Ask = read(&mut stream).await.unwrap();
            }
        };
        let (told, ()) = tokio::join!(ask(&path, Ask::Disconnect), ends);
        told
    }

    #[tokio::test]
    async fn a_process_that_ends_while_it_is_asked_is_none() {
        for hears in [false, true] {
            assert_eq!(asked_while_ending(hears).await.unwrap(), None, "{hears}");
        }
    }

    #[tokio::test]
    async fn nobody_at_all_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ask(&dir.path().join("sock"), Ask::Status).await.unwrap(), None);
    }
}
