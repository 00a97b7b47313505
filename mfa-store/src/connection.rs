//! One connection type for both databases, so that each query is written once.

use diesel::SqliteConnection;

use crate::postgres::PgConnection;
use crate::prepared::Prepared;

type Sqlite = Prepared<SqliteConnection>;
type Postgres = Prepared<PgConnection>;

/// A connection to either database.
#[derive(diesel::MultiConnection)]
pub(crate) enum AnyConnection {
    Sqlite(Sqlite),
    Postgres(Postgres),
}
