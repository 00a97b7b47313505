//! Keeps every change prepared.
//!
//! Diesel prepares each UPDATE and most INSERTs anew, since their text may vary with their values.
//! Ours does not, so the database need not read it again and again: that is most of the time of
//! a small transaction.
//!
//! For the same reason this crate asks for the one row of a unique column by `get_result`, and not by
//! `first`, which adds `LIMIT ?`: SQLite plans a statement anew each time that such a limit is set.

use core::cell::OnceCell;

use diesel::backend::Backend;
use diesel::connection::{
    CacheSize, DefaultLoadingMode, Instrumentation, LoadConnection, SimpleConnection,
    TransactionManager, TransactionManagerStatus,
};
use diesel::expression::QueryMetadata;
use diesel::internal::derives::multiconnection::{
    AstPassHelper as _, ConnectionSealed, MultiConnectionHelper,
};
use diesel::migration::MigrationConnection;
use diesel::query_builder::{AstPass, Query, QueryBuilder as _, QueryFragment, QueryId};
use diesel::sql_types::TypeMetadata;
use diesel::{Connection, ConnectionResult, QueryResult};

/// A connection that keeps every change prepared.
pub(crate) struct Prepared<C>(pub(crate) C);

impl<C: SimpleConnection> SimpleConnection for Prepared<C> {
    fn batch_execute(&mut self, query: &str) -> QueryResult<()> {
        self.0.batch_execute(query)
    }
}

impl<C> ConnectionSealed for Prepared<C> {}

impl<C> Connection for Prepared<C>
where
    C: Connection,
    C::Backend: Default + 'static,
    <C::Backend as Backend>::QueryBuilder: Default,
{
    type Backend = C::Backend;
    type TransactionManager = Transactions;

    fn establish(url: &str) -> ConnectionResult<Self> {
        C::establish(url).map(Self)
    }

    fn execute_returning_count<T>(&mut self, source: &T) -> QueryResult<usize>
    where
        T: QueryFragment<C::Backend> + QueryId,
    {
        self.0.execute_returning_count(&Kept::new(source))
    }

    fn transaction_state(
        &mut self,
    ) -> &mut <C::TransactionManager as TransactionManager<C>>::TransactionStateData {
        self.0.transaction_state()
    }

    fn instrumentation(&mut self) -> &mut dyn Instrumentation {
        self.0.instrumentation()
    }

    fn set_instrumentation(&mut self, instrumentation: impl Instrumentation) {
        self.0.set_instrumentation(instrumentation);
    }

    fn set_prepared_statement_cache_size(&mut self, size: CacheSize) {
        self.0.set_prepared_statement_cache_size(size);
    }
}

impl<C> LoadConnection<DefaultLoadingMode> for Prepared<C>
where
    C: LoadConnection,
    C::Backend: Default + 'static,
    <C::Backend as Backend>::QueryBuilder: Default,
{
    type Cursor<'conn, 'query>
        = C::Cursor<'conn, 'query>
    where
        C: 'conn;
    type Row<'conn, 'query>
        = C::Row<'conn, 'query>
    where
        C: 'conn;

    fn load<'conn, 'query, T>(
        &'conn mut self,
        source: T,
    ) -> QueryResult<Self::Cursor<'conn, 'query>>
    where
        T: Query + QueryFragment<C::Backend> + QueryId + 'query,
        C::Backend: QueryMetadata<T::SqlType>,
    {
        self.0.load(Kept::new(source))
    }
}

/// The inner connection's transactions.
pub(crate) struct Transactions;

impl<C> TransactionManager<Prepared<C>> for Transactions
where
    C: Connection,
    C::Backend: Default + 'static,
    <C::Backend as Backend>::QueryBuilder: Default,
{
    type TransactionStateData =
        <C::TransactionManager as TransactionManager<C>>::TransactionStateData;

    fn begin_transaction(conn: &mut Prepared<C>) -> QueryResult<()> {
        C::TransactionManager::begin_transaction(&mut conn.0)
    }

    fn rollback_transaction(conn: &mut Prepared<C>) -> QueryResult<()> {
        C::TransactionManager::rollback_transaction(&mut conn.0)
    }

    fn commit_transaction(conn: &mut Prepared<C>) -> QueryResult<()> {
        C::TransactionManager::commit_transaction(&mut conn.0)
    }

    fn transaction_manager_status_mut(conn: &mut Prepared<C>) -> &mut TransactionManagerStatus {
        C::TransactionManager::transaction_manager_status_mut(&mut conn.0)
    }
}

impl<C> MigrationConnection for Prepared<C>
where
    C: MigrationConnection,
    C::Backend: Default + 'static,
    <C::Backend as Backend>::QueryBuilder: Default,
{
    fn setup(&mut self) -> QueryResult<usize> {
        self.0.setup()
    }
}

impl<C> MultiConnectionHelper for Prepared<C>
where
    C: MultiConnectionHelper,
    C::Backend: Default + 'static,
    <C::Backend as Backend>::QueryBuilder: Default,
{
    fn to_any<'a>(
        lookup: &mut <C::Backend as TypeMetadata>::MetadataLookup,
    ) -> &mut (dyn core::any::Any + 'a) {
        C::to_any(lookup)
    }

    fn from_any(
        lookup: &mut dyn core::any::Any,
    ) -> Option<&mut <C::Backend as TypeMetadata>::MetadataLookup> {
        C::from_any(lookup)
    }
}

/// A query whose prepared statement is kept. One whose type tells its text is found again by its type,
/// and the text is not even made; any other is found by the text.
struct Kept<T, DB> {
    query: T,
    backend: DB,
    /// The text, once it was asked for: Diesel asks twice, to find a statement.
    text: OnceCell<String>,
}

impl<T, DB: Default> Kept<T, DB> {
    fn new(query: T) -> Self {
        Self { query, backend: DB::default(), text: OnceCell::new() }
    }
}

impl<T, DB> Kept<T, DB>
where
    DB: Backend,
    DB::QueryBuilder: Default,
    T: QueryFragment<DB>,
{
    fn text(&self) -> QueryResult<&str> {
        if let Some(text) = self.text.get() {
            return Ok(text);
        }
        let mut text = DB::QueryBuilder::default();
        self.query.to_sql(&mut text, &self.backend)?;
        Ok(self.text.get_or_init(|| text.finish()))
    }
}

impl<T, DB> QueryFragment<DB> for Kept<T, DB>
where
    DB: Backend,
    DB::QueryBuilder: Default,
    T: QueryFragment<DB> + QueryId,
{
    fn walk_ast<'b>(&'b self, mut pass: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        if let Some((collector, lookup)) = pass.bind_collector() {
            return self.query.collect_binds(collector, lookup, &self.backend);
        }
        if pass.debug_binds().is_some() {
            return self.query.walk_ast(pass);
        }
        let is_safe = self.query.is_safe_to_cache_prepared(&self.backend)?;
        if T::HAS_STATIC_QUERY_ID && is_safe {
            return self.query.walk_ast(pass);
        }
        let text = self.text()?;
        // A SELECT may hold a list of any length; to keep each of those would fill the memory.
        let change = ["INSERT", "UPDATE", "DELETE"].iter().any(|word| text.starts_with(word));
        if !change && !is_safe {
            pass.unsafe_to_cache_prepared();
        }
        pass.push_sql(text);
        Ok(())
    }
}

impl<T: QueryId, DB> QueryId for Kept<T, DB> {
    type QueryId = T::QueryId;
    const HAS_STATIC_QUERY_ID: bool = T::HAS_STATIC_QUERY_ID;
}

impl<T: Query, DB> Query for Kept<T, DB> {
    type SqlType = T::SqlType;
}
