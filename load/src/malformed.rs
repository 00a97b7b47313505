//! Damaged gRPC calls to the port of the gateways: messages that are none, paths that there are not.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use mfa_wire::gateway::EnrollRequest;
use prost::Message as _;
use prost::bytes::{Buf as _, BufMut as _};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinSet;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

/// What is called.
const CALLS: &[&str] = &[
    "/wgmfa.gateway.v1.Gateway/Enroll",
    "/wgmfa.gateway.v1.Gateway/Renew",
    "/wgmfa.gateway.v1.Gateway/Link",
    "/wgmfa.gateway.v1.Gateway/Nothing",
    "/nothing.at.All/X",
];
/// How many calls share a connection.
const ON_ONE: u64 = 500;

/// How often each call was answered with each code.
pub type Answers = BTreeMap<(&'static str, i32), usize>;

/// Whether an answer says that core failed. tonic says "internal" of a message that it cannot read;
/// that is the caller's fault.
fn is_failure(status: &Status) -> bool {
    match status.code() {
        Code::Internal => !status.message().contains("decode"),
        Code::Unknown | Code::DataLoss => true,
        _ => false,
    }
}

/// Sends the calls of the numbers up to `calls` to the gateways' port, over so many connections.
///
/// # Errors
///
/// An answer that says that core failed, with the number that made it.
pub async fn run(dir: &Path, to: SocketAddr, calls: u64, connections: u64) -> Result<Answers> {
    let ca = std::fs::read(dir.join("ca/ca.pem"))?;
    let mut tasks = JoinSet::new();
    for first in 0..connections {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&ca))
            .domain_name("localhost");
        let endpoint = Endpoint::from_shared(format!("https://{to}"))?.tls_config(tls)?;
        tasks.spawn(async move {
            let mut answers = Answers::new();
            let mut channel: Option<Channel> = None;
            let step = usize::try_from(connections).unwrap_or(1).max(1);
            for (count, number) in (0_u64..).zip((first..calls).step_by(step)) {
                if count.is_multiple_of(ON_ONE) {
                    channel = None;
                }
                let open = match channel.take() {
                    Some(open) => open,
                    None => endpoint.connect().await?,
                };
                let (call, status) = ask(open.clone(), number).await?;
                channel = Some(open);
                let entry = answers.entry((call, i32::from(status.code()))).or_default();
                *entry = entry.saturating_add(1);
            }
            Ok::<_, anyhow::Error>(answers)
        });
    }
    let mut all = Answers::new();
    for answers in tasks.join_all().await {
        for (key, count) in answers? {
            let entry = all.entry(key).or_default();
            *entry = entry.saturating_add(count);
        }
    }
    Ok(all)
}

async fn ask(channel: Channel, number: u64) -> Result<(&'static str, Status)> {
    let mut random = StdRng::seed_from_u64(number);
    let call = CALLS.get(random.random_range(0..CALLS.len())).copied().unwrap_or_default();
    let mut grpc = Grpc::new(channel);
    grpc.ready().await?;
    let path = PathAndQuery::from_static(call);
    let answer = grpc.unary(Request::new(damaged(&mut random)), path, Raw).await;
    let status = answer.err().unwrap_or_else(|| Status::ok(""));
    if is_failure(&status) {
        return Err(anyhow::anyhow!("{status:?}")).context(format!("call {number} of {call}"));
    }
    Ok((call, status))
}

/// A request for enrollment, damaged.
fn damaged(random: &mut StdRng) -> Vec<u8> {
    let whole = EnrollRequest {
        token: "0".repeat(43),
        csr: vec![0x30; 300],
        hostname: "gw".to_owned(),
        version: "1".to_owned(),
    };
    let mut bytes = whole.encode_to_vec();
    for _ in 0..random.random_range(0..6_usize) {
        let at = random.random_range(0..=bytes.len());
        match random.random_range(0..4_u8) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.random()),
            2 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random.random();
                }
            }
            _ => bytes.extend_from_slice(&[0xff; 32]),
        }
    }
    bytes
}

/// Bytes as they are.
#[derive(Clone, Copy, Debug)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        from.advance(from.remaining());
        Ok(Some(()))
    }
}
