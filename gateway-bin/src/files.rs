//! Files that are whole or not there at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use crate::rng;

/// Who may read a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Readers {
    /// Its owner: it holds a secret.
    Owner,
    /// Everybody.
    All,
}

/// Something about a file went wrong.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl FileError {
    /// Whether the file is not there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        let (Self::Read { source, .. } | Self::Write { source, .. }) = self;
        source.kind() == io::ErrorKind::NotFound
    }
}

/// Reads a whole file.
///
/// # Errors
///
/// [`FileError::Read`].
pub(crate) fn read(path: &Path) -> Result<String, FileError> {
    fs::read_to_string(path).map_err(|source| FileError::Read { path: path.to_owned(), source })
}

/// Makes a directory for its owner alone, with those above it. One that exists stays as it is.
///
/// # Errors
///
/// [`FileError::Write`].
pub(crate) fn make_dir(path: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| FileError::Write { path: path.to_owned(), source })
}

/// Finds out whether files can be written into a directory.
///
/// # Errors
///
/// [`FileError::Write`].
pub(crate) fn probe(dir: &Path) -> Result<(), FileError> {
    let path = dir.join(format!("{:08x}.tmp", rng::number()));
    write(&path, b"", Readers::Owner)
        .and_then(|()| fs::remove_file(&path))
        .map_err(|source| FileError::Write { path, source })
}

/// Replaces a file: whoever reads it, also after a crash, sees the old one or the new one.
///
/// # Errors
///
/// [`FileError::Write`]; the old one is still there.
pub(crate) fn replace(path: &Path, content: &[u8], readers: Readers) -> Result<(), FileError> {
    let draft = path.with_extension(format!("{:08x}.tmp", rng::number()));
    let written = write(&draft, content, readers).and_then(|()| fs::rename(&draft, path));
    written.and_then(|()| sync_dir(path)).map_err(|source| {
        // What cannot be written may not be removable either; the first reason is the telling one.
        let _ = fs::remove_file(&draft);
        FileError::Write { path: path.to_owned(), source }
    })
}

fn write(path: &Path, content: &[u8], readers: Readers) -> io::Result<()> {
    let mode = match readers {
        Readers::Owner => 0o600,
        Readers::All => 0o644,
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    give_to_owner_of_dir(path, &file)?;
    file.write_all(content)?;
    file.sync_all()
}

/// What root writes into a service's directory is the service's: it must be able to read it.
fn give_to_owner_of_dir(path: &Path, file: &File) -> io::Result<()> {
    let Some(dir) = path.parent() else { return Ok(()) };
    let (dir, own) = (fs::metadata(dir)?, file.metadata()?);
    if own.uid() == 0 && dir.uid() != 0 {
        fchown(file, Some(dir.uid()), Some(dir.gid()))?;
    }
    Ok(())
}

fn sync_dir(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_secret_is_its_owners_alone_from_its_first_byte() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        replace(&path, b"old", Readers::Owner).unwrap();
        replace(&path, b"new", Readers::Owner).unwrap();
        assert_eq!(read(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = replace(&dir.path().join("no/such"), b"", Readers::All).unwrap_err();
        assert!(error.is_missing());
        assert!(error.to_string().contains("no/such"), "{error}");
    }
}
