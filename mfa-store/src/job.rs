//! A closure and the way back to who waits for its answer.

use core::fmt;

use tokio::sync::oneshot;

use crate::{Snapshot, StoreError, Tx};

/// Why nothing of a batch was stored.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// Certainly nothing was stored.
    NotStored(String),
    /// The connection broke while the commit was under way.
    Unknown,
}

impl Failure {
    pub(crate) fn not_stored(error: &StoreError) -> Self {
        let reason = match error {
            StoreError::Unwritable { reason } => reason.clone(),
            StoreError::Database(cause) => cause.to_string(),
            other => other.to_string(),
        };
        Self::NotStored(reason)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        StoreError::from(self.clone()).fmt(f)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotStored(reason) => Self::Unwritable { reason },
            Failure::Unknown => Self::OutcomeUnknown,
        }
    }
}

/// What became of one run of a job.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    Keep,
    Undo,
}

/// A job of the writer.
pub(crate) trait WriteJob: Send {
    /// Runs; the answer is kept until the commit.
    fn run(&mut self, tx: &mut Tx) -> Verdict;
    /// Hands over the kept answer, or the failure of the commit in its place.
    fn answer(self: Box<Self>, failure: Option<Failure>);
}

/// A job of a reader.
pub(crate) trait ReadJob: Send {
    /// Runs; the answer is kept.
    fn run(&mut self, view: &mut Snapshot);
    /// Hands over the kept answer, or the failure in its place.
    fn answer(self: Box<Self>, failure: Option<StoreError>);
}

/// Boxes `work` for the writer.
pub(crate) fn write_job<T, E, F>(work: F, reply: oneshot::Sender<Result<T, E>>) -> Box<dyn WriteJob>
where
    F: FnMut(&mut Tx) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
{
    Box::new(Job { work, kept: None, reply })
}

/// Boxes `work` for a reader.
pub(crate) fn read_job<T, E, F>(work: F, reply: oneshot::Sender<Result<T, E>>) -> Box<dyn ReadJob>
where
    F: FnMut(&mut Snapshot) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
{
    Box::new(Job { work, kept: None, reply })
}

struct Job<F, T, E> {
    work: F,
    kept: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<F, T, E: From<StoreError>> Job<F, T, E> {
    fn reply(self, failure: Option<StoreError>) {
        let answer = match (failure, self.kept) {
            (Some(failure), _) => Err(failure.into()),
            (None, Some(kept)) => kept,
            (None, None) => Err(StoreError::Stopped.into()),
        };
        // Who asked may have gone; the job is done all the same.
        drop(self.reply.send(answer));
    }
}

impl<F, T, E> WriteJob for Job<F, T, E>
where
    F: FnMut(&mut Tx) -> Result<T, E> + Send,
    T: Send,
    E: From<StoreError> + Send,
{
    fn run(&mut self, tx: &mut Tx) -> Verdict {
        let answer = (self.work)(tx);
        let verdict = if answer.is_ok() { Verdict::Keep } else { Verdict::Undo };
        self.kept = Some(answer);
        verdict
    }

    fn answer(self: Box<Self>, failure: Option<Failure>) {
        self.reply(failure.map(StoreError::from));
    }
}

impl<F, T, E> ReadJob for Job<F, T, E>
where
    F: FnMut(&mut Snapshot) -> Result<T, E> + Send,
    T: Send,
    E: From<StoreError> + Send,
{
    fn run(&mut self, view: &mut Snapshot) {
        self.kept = Some((self.work)(view));
    }

    fn answer(self: Box<Self>, failure: Option<StoreError>) {
        self.reply(failure);
    }
}
