//! A core that says what the test says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use mfa_wire::gateway as wire;
use mfa_wire::gateway::from_gateway::Message as FromGateway;
use mfa_wire::gateway::gateway_server::{Gateway, GatewayServer};
use mfa_wire::gateway::to_gateway::Message as ToGateway;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use super::Authority;
use crate::identity::pem;

/// The one token that it takes.
pub(crate) const TOKEN: &str = "the-token";

/// A core with real TLS on a real port. Dropping it cuts all streams.
pub(crate) struct FakeCore {
    pub(crate) address: SocketAddr,
    pub(crate) authority: Arc<Authority>,
    talks: mpsc::Receiver<Talk>,
    _stop: oneshot::Sender<()>,
}

/// One stream with a gateway.
pub(crate) struct Talk {
    pub(crate) hello: wire::Hello,
    inbound: Streaming<wire::FromGateway>,
    outbound: mpsc::Sender<Result<wire::ToGateway, Status>>,
}

impl FakeCore {
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), Arc::new(Authority::new())).await
    }

    /// Starts where another one was, with the same authority.
    pub(crate) async fn start_at(address: SocketAddr, authority: Arc<Authority>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (talks_to, talks) = mpsc::channel(8);
        let (stop, stopped) = oneshot::channel::<()>();
        let (certificate, key) = authority.server_with_key();
        let chain = pem(&certificate) + &pem(authority.certificate());
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(chain, key))
            .client_ca_root(Certificate::from_pem(pem(authority.certificate())))
            .client_auth_optional(true);
        let service = Script { authority: Arc::clone(&authority), talks: talks_to };
        let server = Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_service(GatewayServer::new(service))
            .serve_with_incoming(TcpIncoming::from(listener));
        tokio::spawn(async move {
            tokio::select! {
                ended = server => ended.unwrap(),
                _ = stopped => {}
            }
        });
        Self { address, authority, talks, _stop: stop }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.address.port())
    }

    /// The next stream that a gateway opens.
    pub(crate) async fn talk(&mut self) -> Talk {
        self.talks.recv().await.unwrap()
    }
}

impl Talk {
    pub(crate) async fn say(&self, message: ToGateway) {
        let message = wire::ToGateway { message: Some(message) };
        self.outbound.send(Ok(message)).await.unwrap();
    }

    pub(crate) async fn snapshot(&self, snapshot: wire::Snapshot) {
        self.say(ToGateway::Snapshot(snapshot)).await;
    }

    pub(crate) async fn change(&self, change: wire::Change) {
        self.say(ToGateway::Change(change)).await;
    }

    /// Ends the stream.
    pub(crate) async fn end(&self, status: Status) {
        self.outbound.send(Err(status)).await.unwrap();
    }

    /// The gateway's next message. Heartbeats are answered and left out.
    pub(crate) async fn hear(&mut self) -> FromGateway {
        loop {
            match self.hear_all().await {
                FromGateway::Heartbeat(beat) => self.say(ToGateway::Heartbeat(beat)).await,
                message => return message,
            }
        }
    }

    /// The gateway's next message. Nothing is answered.
    pub(crate) async fn hear_all(&mut self) -> FromGateway {
        self.inbound.message().await.unwrap().unwrap().message.unwrap()
    }

    /// The next acknowledgement; other messages are passed over.
    pub(crate) async fn ack(&mut self) -> wire::Ack {
        loop {
            if let FromGateway::Ack(ack) = self.hear().await {
                return ack;
            }
        }
    }

    /// The next acknowledgement of this revision without an error.
    pub(crate) async fn done(&mut self, revision: u64) {
        let ack = self.ack().await;
        assert_eq!((ack.revision, ack.error.as_str()), (revision, ""));
    }

    /// The next report; other messages are passed over.
    pub(crate) async fn stats(&mut self) -> wire::Stats {
        loop {
            if let FromGateway::Stats(stats) = self.hear().await {
                return stats;
            }
        }
    }
}

struct Script {
    authority: Arc<Authority>,
    talks: mpsc::Sender<Talk>,
}

#[tonic::async_trait]
impl Gateway for Script {
    type LinkStream = ReceiverStream<Result<wire::ToGateway, Status>>;

    async fn enroll(
        &self,
        request: Request<wire::EnrollRequest>,
    ) -> Result<Response<wire::EnrollResponse>, Status> {
        let request = request.into_inner();
        if request.token != TOKEN {
            return Err(Status::permission_denied("the token is not known"));
        }
        Ok(Response::new(wire::EnrollResponse {
            certificate: self.authority.sign(&request.csr),
            ca_certificate: self.authority.certificate().to_vec(),
            gateway_id: 7,
            gateway_name: "gw1".into(),
            location_name: "Office".into(),
        }))
    }

    async fn renew(
        &self,
        request: Request<wire::RenewRequest>,
    ) -> Result<Response<wire::RenewResponse>, Status> {
        if request.peer_certs().is_none() {
            return Err(Status::unauthenticated("no certificate"));
        }
        Ok(Response::new(wire::RenewResponse {
            certificate: self.authority.sign(&request.into_inner().csr),
            ca_certificate: self.authority.certificate().to_vec(),
        }))
    }

    async fn link(
        &self,
        request: Request<Streaming<wire::FromGateway>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        if request.peer_certs().is_none() {
            return Err(Status::unauthenticated("no certificate"));
        }
        let mut inbound = request.into_inner();
        let first = inbound.message().await?.and_then(|message| message.message);
        let Some(FromGateway::Hello(hello)) = first else {
            return Err(Status::invalid_argument("no hello"));
        };
        let (outbound, stream) = mpsc::channel(64);
        self.talks.send(Talk { hello, inbound, outbound }).await.unwrap();
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Makes a gateway's identity that is due for renewal at `now`.
pub(crate) fn enroll_due(authority: &Authority, dir: &std::path::Path, now: SystemTime) {
    let key = crate::identity::Key::generate().unwrap();
    let certificate = authority.sign_due(&key.request("host").unwrap(), now);
    key.save(dir, &certificate, authority.certificate()).unwrap();
}
