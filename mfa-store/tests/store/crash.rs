//! What was acknowledged is there after SIGKILL, and what is there is whole.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use mfa_store::{AuditVerdict, Snapshot, Store};
use tokio::task::JoinSet;

use crate::on_both;
use crate::support::{BY, Fresh, key, person, read, write};

const URL: &str = "WGMFA_TEST_CRASH_URL";
const ROUND: &str = "WGMFA_TEST_CRASH_ROUND";
/// How often to kill, where four times is not enough.
const ROUNDS: &str = "WGMFA_TEST_KILLS";

/// Adds users for ever, sixteen at once, and says which were acknowledged.
///
/// It is the process that the other tests here start and kill. Among the tests, without their word
/// on where the database is, it has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn victim() {
    let (Ok(url), Ok(round)) = (std::env::var(URL), std::env::var(ROUND)) else {
        return;
    };
    let store = Store::open(&url, &key()).unwrap();
    let next = AtomicU32::new(0);
    let add = |store: Store| {
        let login = format!("{round}-{}", next.fetch_add(1, Ordering::Relaxed));
        async move {
            let details = person(&login);
            write(&store, move |tx| tx.add_user(BY, &details)).await;
            writeln!(std::io::stdout(), "acknowledged {login}").unwrap();
        }
    };
    let mut tasks = JoinSet::new();
    for _ in 0..16 {
        tasks.spawn(add(store.clone()));
    }
    while tasks.join_next().await.is_some() {
        tasks.spawn(add(store.clone()));
    }
}

/// Kills a victim after some acknowledgements, and returns all that it had given.
fn kill_after(url: &str, round: usize, acknowledgements: usize) -> Vec<String> {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::victim", "--nocapture"])
        .env(URL, url)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(victim.stdout.take().unwrap());
    let mut given = Vec::new();
    for line in output.lines() {
        if let Some(login) = line.unwrap().strip_prefix("acknowledged ") {
            given.push(login.to_owned());
        }
        if given.len() == acknowledgements {
            // It fails if the victim is dead already.
            victim.kill().unwrap();
        }
    }
    victim.wait().unwrap();
    given
}

on_both! {
    async fn what_was_acknowledged_survives_a_kill(fresh: Fresh) {
        drop(fresh.open());
        let mut expected = BTreeSet::new();
        let rounds = std::env::var(ROUNDS).map_or(4, |text| text.parse().unwrap());
        for round in 0..rounds {
            let acknowledgements = 1 + round * 37 % 101;
            let url = fresh.url.clone();
            let kill = tokio::task::spawn_blocking(move || kill_after(&url, round, acknowledgements));
            let given = kill.await.unwrap();
            assert!(given.len() >= acknowledgements);
            expected.extend(given);

            let store = fresh.open();
            let there: BTreeSet<_> =
                read(&store, Snapshot::users).await.into_iter().map(|u| u.details.login).collect();
            let lost: Vec<_> = expected.difference(&there).collect();
            assert!(lost.is_empty(), "lost: {lost:?}");
            // The chain has one entry for each user, whether or not its caller was told.
            let verdict = read(&store, |view| view.verify_audit(&key())).await;
            let entries = i64::try_from(there.len()).unwrap();
            assert_eq!(verdict, AuditVerdict::Whole { entries });
            write(&store, |tx| tx.set_meta("alive", b"")).await;
        }
    }
}
