//! The state directory: what lies where, and who may read it.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use mfa_store::{KeySource, MasterKey};
use zeroize::Zeroizing;

/// Bytes of the master key.
pub const MASTER_KEY_LEN: usize = 32;

/// Where a state directory is, if nobody says.
pub const SYSTEM_DIR: &str = "/var/lib/wg-mfa";

/// A state directory.
#[derive(Clone, Debug)]
pub struct StateDir(PathBuf);

/// Why a directory cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// A file or directory cannot be read or made.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// The verb.
        what: &'static str,
        /// Of which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There is no master key.
    #[error(
        "{} does not exist: run `core-bin init`, or give the directory that init made with --dir",
        path.display()
    )]
    NoMasterKey {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Others than its owner can read the master key.
    #[error("{} can be read by others than its owner: run `chmod 600` on it", path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
    },
    /// The file holds no master key.
    #[error("{} holds no master key: 64 hexadecimal digits are expected", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
    },
}

impl StateDir {
    /// Takes a directory as it stands.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Returns the directory that is used if nobody says: [`SYSTEM_DIR`] for root, else `./wg-mfa`.
    #[must_use]
    pub fn default_for_user() -> Self {
        let root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        Self::new(if root { SYSTEM_DIR } else { "wg-mfa" })
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.0.join("core.toml")
    }

    /// The key that seals every secret in the database.
    #[must_use]
    pub fn master_key(&self) -> PathBuf {
        self.0.join("master.key")
    }

    /// The key that will follow the master key, while it is being changed.
    #[must_use]
    pub fn next_master_key(&self) -> PathBuf {
        self.0.join("master.key.next")
    }

    /// The CA.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.0.join("ca")
    }

    /// The public listener's self-signed certificate.
    #[must_use]
    pub fn tls(&self) -> PathBuf {
        self.0.join("tls")
    }

    /// Where a running core is told to look at once.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.0.join("core.sock")
    }

    /// Makes the directory, for its owner alone; one that is there stays as it is.
    ///
    /// # Errors
    ///
    /// [`DirError::Io`].
    pub fn create(&self) -> Result<(), DirError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(|source| io("create", &self.0, source))
    }

    /// Writes a new master key.
    ///
    /// # Errors
    ///
    /// [`DirError::Io`], also if there is one: it is never replaced.
    pub fn write_master_key(&self, key: &[u8; MASTER_KEY_LEN]) -> Result<(), DirError> {
        let text = Zeroizing::new(format!("{}\n", HEXLOWER.encode(key)));
        write_new(&self.master_key(), 0o400, text.as_bytes())
    }

    /// Writes the key that will follow; it is on the disk when this returns.
    ///
    /// # Errors
    ///
    /// [`DirError::Io`], also if there is one.
    pub fn write_next_master_key(&self, key: &MasterKey) -> Result<(), DirError> {
        let text = Zeroizing::new(format!("{}\n", HEXLOWER.encode(key.expose_secret())));
        let path = self.next_master_key();
        // Under another name first: half a key would be in the way.
        let draft = self.draft();
        match fs::remove_file(&draft) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                return Err(io("remove", &draft, source));
            }
            _ => {}
        }
        write_new(&draft, 0o400, text.as_bytes())?;
        fs::hard_link(&draft, &path).map_err(|source| io("write", &path, source))?;
        fs::remove_file(&draft).map_err(|source| io("remove", &draft, source))?;
        self.sync()
    }

    /// Puts the key that followed in the place of the one before, which is gone then.
    ///
    /// # Errors
    ///
    /// [`DirError::Io`].
    pub fn adopt_next_master_key(&self) -> Result<(), DirError> {
        let path = self.next_master_key();
        fs::rename(&path, self.master_key()).map_err(|source| io("rename", &path, source))?;
        // Left by who was killed between the two names; none is there as a rule.
        let _ = fs::remove_file(self.draft());
        self.sync()
    }

    fn draft(&self) -> PathBuf {
        self.0.join("master.key.draft")
    }

    fn sync(&self) -> Result<(), DirError> {
        let synced = fs::File::open(&self.0).and_then(|dir| dir.sync_all());
        synced.map_err(|source| io("write", &self.0, source))
    }

    /// Reads the master key: the systemd credential `master.key` if there is one, else the
    /// directory's file.
    ///
    /// # Errors
    ///
    /// Any [`DirError`]; a key that others can read is refused.
    pub fn read_master_key(&self) -> Result<Zeroizing<[u8; MASTER_KEY_LEN]>, DirError> {
        read_key(&credential("master.key").unwrap_or_else(|| self.master_key()))
    }

    /// Reads the key that will follow, in the same way; `None`: the master key is not being changed.
    ///
    /// # Errors
    ///
    /// Any [`DirError`]; a key that others can read is refused.
    pub fn read_next_master_key(&self) -> Result<Option<MasterKey>, DirError> {
        let path = credential("master.key.next").unwrap_or_else(|| self.next_master_key());
        match read_key(&path) {
            Ok(key) => Ok(Some(MasterKey::from_bytes(*key))),
            Err(DirError::NoMasterKey { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns where a process that goes on while the master key is changed finds the keys.
    ///
    /// # Errors
    ///
    /// Any [`DirError`] for the keys that are there now.
    pub fn key_source(&self) -> Result<KeySource, DirError> {
        self.keys()?;
        let dir = self.clone();
        Ok(KeySource::new(move || {
            dir.keys().unwrap_or_else(|error| {
                tracing::error!(%error, "the master key cannot be read");
                Vec::new()
            })
        }))
    }

    fn keys(&self) -> Result<Vec<MasterKey>, DirError> {
        let mut keys = vec![MasterKey::from_bytes(*self.read_master_key()?)];
        keys.extend(self.read_next_master_key()?);
        Ok(keys)
    }
}

fn credential(name: &str) -> Option<PathBuf> {
    let dir = std::env::var_os("CREDENTIALS_DIRECTORY")?;
    Some(Path::new(&dir).join(name)).filter(|path| path.exists())
}

/// Writes a file that must not exist yet, with these permissions.
///
/// # Errors
///
/// [`DirError::Io`].
pub fn write_new(path: &Path, mode: u32, contents: &[u8]) -> Result<(), DirError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(contents)?;
        file.sync_all()
    };
    write().map_err(|source| io("write", path, source))
}

/// Returns this host's name, or `localhost`.
#[must_use]
pub fn hostname() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() || name == "(none)" { "localhost".to_owned() } else { name.to_owned() }
}

fn read_key(path: &Path) -> Result<Zeroizing<[u8; MASTER_KEY_LEN]>, DirError> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(DirError::NoMasterKey { path: path.to_owned() });
        }
        Err(source) => return Err(io("read", path, source)),
    };
    if metadata.mode() & 0o077 != 0 {
        return Err(DirError::Exposed { path: path.to_owned() });
    }
    let text = fs::read_to_string(path).map(Zeroizing::new);
    let text = text.map_err(|source| io("read", path, source))?;
    let malformed = || DirError::Malformed { path: path.to_owned() };
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes());
    let bytes = Zeroizing::new(bytes.map_err(|_| malformed())?);
    let key: [u8; MASTER_KEY_LEN] = bytes.as_slice().try_into().map_err(|_| malformed())?;
    Ok(Zeroizing::new(key))
}

fn io(what: &'static str, path: &Path, source: std::io::Error) -> DirError {
    DirError::Io { what, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_master_key_is_its_owners_and_reads_back() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::new(root.path().join("state"));
        dir.create().unwrap();
        dir.write_master_key(&[7; 32]).unwrap();
        assert_eq!(*dir.read_master_key().unwrap(), [7; 32]);
        assert_eq!(fs::metadata(dir.master_key()).unwrap().mode() & 0o777, 0o400);
        assert_eq!(fs::metadata(dir.path()).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_master_key_is_never_replaced() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::new(root.path());
        dir.write_master_key(&[7; 32]).unwrap();
        assert!(matches!(dir.write_master_key(&[8; 32]), Err(DirError::Io { .. })));
        assert_eq!(*dir.read_master_key().unwrap(), [7; 32]);
    }

    #[test]
    fn the_next_key_takes_the_place_of_the_one_before() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::new(root.path());
        dir.write_master_key(&[7; 32]).unwrap();
        assert!(dir.read_next_master_key().unwrap().is_none());
        dir.write_next_master_key(&MasterKey::from_bytes([8; 32])).unwrap();
        assert!(dir.write_next_master_key(&MasterKey::from_bytes([9; 32])).is_err());
        assert_eq!(dir.read_next_master_key().unwrap().unwrap().expose_secret(), &[8; 32]);
        assert_eq!(fs::metadata(dir.next_master_key()).unwrap().mode() & 0o777, 0o400);
        assert_eq!(dir.keys().unwrap().len(), 2);
        dir.adopt_next_master_key().unwrap();
        assert_eq!(*dir.read_master_key().unwrap(), [8; 32]);
        assert!(dir.read_next_master_key().unwrap().is_none());
    }

    #[test]
    fn a_master_key_that_others_can_read_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::new(root.path());
        dir.write_master_key(&[7; 32]).unwrap();
        fs::set_permissions(dir.master_key(), fs::Permissions::from_mode(0o440)).unwrap();
        assert!(matches!(dir.read_master_key(), Err(DirError::Exposed { .. })));
    }

    #[test]
    fn no_key_and_a_wrong_one_are_told_apart() {
        let root = tempfile::tempdir().unwrap();
        let dir = StateDir::new(root.path());
        assert!(matches!(dir.read_master_key(), Err(DirError::NoMasterKey { .. })));
        write_new(&dir.master_key(), 0o600, b"abc").unwrap();
        assert!(matches!(dir.read_master_key(), Err(DirError::Malformed { .. })));
    }
}
