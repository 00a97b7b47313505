//! The threads that own the connections.
//!
//! One writer, a few readers. Each ends when the last [`Store`](crate::Store) is dropped and its
//! queue is empty. A panic in a job ends its thread; [`Store::stopped`](crate::Store::stopped)
//! tells.

use std::num::NonZeroUsize;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use diesel::Connection as _;
use diesel::connection::SimpleConnection as _;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use tokio::sync::watch;

use crate::audit::Chain;
use crate::connection::AnyConnection;
use crate::job::{Failure, ReadJob, Verdict, WriteJob};
use crate::postgres::PgConnection;
use crate::seal::Sealer;
use crate::sqlite::{self, Access};
use crate::store::Target;
use crate::{Snapshot, StoreError, Tx};

/// Jobs that share a commit. More gain little: at 32 the commit is a small part of the time.
const BATCH: usize = 64;
/// Runs of one batch: a second one on a new connection if the first one's broke.
const RUNS: usize = 2;

/// All writers of a PostgreSQL database take turns by this advisory lock, as SQLite's do by its
/// file lock: then nothing that a job has read can change before it commits.
const TURN: &str = "SELECT pg_advisory_xact_lock(8607342891254709)";

/// Opens a connection for writing.
pub(crate) fn connect(target: &Target, access: Access) -> Result<AnyConnection, StoreError> {
    match target {
        Target::Memory => sqlite::open_in_memory().map(AnyConnection::Sqlite),
        Target::File(path) => sqlite::open(path, access).map(AnyConnection::Sqlite),
        Target::Postgres(url) => {
            PgConnection::establish(url).map_err(StoreError::Connect).map(AnyConnection::Postgres)
        }
    }
}

/// Runs `work` alone in a transaction of its own.
pub(crate) fn exclusively<T>(
    conn: &mut AnyConnection,
    work: impl FnOnce(&mut AnyConnection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    begin(conn)?;
    match work(conn) {
        Ok(value) => conn.batch_execute("COMMIT").map(|()| value).map_err(StoreError::from),
        Err(error) => {
            // The first error is the one to tell.
            drop(conn.batch_execute("ROLLBACK"));
            Err(error)
        }
    }
}

fn begin(conn: &mut AnyConnection) -> Result<(), DieselError> {
    match conn {
        AnyConnection::Sqlite(conn) => conn.batch_execute("BEGIN IMMEDIATE"),
        AnyConnection::Postgres(conn) => conn.batch_execute(&format!("BEGIN; {TURN}")),
    }
}

/// Tells, when dropped, that its thread has ended.
#[derive(Clone, Debug)]
pub(crate) struct Alive(watch::Sender<bool>);

impl Alive {
    pub(crate) fn new() -> (Self, watch::Receiver<bool>) {
        let (sender, receiver) = watch::channel(false);
        (Self(sender), receiver)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

/// A connection that is made again after it broke.
pub(crate) struct Link {
    target: Target,
    access: Access,
    conn: Option<AnyConnection>,
}

impl Link {
    pub(crate) const fn new(target: Target, access: Access, conn: Option<AnyConnection>) -> Self {
        Self { target, access, conn }
    }

    fn get(&mut self) -> Result<&mut AnyConnection, StoreError> {
        let conn = match self.conn.take() {
            Some(conn) => conn,
            None => connect(&self.target, self.access)?,
        };
        Ok(self.conn.insert(conn))
    }

    /// Drops a connection that cannot be trusted any more. SQLite's are kept: one in memory is the
    /// database itself, and one to a file has nothing to break.
    fn distrust(&mut self) {
        self.conn.take_if(|conn| matches!(conn, AnyConnection::Postgres(_)));
    }
}

/// The writer's thread.
pub(crate) struct Writer {
    pub(crate) link: Link,
    pub(crate) seal: Arc<Sealer>,
    pub(crate) chain: Chain,
    pub(crate) jobs: Receiver<Box<dyn WriteJob>>,
}

impl Writer {
    pub(crate) fn start(self, alive: Alive) -> Result<(), StoreError> {
        spawn("store-write", move || {
            let _alive = alive;
            self.run();
        })
    }

    fn run(mut self) {
        while let Ok(first) = self.jobs.recv() {
            let mut batch = vec![first];
            batch.extend(self.jobs.try_iter().take(BATCH - 1));
            let failure = self.store(&mut batch).err();
            for job in batch {
                job.answer(failure.clone());
            }
        }
    }

    /// Runs and commits a batch.
    fn store(&mut self, batch: &mut [Box<dyn WriteJob>]) -> Result<(), Failure> {
        let mut last = Failure::Unknown;
        for _ in 0..RUNS {
            let error = match self.link.get() {
                Ok(conn) => match run_batch(conn, &self.seal, &mut self.chain, batch) {
                    Ok(()) => return commit(&mut self.link),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            last = Failure::not_stored(&error);
            tracing::warn!(error = %last_words(&last), "a batch was not stored");
            self.roll_back();
            if self.link.conn.is_some() {
                break;
            }
        }
        Err(last)
    }

    fn roll_back(&mut self) {
        if let Some(conn) = &mut self.link.conn {
            // SQLite may have done it by itself; PostgreSQL does when the connection goes.
            drop(conn.batch_execute("ROLLBACK"));
        }
        self.link.distrust();
    }
}

fn last_words(failure: &Failure) -> String {
    StoreError::from(failure.clone()).to_string()
}

/// Runs each job in a savepoint, so that an error undoes that job alone. An error of this function
/// is one of the connection, and everything must be rolled back.
fn run_batch(
    conn: &mut AnyConnection,
    seal: &Sealer,
    chain: &mut Chain,
    batch: &mut [Box<dyn WriteJob>],
) -> Result<(), StoreError> {
    begin(conn)?;
    chain.forget();
    for job in batch {
        conn.batch_execute("SAVEPOINT job")?;
        let mark = chain.mark();
        match job.run(&mut Tx::new(conn, seal, chain)) {
            Verdict::Keep => conn.batch_execute("RELEASE SAVEPOINT job")?,
            Verdict::Undo => {
                conn.batch_execute("ROLLBACK TO SAVEPOINT job; RELEASE SAVEPOINT job")?;
                chain.reset(mark);
            }
        }
    }
    chain.save(conn)
}

fn commit(link: &mut Link) -> Result<(), Failure> {
    let Some(conn) = &mut link.conn else { return Err(Failure::Unknown) };
    let Err(error) = conn.batch_execute("COMMIT") else { return Ok(()) };
    let failure = match (&*conn, &error) {
        (AnyConnection::Postgres(_), DieselError::DatabaseError(kind, _))
            if !matches!(
                kind,
                DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand
            ) =>
        {
            Failure::not_stored(&error.into())
        }
        (AnyConnection::Postgres(_), _) => Failure::Unknown,
        (AnyConnection::Sqlite(_), _) => Failure::not_stored(&error.into()),
    };
    tracing::error!(error = %last_words(&failure), "a commit failed");
    drop(conn.batch_execute("ROLLBACK"));
    link.distrust();
    Err(failure)
}

/// The queue of the readers: whoever is free takes the next job.
pub(crate) type ReadQueue = Arc<Mutex<Receiver<Box<dyn ReadJob>>>>;

/// Starts `count` threads that read.
pub(crate) fn start_readers(
    target: &Target,
    seal: &Arc<Sealer>,
    jobs: Receiver<Box<dyn ReadJob>>,
    count: NonZeroUsize,
    alive: &Alive,
) -> Result<(), StoreError> {
    let jobs: ReadQueue = Arc::new(Mutex::new(jobs));
    for _ in 0..count.get() {
        let (jobs, seal, alive) = (Arc::clone(&jobs), Arc::clone(seal), alive.clone());
        let mut link = Link::new(target.clone(), Access::Read, None);
        spawn("store-read", move || {
            let _alive = alive;
            while let Some(mut job) = next(&jobs) {
                let failure = read(&mut link, &seal, job.as_mut()).err();
                job.answer(failure);
            }
        })?;
    }
    Ok(())
}

fn next(jobs: &ReadQueue) -> Option<Box<dyn ReadJob>> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

fn read(link: &mut Link, seal: &Sealer, job: &mut dyn ReadJob) -> Result<(), StoreError> {
    let first = read_once(link, seal, job);
    if first.is_ok() {
        return first;
    }
    link.distrust();
    if link.conn.is_some() { first } else { read_once(link, seal, job) }
}

fn read_once(link: &mut Link, seal: &Sealer, job: &mut dyn ReadJob) -> Result<(), StoreError> {
    let conn = link.get()?;
    conn.batch_execute(match conn {
        AnyConnection::Sqlite(_) => "BEGIN",
        AnyConnection::Postgres(_) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    })?;
    job.run(&mut Snapshot { conn, seal });
    // Nothing was changed; this ends the view.
    Ok(conn.batch_execute("ROLLBACK")?)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop).map_err(StoreError::Thread)
}
