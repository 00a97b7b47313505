//! The master key is changed while two cores serve, and whatever is killed on the way.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use core_bin::clock::Clock;
use core_bin::dir::StateDir;
use core_bin::flows::location::{self, LocationChange, LocationError};
use core_bin::flows::master_key::{Rotation, Step, sealing};
use core_bin::rng::Rng;
use core_bin::serve::Core;
use mfa_core::time::Timestamp;
use mfa_store::{Actor, By, MasterKey, Snapshot, Standing, Store, StoreError, Tx};
use serde_json::Value;
use wg_types::PrivateKey;

use crate::race::core;

/// Seals something at a core, and reads everything that was ever sealed.
async fn work(core: &Core, name: &str, clock: &Clock) {
    let (by, name) = (By::new(Actor::Cli, clock.now()), name.to_owned());
    let number = name.bytes().map(u16::from).sum::<u16>();
    let change = LocationChange {
        endpoint: Some("vpn.example.com:51820".to_owned()),
        networks: Some(vec![format!("10.{}.{}.0/24", number >> 8, number & 255).parse().unwrap()]),
        ..LocationChange::default()
    };
    let key = PrivateKey::from_bytes(*Rng::system().bytes());
    let public = key.public_key();
    let add = move |tx: &mut Tx| location::add(tx, by, &name, &change, &key);
    let added: Result<_, LocationError> = core.app().store.write(add).await;
    let id = added.unwrap().id;
    let read = core.app().store.read(move |view| {
        view.sealed_values()?;
        Ok::<_, StoreError>(view.location_private_key(id)?.public_key())
    });
    assert_eq!(read.await.unwrap(), public);
}

async fn standing(store: &Store, key: [u8; 32]) -> Option<Standing> {
    let key = MasterKey::from_bytes(key);
    store
        .read(move |view| view.standing(&key))
        .await
        .unwrap_or_else(|error: StoreError| panic!("{error}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_cores_serve_while_their_key_is_changed() {
    let root = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", root.path().join("core.db").display());
    let clock = Clock::manual(Timestamp::from_unix_millis(1_795_478_400_000));
    let (here, there) = (root.path().join("one"), root.path().join("two"));
    let cores = [core(&here, &url, &clock).await, core(&there, &url, &clock).await];
    let old = *StateDir::new(&here).read_master_key().unwrap();

    let dir = StateDir::new(&here);
    let store = Store::open(&url, dir.key_source().unwrap()).unwrap();
    let mut rotation = Rotation::new(store.clone(), dir.clone(), clock.clone(), Rng::system());
    let (mut steps, mut waited) = (Vec::new(), 0);
    loop {
        let step = rotation.step().await.unwrap();
        if !matches!(step, Step::Waiting(_)) {
            for (number, core) in cores.iter().enumerate() {
                work(core, &format!("l{}-{number}", steps.len()), &clock).await;
            }
            steps.push(step);
        }
        match step {
            Step::Waiting(count) => {
                assert_eq!(sealing(&store).await.unwrap().old, None, "nothing before all have it");
                waited += 1;
                // Both, then the one on whose host the key is not.
                if count == 1 && waited > 3 && !there.join("master.key.next").exists() {
                    std::fs::copy(dir.next_master_key(), there.join("master.key.next")).unwrap();
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Step::Done(_) => break,
            _ => {}
        }
    }
    assert!(waited > 0 && there.join("master.key.next").exists(), "{steps:?}");
    let new = *dir.read_master_key().unwrap();
    assert_ne!(new, old);
    assert!(!dir.next_master_key().exists());
    assert_eq!(standing(&store, old).await, None);
    assert_eq!(standing(&store, new).await, Some(Standing::Active));
    let values: Result<_, StoreError> = store.read(Snapshot::sealed_values).await;
    assert_eq!(values.unwrap().len(), 1, "one key sealed everything");
    let root_key = store.root().clone();
    let verdict = store.read(move |view| view.verify_audit(&root_key)).await;
    let verdict: Result<_, StoreError> = verdict;
    assert!(matches!(verdict.unwrap(), mfa_store::AuditVerdict::Whole { .. }));
    for core in cores {
        core.stop().await;
    }
    // The other host's files are set right by its next start.
    let config = format!(
        "[public]\nlisten = \"127.0.0.1:0\"\ntls = \"off\"\n\
         [gateways]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"{url}\"\n"
    );
    let setup = core_bin::serve::Setup {
        dir: StateDir::new(&there),
        config: toml::from_str(&config).unwrap(),
        clock: clock.clone(),
        rng: Rng::system(),
    };
    let again = Core::start(setup).await.unwrap();
    assert_eq!(*StateDir::new(&there).read_master_key().unwrap(), new);
    work(&again, "last", &clock).await;
    again.stop().await;
}

/// How often to kill.
const KILLS: u32 = 12;

fn core_bin(dir: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_core-bin"));
    command.arg("--dir").arg(dir).arg("--json").args(line.split(' '));
    command.env_remove("CREDENTIALS_DIRECTORY").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn answer(dir: &Path, line: &str) -> Value {
    let output = core_bin(dir, line).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_change_of_the_key_that_is_killed_at_any_time_is_brought_to_its_end() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("state");
    answer(&dir, "init");
    for number in 0..4 {
        let line = format!(
            "location add l{number} --endpoint vpn.example.com:51820 --address 10.1.{number}.1/24"
        );
        answer(&dir, &line);
    }
    let first = std::fs::read(dir.join("master.key")).unwrap();
    // How long a whole one takes says when to kill.
    #[expect(clippy::disallowed_methods, reason = "real processes live in real time")]
    let begun = std::time::Instant::now();
    answer(&dir, "master-key rotate");
    let whole = begun.elapsed();
    assert_ne!(std::fs::read(dir.join("master.key")).unwrap(), first);
    let mut cut = 0;
    for kill in 0..KILLS {
        let mut child = core_bin(&dir, "master-key rotate").spawn().unwrap();
        std::thread::park_timeout(whole * (kill + 1) / KILLS);
        // It fails if the command has ended.
        let _ = child.kill();
        cut += u32::from(!child.wait().unwrap().success());
        let status = answer(&dir, "master-key status");
        let values: u64 =
            status["values"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
        assert_eq!(values, 5, "every value opens: {status}");
    }
    assert!(cut > 0, "some were killed");
    answer(&dir, "master-key rotate");
    let status = answer(&dir, "master-key status");
    assert_eq!(status["values"].as_object().unwrap().len(), 1, "{status}");
    assert!(status["old"].is_null() && status["next"].is_null(), "{status}");
    assert!(!dir.join("master.key.next").exists());
    assert_eq!(answer(&dir, "audit verify")["whole"], true);
    // The key before opens nothing any more.
    std::fs::remove_file(dir.join("master.key")).unwrap();
    StateDir::new(&dir).write_master_key(&[1; 32]).unwrap();
    let refused = core_bin(&dir, "user list").output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("did not seal"), "{refused:?}");
}
