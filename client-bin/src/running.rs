//! Which connections this device has, for its other processes: `run/` beside `client.json`.
//!
//! A connection's process holds a lock for as long as it lives, keeps a record of what it made, and
//! answers on a socket. The record is for cleaning up after a process that died; how a connection
//! stands is never read from it, but asked of the interface.

use core::time::Duration;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::time::{sleep, timeout};

use crate::dns::Change;
use crate::state::{Store, private_dir, private_file};

/// How often to look whether a process has ended.
const LOOK: Duration = Duration::from_millis(20);

/// What a connection made on this machine. No secret is in it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The server's id.
    pub instance: String,
    /// The location's number.
    pub location: i64,
    /// The interface's name.
    pub interface: String,
    /// `kernel` or `userspace`.
    pub backend: String,
    /// When it was brought up, Unix seconds.
    pub up_since: u64,
    /// What was done to the name servers.
    pub dns: Option<Change>,
}

/// The folder of running connections.
#[derive(Clone, Debug)]
pub struct Running {
    dir: PathBuf,
}

/// The right to be the one connection to a location. It ends with the process.
#[derive(Debug)]
pub struct Claim {
    running: Running,
    key: String,
    _lock: File,
}

impl Running {
    /// Names the folder of a store.
    #[must_use]
    pub fn of(store: &Store) -> Self {
        Self { dir: store.dir().join("run") }
    }

    /// Claims a location; `None`: a living process has it.
    ///
    /// # Errors
    ///
    /// [`io::Error`] if the folder cannot be used.
    pub fn claim(&self, instance: &str, location: i64) -> io::Result<Option<Claim>> {
        private_dir(&self.dir).map_err(io::Error::other)?;
        let key = key(instance, location);
        let lock = private_file(&self.path(&key, "lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Claim { running: self.clone(), key, _lock: lock })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Waits until no living process has a location, at most so long; tells whether it is free.
    ///
    /// # Errors
    ///
    /// [`io::Error`] if the folder cannot be used.
    pub async fn freed(
        &self,
        instance: &str,
        location: i64,
        patience: Duration,
    ) -> io::Result<bool> {
        let free = async {
            while self.claim(instance, location)?.is_none() {
                sleep(LOOK).await;
            }
            Ok(true)
        };
        timeout(patience, free).await.unwrap_or(Ok(false))
    }

    /// Reads what the last connection to a location made; `None`: it cleaned up, or there was none.
    #[must_use]
    pub fn record(&self, instance: &str, location: i64) -> Option<Record> {
        let text = fs::read(self.path(&key(instance, location), "json")).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Where a connection's process answers.
    #[must_use]
    pub fn socket(&self, instance: &str, location: i64) -> PathBuf {
        self.path(&key(instance, location), "sock")
    }

    /// Where a connection in the background writes what happens.
    ///
    /// # Errors
    ///
    /// [`io::Error`] if the file cannot be made.
    pub fn log(&self, instance: &str, location: i64) -> io::Result<(PathBuf, File)> {
        private_dir(&self.dir).map_err(io::Error::other)?;
        let path = self.path(&key(instance, location), "log");
        let file = private_file(&path)?;
        file.set_len(0)?;
        Ok((path, file))
    }

    fn path(&self, key: &str, extension: &str) -> PathBuf {
        self.dir.join(format!("{key}.{extension}"))
    }
}

impl Claim {
    /// Writes the record.
    ///
    /// # Errors
    ///
    /// [`io::Error`] if it cannot be written.
    pub fn record(&self, record: &Record) -> io::Result<()> {
        let (path, draft) = (self.path("json"), self.path("json.new"));
        let file = private_file(&draft)?;
        file.set_len(0)?;
        serde_json::to_writer(&file, record)?;
        fs::rename(draft, path)
    }

    /// Removes record and socket: everything is cleaned up.
    pub fn clear(&self) {
        for extension in ["json", "sock"] {
            // What is gone already needs no removal.
            let _ = fs::remove_file(self.path(extension));
        }
    }

    /// Where to answer.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path("sock")
    }

    fn path(&self, extension: &str) -> PathBuf {
        self.running.path(&self.key, extension)
    }
}

/// A short file name for a location. The server chose its id, so it is hashed.
fn key(instance: &str, location: i64) -> String {
    let digest = Sha256::digest(instance.as_bytes());
    let short = HEXLOWER.encode(digest.get(..4).unwrap_or_default());
    format!("{short}-{location}")
}

/// Tells whether a path fits into a Unix socket's address.
#[must_use]
pub fn fits_socket(path: &Path) -> bool {
    path.as_os_str().len() < 108
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_has_one_connection_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let running = Running::of(&Store::new(dir.path()));

        let first = running.claim("acme", 1).unwrap().unwrap();
        assert!(running.claim("acme", 1).unwrap().is_none());
        assert!(running.claim("acme", 2).unwrap().is_some());
        drop(first);
        assert!(running.claim("acme", 1).unwrap().is_some());
    }

    #[test]
    fn a_record_outlives_its_process_until_it_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let running = Running::of(&Store::new(dir.path()));
        let record = Record {
            instance: "acme".to_owned(),
            location: 1,
            interface: "wg-office".to_owned(),
            backend: "kernel".to_owned(),
            up_since: 5,
            dns: Some(Change::File { before: "nameserver 192.0.2.53\n".to_owned() }),
        };

        let claim = running.claim("acme", 1).unwrap().unwrap();
        claim.record(&record).unwrap();
        drop(claim);
        assert_eq!(running.record("acme", 1), Some(record));

        running.claim("acme", 1).unwrap().unwrap().clear();
        assert_eq!(running.record("acme", 1), None);
    }

    #[tokio::test]
    async fn a_location_is_free_once_its_process_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let running = Running::of(&Store::new(dir.path()));
        let claim = running.claim("acme", 1).unwrap().unwrap();
        assert!(!running.freed("acme", 1, Duration::from_millis(50)).await.unwrap());

        let (free, ()) = tokio::join!(
            running.freed("acme", 1, Duration::from_secs(60)),
            async move { drop(claim) }
        );
        assert!(free.unwrap());
    }

    #[test]
    fn a_servers_id_cannot_leave_the_folder() {
        assert!(!key("../../etc/passwd", 1).contains('/'));
    }
}
