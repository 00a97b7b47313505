//! A gateway that says at once that it did what core wants: no kernel, and no time of its own.
//!
//! It comes back when core does.

use core::time::Duration;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use mfa_wire::gateway::gateway_client::GatewayClient;
use mfa_wire::gateway::{
    Ack, EnrollRequest, FromGateway, Heartbeat, Hello, from_gateway, to_gateway,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::world::{World, random};

/// How long to wait before it dials again.
const AGAIN: Duration = Duration::from_millis(50);
const HEARTBEAT: Duration = Duration::from_secs(5);

/// A gateway; it goes when it is dropped.
#[derive(Debug)]
pub struct Gateway(Vec<JoinHandle<()>>);

impl Gateway {
    /// Enrolls with a running core, and stays connected to the cores at `to`.
    ///
    /// # Errors
    ///
    /// When core does not let it in.
    pub async fn start(world: &World, dir: &Path, to: &[SocketAddr]) -> Result<Self> {
        let ca = Certificate::from_pem(std::fs::read(dir.join("ca/ca.pem"))?);
        let tls = ClientTlsConfig::new().ca_certificate(ca).domain_name("localhost");
        let key = rcgen::KeyPair::generate()?;
        let csr = rcgen::CertificateParams::default().serialize_request(&key)?;
        let request = EnrollRequest {
            token: world.token.clone(),
            csr: csr.der().to_vec(),
            hostname: "gw".to_owned(),
            version: "1".to_owned(),
        };
        let first = to.first().context("a gateway has a core")?;
        let channel = endpoint(*first, tls.clone())?.connect().await?;
        let answer = GatewayClient::new(channel).enroll(request).await?.into_inner();
        let body = data_encoding::BASE64.encode(&answer.certificate);
        let pem = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        let tls = tls.identity(Identity::from_pem(pem, key.serialize_pem()));
        let process = random::<16>()?;
        let tasks = to.iter().map(|to| {
            let (to, tls) = (*to, tls.clone());
            tokio::spawn(async move {
                loop {
                    // It is there for as long as core is; why it ended does not matter.
                    let _ = follow(to, tls.clone(), process).await;
                    tokio::time::sleep(AGAIN).await;
                }
            })
        });
        Ok(Self(tasks.collect()))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

fn endpoint(to: SocketAddr, tls: ClientTlsConfig) -> Result<Endpoint> {
    Ok(Endpoint::from_shared(format!("https://{to}"))?.tls_config(tls)?)
}

async fn follow(to: SocketAddr, tls: ClientTlsConfig, process: [u8; 16]) -> Result<()> {
    let channel: Channel = endpoint(to, tls)?.connect().await?;
    let (up, messages) = mpsc::channel(16);
    let say = async |message| up.send(FromGateway { message: Some(message) }).await;
    say(from_gateway::Message::Hello(Hello {
        version: "1".to_owned(),
        hostname: "gw".to_owned(),
        process_id: process.to_vec(),
        applied_revision: 0,
        backend: "kernel".to_owned(),
        interface: "wg0".to_owned(),
    }))
    .await?;
    let link = GatewayClient::new(channel).link(ReceiverStream::new(messages)).await?;
    let mut down = link.into_inner();
    let mut beat = tokio::time::interval(HEARTBEAT);
    let mut number = 0_u64;
    loop {
        let heard = tokio::select! {
            heard = down.message() => heard?.context("core ended the stream")?,
            _ = beat.tick() => {
                number = number.saturating_add(1);
                say(from_gateway::Message::Heartbeat(Heartbeat { number })).await?;
                continue;
            }
        };
        let revision = match heard.message {
            Some(to_gateway::Message::Snapshot(part)) if part.last => part.revision,
            Some(to_gateway::Message::Change(change)) => change.revision,
            _ => continue,
        };
        say(from_gateway::Message::Ack(Ack { revision, ..Ack::default() })).await?;
    }
}
