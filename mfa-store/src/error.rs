//! Why the store could not do what was asked.

use diesel::result::{DatabaseErrorKind, Error as DieselError};

/// Why the store could not do what was asked. It never repeats a stored value.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL names no database that this program can use.
    #[error("unknown database URL; use sqlite:PATH or postgres://USER@HOST/DATABASE")]
    UnknownUrl,
    /// No connection to the database.
    #[error("cannot connect to the database; see that it runs and that the URL is right")]
    Connect(#[source] diesel::ConnectionError),
    /// A PostgreSQL on another host, and no word about TLS.
    #[error(
        "the database is on another host: add ?sslmode=require to its URL (and \
         sslrootcert=FILE for an own CA), or sslmode=disable if the network is to be trusted"
    )]
    Unencrypted,
    /// The SQLite file could not be made or protected.
    #[error("cannot create the database file; see that its directory exists and is writable")]
    File(#[source] std::io::Error),
    /// A worker thread could not be started.
    #[error("cannot start a thread for the database")]
    Thread(#[source] std::io::Error),
    /// The database was written by a newer version.
    #[error(
        "the database has schema {found}, this program knows {known}; \
         upgrade the program, or restore the backup made before the upgrade"
    )]
    NewerSchema {
        /// The database's.
        found: i64,
        /// This program's newest.
        known: i64,
    },
    /// The master key is not the one that sealed this database.
    #[error(
        "this master key did not seal this database; \
         restore the key file that belongs to it, there is no way without"
    )]
    WrongMasterKey,
    /// A sealed value does not open: it was changed, or moved here from another row.
    #[error("a sealed value in table {table} does not open; the database was tampered with")]
    Unsealable {
        /// Where it is.
        table: &'static str,
    },
    /// The operating system gave no random numbers.
    #[error("the operating system gave no random numbers")]
    Random,
    /// Too many requests wait; nothing was done.
    #[error("the database is busy; try again in a moment")]
    Busy,
    /// The database cannot be written now: locked, full or read-only. Nothing was done.
    #[error("the database cannot be written: {reason}")]
    Unwritable {
        /// What the database says.
        reason: String,
    },
    /// The connection broke while a commit was under way: it may or may not have happened.
    #[error("the connection to the database broke during a commit; look whether it happened")]
    OutcomeUnknown,
    /// The worker has stopped; the process should, too.
    #[error("the database worker has stopped; restart the program")]
    Stopped,
    /// Something of that name or key exists.
    #[error("this {what} exists already")]
    Exists {
        /// The kind of thing.
        what: &'static str,
    },
    /// Something else stands on it.
    #[error("this {what} is in use")]
    InUse {
        /// The kind of thing.
        what: &'static str,
    },
    /// What the caller named is not there.
    #[error("there is no such {what}")]
    Missing {
        /// The kind of thing.
        what: &'static str,
    },
    /// A location has no free address left for a device.
    #[error(
        "location {location} has no free address left in {network}; \
         remove devices or give the location a larger network"
    )]
    NoFreeAddress {
        /// The location's name.
        location: String,
        /// The network that is full.
        network: String,
    },
    /// A stored value is not what this program writes.
    #[error("table {table} holds a value that this program does not understand")]
    Corrupt {
        /// Where it is.
        table: &'static str,
    },
    /// Anything else that the database reports.
    #[error("the database refused a query")]
    Database(#[source] DieselError),
}

impl StoreError {
    /// Tells whether the same request may succeed a moment later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Busy | Self::Unwritable { .. } | Self::Connect(_))
    }

    pub(crate) const fn corrupt(table: &'static str) -> Self {
        Self::Corrupt { table }
    }

    pub(crate) const fn missing(what: &'static str) -> Self {
        Self::Missing { what }
    }
}

impl From<DieselError> for StoreError {
    fn from(error: DieselError) -> Self {
        match &error {
            DieselError::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, info) => {
                Self::Unwritable { reason: info.message().to_owned() }
            }
            DieselError::DatabaseError(DatabaseErrorKind::Unknown, info)
                if is_unwritable(info.message()) =>
            {
                Self::Unwritable { reason: info.message().to_owned() }
            }
            _ => Self::Database(error),
        }
    }
}

/// SQLite's words for `SQLITE_BUSY`, `SQLITE_LOCKED`, `SQLITE_FULL`, `SQLITE_READONLY` and
/// `SQLITE_IOERR`, PostgreSQL's for a full disk and a lock that did not come; Diesel passes no codes.
fn is_unwritable(message: &str) -> bool {
    const WORDS: [&str; 7] = [
        "is locked",
        "disk is full",
        "readonly database",
        "disk I/O error",
        "unable to open database file",
        "No space left on device",
        "lock timeout",
    ];
    WORDS.iter().any(|words| message.contains(words))
}
