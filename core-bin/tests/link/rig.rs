//! A core that serves gateways, and gateways that do as they are told.

use core::ops::Range;
use core::time::Duration;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use core_bin::clock::Clock;
use core_bin::link::{
    self, Link, LinkError, Patience, Place, Plaintext, Registry, STATS_QUEUE, StatsReport,
};
use core_bin::pki::{Ca, ServerCertificate};
use core_bin::rng::Rng;
use mfa_core::challenge::Subject;
use mfa_core::connect::{EndReason, Session, SessionParts, SessionState};
use mfa_core::id::{GatewayId, LocationId, SessionId, UserId};
use mfa_core::method::Method;
use mfa_core::policy::LocationPolicy;
use mfa_core::rotate::PskGeneration;
use mfa_core::token::Token;
use mfa_store::{
    Actor, By, CoreId, Device, LocationSettings, MasterKey, NewDevice, Scope, Store, StoreError,
    TokenPurpose, Tx, UserDetails,
};
use mfa_wire::gateway::gateway_client::GatewayClient;
use mfa_wire::gateway::{
    Ack, EnrollRequest, FromGateway, Hello, RenewRequest, Snapshot, ToGateway, from_gateway,
    to_gateway,
};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status, Streaming};
use wg_types::{PresharedKey, PrivateKey, PublicKey};

/// Longer than anything here takes; a test that waits for it fails.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) struct Rig {
    pub(crate) store: Store,
    pub(crate) registry: Arc<Registry>,
    pub(crate) ca: Arc<Ca>,
    pub(crate) clock: Clock,
    pub(crate) stats: mpsc::Receiver<StatsReport>,
    pub(crate) address: SocketAddr,
    pub(crate) socket: PathBuf,
    pub(crate) user: UserId,
    shutdown: watch::Sender<bool>,
    serving: Option<JoinHandle<Result<(), LinkError>>>,
    dir: Arc<tempfile::TempDir>,
}

/// What the cores of one installation share.
struct Base {
    dir: Arc<tempfile::TempDir>,
    clock: Clock,
    ca: Arc<Ca>,
    store: Store,
    user: UserId,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::start_with(Patience::default(), Plaintext::Refused).await
    }

    pub(crate) async fn start_with(patience: Patience, plaintext: Plaintext) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let clock = Clock::manual(Clock::system().now());
        let (rng, now) = (Rng::system(), clock.now());
        let ca = Arc::new(Ca::create(&dir.path().join("ca"), &rng, now).unwrap());
        let store = Store::open("sqlite::memory:", &MasterKey::from_bytes([7; 32])).unwrap();
        let user = store.write(move |tx| {
            let details = UserDetails { login: "ada".to_owned(), ..UserDetails::default() };
            tx.add_user(By::new(Actor::System, now), &details)
        });
        let user = user.await.unwrap();
        let base = Base { dir, clock, ca, store, user };
        Self::serve(base, "core.sock", patience, plaintext).await
    }

    /// Starts another core on the same database.
    pub(crate) async fn another(&self) -> Self {
        let base = Base {
            dir: Arc::clone(&self.dir),
            clock: self.clock.clone(),
            ca: Arc::clone(&self.ca),
            store: self.store.clone(),
            user: self.user,
        };
        Self::serve(base, "other.sock", Patience::default(), Plaintext::Refused).await
    }

    async fn serve(base: Base, socket: &str, patience: Patience, plaintext: Plaintext) -> Self {
        let Base { dir, clock, ca, store, user } = base;
        let (rng, now) = (Rng::system(), clock.now());
        let certificate = ServerCertificate::open(
            Arc::clone(&ca),
            (&dir.path().join("ca"), "gateways"),
            &["core.test".to_owned()],
            core_bin::pki::server::LIFE_MAX,
            &rng,
            now,
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let socket = dir.path().join(socket);
        let registry = Registry::new();
        let (stats_sender, stats) = mpsc::channel(STATS_QUEUE);
        let (shutdown, stopping) = watch::channel(false);
        let link = Link {
            core: CoreId(*rng.bytes()),
            store: store.clone(),
            registry: Arc::clone(&registry),
            ca: Arc::clone(&ca),
            certificate: certificate.unwrap(),
            stats: stats_sender,
            clock: clock.clone(),
            rng,
            patience,
            shutdown: stopping,
        };
        let place = Place { listener, plaintext, socket: Some(socket.clone()) };
        let serving = Some(tokio::spawn(link::serve(link, place)));
        Self { store, registry, ca, clock, stats, address, socket, user, shutdown, serving, dir }
    }

    /// Stops core and waits until it has.
    pub(crate) async fn stop(&mut self) {
        self.shutdown.send_replace(true);
        let serving = self.serving.take().unwrap();
        tokio::time::timeout(SOON, serving).await.unwrap().unwrap().unwrap();
    }

    // What administrators and flows do.

    pub(crate) async fn write<T: Send + 'static>(
        &self,
        mut work: impl FnMut(&mut Tx, By) -> Result<T, StoreError> + Send + 'static,
    ) -> T {
        let by = By::new(Actor::System, self.clock.now());
        self.store.write(move |tx| work(tx, by)).await.unwrap()
    }

    pub(crate) async fn location(&self, name: &str, policy: LocationPolicy) -> LocationId {
        let number = name.bytes().fold(1_u8, u8::wrapping_add);
        let settings = settings(name, number, policy);
        self.write(move |tx, by| {
            let key = PrivateKey::from_bytes([number; 32]);
            Ok(tx.add_location(by, &settings, &key)?.id)
        })
        .await
    }

    pub(crate) async fn open_location(&self, name: &str) -> LocationId {
        self.location(name, LocationPolicy::off()).await
    }

    pub(crate) async fn device(&self, n: u32) -> Device {
        self.devices(n..n + 1).await.remove(0)
    }

    pub(crate) async fn devices(&self, numbers: Range<u32>) -> Vec<Device> {
        let user = self.user;
        self.write(move |tx, by| {
            numbers.clone().map(|n| tx.add_device(by, &device(user, n))).collect()
        })
        .await
    }

    pub(crate) async fn begin_session(
        &self,
        device: &Device,
        location: LocationId,
        psk: u8,
    ) -> SessionId {
        let subject = Subject { user: device.user, device: device.id, location };
        self.write(move |tx, by| {
            let session = Session::from_parts(SessionParts {
                subject,
                method: Method::Totp,
                authorized: by.now,
                lifetime_ends: by.now.saturating_add(Duration::from_secs(3600)),
                generation: PskGeneration::FIRST,
                state: SessionState::Authorized { psk: PresharedKey::from_bytes([psk; 32]) },
            });
            tx.begin_session(by, &session)
        })
        .await
    }

    pub(crate) async fn end_session(&self, session: SessionId) {
        self.write(move |tx, by| {
            tx.end_sessions(by, Scope::Session(session), EndReason::Administrator).map(|_| ())
        })
        .await;
    }

    /// Adds a gateway and makes its one-use token, good for a quarter of an hour.
    pub(crate) async fn gateway(&self, location: LocationId, name: &str) -> (GatewayId, String) {
        let name = name.to_owned();
        let id = self.write(move |tx, by| tx.add_gateway(by, location, &name)).await;
        (id, self.token(id).await)
    }

    pub(crate) async fn token(&self, gateway: GatewayId) -> String {
        let token = Token::from_random(*Rng::system().bytes());
        let text = token.expose_text().to_string();
        self.write(move |tx, by| {
            let expires = by.now.saturating_add(Duration::from_secs(15 * 60));
            tx.add_token(by, TokenPurpose::Gateway(gateway), &token.digest(), expires)
        })
        .await;
        text
    }

    /// Waits until a gateway of the location is connected, and all that are have what the store
    /// holds.
    pub(crate) async fn wait_connected(&self, location: LocationId) {
        let revision = self.write(move |tx, _| tx.revision(location)).await.unwrap();
        let complete = async {
            while !self.registry.wait_applied(location, revision, SOON).await.is_complete() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(SOON, complete).await.expect("no gateway has it all");
    }

    /// Waits until the store says that a gateway has all that it holds.
    pub(crate) async fn recorded(&self, gateway: GatewayId, location: LocationId) {
        let recorded = async {
            loop {
                let (row, revision) = self
                    .write(move |tx, _| Ok((tx.gateway(gateway)?, tx.revision(location)?)))
                    .await;
                if Some(row.unwrap().applied_revision) == revision {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(SOON, recorded).await.expect("nothing was written down");
    }

    // What gateways do.

    /// Dials without a certificate.
    pub(crate) fn anonymous(&self) -> GatewayClient<Channel> {
        GatewayClient::new(self.channel(self.tls()))
    }

    /// Dials with one.
    pub(crate) fn client(&self, papers: &Papers) -> GatewayClient<Channel> {
        GatewayClient::new(self.channel(self.tls().identity(papers.identity())))
    }

    pub(crate) fn tls(&self) -> ClientTlsConfig {
        let ca = Certificate::from_pem(self.ca.pem());
        ClientTlsConfig::new().ca_certificate(ca).domain_name("core.test")
    }

    pub(crate) fn channel(&self, tls: ClientTlsConfig) -> Channel {
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address)).unwrap();
        endpoint.tls_config(tls).unwrap().connect_lazy()
    }

    pub(crate) async fn try_enroll(&self, token: &str) -> Result<Papers, Status> {
        let key = rcgen::KeyPair::generate().unwrap();
        let request = EnrollRequest {
            token: token.to_owned(),
            csr: csr(&key),
            hostname: "gw".to_owned(),
            version: "1".to_owned(),
        };
        let answer = self.anonymous().enroll(request).await?.into_inner();
        assert_eq!(answer.ca_certificate, self.ca.certificate().to_vec());
        Ok(Papers { id: GatewayId::new(answer.gateway_id), certificate: answer.certificate, key })
    }

    /// Adds a gateway and enrolls it.
    pub(crate) async fn enrolled(&self, location: LocationId, name: &str) -> Papers {
        let (_, token) = self.gateway(location, name).await;
        self.try_enroll(&token).await.unwrap()
    }

    pub(crate) async fn renewed(&self, papers: &Papers) -> Result<Papers, Status> {
        let key = rcgen::KeyPair::generate().unwrap();
        let answer = self.client(papers).renew(RenewRequest { csr: csr(&key) }).await?;
        let certificate = answer.into_inner().certificate;
        Ok(Papers { id: papers.id, certificate, key })
    }

    pub(crate) async fn try_link(&self, papers: &Papers, process: u8) -> Result<Linked, Status> {
        let mut linked = self.open_link(papers).await?;
        linked.say(from_gateway::Message::Hello(hello(process))).await;
        Ok(linked)
    }

    /// Begins a stream without saying hello.
    pub(crate) async fn open_link(&self, papers: &Papers) -> Result<Linked, Status> {
        let (up, messages) = mpsc::channel(16);
        let down = self.client(papers).link(ReceiverStream::new(messages)).await?.into_inner();
        Ok(Linked { up, down })
    }

    /// Begins a stream and takes its snapshot.
    pub(crate) async fn linked(&self, papers: &Papers) -> (Linked, Snapshot) {
        let mut linked = self.try_link(papers, 1).await.unwrap();
        let snapshot = linked.snapshot().await;
        linked.ack(snapshot.revision).await;
        (linked, snapshot)
    }
}

/// A gateway's certificate and key.
pub(crate) struct Papers {
    pub(crate) id: GatewayId,
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: rcgen::KeyPair,
}

impl Papers {
    pub(crate) fn identity(&self) -> Identity {
        let body = data_encoding::BASE64.encode(&self.certificate);
        let pem = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        Identity::from_pem(pem, self.key.serialize_pem())
    }
}

/// A gateway's end of a stream.
pub(crate) struct Linked {
    pub(crate) up: mpsc::Sender<FromGateway>,
    pub(crate) down: Streaming<ToGateway>,
}

impl Linked {
    pub(crate) async fn say(&mut self, message: from_gateway::Message) {
        self.up.send(FromGateway { message: Some(message) }).await.unwrap();
    }

    pub(crate) async fn ack(&mut self, revision: u64) {
        self.say(from_gateway::Message::Ack(Ack {
            revision,
            error: String::new(),
            ..Ack::default()
        }))
        .await;
    }

    pub(crate) async fn hear(&mut self) -> to_gateway::Message {
        let message = self.try_hear().await.unwrap().expect("the stream ended");
        message.message.unwrap()
    }

    pub(crate) async fn try_hear(&mut self) -> Result<Option<ToGateway>, Status> {
        tokio::time::timeout(SOON, self.down.message()).await.expect("nothing came")
    }

    /// Reads on until the stream ends, and returns with what.
    pub(crate) async fn end(&mut self) -> Result<(), Code> {
        loop {
            match self.try_hear().await {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(status) => return Err(status.code()),
            }
        }
    }

    /// Reads a whole snapshot, of however many parts.
    pub(crate) async fn snapshot(&mut self) -> Snapshot {
        let mut whole = self.part().await;
        assert_eq!(whole.part, 0);
        assert!(whole.interface.is_some());
        while !whole.last {
            let mut part = self.part().await;
            assert_eq!((part.part, part.revision), (whole.part + 1, whole.revision));
            assert!(part.interface.is_none());
            whole.part = part.part;
            whole.last = part.last;
            whole.peers.append(&mut part.peers);
        }
        whole
    }

    async fn part(&mut self) -> Snapshot {
        match self.hear().await {
            to_gateway::Message::Snapshot(part) => part,
            other => panic!("no snapshot but {other:?}"),
        }
    }

    pub(crate) async fn change(&mut self) -> mfa_wire::gateway::Change {
        match self.hear().await {
            to_gateway::Message::Change(change) => change,
            other => panic!("no change but {other:?}"),
        }
    }
}

pub(crate) fn hello(process: u8) -> Hello {
    Hello {
        version: "1.2.3".to_owned(),
        hostname: "gw.example".to_owned(),
        process_id: vec![process; 16],
        applied_revision: 0,
        backend: "kernel".to_owned(),
        interface: "wg0".to_owned(),
    }
}

pub(crate) fn csr(key: &rcgen::KeyPair) -> Vec<u8> {
    let request = rcgen::CertificateParams::default().serialize_request(key).unwrap();
    request.der().to_vec()
}

pub(crate) fn settings(name: &str, number: u8, policy: LocationPolicy) -> LocationSettings {
    LocationSettings {
        name: name.to_owned(),
        endpoint: "vpn.example:51820".to_owned(),
        listen_port: 51820,
        addresses: vec![format!("10.{number}.0.1/16").parse().unwrap()],
        allowed_ips: vec!["10.0.0.0/8".parse().unwrap()],
        dns: Vec::new(),
        keepalive: None,
        mtu: None,
        policy,
    }
}

fn device(user: UserId, n: u32) -> NewDevice {
    let public_key = device_key(n);
    let mut token = [0; 32];
    token[..4].copy_from_slice(&n.to_be_bytes());
    let polling_token = Token::from_random(token).digest();
    NewDevice { user, name: format!("device {n}"), public_key, polling_token, source: None }
}

/// A key for each device; not one that anybody holds the private half of.
pub(crate) fn device_key(n: u32) -> PublicKey {
    let mut bytes = [9; 32];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    PublicKey::from_bytes(bytes)
}

/// Peers as a gateway holds them: session, generation and PSK by public key.
pub(crate) type Held = BTreeMap<Vec<u8>, (i64, u32, Option<Vec<u8>>, Vec<String>)>;

pub(crate) fn held(peers: &[mfa_wire::gateway::Peer]) -> Held {
    let entry = |peer: &mfa_wire::gateway::Peer| {
        let psk = peer.preshared_key.clone();
        (peer.public_key.clone(), (peer.session_id, peer.generation, psk, peer.allowed_ips.clone()))
    };
    peers.iter().map(entry).collect()
}
