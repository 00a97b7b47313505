//! Keys and certificates as files: secrets are their owner's alone, and a file is there whole or
//! not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

use super::PkiError;

/// Mode of a file that all may read.
pub const PUBLIC: u32 = 0o644;

/// Mode of a file that its owner alone may read.
pub const SECRET: u32 = 0o600;

/// Makes a directory for its owner alone, with those above it, unless it is there.
///
/// # Errors
///
/// [`PkiError::Write`].
pub fn make_dir(dir: &Path) -> Result<(), PkiError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|source| write(dir, source))
}

/// Reads a file that is no secret.
///
/// # Errors
///
/// [`PkiError::Read`].
pub fn read(path: &Path) -> Result<Vec<u8>, PkiError> {
    fs::read(path).map_err(|source| read_error(path, source))
}

/// Reads a secret text file.
///
/// # Errors
///
/// [`PkiError::Read`]; [`PkiError::Exposed`] if its group or others have any right to it.
pub fn read_secret(path: &Path) -> Result<Zeroizing<String>, PkiError> {
    let file = File::open(path).map_err(|source| read_error(path, source))?;
    let mode = file.metadata().map_err(|source| read_error(path, source))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(PkiError::Exposed { path: path.to_owned(), mode: mode & 0o7777 });
    }
    let text = io::read_to_string(file).map_err(|source| read_error(path, source))?;
    Ok(Zeroizing::new(text))
}

/// Writes a secret that must not exist yet, down to the disk.
///
/// # Errors
///
/// [`PkiError::Write`], also if the file exists.
pub fn write_new_secret(path: &Path, text: &str) -> Result<(), PkiError> {
    let written = OpenOptions::new().write(true).create_new(true).mode(SECRET).open(path).and_then(
        |mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        },
    );
    written.map_err(|source| write(path, source))
}

/// Writes a file, or puts it in place of the one that is there.
///
/// # Errors
///
/// [`PkiError::Write`].
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PkiError> {
    let new = path.with_extension("new");
    let written = || {
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    written().map_err(|source| write(path, source))
}

fn read_error(path: &Path, source: io::Error) -> PkiError {
    PkiError::Read { path: path.to_owned(), source }
}

fn write(path: &Path, source: io::Error) -> PkiError {
    PkiError::Write { path: path.to_owned(), source }
}
