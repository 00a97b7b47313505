//! Serves gateways of another make by the protocol that they speak.
//!
//! They get the same desired state as ours, from the same store. What that protocol cannot say is
//! made up for here: it has no acknowledgements, so for who waits what has been written to a
//! gateway's stream counts as applied; it cannot say that a peer is new although its key is known, so such a peer is
//! deleted and created; a gateway may miss what happened while it was away, so each stream begins
//! with every peer.

mod handshakes;
mod ledger;
mod statistics;
mod updates;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mfa_core::id::GatewayId;
use mfa_core::token::Token;
use mfa_store::{Gateway, StoreError};
use mfa_wire::gateway::InterfaceConfig;
use mfa_wire::legacy::gateway_service_server::GatewayService;
use mfa_wire::legacy::{Configuration, ConfigurationRequest, StatsUpdate, Update};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Response, Status, Streaming};
use wg_types::PublicKey;

use super::listener::Caller;
use super::registry::{About, Credential, Protocol};
use super::session::{closed, shortened};
use super::{Link, desired, server, standing};
use handshakes::Handshakes;

/// Without these two a gateway from 1.5 on takes core for one that is too old.
const ANSWER_METADATA: [(&str, &str); 2] =
    [("defguard-component-version", "1.6.0"), ("defguard-component-system", "Linux;6.0;x86_64")];

/// Updates that wait for the transport.
const OUTBOUND: usize = 64;

/// Serves the existing gateway protocol.
#[derive(Clone)]
pub(super) struct LegacyService {
    link: Arc<Link>,
    memories: Arc<Mutex<BTreeMap<GatewayId, Arc<Mutex<Memory>>>>>,
}

/// What core remembers of a gateway from one stream to the next.
#[derive(Debug, Default)]
struct Memory {
    /// The revision up to which everything has reached it; `None`: see the store.
    delivered: Option<i64>,
    /// The peers that it was told of, and may report on.
    known: BTreeSet<PublicKey>,
    handshakes: Handshakes,
}

/// A gateway that showed its token.
struct Guest {
    gateway: Gateway,
    credential: Credential,
    about: About,
    memory: Arc<Mutex<Memory>>,
}

impl LegacyService {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self { link, memories: Arc::default() }
    }

    async fn admit<T>(&self, request: &Request<T>) -> Result<Guest, Status> {
        let caller = request.extensions().get::<Caller>();
        let remote = caller.map(|caller| caller.remote);
        let said = request.metadata();
        let token = text(said, "authorization").and_then(|text| Token::parse(text.trim()));
        let digest = token.ok_or_else(not_admitted)?.digest();
        let found = self.link.store.read(move |view| view.gateway_by_legacy_token(&digest)).await;
        let gateway = found.map_err(server::unavailable)?.ok_or_else(not_admitted)?;
        let credential = Credential::Token(digest);
        standing::check(&gateway, &credential).map_err(closed)?;
        let said = |name| text(said, name).map(|text| shortened(text.to_owned()));
        let about = About {
            version: said("defguard-component-version").unwrap_or_default(),
            hostname: said("hostname").unwrap_or_default(),
            backend: "legacy".to_owned(),
            interface: String::new(),
            remote,
            protocol: Protocol::Legacy,
        };
        let memory = Arc::clone(lock(&self.memories).entry(gateway.id).or_default());
        Ok(Guest { gateway, credential, about, memory })
    }
}

#[tonic::async_trait]
impl GatewayService for LegacyService {
    async fn config(
        &self,
        request: Request<ConfigurationRequest>,
    ) -> Result<Response<Configuration>, Status> {
        let guest = self.admit(&request).await?;
        let (gateway, location) = (guest.gateway.id, guest.gateway.location);
        let all = desired::all(&self.link.store, location, self.link.clock.now())
            .await
            .map_err(server::unavailable)?;
        tracing::info!(%gateway, hostname = guest.about.hostname, "a gateway asks for all");
        Ok(answer(configuration(all.interface, &all.peers)))
    }

    type UpdatesStream = ReceiverStream<Result<Update, Status>>;

    async fn updates(&self, request: Request<()>) -> Result<Response<Self::UpdatesStream>, Status> {
        let guest = self.admit(&request).await?;
        let (outbound, messages) = mpsc::channel(OUTBOUND);
        tokio::spawn(updates::serve(Arc::clone(&self.link), guest, outbound));
        Ok(answer(ReceiverStream::new(messages)))
    }

    async fn stats(
        &self,
        request: Request<Streaming<StatsUpdate>>,
    ) -> Result<Response<()>, Status> {
        let guest = self.admit(&request).await?;
        statistics::hear(&self.link, &guest, request.into_inner()).await;
        Ok(answer(()))
    }
}

/// The interface with its peers.
fn configuration(interface: InterfaceConfig, peers: &[mfa_wire::gateway::Peer]) -> Configuration {
    Configuration {
        name: interface.location_name,
        prvkey: STANDARD.encode(&interface.private_key),
        address: interface.addresses.join(","),
        port: interface.listen_port,
        peers: peers.iter().map(ledger::peer).collect(),
        addresses: interface.addresses,
    }
}

fn answer<T>(message: T) -> Response<T> {
    let mut response = Response::new(message);
    for (name, value) in ANSWER_METADATA {
        response.metadata_mut().insert(name, MetadataValue::from_static(value));
    }
    response
}

fn text<'a>(metadata: &'a MetadataMap, name: &str) -> Option<&'a str> {
    metadata.get(name)?.to_str().ok()
}

fn not_admitted() -> Status {
    Status::unauthenticated(
        "there is no such token; make one with `core-bin gateway token --legacy`",
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whole after each statement, so that a panic elsewhere spoils nothing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the revision up to which everything has reached a gateway for certain.
async fn delivered(link: &Link, guest: &Guest) -> Result<i64, StoreError> {
    let remembered = lock(&guest.memory).delivered;
    if let Some(revision) = remembered {
        return Ok(revision);
    }
    let id = guest.gateway.id;
    let row = link.store.read(move |view| view.gateway(id)).await?;
    Ok(row.map_or(0, |row| row.applied_revision))
}
