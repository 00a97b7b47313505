//! What a durable login costs the store: alone, and when logins that arrive together share a commit.
//!
//! `cargo bench --bench store`. SQLite runs in a file under `target/`, with `synchronous=FULL`, so
//! the figures are those of that disk's fsync. PostgreSQL runs where `WGMFA_TEST_POSTGRES_URL` names
//! an empty database.

use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use criterion::{BenchmarkId, Criterion, Throughput};
use mfa_core::challenge::Subject;
use mfa_core::connect::{Session, SessionParts, SessionState};
use mfa_core::factor::totp::{TotpSecret, TotpStep};
use mfa_core::method::Method;
use mfa_core::policy::LocationPolicy;
use mfa_core::rotate::PskGeneration;
use mfa_core::time::Timestamp;
use mfa_core::token::Token;
use mfa_store::{
    Actor, By, LocationSettings, MasterKey, NewDevice, Store, StoreError, UserDetails,
};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use wg_types::{PresharedKey, PrivateKey};

const NOW: Timestamp = Timestamp::from_unix_millis(1_800_000_000_000);
const BY: By = By::new(Actor::System, NOW);
/// Who log in; each at most once in a batch.
const PEOPLE: u8 = 64;

fn main() -> Result<()> {
    let runtime = Runtime::new().context("a runtime")?;
    let mut criterion = Criterion::default().configure_from_args();

    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).context("a directory")?;
    let file = format!("sqlite:{}", dir.path().join("core.db").display());
    logins(&mut criterion, &runtime, "sqlite", &file)?;
    if let Ok(url) = std::env::var("WGMFA_TEST_POSTGRES_URL") {
        logins(&mut criterion, &runtime, "postgres", &url)?;
    }
    criterion.final_summary();
    Ok(())
}

fn logins(criterion: &mut Criterion, runtime: &Runtime, database: &str, url: &str) -> Result<()> {
    let store = Store::open(url, &MasterKey::from_bytes([7; 32]))?;
    let people = runtime.block_on(people(&store))?;
    let mut group = criterion.benchmark_group(format!("store/{database}"));
    for at_once in [1, 8, 32, 64] {
        group.throughput(Throughput::Elements(u64::try_from(at_once)?));
        group.bench_function(BenchmarkId::new("logins", at_once), |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    let mut tasks = JoinSet::new();
                    for person in people.iter().take(at_once) {
                        tasks.spawn(login(store.clone(), *person));
                    }
                    black_box(tasks.join_all().await)
                })
            });
        });
    }
    group.finish();
    Ok(())
}

/// The second transaction of a login: use up the code's step, end the old session, store the new
/// one with its key sealed, raise the location's revision, write the audit log.
async fn login(store: Store, subject: Subject) -> Result<(), StoreError> {
    static STEP: AtomicU64 = AtomicU64::new(60_000_000);
    let step = TotpStep::new(STEP.fetch_add(1, Ordering::Relaxed));
    store
        .write(move |tx| {
            if !tx.use_totp_step(subject.user, step)? {
                return Err(StoreError::Missing { what: "unused step" });
            }
            let session = Session::from_parts(SessionParts {
                subject,
                method: Method::Totp,
                authorized: NOW,
                lifetime_ends: NOW,
                generation: PskGeneration::FIRST,
                state: SessionState::Authorized { psk: PresharedKey::from_bytes([5; 32]) },
            });
            tx.begin_session(BY, &session).map(drop)
        })
        .await
}

/// Makes a location and those who will log in there.
async fn people(store: &Store) -> Result<Vec<Subject>> {
    let settings = LocationSettings {
        name: "bench".to_owned(),
        endpoint: "vpn.example.org:51820".to_owned(),
        listen_port: 51820,
        addresses: vec!["10.1.0.1/16".parse()?],
        allowed_ips: vec!["10.0.0.0/8".parse()?],
        dns: Vec::new(),
        keepalive: None,
        mtu: None,
        policy: LocationPolicy::recommended(),
    };
    let people = store.write(move |tx| {
        let location = tx.add_location(BY, &settings, &PrivateKey::from_bytes([1; 32]))?.id;
        let mut people = Vec::new();
        for number in 0..PEOPLE {
            let login = format!("user{number}");
            let user = tx.add_user(BY, &UserDetails { login, ..UserDetails::default() })?;
            tx.stage_totp(BY, user, &TotpSecret::from_bytes([number; 20]))?;
            tx.confirm_totp(BY, user, TotpStep::new(1))?;
            let device = NewDevice {
                user,
                name: "laptop".to_owned(),
                public_key: PrivateKey::from_bytes([number.saturating_add(2); 32]).public_key(),
                polling_token: Token::from_random([number; 32]).digest(),
                source: None,
            };
            let device = tx.add_device(BY, &device)?.id;
            people.push(Subject { user, device, location });
        }
        Ok::<_, StoreError>(people)
    });
    Ok(people.await?)
}
