//! Databases for the tests: each test runs on SQLite and on PostgreSQL.

pub(crate) mod postgres;

use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};
use mfa_core::challenge::Subject;
use mfa_core::connect::{Session, SessionParts, SessionState};
use mfa_core::id::UserId;
use mfa_core::method::Method;
use mfa_core::policy::LocationPolicy;
use mfa_core::rotate::PskGeneration;
use mfa_core::time::Timestamp;
use mfa_core::token::{Token, TokenDigest};
use mfa_store::{
    Actor, By, Device, Location, LocationSettings, MasterKey, NewDevice, Store, StoreError, Tx,
    UserDetails,
};
use wg_types::{PresharedKey, PrivateKey, PublicKey};

/// A point in time that every test starts from.
pub(crate) const NOW: Timestamp = Timestamp::from_unix_millis(1_800_000_000_000);
/// Who acts in most tests.
pub(crate) const BY: By = By::new(Actor::Cli, NOW);

/// A fresh database, and what it lives in.
pub(crate) struct Fresh {
    /// Its URL.
    pub(crate) url: String,
    /// `None`: PostgreSQL.
    dir: Option<tempfile::TempDir>,
}

impl Fresh {
    /// A place for an SQLite file.
    pub(crate) fn sqlite() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let url = format!("sqlite:{}", dir.path().join("core.db").display());
        Self { url, dir: Some(dir) }
    }

    /// An empty PostgreSQL database.
    pub(crate) async fn postgres() -> Self {
        Self { url: postgres::fresh_database().await, dir: None }
    }

    /// Opens it with the tests' master key.
    pub(crate) fn open(&self) -> Store {
        Store::open(&self.url, &key()).expect("the store opens")
    }

    /// The SQLite file; `None` on PostgreSQL.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        self.dir.as_ref().map(|dir| dir.path().join("core.db"))
    }

    /// The directory of the SQLite file; `None` on PostgreSQL.
    pub(crate) fn dir(&self) -> Option<&Path> {
        self.dir.as_ref().map(tempfile::TempDir::path)
    }

    /// Runs statements past the store, as somebody with a database client would.
    pub(crate) async fn execute(&self, sql: &str) {
        match self.file() {
            Some(path) => {
                let path = path.to_str().expect("a plain path");
                let mut conn = SqliteConnection::establish(path).expect("the file opens");
                conn.batch_execute("PRAGMA busy_timeout = 5000").expect("the pragma runs");
                conn.batch_execute(sql).expect("the statements run");
            }
            None => postgres::execute(&self.url, sql).await,
        }
    }
}

/// Turns each `async fn name(fresh: Fresh)` into one test on SQLite and one on PostgreSQL.
#[macro_export]
macro_rules! on_both {
    ($(async fn $name:ident($fresh:ident: Fresh) $body:block)+) => {
        $(mod $name {
            use super::*;

            async fn run($fresh: Fresh) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                run(Fresh::sqlite()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres() {
                run(Fresh::postgres().await).await;
            }
        })+
    };
}

/// The master key of the tests.
pub(crate) fn key() -> MasterKey {
    MasterKey::from_bytes([7; 32])
}

/// 32 bytes that no other call gave.
pub(crate) fn fresh_bytes() -> [u8; 32] {
    static LAST: AtomicU64 = AtomicU64::new(1);
    let mut bytes = [0x5a; 32];
    bytes[8..16].copy_from_slice(&LAST.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    bytes
}

/// A public key that no other call gave.
pub(crate) fn fresh_key() -> PublicKey {
    PrivateKey::from_bytes(fresh_bytes()).public_key()
}

/// A token's digest that no other call gave.
pub(crate) fn fresh_digest() -> TokenDigest {
    Token::from_random(fresh_bytes()).digest()
}

/// Details of a person called `login`.
pub(crate) fn person(login: &str) -> UserDetails {
    UserDetails {
        login: login.to_owned(),
        name: login.to_owned(),
        email: format!("{login}@example.org"),
        ..UserDetails::default()
    }
}

/// A device to add for `user`.
pub(crate) fn device_of(user: UserId) -> NewDevice {
    NewDevice {
        user,
        name: "laptop".to_owned(),
        public_key: fresh_key(),
        polling_token: fresh_digest(),
        source: None,
    }
}

/// A location with MFA and the networks `addresses`.
pub(crate) fn location(name: &str, addresses: &[&str]) -> LocationSettings {
    LocationSettings {
        name: name.to_owned(),
        endpoint: "vpn.example.org:51820".to_owned(),
        listen_port: 51820,
        addresses: addresses.iter().map(|text| text.parse().expect("a network")).collect(),
        allowed_ips: vec!["10.0.0.0/8".parse().expect("a network")],
        dns: Vec::new(),
        keepalive: NonZeroU16::new(25),
        mtu: None,
        policy: LocationPolicy::recommended(),
    }
}

/// A key pair for a location.
pub(crate) fn location_key() -> PrivateKey {
    PrivateKey::from_bytes(fresh_bytes())
}

/// A new session of `device` in `location`, proved by TOTP.
pub(crate) fn session_of(device: &Device, location: &Location, psk: [u8; 32]) -> Session {
    Session::from_parts(SessionParts {
        subject: Subject { user: device.user, device: device.id, location: location.id },
        method: Method::Totp,
        authorized: NOW,
        lifetime_ends: NOW.saturating_add(location.settings.policy.lifetime().get()),
        generation: PskGeneration::FIRST,
        state: SessionState::Authorized { psk: PresharedKey::from_bytes(psk) },
    })
}

/// One location with MFA, one user, one device.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) location: Location,
    pub(crate) user: UserId,
    pub(crate) device: Device,
}

/// Makes a [`World`].
pub(crate) async fn world(store: &Store) -> World {
    write(store, |tx| {
        let location = tx.add_location(
            BY,
            &location("office", &["10.1.0.1/24", "fd00:1::1/64"]),
            &location_key(),
        )?;
        let user = tx.add_user(BY, &person("alice"))?;
        let device = tx.add_device(BY, &device_of(user))?;
        Ok(World { location, user, device })
    })
    .await
}

/// Writes, and expects no error.
pub(crate) async fn write<T: Send + 'static>(
    store: &Store,
    work: impl FnMut(&mut Tx) -> Result<T, StoreError> + Send + 'static,
) -> T {
    store.write(work).await.expect("the write is stored")
}

/// Reads, and expects no error.
pub(crate) async fn read<T: Send + 'static>(
    store: &Store,
    work: impl FnMut(&mut mfa_store::Snapshot) -> Result<T, StoreError> + Send + 'static,
) -> T {
    store.read(work).await.expect("the read works")
}
