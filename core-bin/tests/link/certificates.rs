//! Who gets in: TLS 1.3, certificates of our CA, in force, each in its time.

use core::time::Duration;
use std::sync::Arc;

use core_bin::pki::{Ca, GatewayIdentity};
use core_bin::rng::Rng;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, NamedGroup, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::Code;

use crate::rig::{Papers, Rig, csr};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[tokio::test]
async fn without_a_certificate_there_is_only_enroll() {
    let rig = Rig::start().await;
    let (_keep, messages) = tokio::sync::mpsc::channel(1);
    let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
    let status = rig.anonymous().link(messages).await.map(|_| ()).unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let request = mfa_wire::gateway::RenewRequest { csr: Vec::new() };
    let status = rig.anonymous().renew(request).await.map(|_| ()).unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_gateway_that_was_given_another_pin_does_not_speak_to_core() {
    let (rig, other) = (Rig::start().await, Rig::start().await);
    let channel = rig.channel(other.tls());
    let request = mfa_wire::gateway::EnrollRequest::default();
    let mut client = mfa_wire::gateway::gateway_client::GatewayClient::new(channel);
    let status = client.enroll(request).await.map(|_| ()).unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "the handshake fails before a call is made");
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_whatever_it_says() {
    let rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    let ours = rig.enrolled(paris, "gw1").await;

    let dir = tempfile::tempdir().unwrap();
    let (rng, now) = (Rng::system(), rig.clock.now());
    let other = Ca::create(dir.path(), &rng, now).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let signed = other.sign_gateway(&csr(&key), ours.id, &rng, now).unwrap();
    let forged = Papers { id: ours.id, certificate: signed.certificate.to_vec(), key };

    assert!(rig.try_link(&forged, 1).await.is_err());
    assert!(rig.renewed(&forged).await.is_err());
}

#[tokio::test]
async fn a_certificate_that_the_store_does_not_know_is_refused() {
    let rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    let ours = rig.enrolled(paris, "gw1").await;
    let key = rcgen::KeyPair::generate().unwrap();
    let signed = rig.ca.sign_gateway(&csr(&key), ours.id, &Rng::system(), rig.clock.now()).unwrap();
    let unknown = Papers { id: ours.id, certificate: signed.certificate.to_vec(), key };
    let status = rig.try_link(&unknown, 1).await.map(|_| ()).unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn the_last_two_certificates_count() {
    let rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    let first = rig.enrolled(paris, "gw1").await;

    let second = rig.renewed(&first).await.unwrap();
    rig.linked(&second).await;
    rig.linked(&first).await;

    // The answer to the second renewal was lost, so the gateway asks again with what it has.
    let lost = rig.renewed(&second).await.unwrap();
    let third = rig.renewed(&second).await.unwrap();
    rig.linked(&third).await;
    rig.linked(&second).await;
    for spent in [&first, &lost] {
        let status = rig.try_link(spent, 1).await.map(|_| ()).unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        let status = rig.renewed(spent).await.map(|_| ()).unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
    }
}

#[tokio::test]
async fn a_revoked_gateway_cannot_renew() {
    let rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    let papers = rig.enrolled(paris, "gw1").await;
    let id = papers.id;
    rig.write(move |tx, by| tx.revoke_gateway(by, id)).await;
    let status = rig.renewed(&papers).await.map(|_| ()).unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let status = rig.try_link(&papers, 1).await.map(|_| ()).unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_certificate_ends_after_thirty_days_and_its_stream_with_it() {
    let rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    let papers = rig.enrolled(paris, "gw1").await;
    let until = GatewayIdentity::of(&CertificateDer::from(papers.certificate.clone())).unwrap();
    assert!(until.not_after.since(rig.clock.now()) <= DAY * 30);

    let (mut stream, _) = rig.linked(&papers).await;
    rig.clock.advance(DAY * 31);
    assert_eq!(stream.end().await, Err(Code::Unauthenticated));
    assert!(rig.try_link(&papers, 1).await.is_err());
}

#[tokio::test]
async fn tls_is_post_quantum_and_not_older_than_1_3() {
    let rig = Rig::start().await;
    let tls = handshake(&rig, &[&rustls::version::TLS13]).await.unwrap();
    let session = tls.get_ref().1;
    assert_eq!(session.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    let group = session.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    assert_eq!(session.peer_certificates().unwrap().last(), Some(rig.ca.certificate()));

    assert!(handshake(&rig, &[&rustls::version::TLS12]).await.is_err());
}

#[tokio::test]
async fn without_tls_nobody_is_served() {
    let rig = Rig::start().await;
    for greeting in [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], b"GET / HTTP/1.1\r\n\r\n", b"\0"] {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        stream.write_all(greeting).await.unwrap();
        let mut answer = Vec::new();
        // A connection that is closed with unread bytes ends in a reset.
        let read = tokio::time::timeout(crate::rig::SOON, stream.read_to_end(&mut answer)).await;
        drop(read.expect("the connection stays open"));
        assert!(answer.is_empty());
    }
}

async fn handshake(
    rig: &Rig,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(rig.ca.certificate().clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(rig.address).await.unwrap();
    let name = ServerName::try_from("core.test").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}
