//! What is dear to make and the same for every checkout: kept outside the tree, made once.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::{env, io};

use anyhow::{Context as _, Result};

/// The cache's directory: `$XDG_CACHE_HOME/wg-mfa`, or `~/.cache/wg-mfa`.
///
/// # Errors
///
/// When neither variable is set, or the directory cannot be made.
pub(crate) fn dir() -> Result<PathBuf> {
    let base = match (env::var_os("XDG_CACHE_HOME"), env::var_os("HOME")) {
        (Some(cache), _) if !cache.is_empty() => PathBuf::from(cache),
        (_, Some(home)) => Path::new(&home).join(".cache"),
        (_, None) => anyhow::bail!("set HOME or XDG_CACHE_HOME: there is no place for the cache"),
    };
    let dir = base.join("wg-mfa");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

/// Returns the cache's entry `name`, a file or a directory, and has `make` make it if it is not
/// there. `make` gets the path to fill; the entry appears under its own name only when complete,
/// and of two processes that want it at the same time one makes it and the other waits.
///
/// # Errors
///
/// Those of `make`, and those of the file system.
pub(crate) fn once(name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let entry = dir()?.join(name);
    if entry.exists() {
        return Ok(entry);
    }
    let parent = entry.parent().context("a cache entry has a parent")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let _lock = lock(&beside(&entry, "lock"))?;
    if entry.exists() {
        return Ok(entry);
    }
    let partial = beside(&entry, "partial");
    remove(&partial)?;
    make(&partial)?;
    fs::rename(&partial, &entry).with_context(|| format!("cannot name {}", entry.display()))?;
    Ok(entry)
}

/// A hash to tell inputs apart in the names of entries: FNV-1a, 64 bit; not for security.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fingerprint(u64);

impl Fingerprint {
    pub(crate) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Adds one input. Inputs keep their borders: `ab`, `c` differs from `a`, `bc`.
    pub(crate) fn add(mut self, input: &[u8]) -> Self {
        let length = input.len().to_le_bytes();
        for byte in length.iter().chain(input) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("another xtask holds {}; waiting for it", path.display());
            file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    Ok(file)
}

/// Removes a file or a whole directory; nothing there is fine.
fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn beside(entry: &Path, suffix: &str) -> PathBuf {
    let mut name = entry.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::Fingerprint;

    #[test]
    fn a_fingerprint_tells_apart_what_joins_to_the_same_bytes() {
        let one = Fingerprint::new().add(b"ab").add(b"c").to_string();
        let other = Fingerprint::new().add(b"a").add(b"bc").to_string();

        assert_ne!(one, other);
        assert_eq!(one, Fingerprint::new().add(b"ab").add(b"c").to_string());
    }
}
