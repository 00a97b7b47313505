//! How SQLite is opened: durable, with foreign keys, and for the owner only.

use std::fs::OpenOptions;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};

use crate::StoreError;

/// What a connection may do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Access {
    Write,
    Read,
}

/// `FULL`: a commit is on the disk before it is answered. A used code forgotten in a power cut
/// could be used again, so nothing less will do.
///
/// The wait for another process's lock is short enough that a request, which may wait behind another
/// batch and has ten seconds, is answered with the reason.
const PRAGMAS: &str = "
    PRAGMA busy_timeout = 3000;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA foreign_keys = ON;
    PRAGMA trusted_schema = OFF;
    PRAGMA temp_store = MEMORY;
    PRAGMA secure_delete = ON;
";

/// Opens the file at `path`, and creates it with mode 0600 if it is not there.
pub(crate) fn open(path: &Path, access: Access) -> Result<SqliteConnection, StoreError> {
    if access == Access::Write {
        create_private(path).map_err(StoreError::File)?;
    }
    let path = path.to_str().ok_or(StoreError::UnknownUrl)?;
    // SQLite reads a leading "file:" as a URI and ":memory:" as no file at all.
    let path = if path.starts_with('/') { path.to_owned() } else { format!("./{path}") };
    let mut conn = SqliteConnection::establish(&path).map_err(StoreError::Connect)?;
    conn.batch_execute(PRAGMAS)?;
    if access == Access::Read {
        conn.batch_execute("PRAGMA query_only = ON")?;
    }
    Ok(conn)
}

/// Opens a database that lives as long as the connection.
pub(crate) fn open_in_memory() -> Result<SqliteConnection, StoreError> {
    let mut conn = SqliteConnection::establish(":memory:").map_err(StoreError::Connect)?;
    conn.batch_execute("PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF")?;
    Ok(conn)
}

/// SQLite gives its `-wal` and `-shm` files the mode of the database file.
fn create_private(path: &Path) -> std::io::Result<()> {
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let mut permissions = file.metadata()?.permissions();
    if permissions.mode() & 0o077 != 0 {
        permissions.set_mode(0o600);
        file.set_permissions(permissions)?;
    }
    Ok(())
}
