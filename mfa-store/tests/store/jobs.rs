//! How jobs share a commit, wait, fail and are run again.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::Poll;

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};
use mfa_core::id::UserId;
use mfa_store::{AuditVerdict, MasterKey, Snapshot, Store, StoreError, Tx};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::on_both;
use crate::support::{BY, Fresh, key, person, read, write};

/// Keeps the writer busy until told otherwise. Returns when it is.
async fn hold(store: &Store) -> (Sender<()>, JoinHandle<Result<(), StoreError>>) {
    let (release, wait): (_, Receiver<()>) = channel();
    let (busy, is_busy) = oneshot::channel();
    let (wait, mut busy) = (Mutex::new(wait), Some(busy));
    let store = store.clone();
    let held = tokio::spawn(async move {
        store
            .write(move |tx| {
                if let Some(busy) = busy.take() {
                    busy.send(()).expect("the test waits");
                }
                // The test lets go by dropping its end.
                assert!(wait.lock().expect("nobody panicked").recv().is_err());
                tx.set_meta("held", b"")
            })
            .await
    });
    is_busy.await.expect("the writer is busy");
    (release, held)
}

type Job<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

/// Puts a write into the queue. It goes on whether or not the answer is awaited.
async fn queue<T: Send + 'static>(
    store: &Store,
    work: impl FnMut(&mut Tx) -> Result<T, StoreError> + Send + 'static,
) -> Result<Job<T>, StoreError> {
    let store = store.clone();
    let mut job: Job<T> = Box::pin(async move { store.write(work).await });
    // The first poll puts the job into the queue, or has its refusal.
    let refused = poll_fn(|cx| match job.as_mut().poll(cx) {
        Poll::Ready(answer) => Poll::Ready(answer.err()),
        Poll::Pending => Poll::Ready(None),
    });
    refused.await.map_or(Ok(job), Err)
}

async fn queue_user(store: &Store, login: &'static str) -> Job<UserId> {
    queue(store, move |tx| tx.add_user(BY, &person(login))).await.expect("there is room")
}

on_both! {
    async fn an_error_in_one_job_leaves_the_others_of_its_commit(fresh: Fresh) {
        let store = fresh.open();
        let (release, held) = hold(&store).await;
        let mut good = Vec::new();
        for login in ["ann", "ben", "cyd"] {
            good.push(queue_user(&store, login).await);
        }
        let bad = queue(&store, |tx| {
            tx.add_user(BY, &person("dan"))?;
            Err::<(), _>(StoreError::Missing { what: "patience" })
        })
        .await
        .unwrap();
        good.push(queue_user(&store, "eve").await);
        drop(release);
        held.await.unwrap().unwrap();
        assert!(matches!(bad.await, Err(StoreError::Missing { what: "patience" })));
        for job in good {
            job.await.unwrap();
        }
        let logins: Vec<_> =
            read(&store, Snapshot::users).await.into_iter().map(|u| u.details.login).collect();
        assert_eq!(logins, ["ann", "ben", "cyd", "eve"]);
        let verdict = read(&store, |view| view.verify_audit(&key())).await;
        assert_eq!(verdict, AuditVerdict::Whole { entries: 4 });
    }

    async fn a_full_queue_says_busy_at_once_and_loses_nothing(fresh: Fresh) {
        let store = fresh.open();
        let (release, held) = hold(&store).await;
        let mut jobs = Vec::new();
        let refused = loop {
            match queue(&store, |tx| tx.set_meta("touched", b"yes")).await {
                Ok(job) => jobs.push(job),
                Err(refused) => break refused,
            }
        };
        assert!(matches!(refused, StoreError::Busy));
        assert_eq!(jobs.len(), 1024);
        drop(release);
        held.await.unwrap().unwrap();
        for job in jobs {
            job.await.unwrap();
        }
    }

    async fn a_view_is_of_one_moment(fresh: Fresh) {
        let store = fresh.open();
        write(&store, |tx| tx.add_user(BY, &person("alice"))).await;
        let (looked, has_looked) = oneshot::channel();
        let (go_on, wait) = channel::<()>();
        let (mut looked, wait) = (Some(looked), Mutex::new(wait));
        let view = {
            let store = store.clone();
            tokio::spawn(async move {
                read(&store, move |view| {
                    let before = view.users()?.len();
                    if let Some(looked) = looked.take() {
                        looked.send(()).expect("the test waits");
                    }
                    assert!(wait.lock().expect("nobody panicked").recv().is_err());
                    Ok((before, view.users()?.len()))
                })
                .await
            })
        };
        has_looked.await.unwrap();
        write(&store, |tx| tx.add_user(BY, &person("bob"))).await;
        drop(go_on);
        assert_eq!(view.await.unwrap(), (1, 1));
        assert_eq!(read(&store, Snapshot::users).await.len(), 2);
    }

    async fn a_job_whose_caller_has_gone_is_done_all_the_same(fresh: Fresh) {
        let store = fresh.open();
        let (release, held) = hold(&store).await;
        drop(queue_user(&store, "alice").await);
        drop(release);
        held.await.unwrap().unwrap();
        write(&store, |tx| tx.set_meta("later", b"")).await;
        assert_eq!(read(&store, Snapshot::users).await.len(), 1);
    }

    async fn what_was_stored_is_there_after_opening_again(fresh: Fresh) {
        let store = fresh.open();
        write(&store, |tx| tx.add_user(BY, &person("alice"))).await;
        drop(store);
        let store = fresh.open();
        assert_eq!(read(&store, Snapshot::users).await.len(), 1);
        let verdict = read(&store, |view| view.verify_audit(&key())).await;
        assert_eq!(verdict, AuditVerdict::Whole { entries: 1 });
    }

    async fn a_database_of_a_newer_program_is_refused(fresh: Fresh) {
        drop(fresh.open());
        fresh.execute("INSERT INTO schema_version (version) VALUES (1000)").await;
        let refused = Store::open(&fresh.url, &key());
        assert!(matches!(refused, Err(StoreError::NewerSchema { found: 1000, .. })));
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_made_again_and_the_job_runs_again() {
    let fresh = Fresh::postgres().await;
    let store = fresh.open();
    let (release, held) = hold(&store).await;
    let waiting = queue_user(&store, "alice").await;
    fresh
        .execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await;
    drop(release);
    held.await.unwrap().unwrap();
    waiting.await.unwrap();
    assert_eq!(read(&store, Snapshot::users).await.len(), 1);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_transient_error() {
    let refused =
        Store::open("postgres://nobody@127.0.0.1:1/none", &MasterKey::from_bytes([1; 32]));
    assert!(refused.is_err_and(|error| error.is_transient()));
}

#[tokio::test]
async fn a_store_in_memory_reads_what_it_wrote() {
    let store = Store::open("sqlite::memory:", &key()).unwrap();
    write(&store, |tx| tx.add_user(BY, &person("alice"))).await;
    assert_eq!(read(&store, Snapshot::users).await.len(), 1);
}

#[tokio::test]
async fn a_file_that_another_process_keeps_locked_is_unwritable_until_it_lets_go() {
    let fresh = Fresh::sqlite();
    let store = fresh.open();
    let mut other = SqliteConnection::establish(fresh.file().unwrap().to_str().unwrap()).unwrap();
    other.batch_execute("BEGIN IMMEDIATE").unwrap();
    // Waits for SQLite's own patience.
    let refused = store.write(|tx| tx.add_user(BY, &person("alice"))).await;
    assert!(matches!(refused, Err(StoreError::Unwritable { .. })), "{refused:?}");
    assert!(read(&store, Snapshot::users).await.is_empty());
    other.batch_execute("COMMIT").unwrap();
    write(&store, |tx| tx.add_user(BY, &person("alice"))).await;
}
