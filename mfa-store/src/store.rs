//! Opens a database and runs jobs on it.

use core::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;

use tokio::sync::{oneshot, watch};

use crate::audit::Chain;
use crate::job::{ReadJob, WriteJob, read_job, write_job};
use crate::seal::{KeySource, RootKey, Sealer};
use crate::sqlite::Access;
use crate::worker::{self, Alive, Source, Writer};
use crate::{Snapshot, StoreError, Tx, meta, migrate};

/// Jobs that may wait. At some thousand jobs a second a full queue is a fraction of a second long;
/// who comes then is told at once that the database is busy.
const QUEUE: usize = 1024;
/// Threads that read. SQLite and PostgreSQL both let readers run beside the writer.
const READERS: NonZeroUsize = NonZeroUsize::new(3).unwrap();

/// Which database, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Target {
    /// Lives as long as the store: one connection for everything.
    Memory,
    File(PathBuf),
    Postgres(String),
}

impl Target {
    /// Parses `sqlite::memory:`, `sqlite:PATH` and `postgres://…`.
    fn parse(url: &str) -> Result<Self, StoreError> {
        match url.split_once(':') {
            Some(("sqlite", ":memory:")) => Ok(Self::Memory),
            Some(("sqlite", path)) if !path.is_empty() => {
                // `sqlite:///var/lib/core.db` is how other programs write it.
                let path = path.strip_prefix("//").unwrap_or(path);
                Ok(Self::File(Path::new(path).to_path_buf()))
            }
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres(url.to_owned())),
            _ => Err(StoreError::UnknownUrl),
        }
    }
}

/// Everything that wg-mfa remembers. Cheap to clone; all clones share the worker threads, which
/// end when the last clone is dropped.
///
/// Writing has one order on either database: one thread takes the jobs that wait, up to 64, runs
/// each in a savepoint of one transaction, commits once, and only then answers. Jobs of another
/// process (the commands, a second core) wait for the commit. So a job never sees another one half
/// done, and no answer is given before it is on the disk.
#[derive(Clone)]
pub struct Store {
    writer: SyncSender<Box<dyn WriteJob>>,
    /// `None`: the writer reads, too.
    readers: Option<SyncSender<Box<dyn ReadJob>>>,
    stopped: watch::Receiver<bool>,
    root: RootKey,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store(..)")
    }
}

impl Store {
    /// Opens the database at `url`, brings its schema up to date, and checks the master key. `keys`
    /// is one [`MasterKey`](crate::MasterKey), or the [`KeySource`] of a process that goes on while
    /// the key is changed.
    ///
    /// * `sqlite:PATH`: a file, created with mode 0600; a relative path is one of the process.
    /// * `sqlite::memory:`: gone with the store.
    /// * `postgres://USER:PASSWORD@HOST/DATABASE`.
    ///
    /// Blocks for as long as that takes; call it before serving.
    ///
    /// # Errors
    ///
    /// [`UnknownUrl`](StoreError::UnknownUrl), [`Connect`](StoreError::Connect),
    /// [`File`](StoreError::File), [`NewerSchema`](StoreError::NewerSchema),
    /// [`WrongMasterKey`](StoreError::WrongMasterKey), and what the database reports.
    pub fn open(url: &str, keys: impl Into<KeySource>) -> Result<Self, StoreError> {
        let (target, keys) = (Target::parse(url)?, keys.into());
        // On a thread of its own, since connecting to PostgreSQL waits on a runtime, and the
        // caller's thread may already be one of another runtime.
        thread::scope(|scope| scope.spawn(|| Self::open_here(target, keys)).join())
            .unwrap_or(Err(StoreError::Stopped))
    }

    fn open_here(target: Target, keys: KeySource) -> Result<Self, StoreError> {
        let source = Source { target, seal: Arc::new(Sealer::new(keys)) };
        let (alive, stopped) = Alive::new();

        let mut conn = worker::connect(&source.target, Access::Write)?;
        let root = worker::exclusively(&mut conn, |conn| {
            migrate::run(conn)?;
            meta::check_key(conn, &source.seal)
        })?;

        let readers = if source.target == Target::Memory {
            None
        } else {
            let (readers, jobs) = sync_channel(QUEUE);
            worker::start_readers(&source, jobs, READERS, &alive)?;
            Some(readers)
        };
        let (writer, jobs) = sync_channel(QUEUE);
        Writer::new(source, Chain::new(&root), conn).start(jobs, alive)?;
        Ok(Self { writer, readers, stopped, root })
    }

    /// Returns what the installation's digests are made with.
    #[must_use]
    pub const fn root(&self) -> &RootKey {
        &self.root
    }

    /// Waits until a worker thread has ended, which only a bug makes it do while the store is in
    /// use. The process should stop then, rather than live on half dead.
    pub async fn stopped(&self) {
        let mut stopped = self.stopped.clone();
        // An error says that every thread is gone: the same news.
        drop(stopped.wait_for(|stopped| *stopped).await);
    }

    /// Runs `work` in a transaction and answers when it is durable.
    ///
    /// An error of `work` undoes what `work` did, and nothing else. `work` may run more than once
    /// if the connection breaks before its commit; the answer is that of the last run. A dropped
    /// future does not stop the job.
    ///
    /// # Errors
    ///
    /// What `work` returns, and, as a [`StoreError`] turned into `E`:
    /// [`Busy`](StoreError::Busy) at once if too many jobs wait, [`Unwritable`](StoreError::Unwritable),
    /// [`OutcomeUnknown`](StoreError::OutcomeUnknown), [`Stopped`](StoreError::Stopped).
    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        send(&self.writer, write_job(work, reply))?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Stopped.into()))
    }

    /// Runs `work` on one consistent view of the state.
    ///
    /// # Errors
    ///
    /// What `work` returns, and [`Busy`](StoreError::Busy) or [`Stopped`](StoreError::Stopped)
    /// turned into `E`.
    pub async fn read<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnMut(&mut Snapshot) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        if let Some(readers) = &self.readers {
            send(readers, read_job(work, reply))?;
        } else {
            let mut work = work;
            send(&self.writer, write_job(move |tx| work(tx), reply))?;
        }
        answer.await.unwrap_or_else(|_| Err(StoreError::Stopped.into()))
    }
}

fn send<J>(queue: &SyncSender<J>, job: J) -> Result<(), StoreError> {
    queue.try_send(job).map_err(|error| match error {
        TrySendError::Full(_) => StoreError::Busy,
        TrySendError::Disconnected(_) => StoreError::Stopped,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_database_or_are_refused() {
        let file = |path: &str| Target::File(PathBuf::from(path));
        assert_eq!(Target::parse("sqlite::memory:").unwrap(), Target::Memory);
        assert_eq!(Target::parse("sqlite:core.db").unwrap(), file("core.db"));
        assert_eq!(Target::parse("sqlite:///var/core.db").unwrap(), file("/var/core.db"));
        let url = "postgres://core@db/core";
        assert_eq!(Target::parse(url).unwrap(), Target::Postgres(url.to_owned()));
        for url in ["", "sqlite:", "mysql://x", "core.db"] {
            assert!(matches!(Target::parse(url), Err(StoreError::UnknownUrl)), "{url}");
        }
    }
}
