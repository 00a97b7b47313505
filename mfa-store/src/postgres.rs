//! PostgreSQL without libpq: diesel-async's connection, made to look like a plain Diesel one.
//!
//! Each connection belongs to one thread and brings a small runtime of its own, which runs only
//! while that thread waits for an answer.

mod connect;
mod tls;

use core::any::Any;

use diesel::connection::{
    AnsiTransactionManager, CacheSize, DefaultLoadingMode, Instrumentation, LoadConnection,
    SimpleConnection,
};
use diesel::expression::QueryMetadata;
use diesel::internal::derives::multiconnection::{ConnectionSealed, MultiConnectionHelper};
use diesel::migration::{CREATE_MIGRATIONS_TABLE, MigrationConnection};
use diesel::pg::{Pg, PgMetadataLookup, PgTypeMetadata};
use diesel::query_builder::{Query, QueryFragment, QueryId};
use diesel::sql_types::TypeMetadata;
use diesel::{Connection, ConnectionError, ConnectionResult, QueryResult};
use diesel_async::{AsyncConnectionCore, AsyncPgConnection, SimpleAsyncConnection as _};
use tokio::runtime::{Builder, Runtime};
use tokio_stream::StreamExt as _;

use crate::StoreError;

type Row = <AsyncPgConnection as AsyncConnectionCore>::Row<'static, 'static>;

/// A connection of one thread.
pub(crate) struct PgConnection {
    inner: Box<AsyncPgConnection>,
    runtime: Runtime,
    transactions: AnsiTransactionManager,
}

impl PgConnection {
    /// Connects. Must not be called from within a runtime.
    pub(crate) fn open(url: &str) -> Result<Self, StoreError> {
        let runtime =
            Builder::new_current_thread().enable_all().build().map_err(StoreError::Thread)?;
        let inner = Box::new(runtime.block_on(connect::connect(url))?);
        Ok(Self { inner, runtime, transactions: AnsiTransactionManager::default() })
    }
}

impl SimpleConnection for PgConnection {
    fn batch_execute(&mut self, query: &str) -> QueryResult<()> {
        self.runtime.block_on(self.inner.batch_execute(query))
    }
}

impl ConnectionSealed for PgConnection {}

impl Connection for PgConnection {
    type Backend = Pg;
    type TransactionManager = AnsiTransactionManager;

    fn establish(url: &str) -> ConnectionResult<Self> {
        Self::open(url).map_err(|error| ConnectionError::BadConnection(error.to_string()))
    }

    fn execute_returning_count<T>(&mut self, source: &T) -> QueryResult<usize>
    where
        T: QueryFragment<Pg> + QueryId,
    {
        self.runtime.block_on(self.inner.execute_returning_count(source))
    }

    fn transaction_state(&mut self) -> &mut AnsiTransactionManager {
        &mut self.transactions
    }

    fn instrumentation(&mut self) -> &mut dyn Instrumentation {
        diesel_async::AsyncConnection::instrumentation(self.inner.as_mut())
    }

    fn set_instrumentation(&mut self, instrumentation: impl Instrumentation) {
        diesel_async::AsyncConnection::set_instrumentation(self.inner.as_mut(), instrumentation);
    }

    fn set_prepared_statement_cache_size(&mut self, size: CacheSize) {
        diesel_async::AsyncConnection::set_prepared_statement_cache_size(self.inner.as_mut(), size);
    }
}

impl LoadConnection<DefaultLoadingMode> for PgConnection {
    type Cursor<'conn, 'query> = std::vec::IntoIter<QueryResult<Row>>;
    type Row<'conn, 'query> = Row;

    fn load<'conn, 'query, T>(
        &'conn mut self,
        source: T,
    ) -> QueryResult<Self::Cursor<'conn, 'query>>
    where
        T: Query + QueryFragment<Pg> + QueryId + 'query,
        Pg: QueryMetadata<T::SqlType>,
    {
        let rows: Vec<QueryResult<Row>> = self
            .runtime
            .block_on(async { QueryResult::Ok(self.inner.load(source).await?.collect().await) })?;
        Ok(rows.into_iter())
    }
}

impl MigrationConnection for PgConnection {
    fn setup(&mut self) -> QueryResult<usize> {
        self.batch_execute(CREATE_MIGRATIONS_TABLE).map(|()| 0)
    }
}

/// Stands in for a look-up of custom types: the schema has none.
struct BuiltInTypesOnly;

impl PgMetadataLookup for BuiltInTypesOnly {
    fn lookup_type(&mut self, _: &str, _: Option<&str>) -> PgTypeMetadata {
        PgTypeMetadata::new(0, 0)
    }
}

impl MultiConnectionHelper for PgConnection {
    fn to_any<'a>(_: &mut <Pg as TypeMetadata>::MetadataLookup) -> &mut (dyn Any + 'a) {
        // A type without size: nothing is allocated, so nothing leaks.
        Box::leak(Box::new(BuiltInTypesOnly))
    }

    fn from_any(lookup: &mut dyn Any) -> Option<&mut <Pg as TypeMetadata>::MetadataLookup> {
        lookup.downcast_mut::<BuiltInTypesOnly>().map(|l| -> &mut dyn PgMetadataLookup { l })
    }
}
