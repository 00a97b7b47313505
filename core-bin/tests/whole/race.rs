//! One code, sent many times at once to two cores on one database.

use core::net::SocketAddr;
use core::num::NonZeroUsize;
use core::time::Duration;
use std::sync::Arc;

use core_bin::clock::Clock;
use core_bin::config::Config;
use core_bin::dir::StateDir;
use core_bin::flows::location::{self, LocationChange, LocationError};
use core_bin::flows::user::{self, NewUser, UserError};
use core_bin::link::registry::{About, Call, Credential, ProcessId};
use core_bin::rng::Rng;
use core_bin::serve::{Core, Setup};
use mfa_core::factor::totp::TotpSecret;
use mfa_core::policy::Mfa;
use mfa_core::time::Timestamp;
use mfa_core::token::{Token, TokenDigest};
use mfa_store::{Actor, AuditEntry, AuditVerdict, By, MasterKey, StoreError, Tx};
use mfa_wire::http::path;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use wg_types::PrivateKey;

/// Where the database is, if not in a file of the test: a PostgreSQL URL.
const DATABASE: &str = "WGMFA_RACE_DATABASE";
/// How many rounds, where these are not enough.
const ROUNDS: &str = "WGMFA_RACE_ROUNDS";
const KEY: [u8; 32] = [7; 32];
const AT_ONCE: usize = 100;

pub(crate) async fn core(dir: &std::path::Path, url: &str, clock: &Clock) -> Core {
    let config = format!(
        "[public]\nlisten = \"127.0.0.1:0\"\ntls = \"off\"\n\
         [gateways]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"{url}\"\n"
    );
    let config: Config = toml::from_str(&config).unwrap();
    let dir = StateDir::new(dir);
    dir.create().unwrap();
    dir.write_master_key(&KEY).unwrap();
    let (clock, rng) = (clock.clone(), Rng::system());
    Core::start(Setup { dir, config, clock, rng }).await.unwrap()
}

/// Posts JSON; returns the status, the cookie if one is set, and the answer.
async fn post(to: SocketAddr, path: &str, cookie: &str, body: &Value) -> (u16, String, Value) {
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nCookie: {cookie}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let set = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap_or_default();
    let cookie = set.split(';').next().unwrap_or_default().to_owned();
    (status, cookie, serde_json::from_str(body).unwrap_or(Value::Null))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_code_sent_a_hundred_times_to_two_cores_opens_once() {
    let root = tempfile::tempdir().unwrap();
    let file = format!("sqlite:{}", root.path().join("core.db").display());
    let url = std::env::var(DATABASE).unwrap_or(file);
    let rounds: NonZeroUsize =
        std::env::var(ROUNDS).unwrap_or_else(|_| "5".to_owned()).parse().unwrap();
    let clock = Clock::manual(Timestamp::from_unix_millis(1_795_478_400_000));
    let cores = [
        core(&root.path().join("one"), &url, &clock).await,
        core(&root.path().join("two"), &url, &clock).await,
    ];
    let [one, two] = [&cores[0], &cores[1]].map(Core::public_address);
    let store = cores[0].app().store.clone();
    let by = By::new(Actor::Cli, clock.now());
    let login = "ada".to_owned();

    // A location, its gateway at both cores, a device with an authenticator app.
    let change = LocationChange {
        endpoint: Some("vpn.example.com:51820".to_owned()),
        networks: Some(vec!["10.1.0.0/24".parse().unwrap()]),
        mfa: Some(Mfa::Required),
        ..LocationChange::default()
    };
    let key = PrivateKey::from_bytes([5; 32]);
    let add = move |tx: &mut Tx| location::add(tx, by, "paris", &change, &key);
    let added: Result<_, LocationError> = store.write(add).await;
    let paris = added.unwrap().id;
    let token = TokenDigest::from_bytes([1; 32]);
    let gateway = store.write(move |tx| {
        let gateway = tx.add_gateway(by, paris, "gw")?;
        tx.set_legacy_token(by, gateway, &token)?;
        Ok::<_, StoreError>(gateway)
    });
    let gateway = gateway.await.unwrap();
    for core in &cores {
        let registry = Arc::clone(&core.app().registry);
        let (credential, process) = (Credential::Token(token), ProcessId(vec![1]));
        let joined =
            registry.join(paris, gateway, credential, &process, About::default(), clock.now());
        let (mut seat, store) = (joined.unwrap(), store.clone());
        tokio::spawn(async move {
            while seat.called().await == Call::Look {
                let found = store.read(move |view| view.revision(paris)).await;
                if let Ok::<_, StoreError>(Some(revision)) = found {
                    seat.applied(revision);
                }
            }
        });
    }
    let ticket = Token::from_random(*Rng::system().bytes());
    let (new, digest, name) =
        (NewUser { login: login.clone(), ..NewUser::default() }, ticket.digest(), login.clone());
    let day = Duration::from_secs(24 * 3600);
    let issued: Result<_, UserError> = store
        .write(move |tx| {
            user::add(tx, by, &new)?;
            user::enroll(tx, by, &name, digest, day)
        })
        .await;
    issued.unwrap();
    let body = json!({ "token": &*ticket.expose_text() });
    let (status, cookie, _) = post(one, path::ENROLLMENT_START, "", &body).await;
    assert_eq!(status, 200);
    let device = PrivateKey::from_bytes(*Rng::system().bytes()).public_key().to_string();
    let body = json!({ "name": "laptop", "pubkey": device });
    assert_eq!(post(one, path::ENROLLMENT_CREATE_DEVICE, &cookie, &body).await.0, 200);
    let body = json!({ "method": 0 });
    let (_, _, answer) = post(one, path::ENROLLMENT_MFA_START, &cookie, &body).await;
    let secret = TotpSecret::from_base32(answer["totp_secret"].as_str().unwrap()).unwrap();
    let code = |clock: &Clock| secret.code_at(clock.now()).expose_text().to_string();
    let body = json!({ "method": 0, "code": code(&clock) });
    assert_eq!(post(one, path::ENROLLMENT_MFA_FINISH, &cookie, &body).await.0, 200);

    for round in 0..rounds.get() {
        // Beyond the window in which wrong codes are counted: the losers of a round were counted.
        clock.advance(Duration::from_secs(20 * 60));
        let mut tokens = Vec::new();
        let start = json!({ "location_id": paris.get(), "pubkey": device, "method": 0 });
        for at in [one, two, one] {
            let (status, _, answer) = post(at, path::MFA_START, "", &start).await;
            assert_eq!(status, 200, "round {round}: {answer}");
            tokens.push(answer["token"].as_str().unwrap().to_owned());
        }
        let code = code(&clock);
        let mut tries = JoinSet::new();
        for number in 0..AT_ONCE {
            let body = json!({ "token": tokens[number % tokens.len()], "code": code });
            let at = if number % 2 == 0 { one } else { two };
            tries.spawn(async move { post(at, path::MFA_FINISH, "", &body).await.0 });
        }
        let answers = tries.join_all().await;
        let opened = answers.iter().filter(|status| **status == 200).count();
        assert_eq!(opened, 1, "round {round}: {answers:?}");
        assert!(answers.iter().all(|status| *status < 500), "round {round}: {answers:?}");
    }
    let expected = rounds.get();
    let begun = store.read(|view| view.audit_entries(None, 1_000_000)).await;
    let begun: Result<Vec<AuditEntry>, StoreError> = begun;
    let begun = begun.unwrap().iter().filter(|entry| entry.action == "session.begin").count();
    assert_eq!(begun, expected, "each login has one session in the audit log");
    let verdict = store.read(|view| view.verify_audit(&MasterKey::from_bytes(KEY))).await;
    let verdict: Result<AuditVerdict, StoreError> = verdict;
    assert!(matches!(verdict.unwrap(), AuditVerdict::Whole { .. }));
    for core in cores {
        core.stop().await;
    }
}
