//! Gateways of another make.

use core::time::Duration;

use core_bin::link::{Applied, Patience, Plaintext};
use core_bin::rng::Rng;
use mfa_core::id::{GatewayId, LocationId};
use mfa_core::policy::LocationPolicy;
use mfa_core::token::Token;
use mfa_wire::gateway::gateway_client::GatewayClient;
use mfa_wire::legacy::gateway_service_client::GatewayServiceClient;
use mfa_wire::legacy::{
    ConfigurationRequest, Peer, PeerStats, StatsUpdate, Update, UpdateType, stats_update, update,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use crate::rig::{Rig, SOON, device_key, settings};

#[tokio::test]
async fn a_configuration_has_all_that_old_and_new_versions_read() {
    let rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    rig.device(1).await;
    let guest = Guest::new(&rig, paris).await;

    let answer = guest.client.clone().config(guest.ask(ConfigurationRequest::default())).await;
    let answer = answer.unwrap();
    for (name, value) in
        [("defguard-component-version", "1.6.0"), ("defguard-component-system", "Linux;6.0;x86_64")]
    {
        assert_eq!(answer.metadata().get(name).unwrap(), value);
    }
    let config = answer.into_inner();
    assert_eq!((config.name.as_str(), config.port), ("Paris", 51820));
    assert_eq!(config.addresses, std::slice::from_ref(&config.address));
    assert_eq!(config.prvkey.len(), 44);
    let [peer] = config.peers.as_slice() else { panic!("one peer") };
    assert_eq!(peer.pubkey, device_key(1).to_string());
    assert_eq!(peer.preshared_key, None);
}

#[tokio::test]
async fn only_a_token_in_force_opens_a_call() {
    let rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    let mut guest = Guest::new(&rig, paris).await;
    let id = guest.id;
    rig.write(move |tx, by| tx.revoke_gateway(by, id)).await;
    assert_eq!(guest.try_all().await, [Code::PermissionDenied; 3]);
    for token in ["", "x", &"0".repeat(64)] {
        token.clone_into(&mut guest.token);
        assert_eq!(guest.try_all().await, [Code::Unauthenticated; 3]);
    }
}

#[tokio::test]
async fn a_session_is_created_replaced_and_deleted() {
    let rig = Rig::start().await;
    let paris = rig.location("Paris", LocationPolicy::recommended()).await;
    let device = rig.device(1).await;
    let guest = Guest::new(&rig, paris).await;
    let mut updates = guest.updates().await.unwrap();
    rig.wait_connected(paris).await;

    rig.begin_session(&device, paris, 1).await;
    rig.registry.wake(paris);
    assert_eq!(updates.next().await, (UpdateType::Create, 1, Some(1)));

    let session = rig.begin_session(&device, paris, 2).await;
    rig.registry.wake(paris);
    assert_eq!(updates.next().await, (UpdateType::Delete, 1, None));
    assert_eq!(updates.next().await, (UpdateType::Create, 1, Some(2)));

    rig.end_session(session).await;
    rig.registry.wake(paris);
    assert_eq!(updates.next().await, (UpdateType::Delete, 1, None));
    let revision = rig.write(move |tx, _| tx.revision(paris)).await.unwrap();
    let applied = rig.registry.wait_applied(paris, revision, SOON).await;
    assert_eq!(applied, Applied { connected: 1, applied: 1 });
}

#[tokio::test]
async fn after_a_reconnect_every_peer_is_said_and_what_changed_is_made_anew() {
    let patience = Patience { delivered: Duration::ZERO, ..Patience::default() };
    let rig = Rig::start_with(patience, Plaintext::Refused).await;
    let paris = rig.location("Paris", LocationPolicy::recommended()).await;
    let devices = rig.devices(1..5).await;
    for device in &devices[..3] {
        rig.begin_session(device, paris, 1).await;
    }
    let guest = Guest::new(&rig, paris).await;
    let mut updates = guest.updates().await.unwrap();
    for n in 1..=3 {
        // It was never told anything, so nothing is known of its kernel.
        assert_eq!(updates.next().await, (UpdateType::Delete, n, None));
        assert_eq!(updates.next().await, (UpdateType::Create, n, Some(1)));
    }
    rig.recorded(guest.id, paris).await;
    drop(updates);
    while rig.registry.connected(paris) > 0 {
        tokio::task::yield_now().await;
    }

    let second = rig.begin_session(&devices[1], paris, 2).await;
    let third = rig.begin_session(&devices[2], paris, 2).await;
    rig.end_session(third).await;
    rig.begin_session(&devices[3], paris, 2).await;
    assert_ne!(second, third);

    let mut updates = guest.updates().await.unwrap();
    assert_eq!(updates.next().await, (UpdateType::Delete, 3, None));
    assert_eq!(updates.next().await, (UpdateType::Modify, 1, Some(1)));
    assert_eq!(updates.next().await, (UpdateType::Delete, 2, None));
    assert_eq!(updates.next().await, (UpdateType::Create, 2, Some(2)));
    assert_eq!(updates.next().await, (UpdateType::Delete, 4, None));
    assert_eq!(updates.next().await, (UpdateType::Create, 4, Some(2)));
}

#[tokio::test]
async fn what_may_have_been_lost_with_a_stream_is_made_anew() {
    let rig = Rig::start().await;
    let paris = rig.location("Paris", LocationPolicy::recommended()).await;
    let device = rig.device(1).await;
    rig.begin_session(&device, paris, 1).await;
    let guest = Guest::new(&rig, paris).await;
    for _ in 0..2 {
        let mut updates = guest.updates().await.unwrap();
        assert_eq!(updates.next().await, (UpdateType::Delete, 1, None));
        assert_eq!(updates.next().await, (UpdateType::Create, 1, Some(1)));
    }
}

#[tokio::test]
async fn a_change_of_the_interface_is_said_whole() {
    let rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    let guest = Guest::new(&rig, paris).await;
    let mut updates = guest.updates().await.unwrap();
    let renamed = settings("Paris 2", 9, LocationPolicy::off());
    rig.wait_connected(paris).await;
    rig.write(move |tx, by| tx.set_location(by, paris, &renamed)).await;
    rig.registry.wake(paris);
    match updates.hear().await.update {
        Some(update::Update::Network(network)) => assert_eq!(network.name, "Paris 2"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn statistics_are_heard_and_never_fail_for_a_stranger() {
    let mut rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    rig.device(1).await;
    let guest = Guest::new(&rig, paris).await;
    let mut updates = guest.updates().await.unwrap();
    updates.next().await;
    rig.wait_connected(paris).await;

    let (up, messages) = tokio::sync::mpsc::channel(16);
    let mut client = guest.client.clone();
    let request = guest.ask(ReceiverStream::new(messages));
    let stats = tokio::spawn(async move { client.stats(request).await.map(|_| ()) });
    let now = rig.clock.now().as_unix_secs();
    let of = |public_key: String| PeerStats {
        public_key,
        endpoint: "192.0.2.1:9".to_owned(),
        upload: 200,
        download: 100,
        latest_handshake: now - 5,
        ..PeerStats::default()
    };
    let sent = [
        Some(stats_update::Payload::PeerStats(of(device_key(99).to_string()))),
        Some(stats_update::Payload::PeerStats(of("no key".to_owned()))),
        Some(stats_update::Payload::Empty(())),
        None,
        Some(stats_update::Payload::PeerStats(of(device_key(1).to_string()))),
    ];
    for (id, payload) in (0..).zip(sent) {
        up.send(StatsUpdate { id, payload }).await.unwrap();
    }
    let report = tokio::time::timeout(SOON, rig.stats.recv()).await.unwrap().unwrap();
    assert_eq!((report.gateway, report.location), (guest.id, paris));
    let [peer] = report.peers.as_slice() else { panic!("one peer") };
    assert_eq!((peer.rx_bytes, peer.tx_bytes), (100, 200));
    assert!(peer.handshake_age.unwrap() >= Duration::from_secs(5));

    assert!(!stats.is_finished());
    drop(up);
    stats.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_revoked_token_closes_the_stream() {
    let rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    let guest = Guest::new(&rig, paris).await;
    let mut updates = guest.updates().await.unwrap();
    rig.wait_connected(paris).await;
    let id = guest.id;
    rig.write(move |tx, by| tx.revoke_gateway(by, id)).await;
    let ended = tokio::time::timeout(Duration::from_secs(5), updates.0.message()).await.unwrap();
    assert_eq!(ended.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn without_tls_the_legacy_protocol_alone_is_served_and_only_if_allowed() {
    let rig = Rig::start_with(Patience::default(), Plaintext::LegacyOnly).await;
    let paris = rig.open_location("Paris").await;
    let mut guest = Guest::new(&rig, paris).await;
    guest.client = GatewayServiceClient::new(plain(&rig));
    let config = guest.client.clone().config(guest.ask(ConfigurationRequest::default())).await;
    assert_eq!(config.unwrap().into_inner().name, "Paris");

    let (_, token) = rig.gateway(paris, "gw2").await;
    let request = mfa_wire::gateway::EnrollRequest { token, ..Default::default() };
    let status = GatewayClient::new(plain(&rig)).enroll(request).await.map(|_| ()).unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);

    // Over TLS both are served, too.
    let guest = Guest::named(&rig, paris, "gw3").await;
    guest.updates().await.unwrap();
    rig.enrolled(paris, "gw4").await;
}

fn plain(rig: &Rig) -> Channel {
    Endpoint::from_shared(format!("http://{}", rig.address)).unwrap().connect_lazy()
}

struct Guest {
    id: GatewayId,
    token: String,
    client: GatewayServiceClient<Channel>,
}

impl Guest {
    async fn new(rig: &Rig, location: LocationId) -> Self {
        Self::named(rig, location, "guest").await
    }

    async fn named(rig: &Rig, location: LocationId, name: &str) -> Self {
        let token = Token::from_random(*Rng::system().bytes());
        let text = token.expose_text().to_string();
        let name = name.to_owned();
        let id = rig.write(move |tx, by| {
            let id = tx.add_gateway(by, location, &name)?;
            tx.set_legacy_token(by, id, &token.digest())?;
            Ok(id)
        });
        let client = GatewayServiceClient::new(rig.channel(rig.tls()));
        Self { id: id.await, token: text, client }
    }

    fn ask<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let token = MetadataValue::try_from(self.token.as_str()).unwrap();
        request.metadata_mut().insert("authorization", token);
        request.metadata_mut().insert("hostname", MetadataValue::from_static("old.example"));
        request
    }

    async fn updates(&self) -> Result<Updates, Status> {
        Ok(Updates(self.client.clone().updates(self.ask(())).await?.into_inner()))
    }

    async fn try_all(&self) -> [Code; 3] {
        let mut client = self.client.clone();
        let config = client.config(self.ask(ConfigurationRequest::default())).await;
        let stats = client.stats(self.ask(tokio_stream::empty())).await;
        [
            config.map(|_| ()).unwrap_err().code(),
            self.updates().await.map(|_| ()).unwrap_err().code(),
            stats.map(|_| ()).unwrap_err().code(),
        ]
    }
}

struct Updates(Streaming<Update>);

impl Updates {
    async fn hear(&mut self) -> Update {
        let heard = tokio::time::timeout(SOON, self.0.message()).await.expect("nothing came");
        heard.unwrap().expect("the stream ended")
    }

    /// What is done, to which device, with which PSK.
    async fn next(&mut self) -> (UpdateType, u32, Option<u8>) {
        let update = self.hear().await;
        let kind = update.update_type();
        let Some(update::Update::Peer(Peer { pubkey, preshared_key, .. })) = update.update else {
            panic!("not about a peer");
        };
        let number = (0..100).find(|n| device_key(*n).to_string() == pubkey).unwrap();
        let psk = preshared_key.map(|psk| data_encoding::BASE64.decode(psk.as_bytes()).unwrap()[0]);
        (kind, number, psk)
    }
}
