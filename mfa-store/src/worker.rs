//! The threads that own the connections.
//!
//! One writer, a few readers. Each ends when the last [`Store`](crate::Store) is dropped and its
//! queue is empty. A panic in a job ends its thread; [`Store::stopped`](crate::Store::stopped)
//! tells.

use std::num::NonZeroUsize;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use diesel::connection::SimpleConnection as _;
use diesel::result::Error as DieselError;
use tokio::sync::watch;

use crate::audit::Chain;
use crate::connection::AnyConnection;
use crate::job::{Failure, ReadJob, Verdict, WriteJob};
use crate::postgres::PgConnection;
use crate::prepared::Prepared;
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
    let sqlite = |conn| AnyConnection::Sqlite(Prepared(conn));
    match target {
        Target::Memory => sqlite::open_in_memory().map(sqlite),
        Target::File(path) => sqlite::open(path, access).map(sqlite),
        Target::Postgres(url) => {
            PgConnection::open(url).map(|conn| AnyConnection::Postgres(Prepared(conn)))
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

/// What makes a connection, and makes it again after it broke.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) target: Target,
    pub(crate) seal: Arc<Sealer>,
}

impl Source {
    fn view(&self, access: Access) -> Result<Snapshot, StoreError> {
        Ok(Snapshot { conn: connect(&self.target, access)?, seal: Arc::clone(&self.seal) })
    }

    /// Tells whether a connection may break. SQLite's do not: one in memory is the database itself,
    /// and one to a file has nothing to break.
    const fn may_break(&self) -> bool {
        matches!(self.target, Target::Postgres(_))
    }
}

/// The writer's thread.
pub(crate) struct Writer {
    source: Source,
    chain: Chain,
    /// `None` after a connection broke.
    tx: Option<Tx>,
}

impl Writer {
    pub(crate) fn new(source: Source, chain: Chain, conn: AnyConnection) -> Self {
        let view = Snapshot { conn, seal: Arc::clone(&source.seal) };
        let tx = Some(Tx::new(view, chain.clone()));
        Self { source, chain, tx }
    }

    /// Starts the thread.
    pub(crate) fn start(
        mut self,
        jobs: Receiver<Box<dyn WriteJob>>,
        alive: Alive,
    ) -> Result<(), StoreError> {
        spawn("store-write", move || {
            let _alive = alive;
            while let Ok(first) = jobs.recv() {
                let mut batch = vec![first];
                batch.extend(jobs.try_iter().take(BATCH - 1));
                let failure = self.store(&mut batch).err();
                for job in batch {
                    job.answer(failure.clone());
                }
            }
        })
    }

    /// Runs and commits a batch.
    fn store(&mut self, batch: &mut [Box<dyn WriteJob>]) -> Result<(), Failure> {
        let mut failure = Failure::Unknown;
        for _ in 0..RUNS {
            failure = match self.run(batch) {
                Ok(()) => return self.commit(),
                Err(error) => Failure::not_stored(&error),
            };
            tracing::warn!(error = %failure, "a batch of writes was rolled back");
            self.roll_back();
            if self.tx.is_some() {
                break;
            }
        }
        Err(failure)
    }

    fn run(&mut self, batch: &mut [Box<dyn WriteJob>]) -> Result<(), StoreError> {
        let tx = match self.tx.take() {
            Some(tx) => tx,
            None => Tx::new(self.source.view(Access::Write)?, self.chain.clone()),
        };
        run_batch(self.tx.insert(tx), batch)
    }

    /// A commit that fails on a connection that still answers did not happen; of one that breaks
    /// nobody knows.
    fn commit(&mut self) -> Result<(), Failure> {
        let Some(tx) = &mut self.tx else { return Err(Failure::Unknown) };
        let Err(error) = tx.conn.batch_execute("COMMIT") else { return Ok(()) };
        let answers = self.roll_back();
        let failure = if self.source.may_break() && !answers {
            Failure::Unknown
        } else {
            Failure::not_stored(&error.into())
        };
        tracing::error!(error = %failure, "a commit failed");
        Err(failure)
    }

    /// Undoes a batch, and lets go of a connection that cannot be trusted any more. Returns whether
    /// the connection answered. (SQLite may have rolled back by itself, and then says so.)
    fn roll_back(&mut self) -> bool {
        let Some(tx) = &mut self.tx else { return false };
        let answers = tx.conn.batch_execute("ROLLBACK").is_ok();
        if self.source.may_break() {
            self.tx = None;
        }
        answers
    }
}

/// Runs each job in a savepoint, so that an error undoes that job alone. An error of this function
/// is one of the connection, and everything must be rolled back.
///
/// The savepoint is called `job`, whatever job it is for: one word to the server ends the last and
/// begins the next, and the commit ends the last one of all.
fn run_batch(tx: &mut Tx, batch: &mut [Box<dyn WriteJob>]) -> Result<(), StoreError> {
    begin(&mut tx.conn)?;
    tx.chain.forget();
    tx.sealing = None;
    let mut next = "SAVEPOINT job";
    for job in batch {
        tx.conn.batch_execute(next)?;
        tx.touched.clear();
        let mark = tx.chain.mark();
        if job.run(tx) == Verdict::Undo {
            tx.conn.batch_execute("ROLLBACK TO SAVEPOINT job")?;
            tx.chain.reset(mark);
            tx.sealing = None;
        }
        next = "RELEASE SAVEPOINT job; SAVEPOINT job";
    }
    tx.save_chain()
}

/// The queue of the readers: whoever is free takes the next job.
type ReadQueue = Arc<Mutex<Receiver<Box<dyn ReadJob>>>>;

/// Starts `count` threads that read.
pub(crate) fn start_readers(
    source: &Source,
    jobs: Receiver<Box<dyn ReadJob>>,
    count: NonZeroUsize,
    alive: &Alive,
) -> Result<(), StoreError> {
    let jobs: ReadQueue = Arc::new(Mutex::new(jobs));
    for _ in 0..count.get() {
        let mut reader = Reader { source: source.clone(), view: None };
        let (jobs, alive) = (Arc::clone(&jobs), alive.clone());
        spawn("store-read", move || {
            let _alive = alive;
            while let Some(mut job) = next(&jobs) {
                let failure = reader.read(job.as_mut()).err();
                job.answer(failure);
            }
        })?;
    }
    Ok(())
}

fn next(jobs: &ReadQueue) -> Option<Box<dyn ReadJob>> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// A reader's thread.
struct Reader {
    source: Source,
    view: Option<Snapshot>,
}

impl Reader {
    /// Reads, and a second time on a new connection if the first one's broke.
    fn read(&mut self, job: &mut dyn ReadJob) -> Result<(), StoreError> {
        let first = self.read_once(job);
        if first.is_ok() || !self.source.may_break() {
            return first;
        }
        self.view = None;
        self.read_once(job)
    }

    fn read_once(&mut self, job: &mut dyn ReadJob) -> Result<(), StoreError> {
        let view = match self.view.take() {
            Some(view) => view,
            None => self.source.view(Access::Read)?,
        };
        let view = self.view.insert(view);
        view.conn.batch_execute(match view.conn {
            AnyConnection::Sqlite(_) => "BEGIN",
            AnyConnection::Postgres(_) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        })?;
        job.run(view);
        // Nothing was changed; this ends the view.
        Ok(view.conn.batch_execute("ROLLBACK")?)
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop).map_err(StoreError::Thread)
}
