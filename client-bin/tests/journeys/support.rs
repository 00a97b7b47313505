//! A server that follows a script, and a machine that is a model.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use client_bin::dns::{Change, Resolver};
use client_bin::host::{Backend, Host};
use client_bin::state::Store;
use client_bin::{Client, Periods};
use mfa_wire::proof::{NonceKey, Proof};
use serde_json::{Value, json};
use wg_netlink::fake::{FakeInterface, FakeKernel};
use wg_netlink::{Error, WireGuard};
use wg_types::{PrivateKey, PublicKey};

/// The code that the server takes.
pub(crate) const CODE: &str = "012345";
/// The token that enrolls.
pub(crate) const TOKEN: &str = "enroll-me";
/// The pre-shared key that a right code buys.
pub(crate) const PSK: &str = "WlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlo=";

/// The gateways' public key.
pub(crate) fn gateway_key() -> PublicKey {
    PrivateKey::from_bytes([9; 32]).public_key()
}

/// What the server knows and does.
#[derive(Debug)]
pub(crate) struct Script {
    /// The locations, as `configs`.
    pub(crate) configs: Vec<Value>,
    pub(crate) config_version: String,
    /// Our own calls exist.
    pub(crate) ours: bool,
    /// Answers that come instead of the usual ones, by path.
    pub(crate) refusals: BTreeMap<String, (u16, Value)>,
    /// The session's number, while it lives.
    pub(crate) session: Option<i64>,
    /// How the last session ended.
    pub(crate) ended: Option<Value>,
    pub(crate) mfa_required: bool,
    /// The user has set up these.
    pub(crate) methods: Vec<u8>,
    /// What was asked: path, headers, body.
    pub(crate) asked: Vec<(String, HeaderMap, Value)>,
}

impl Script {
    fn new() -> Self {
        Self {
            configs: vec![config(1, "office", true)],
            config_version: "v1".to_owned(),
            ours: true,
            refusals: BTreeMap::new(),
            session: None,
            ended: None,
            mfa_required: true,
            methods: vec![0],
            asked: Vec::new(),
        }
    }
}

/// One location on the wire.
pub(crate) fn config(id: i64, name: &str, mfa: bool) -> Value {
    json!({
        "network_id": id, "network_name": name, "config": "", "endpoint": "127.0.0.1:51820",
        "assigned_ip": "10.1.0.7/32,fd00::7/128", "pubkey": gateway_key().to_string(),
        "allowed_ips": "10.1.0.0/24", "dns": "10.1.0.1", "mfa_enabled": mfa,
        "keepalive_interval": 25, "location_mfa_mode": if mfa { 2 } else { 1 },
    })
}

/// A server that follows a script, on the loopback.
#[derive(Clone, Debug)]
pub(crate) struct FakeServer {
    pub(crate) script: Arc<Mutex<Script>>,
    pub(crate) address: SocketAddr,
}

impl FakeServer {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            script: Arc::new(Mutex::new(Script::new())),
            address: listener.local_addr().unwrap(),
        };
        let app = server.router();
        tokio::spawn(async move { axum::serve(listener, app).await });
        server
    }

    pub(crate) fn router(&self) -> axum::Router {
        axum::Router::new().fallback(answer).with_state(Arc::clone(&self.script))
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub(crate) fn edit(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.lock().unwrap());
    }

    pub(crate) fn refuse(&self, path: &str, status: u16, text: &str) {
        let body = json!({ "error": text });
        self.edit(|script| {
            script.refusals.insert(path.to_owned(), (status, body));
        });
    }

    /// The bodies that were sent to a path.
    pub(crate) fn bodies(&self, path: &str) -> Vec<Value> {
        let script = self.script.lock().unwrap();
        script.asked.iter().filter(|(p, ..)| p == path).map(|(_, _, body)| body.clone()).collect()
    }

    /// The value of a header of each request to a path.
    pub(crate) fn headers(&self, path: &str, name: &str) -> Vec<Option<String>> {
        let script = self.script.lock().unwrap();
        let value = |headers: &HeaderMap| Some(headers.get(name)?.to_str().unwrap().to_owned());
        script.asked.iter().filter(|(p, ..)| p == path).map(|(_, h, _)| value(h)).collect()
    }
}

fn core_key() -> PrivateKey {
    PrivateKey::from_bytes([3; 32])
}

fn nonces() -> NonceKey {
    NonceKey::from_bytes([4; 32])
}

fn now_millis() -> u64 {
    let since = client_bin::clock::wall().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

async fn answer(
    State(script): State<Arc<Mutex<Script>>>,
    uri: Uri,
    headers: HeaderMap,
    raw: Bytes,
) -> Response {
    let path = uri.path().to_owned();
    let body: Value = serde_json::from_slice(&raw).unwrap_or(Value::Null);
    let mut script = script.lock().unwrap();
    script.asked.push((path.clone(), headers.clone(), body.clone()));
    if let Some((status, body)) = script.refusals.get(&path) {
        return (StatusCode::from_u16(*status).unwrap(), axum::Json(body.clone())).into_response();
    }
    let short = path.trim_start_matches("/api/v1/");
    if short.starts_with("device/") && !script.ours {
        return StatusCode::NOT_FOUND.into_response();
    }
    let proven = match headers.get("wgmfa-proof") {
        Some(header) => {
            let proof: Proof = header.to_str().unwrap().parse().unwrap();
            proof.verify(&core_key(), &nonces(), "POST", &path, &raw, now_millis()).unwrap();
            true
        }
        None => false,
    };
    if short.starts_with("device/") && short != "device/nonce" && !proven {
        return refusal(401, "proof required");
    }
    let said = match short {
        "enrollment/start" if body["token"] == TOKEN => {
            let cookie = [(header::SET_COOKIE, "session=c00kie; HttpOnly; Path=/")];
            return (cookie, axum::Json(enrollment_start())).into_response();
        }
        "enrollment/start" => return refusal(401, "Unauthorized"),
        "enrollment/create_device" => device_config(&script, Some(&body)),
        "enrollment/register-mfa/code/start" => json!({ "totp_secret": "JBSWY3DPEHPK3PXP" }),
        "enrollment/register-mfa/code/finish" if body["code"] == CODE => {
            json!({ "recovery_codes": ["aaaa-bbbb", "cccc-dddd"] })
        }
        "poll" if body["token"] == "poll-me" => {
            json!({ "device_config": device_config(&script, None) })
        }
        "client-mfa/start" => {
            json!({ "token": "challenge", "challenge": null, "sent_to": sent_to(&body) })
        }
        "client-mfa/finish" if body["token"] == "challenge" && body["code"] == CODE => {
            script.session = Some(7);
            json!({ "preshared_key": PSK, "token": null, "session": session(7) })
        }
        "device/renew" if script.session.is_none() => return refusal(400, "no such session"),
        "device/renew" if body["token"] == "challenge" && body["code"] == CODE => {
            let mut extended = session(7);
            extended["expires"] = json!(1_800_086_400_u64);
            json!({ "session": extended })
        }
        "client-mfa/finish" | "enrollment/register-mfa/code/finish" | "device/renew" => {
            return refusal(401, "Unauthorized");
        }
        "device/nonce" => json!({
            "nonce": nonces().issue([1; 16], now_millis()).to_string(),
            "proof_pubkey": core_key().public_key().to_string(),
        }),
        "device/status" => device_status(&script),
        "device/disconnect" => {
            let ended = script.session.take().is_some();
            json!({ "ended": ended })
        }
        "device/mfa" => mfa_list(&script),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    axum::Json(said).into_response()
}

fn refusal(status: u16, text: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    (status, axum::Json(json!({ "error": text }))).into_response()
}

fn sent_to(body: &Value) -> Value {
    if body["method"] == 1 { json!("a…@example.org") } else { Value::Null }
}

fn session(id: i64) -> Value {
    json!({
        "id": id, "since": 1_800_000_000_u64, "expires": 1_800_043_200_u64,
        "idle_threshold": 300, "generation": 1, "gateways_connected": 1, "gateways_applied": 1,
    })
}

fn instance() -> Value {
    json!({
        "id": "6c1b3cde-0000-4000-8000-000000000001", "name": "Acme", "url": "http://x/",
        "proxy_url": "http://x/", "username": "alice", "enterprise_enabled": false,
        "disable_all_traffic": false, "openid_display_name": null, "client_traffic_policy": 0,
    })
}

fn enrollment_start() -> Value {
    json!({
        "admin": { "name": "", "phone_number": null, "email": "" },
        "user": {
            "first_name": "Alice", "last_name": "", "login": "alice", "email": "a@example.org",
            "phone_number": null, "is_active": true, "device_names": [], "enrolled": false,
            "is_admin": false,
        },
        "deadline_timestamp": 4_000_000_000_i64, "final_page_content": "",
        "vpn_setup_optional": false, "instance": instance(),
        "settings": {
            "vpn_setup_optional": false, "only_client_activation": false,
            "admin_device_management": false, "smtp_configured": true, "mfa_required": true,
        },
    })
}

fn device_config(script: &Script, created: Option<&Value>) -> Value {
    let field = |name| created.map_or_else(|| json!("laptop"), |body| body[name].clone());
    json!({
        "device": {
            "id": 1, "name": field("name"), "pubkey": field("pubkey"), "user_id": 1,
            "created_at": 0,
        },
        "configs": script.configs, "instance": instance(),
        "token": created.map(|_| "poll-me"),
        "config_version": script.ours.then(|| script.config_version.clone()),
    })
}

fn device_status(script: &Script) -> Value {
    let locations: Vec<_> = script
        .configs
        .iter()
        .map(|config| {
            json!({
                "location_id": config["network_id"], "name": config["network_name"],
                "mfa_required": script.mfa_required, "session": script.session.map(session),
                "ended": script.ended, "gateways_connected": 1,
            })
        })
        .collect();
    json!({
        "device_name": "laptop", "username": "alice", "config_version": script.config_version,
        "locations": locations, "methods": script.methods,
    })
}

fn mfa_list(script: &Script) -> Value {
    let method = |number: u8| {
        json!({
            "method": number, "set_up": script.methods.contains(&number), "unavailable": null,
            "sent_to": null, "locations": [],
        })
    };
    json!({ "methods": [method(0), method(1)], "recovery_codes_left": 10 })
}

/// A machine whose kernel is a model and whose name servers are a list.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeMachine {
    pub(crate) kernel: FakeKernel,
    pub(crate) servers: Servers,
    pub(crate) unprivileged: bool,
}

impl FakeMachine {
    pub(crate) fn office(&self) -> FakeInterface {
        self.kernel.interface("wg-office")
    }

    pub(crate) fn shake_hands(&self) {
        self.office().shake_hands(&gateway_key(), client_bin::clock::wall(), None);
        self.office().hear(&gateway_key(), 92, 148);
    }
}

impl Host for FakeMachine {
    fn may_create(&self) -> Result<(), Error> {
        if self.unprivileged {
            return Err(Error::PermissionDenied { doing: "create a network interface" });
        }
        Ok(())
    }

    fn exists(&self, interface: &str) -> bool {
        self.kernel.names().iter().any(|name| name == interface)
    }

    fn open(&self, interface: &str, _: Backend) -> Result<Box<dyn WireGuard>, Error> {
        Ok(Box::new(self.kernel.interface(interface)))
    }

    fn send_empty(&self, _: IpAddr, _: IpAddr) {}

    fn resolver(&self) -> &dyn Resolver {
        &self.servers
    }
}

/// Name servers as they are set now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Servers {
    set: Arc<Mutex<Vec<IpAddr>>>,
}

impl Servers {
    pub(crate) fn now(&self) -> std::sync::MutexGuard<'_, Vec<IpAddr>> {
        self.set.lock().unwrap()
    }
}

impl Resolver for Servers {
    fn set(&self, _: &str, servers: &[IpAddr], _: &[String]) -> io::Result<Change> {
        *self.now() = servers.to_vec();
        Ok(Change::Resolvconf)
    }

    fn restore(&self, _: &str, _: &Change) -> io::Result<()> {
        self.now().clear();
        Ok(())
    }
}

/// A server, a machine, and a client between them.
pub(crate) struct World {
    pub(crate) server: FakeServer,
    pub(crate) machine: FakeMachine,
    pub(crate) client: Client,
    pub(crate) dir: tempfile::TempDir,
}

impl World {
    /// Everything but the enrollment.
    pub(crate) async fn new() -> Self {
        Self::on(FakeMachine::default()).await
    }

    pub(crate) async fn on(machine: FakeMachine) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = FakeServer::start().await;
        let store = Store::new(dir.path().join("client"));
        // Quick, so that a test is as quick as the machine.
        let quick = Duration::from_millis(5);
        let client = Client::on(store, Arc::new(machine.clone())).with_periods(Periods {
            update: quick,
            status: quick,
            link: quick,
            first_handshake: quick,
        });
        Self { server, machine, client, dir }
    }

    /// With an enrolled device.
    pub(crate) async fn enrolled() -> Self {
        let world = Self::new().await;
        world.client.enroll(&world.server.url(), TOKEN, Some("laptop")).await.unwrap();
        world
    }

    /// Every byte under the client's folder.
    pub(crate) fn on_disk(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let (mut folders, mut files) = (vec![self.dir.path().to_owned()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                let path = entry.path();
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    folders.push(path);
                } else if kind.is_file() {
                    files.push((path.clone(), std::fs::read(path).unwrap()));
                }
            }
        }
        files
    }
}

/// Somebody who gives these answers, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Typist {
    pub(crate) answers: std::collections::VecDeque<&'static str>,
}

impl Typist {
    pub(crate) fn typing(answers: &[&'static str]) -> Self {
        Self { answers: answers.iter().copied().collect() }
    }
}

impl client_bin::person::Person for Typist {
    fn is_there(&self) -> bool {
        true
    }

    fn line(&mut self, _: &str) -> io::Result<zeroize::Zeroizing<String>> {
        let answer = self.answers.pop_front().ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(zeroize::Zeroizing::new(answer.to_owned()))
    }

    fn hidden(&mut self, question: &str) -> io::Result<zeroize::Zeroizing<String>> {
        self.line(question)
    }
}
