//! One connection type for both databases, so that each query is written once.

use diesel::SqliteConnection;

use crate::postgres::PgConnection;

/// A connection to either database.
#[derive(diesel::MultiConnection)]
pub(crate) enum AnyConnection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}
