//! One company: a location with MFA, its gateway, and people who enroll.

use core::time::Duration;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, Request, StatusCode};
use core_bin::app::{Addresses, App, Limits, Site};
use core_bin::clock::Clock;
use core_bin::flows::location::{self, LocationChange, LocationError};
use core_bin::flows::user::{self, NewUser, UserError};
use core_bin::http::source::Peer;
use core_bin::keys::Keys;
use core_bin::link::Registry;
use core_bin::link::registry::{About, Call, Credential, ProcessId};
use core_bin::live::Live;
use core_bin::mail::{Mail, Mailer};
use core_bin::password::Passwords;
use core_bin::rng::Rng;
use mfa_core::factor::totp::TotpSecret;
use mfa_core::id::{GatewayId, LocationId};
use mfa_core::policy::Mfa;
use mfa_core::time::Timestamp;
use mfa_core::token::{Token, TokenDigest};
use mfa_store::{Actor, By, MasterKey, Snapshot, Store, StoreError, Tx};
use mfa_wire::http::{PROOF_HEADER, path};
use mfa_wire::proof::Proof;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower::ServiceExt as _;
use wg_types::{PrivateKey, PublicKey};

/// Where requests come from unless a test says otherwise.
pub(crate) const HOME: [u8; 4] = [192, 0, 2, 1];
/// A stranger's place.
pub(crate) const ELSEWHERE: [u8; 4] = [198, 51, 100, 7];

pub(crate) struct Rig {
    pub(crate) app: Arc<App>,
    pub(crate) clock: Clock,
    pub(crate) paris: LocationId,
    router: Router,
    pub(crate) mails: Option<mpsc::Receiver<Mail>>,
    gateway: Option<tokio::task::JoinHandle<()>>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// Asserts success.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        self.json()
    }

    /// Asserts this refusal: status, the text that clients match on, our code.
    #[track_caller]
    pub(crate) fn is_refused(&self, status: u16, error: &str, code: &str) {
        let json = self.json();
        let seen = (self.status.as_u16(), json["error"].as_str(), json["code"].as_str());
        assert_eq!(seen, (status, Some(error), Some(code)), "{}", self.text);
        assert!(json["detail"].as_str().is_some_and(|words| words.len() > 8), "{}", self.text);
    }
}

/// An enrolled device, with the factors of its user.
pub(crate) struct Device {
    pub(crate) key: PrivateKey,
    pub(crate) polling_token: String,
    pub(crate) cookie: String,
    pub(crate) totp: Option<TotpSecret>,
    pub(crate) recovery: Vec<String>,
}

impl Device {
    pub(crate) fn pubkey(&self) -> String {
        self.key.public_key().to_string()
    }
}

impl Rig {
    /// With an SMTP server, and a gateway that acknowledges.
    pub(crate) async fn new() -> Self {
        let mut rig = Self::bare(true).await;
        rig.gateway_arrives(1);
        rig
    }

    /// Without a gateway; with or without SMTP.
    pub(crate) async fn bare(smtp: bool) -> Self {
        let clock = Clock::manual(Timestamp::from_unix_millis(1_795_478_400_000));
        let master = MasterKey::from_bytes([7; 32]);
        let store = Store::open("sqlite::memory:", &master).expect("a database");
        let (mailer, mails) = if smtp {
            let (mailer, mails) = Mailer::queue();
            (mailer, Some(mails))
        } else {
            (Mailer::off(), None)
        };
        let app = Arc::new(App {
            store,
            clock: clock.clone(),
            rng: Rng::system(),
            keys: Keys::derive(&master),
            mailer,
            registry: Registry::new(),
            passwords: Passwords::default(),
            site: Site {
                id: "00000000-0000-4000-8000-000000000000".to_owned(),
                name: "Example".to_owned(),
                contact: "helpdesk@example.com".to_owned(),
                url: "https://vpn.example.com/".parse().expect("a URL"),
            },
            limits: Limits::default(),
            live: Live::default(),
            addresses: Addresses::default(),
            trusted_proxies: Vec::new(),
        });
        let router = core_bin::http::router(Arc::clone(&app));
        let paris = LocationId::new(0);
        let mut rig = Self { app, clock, paris, router, mails, gateway: None };
        rig.paris = rig.add_location("paris", "10.1.0.0/24", &[]).await;
        rig.add_user("ada", &[]).await;
        rig
    }

    pub(crate) fn by(&self) -> By {
        By::new(Actor::Cli, self.clock.now())
    }

    pub(crate) async fn read<T, F>(&self, work: F) -> T
    where
        F: FnMut(&mut Snapshot) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
    {
        self.app.store.read(work).await.expect("a view")
    }

    pub(crate) async fn add_location(
        &self,
        name: &'static str,
        network: &str,
        groups: &[&str],
    ) -> LocationId {
        let (by, key) = (self.by(), PrivateKey::from_bytes(*self.app.rng.bytes()));
        let change = LocationChange {
            endpoint: Some("vpn.example.com:51820".to_owned()),
            networks: Some(vec![network.parse().expect("a network")]),
            mfa: Some(Mfa::Required),
            groups: Some(groups.iter().map(|group| (*group).to_owned()).collect()),
            ..LocationChange::default()
        };
        let add = move |tx: &mut Tx| location::add(tx, by, name, &change, &key);
        let added: Result<_, LocationError> = self.app.store.write(add).await;
        added.expect("a location").id
    }

    pub(crate) async fn set_location(&self, name: &'static str, change: LocationChange) {
        let by = self.by();
        let set = move |tx: &mut Tx| location::set(tx, by, name, &change);
        let done: Result<_, LocationError> = self.app.store.write(set).await;
        done.expect("a change");
        self.app.registry.wake_all();
    }

    pub(crate) async fn add_user(&self, login: &str, groups: &[&str]) {
        let new = NewUser {
            login: login.to_owned(),
            email: format!("{login}@example.com"),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..NewUser::default()
        };
        let by = self.by();
        let added: Result<_, UserError> =
            self.app.store.write(move |tx| user::add(tx, by, &new)).await;
        added.expect("a user");
    }

    pub(crate) async fn set_active(&self, login: &'static str, on: bool) {
        let by = self.by();
        let done: Result<bool, UserError> =
            self.app.store.write(move |tx| user::set_active(tx, by, login, on)).await;
        assert!(done.expect("a user"));
    }

    /// Lets a gateway of Paris connect, which acknowledges whatever the store has.
    pub(crate) fn gateway_arrives(&mut self, number: i64) {
        self.gateway_arrives_with(number, "kernel");
    }

    /// The same, with this kind of WireGuard.
    pub(crate) fn gateway_arrives_with(&mut self, number: i64, backend: &str) {
        let (registry, store, location) =
            (Arc::clone(&self.app.registry), self.app.store.clone(), self.paris);
        let seat = registry.join(
            location,
            GatewayId::new(number),
            Credential::Token(TokenDigest::from_bytes([1; 32])),
            &ProcessId(vec![1]),
            About { backend: backend.to_owned(), ..About::default() },
            self.clock.now(),
        );
        let mut seat = seat.expect("a seat");
        self.gateway = Some(tokio::spawn(async move {
            while seat.called().await == Call::Look {
                let revision = store.read(move |view| view.revision(location)).await;
                if let Ok(Some(revision)) = revision {
                    seat.applied(revision);
                }
            }
        }));
    }

    /// Lets the gateway go.
    pub(crate) async fn gateway_leaves(&mut self) {
        let gateway = self.gateway.take().expect("a gateway");
        gateway.abort();
        let _ = gateway.await;
    }

    /// Returns the newest mail; panics if there is none.
    pub(crate) fn mail(&mut self) -> Mail {
        self.try_mail().expect("a mail")
    }

    pub(crate) fn try_mail(&mut self) -> Option<Mail> {
        let mut newest = None;
        while let Ok(mail) = self.mails.as_mut()?.try_recv() {
            newest = Some(mail);
        }
        newest
    }

    /// Returns the code of the newest mail.
    pub(crate) fn mailed_code(&mut self) -> String {
        let mail = self.mail();
        let word = |word: &&str| word.len() == 8 && word.bytes().all(|b| b.is_ascii_digit());
        mail.text.split_whitespace().find(word).expect("a code").to_owned()
    }

    pub(crate) async fn send(&self, from: [u8; 4], request: Request<Body>) -> Answer {
        let mut request = request;
        request.extensions_mut().insert(Peer(SocketAddr::from((Ipv4Addr::from(from), 4711))));
        let response = self.router.clone().oneshot(request).await.expect("an answer");
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 1 << 20).await.expect("a body");
        let text = String::from_utf8(body.to_vec()).expect("text");
        Answer { status: parts.status, headers: parts.headers, text }
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.post_from(HOME, path, body).await
    }

    pub(crate) async fn post_from(&self, from: [u8; 4], path: &str, body: Value) -> Answer {
        let request = Request::post(path).body(Body::from(body.to_string())).expect("a request");
        self.send(from, request).await
    }

    pub(crate) async fn post_with(&self, cookie: &str, path: &str, body: Value) -> Answer {
        let request = Request::post(path).header(COOKIE, cookie);
        self.send(HOME, request.body(Body::from(body.to_string())).expect("a request")).await
    }

    /// Sends a request with a proof of `device`, from anywhere.
    pub(crate) async fn prove(&self, device: &PrivateKey, path: &str, body: Value) -> Answer {
        let header = self.proof(device, path, &body).await;
        let request = Request::post(path).header(PROOF_HEADER, header);
        self.send(ELSEWHERE, request.body(Body::from(body.to_string())).expect("a request")).await
    }

    pub(crate) async fn proof(&self, device: &PrivateKey, path: &str, body: &Value) -> String {
        let answer = self.post(path::DEVICE_NONCE, json!({})).await.ok();
        let nonce = answer["nonce"].as_str().expect("a nonce").parse().expect("a nonce");
        let key: PublicKey =
            answer["proof_pubkey"].as_str().expect("a key").parse().expect("a key");
        let body = body.to_string();
        let proof = Proof::make(device, &key, nonce, "POST", path, body.as_bytes());
        proof.expect("a proof").to_string()
    }

    /// Issues an enrollment token.
    pub(crate) async fn ticket(&self, login: &str) -> String {
        let (by, login) = (self.by(), login.to_owned());
        let token = Token::from_random(*self.app.rng.bytes());
        let digest = token.digest();
        let valid = Duration::from_secs(24 * 3600);
        let issued: Result<_, UserError> =
            self.app.store.write(move |tx| user::enroll(tx, by, &login, digest, valid)).await;
        issued.expect("an enrollment");
        token.expose_text().to_string()
    }

    /// Trades a token for its cookie.
    pub(crate) async fn redeem(&self, ticket: &str) -> String {
        let answer = self.post(path::ENROLLMENT_START, json!({ "token": ticket })).await;
        let cookie = answer.headers[SET_COOKIE].to_str().expect("text").to_owned();
        answer.ok();
        cookie.split(';').next().expect("a cookie").to_owned()
    }

    /// Enrolls a device, without a factor.
    pub(crate) async fn enroll(&self, login: &str) -> Device {
        let ticket = self.ticket(login).await;
        let cookie = self.redeem(&ticket).await;
        let key = PrivateKey::from_bytes(*self.app.rng.bytes());
        let body = json!({ "name": "laptop", "pubkey": key.public_key().to_string() });
        let answer = self.post_with(&cookie, path::ENROLLMENT_CREATE_DEVICE, body).await.ok();
        let polling_token = answer["token"].as_str().expect("a token").to_owned();
        Device { key, polling_token, cookie, totp: None, recovery: Vec::new() }
    }

    /// Enrolls a device and sets up an authenticator app; its first code is over then.
    pub(crate) async fn enroll_with_totp(&self, login: &str) -> Device {
        let mut device = self.enroll(login).await;
        self.set_up_totp(&mut device).await;
        device
    }

    pub(crate) async fn set_up_totp(&self, device: &mut Device) {
        let start = path::ENROLLMENT_MFA_START;
        let answer = self.post_with(&device.cookie, start, json!({ "method": 0 })).await.ok();
        let secret = answer["totp_secret"].as_str().expect("a secret");
        let secret = TotpSecret::from_base32(secret).expect("a secret");
        let code = secret.code_at(self.clock.now()).expose_text().to_string();
        let body = json!({ "code": code, "method": 0 });
        let answer = self.post_with(&device.cookie, path::ENROLLMENT_MFA_FINISH, body).await.ok();
        let codes = answer["recovery_codes"].as_array().expect("codes");
        device.recovery =
            codes.iter().map(|code| code.as_str().expect("text").to_owned()).collect();
        device.totp = Some(secret);
        // The confirming code is used up; the next one is another.
        self.clock.advance(Duration::from_secs(30));
    }

    pub(crate) async fn set_up_email(&mut self, device: &Device) {
        let start = path::ENROLLMENT_MFA_START;
        self.post_with(&device.cookie, start, json!({ "method": 1 })).await.ok();
        let body = json!({ "code": self.mailed_code(), "method": 1 });
        self.post_with(&device.cookie, path::ENROLLMENT_MFA_FINISH, body).await.ok();
        // The notice of the change.
        self.mail();
    }

    /// Returns the code that the app shows now.
    pub(crate) fn code(&self, device: &Device) -> String {
        let secret = device.totp.as_ref().expect("a secret");
        secret.code_at(self.clock.now()).expose_text().to_string()
    }

    /// Returns a code that is wrong now.
    pub(crate) fn wrong_code(&self, device: &Device) -> String {
        let secret = device.totp.as_ref().expect("a secret");
        let now = self.clock.now();
        let step = Duration::from_secs(30);
        let near = [now.saturating_sub(step), now, now.saturating_add(step)];
        let near = near.map(|at| secret.code_at(at).expose_text().to_string());
        let all = (0..10).map(|number| format!("{number:06}"));
        all.into_iter().find(|code| !near.contains(code)).expect("a wrong code")
    }

    pub(crate) fn start_body(&self, device: &Device, method: u8) -> Value {
        json!({ "location_id": self.paris.get(), "pubkey": device.pubkey(), "method": method })
    }

    /// Starts a challenge from the device's own place.
    pub(crate) async fn start(&self, device: &Device, method: u8) -> Answer {
        self.post(path::MFA_START, self.start_body(device, method)).await
    }

    /// The same, and returns its token.
    pub(crate) async fn challenge(&self, device: &Device, method: u8) -> String {
        token_of(&self.start(device, method).await.ok())
    }

    pub(crate) async fn finish(&self, token: &str, code: &str) -> Answer {
        self.post(path::MFA_FINISH, json!({ "token": token, "code": code })).await
    }

    /// Connects with a fresh TOTP code; returns the answer to the finish.
    pub(crate) async fn connect(&self, device: &Device) -> Value {
        let token = self.challenge(device, 0).await;
        let answer = self.finish(&token, &self.code(device)).await.ok();
        self.clock.advance(Duration::from_secs(30));
        answer
    }

    pub(crate) async fn live_sessions(&self) -> usize {
        self.read(|view| view.live_sessions(mfa_store::Scope::All)).await.len()
    }

    /// Counts the audit log's entries by action.
    pub(crate) async fn audit(&self) -> BTreeMap<String, usize> {
        let entries = self.read(|view| view.audit_entries(None, 10_000)).await;
        let mut count = BTreeMap::new();
        for entry in entries {
            *count.entry(entry.action).or_default() += 1;
        }
        count
    }
}

pub(crate) fn token_of(answer: &Value) -> String {
    answer["token"].as_str().expect("a token").to_owned()
}
