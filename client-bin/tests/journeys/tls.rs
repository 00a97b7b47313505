//! Whom the client trusts, with a real TLS server.

use std::sync::Arc;

use crate::support::{FakeServer, TOKEN, World};
use client_bin::api::{ApiError, Unreachable};
use client_bin::pin::CaPin;
use client_bin::{ClientError, exit};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    fn pin(&self) -> CaPin {
        CaPin::of(&self.certificate)
    }

    /// A server's chain for a name, with this authority's certificate at its end.
    fn chain(&self, name: &str, valid: bool) -> (Vec<CertificateDer<'static>>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        if !valid {
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        }
        let leaf = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        (vec![leaf, self.certificate.clone()], key)
    }
}

/// Serves the script over TLS and returns the port.
async fn serve(script: &FakeServer, (chain, key): (Vec<CertificateDer<'static>>, KeyPair)) -> u16 {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let app = script.router();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, app) = (acceptor.clone(), app.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = TowerToHyperService::new(app);
                let builder = auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    port
}

async fn enroll(world: &World, port: u16, pin: Option<CaPin>) -> Result<(), ClientError> {
    let token = pin.map_or_else(|| TOKEN.to_owned(), |pin| format!("{TOKEN}.{pin}"));
    world.client.enroll(&format!("https://127.0.0.1:{port}/"), &token, None).await.map(drop)
}

fn unreachable(outcome: Result<(), ClientError>) -> Unreachable {
    let error = outcome.unwrap_err();
    assert_eq!(error.exit_code(), exit::UNREACHABLE);
    match error {
        ClientError::Api(ApiError::Unreachable(why)) => why,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn the_pinned_authority_is_trusted_and_remembered() {
    let (world, authority) = (World::new().await, Authority::new());
    let port = serve(&world.server, authority.chain("127.0.0.1", true)).await;

    enroll(&world, port, Some(authority.pin())).await.unwrap();

    let instance = world.client.instance(None).unwrap();
    assert_eq!(instance.ca_pin, Some(authority.pin()));
    let api = world.client.api(&instance).unwrap();
    api.status(&instance.private_key).await.unwrap();
}

#[tokio::test]
async fn another_authority_is_refused_before_the_token_is_sent() {
    let (world, authority) = (World::new().await, Authority::new());
    let port = serve(&world.server, Authority::new().chain("127.0.0.1", true)).await;

    let why = unreachable(enroll(&world, port, Some(authority.pin())).await);

    assert!(matches!(why, Unreachable::WrongPin { .. }), "{why}");
    assert!(why.to_string().contains("certificate"), "{why}");
    assert!(world.server.script.lock().unwrap().asked.is_empty());
}

/// The authority's certificate is public: showing it along proves nothing.
#[tokio::test]
async fn a_chain_that_only_shows_the_pinned_authority_is_refused() {
    let (world, authority) = (World::new().await, Authority::new());
    let (mut chain, key) = Authority::new().chain("127.0.0.1", true);
    chain.truncate(1);
    chain.push(authority.certificate.clone());
    let port = serve(&world.server, (chain, key)).await;

    let why = unreachable(enroll(&world, port, Some(authority.pin())).await);

    assert!(matches!(why, Unreachable::NotTrusted { .. } | Unreachable::Tls { .. }), "{why}");
    assert!(world.server.script.lock().unwrap().asked.is_empty());
}

#[tokio::test]
async fn the_name_must_match_also_under_a_pin() {
    let (world, authority) = (World::new().await, Authority::new());
    let port = serve(&world.server, authority.chain("vpn.example.org", true)).await;
    let why = unreachable(enroll(&world, port, Some(authority.pin())).await);
    assert!(matches!(why, Unreachable::WrongName { .. }), "{why}");
}

#[tokio::test]
async fn an_expired_certificate_is_refused_also_under_a_pin() {
    let (world, authority) = (World::new().await, Authority::new());
    let port = serve(&world.server, authority.chain("127.0.0.1", false)).await;
    let why = unreachable(enroll(&world, port, Some(authority.pin())).await);
    assert!(matches!(why, Unreachable::WrongTime { .. }), "{why}");
}

#[tokio::test]
async fn without_a_pin_only_the_systems_authorities_count() {
    let (world, authority) = (World::new().await, Authority::new());
    let port = serve(&world.server, authority.chain("127.0.0.1", true)).await;
    let outcome = enroll(&world, port, None).await;
    // Where the system has no roots at all, that is what is told.
    if let Err(ClientError::Api(ApiError::Tls(_))) = outcome {
        return;
    }
    let why = unreachable(outcome);
    assert!(matches!(why, Unreachable::NotTrusted { .. }), "{why}");
    assert!(why.to_string().contains("TOKEN.PIN"), "{why}");
}

#[tokio::test]
async fn a_port_that_speaks_no_tls_is_told_so() {
    let (world, authority) = (World::new().await, Authority::new());
    let port = world.server.address.port();
    let why = unreachable(enroll(&world, port, Some(authority.pin())).await);
    assert!(matches!(why, Unreachable::NotTls { .. }), "{why}");
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_told_so() {
    let (world, authority) = (World::new().await, Authority::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let why = unreachable(enroll(&world, port, Some(authority.pin())).await);
    assert!(matches!(why, Unreachable::Refused { .. }), "{why}");
}
