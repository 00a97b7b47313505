//! One master key follows another, whatever is cut off on the way.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use mfa_core::factor::totp::{TotpSecret, TotpStep};
use mfa_core::id::SessionId;
use mfa_store::{
    AuditVerdict, CoreId, KeyId, KeySource, MailSettings, MailTls, MasterKey, Resealing, Snapshot,
    Standing, Store, StoreError, Tx,
};

use zeroize::Zeroizing;

use crate::on_both;
use crate::support::{
    BY, Fresh, World, device_of, key, location, location_key, read, session_of, world, write,
};

const URL: &str = "WGMFA_TEST_REKEY_URL";
const STEPS: &str = "WGMFA_TEST_REKEY_STEPS";

fn other() -> MasterKey {
    MasterKey::from_bytes([8; 32])
}

/// A store whose keys can be added to, as files can.
fn running(url: &str, keys: &Arc<Mutex<Vec<MasterKey>>>) -> Store {
    let keys = Arc::clone(keys);
    Store::open(url, KeySource::new(move || keys.lock().unwrap().clone())).unwrap()
}

/// A world with a secret in each place that is sealed.
struct Secrets {
    world: World,
    session: SessionId,
}

const PSK: [u8; 32] = [1; 32];
const NEXT_PSK: [u8; 32] = [2; 32];
const TOTP: [u8; 20] = [3; 20];
const PENDING: [u8; 20] = [4; 20];
const MAIL: &str = "password of a mail server";

async fn secrets(store: &Store) -> Secrets {
    let world = world(store).await;
    let (user, device, at) = (world.user, world.device.clone(), world.location.clone());
    let session = write(store, move |tx| {
        tx.stage_totp(BY, user, &TotpSecret::from_bytes(TOTP))?;
        assert!(tx.confirm_totp(BY, user, TotpStep::new(1))?);
        tx.stage_totp(BY, user, &TotpSecret::from_bytes(PENDING))?;
        let settings = MailSettings {
            host: "mail.example.org".to_owned(),
            port: 465,
            tls: MailTls::Implicit,
            login: "vpn".to_owned(),
            password: Some(Zeroizing::new(MAIL.to_owned())),
            sender: "vpn@example.org".to_owned(),
        };
        tx.set_mail_settings(BY, Some(&settings))?;
        let id = tx.begin_session(BY, &session_of(&device, &at, PSK))?;
        tx.can_rotate(id)?;
        let next = wg_types::PresharedKey::from_bytes(NEXT_PSK);
        assert_eq!(tx.stage_rotations(&[(id, next)], BY.now)?, 1);
        Ok(id)
    })
    .await;
    Secrets { world, session }
}

/// Everything opens, and is what it was.
async fn assert_all_there(store: &Store, secrets: &Secrets) {
    let (session, user, at) = (secrets.session, secrets.world.user, secrets.world.location.id);
    let found = read(store, move |view| {
        Ok((
            *view.session_psk(session)?.expect("a PSK").expose_secret(),
            *view.next_psk(session)?.expect("a next PSK").expose_secret(),
            view.totp(user)?.expect("an app").secret.code_at(BY.now),
            view.pending_totp(user)?.expect("a pending app").code_at(BY.now),
            view.location_private_key(at)?.public_key(),
            view.sealed_values()?.values().sum::<u64>(),
            view.mail_settings()?.and_then(|settings| settings.password),
        ))
    })
    .await;
    assert_eq!((found.0, found.1), (PSK, NEXT_PSK));
    assert!(found.2.expose_text() == TotpSecret::from_bytes(TOTP).code_at(BY.now).expose_text());
    assert!(found.3.expose_text() == TotpSecret::from_bytes(PENDING).code_at(BY.now).expose_text());
    assert_eq!(found.4, secrets.world.location.public_key);
    assert_eq!(found.6.as_deref().map(String::as_str), Some(MAIL));
    // The location's key, the app's, the pending one's, two PSKs, the mail server's, the root.
    assert!(found.5 >= 7, "{} values", found.5);
    let root = store.root().clone();
    let verdict = read(store, move |view| view.verify_audit(&root)).await;
    assert!(matches!(verdict, AuditVerdict::Whole { .. }), "{verdict:?}");
}

/// Takes the next step, one value at a time, from what the database says; `false` at the end.
async fn step(store: &Store, pass: &mut Option<Resealing>) -> bool {
    let now = read(store, Snapshot::sealing).await;
    let (from, at_end) = (pass.unwrap_or_default(), pass.is_none());
    match (now.active, now.next, now.old) {
        (KeyId::FIRST, None, None) => {
            write(store, |tx| tx.stage_master_key(BY, &other())).await;
        }
        (_, Some(_), None) => {
            write(store, |tx| tx.switch_master_key(BY)).await;
        }
        (_, _, Some(_)) if at_end => {
            let left = write(store, |tx| tx.retire_master_key(BY)).await;
            if left > 0 {
                *pass = Some(Resealing::default());
            }
        }
        (_, _, Some(_)) => *pass = write(store, move |tx| tx.reseal(from, 1)).await,
        (_, None, None) => return false,
    }
    true
}

/// Takes so many steps of a change, says so, and waits to be killed.
///
/// Among the tests, without a word on where the database is, it has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn victim() {
    let (Ok(url), Ok(steps)) = (std::env::var(URL), std::env::var(STEPS)) else { return };
    let store = running(&url, &Arc::new(Mutex::new(vec![key(), other()])));
    let mut pass = Some(Resealing::default());
    for _ in 0..steps.parse::<u32>().unwrap() {
        step(&store, &mut pass).await;
    }
    writeln!(std::io::stdout(), "stopped").unwrap();
    std::future::pending::<()>().await;
}

fn kill_after(url: &str, steps: u32) {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "rekey::victim", "--nocapture"])
        .env(URL, url)
        .env(STEPS, steps.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.into_iter().any(|line| line.ends_with("stopped")), "it took its steps");
    victim.kill().unwrap();
    victim.wait().unwrap();
}

on_both! {
    async fn a_master_key_follows_another_while_others_work(fresh: Fresh) {
        let (mine, theirs) = (Arc::new(Mutex::new(vec![key()])), Arc::new(Mutex::new(vec![key()])));
        let (store, core) = (running(&fresh.url, &mine), running(&fresh.url, &theirs));
        let secrets = secrets(&store).await;
        let id = CoreId([1; 16]);
        write(&core, move |tx| tx.beat(id)).await;

        mine.lock().unwrap().push(other());
        let next = write(&store, |tx| tx.stage_master_key(BY, &other())).await;
        assert_eq!(read(&store, |view| view.standing(&other())).await, Some(Standing::Next));
        // The other core does not have it, then does, and says so.
        write(&core, move |tx| tx.beat(id)).await;
        assert_eq!(read(&store, move |view| view.cores_lacking(next)).await.len(), 1);
        theirs.lock().unwrap().push(other());
        assert_eq!(write(&core, move |tx| tx.beat(id)).await, next);
        assert_eq!(read(&store, move |view| view.cores_lacking(next)).await, []);
        assert_all_there(&core, &secrets).await;

        write(&store, |tx| tx.switch_master_key(BY)).await;
        let refused = store.write(|tx| tx.stage_master_key(BY, &key())).await;
        assert!(matches!(refused, Err(StoreError::Exists { .. })));
        // What the other core seals now is sealed with the new key, though nobody told it.
        write(&core, |tx| tx.add_location(BY, &location("new", &["10.9.0.1/24"]), &location_key()))
            .await;
        let count = read(&store, Snapshot::sealed_values).await;
        assert_eq!((count[&KeyId::FIRST], count[&next]), (7, 1));
        assert!(write(&store, |tx| tx.retire_master_key(BY)).await == 7, "values are left");
        assert_all_there(&core, &secrets).await;

        let mut pass = Some(Resealing::default());
        while step(&store, &mut pass).await {}
        let count = read(&core, Snapshot::sealed_values).await;
        assert_eq!(count.into_iter().collect::<Vec<_>>(), [(next, 8)]);
        assert_eq!(read(&store, |view| view.standing(&key())).await, None);
        for each in [&store, &core] {
            assert_all_there(each, &secrets).await;
        }
        // Nobody needs the old key; and it opens nothing.
        drop((store, core));
        assert_all_there(&Store::open(&fresh.url, &other()).unwrap(), &secrets).await;
        let refused = Store::open(&fresh.url, &key());
        assert!(matches!(refused, Err(StoreError::WrongMasterKey)));
    }

    async fn a_change_that_is_killed_after_any_step_goes_on(fresh: Fresh) {
        let keys = Arc::new(Mutex::new(vec![key(), other()]));
        let store = running(&fresh.url, &keys);
        let secrets = secrets(&store).await;
        // One more each time, so that every step is the last one of a process once, and the whole
        // is gone through in pieces.
        for steps in [1, 1, 1, 2, 3, 4, 5, 6, 30] {
            let url = fresh.url.clone();
            tokio::task::spawn_blocking(move || kill_after(&url, steps)).await.unwrap();
            assert_all_there(&store, &secrets).await;
            // Logins go on in between.
            let (user, at) = (secrets.world.user, secrets.world.location.clone());
            write(&store, move |tx: &mut Tx| {
                let device = tx.add_device(BY, &device_of(user))?;
                tx.begin_session(BY, &session_of(&device, &at, crate::support::fresh_bytes()))
            })
            .await;
        }
        let now = read(&store, Snapshot::sealing).await;
        assert_eq!((now.active.get(), now.next, now.old), (2, None, None));
        let count = read(&store, Snapshot::sealed_values).await;
        assert_eq!(count.len(), 1, "{count:?}");
        drop(store);
        assert_all_there(&Store::open(&fresh.url, &other()).unwrap(), &secrets).await;
    }

    async fn a_staged_key_that_was_lost_is_replaced(fresh: Fresh) {
        let keys = Arc::new(Mutex::new(vec![key()]));
        let store = running(&fresh.url, &keys);
        let secrets = secrets(&store).await;
        let lost = MasterKey::from_bytes([9; 32]);
        let first = write(&store, move |tx| tx.stage_master_key(BY, &lost)).await;
        // Another process does not have it, and seals nothing with it.
        let elsewhere = running(&fresh.url, &keys);
        let refused = elsewhere.write(|tx| tx.switch_master_key(BY)).await;
        assert!(matches!(refused, Err(StoreError::WrongMasterKey)), "{refused:?}");
        keys.lock().unwrap().push(other());
        let second = write(&elsewhere, |tx| tx.stage_master_key(BY, &other())).await;
        assert_ne!(first, second);
        let mut pass = Some(Resealing::default());
        while step(&elsewhere, &mut pass).await {}
        assert_all_there(&store, &secrets).await;
        assert_eq!(read(&store, Snapshot::sealing).await.active, second);
    }
}
