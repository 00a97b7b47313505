//! genetlink with netlink-packet-wireguard, one peer a message and 512: with some more of the larger ones it panics.

use std::hint::black_box;
use std::net::IpAddr;

use anyhow::{Result, bail};
use futures_util::StreamExt as _;
use genetlink::GenetlinkHandle;
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_generic::GenlMessage;
use netlink_packet_wireguard::{
    WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAttribute,
    WireguardCmd, WireguardDeviceFlags, WireguardMessage, WireguardPeer, WireguardPeerAttribute, WireguardPeerFlags,
};
use tokio::runtime::Runtime;

use super::{Contender, Job};
use crate::NAME;
use crate::workload::{Operation, SAMPLE, Subject, Workload};

pub(crate) struct Generic {
    name: &'static str,
    batch: usize,
    runtime: Runtime,
    handle: GenetlinkHandle,
}

impl Generic {
    pub(crate) fn batched() -> Result<Self> {
        Self::open("genetlink, 512 a message", 512)
    }

    pub(crate) fn singly() -> Result<Self> {
        Self::open("genetlink, 1 a message", 1)
    }

    fn open(name: &'static str, batch: usize) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let context = runtime.enter();
        let (connection, handle, _) = genetlink::new_connection()?;
        drop(context);
        runtime.spawn(connection);
        Ok(Self { name, batch, runtime, handle })
    }
}

impl Contender for Generic {
    fn name(&self) -> &'static str {
        self.name
    }

    fn prepare<'a>(
        &'a mut self,
        operation: Operation,
        workload: &'a Workload,
    ) -> Result<Option<Job<'a>>> {
        if self.batch == 1
            && matches!(operation, Operation::Replace | Operation::Dump | Operation::Statistics)
        {
            return Ok(None);
        }
        let peer: fn(&Subject) -> WireguardPeer = match operation {
            Operation::Add | Operation::Replace => |subject| {
                WireguardPeer(vec![
                    key(subject),
                    flags(WireguardPeerFlags::ReplaceAllowedIps),
                    psk(subject),
                    ip(subject),
                ])
            },
            Operation::Psk => |subject| {
                WireguardPeer(vec![
                    key(subject),
                    flags(WireguardPeerFlags::UpdateOnly),
                    psk(subject),
                ])
            },
            Operation::Lock => |subject| {
                let both = WireguardPeerFlags::UpdateOnly | WireguardPeerFlags::ReplaceAllowedIps;
                WireguardPeer(vec![key(subject), flags(both)])
            },
            Operation::Unlock => |subject| {
                let both = WireguardPeerFlags::UpdateOnly | WireguardPeerFlags::ReplaceAllowedIps;
                WireguardPeer(vec![key(subject), flags(both), ip(subject)])
            },
            Operation::Remove => {
                |subject| WireguardPeer(vec![key(subject), flags(WireguardPeerFlags::RemoveMe)])
            }
            Operation::Dump | Operation::Statistics => {
                return Ok(Job::all(workload, || self.runtime.block_on(dump(self.handle.clone()))));
            }
        };
        let (runtime, handle, batch) = (&self.runtime, &self.handle, self.batch);
        if batch == 1 {
            let sample = workload.sample(SAMPLE);
            return Ok(Job::some(sample.clone().count(), move || {
                runtime.block_on(async {
                    for subject in sample.clone() {
                        set(handle.clone(), Vec::new(), vec![peer(subject)]).await?;
                    }
                    Ok(())
                })
            }));
        }
        Ok(Job::all(workload, move || {
            runtime.block_on(async {
                for (place, chunk) in workload.peers.chunks(batch).enumerate() {
                    let mut attributes = Vec::new();
                    if operation == Operation::Replace && place == 0 {
                        attributes.push(WireguardAttribute::Flags(WireguardDeviceFlags::ReplacePeers));
                    }
                    set(handle.clone(), attributes, chunk.iter().map(peer).collect()).await?;
                }
                Ok(())
            })
        }))
    }
}

async fn set(
    mut handle: GenetlinkHandle,
    mut attributes: Vec<WireguardAttribute>,
    peers: Vec<WireguardPeer>,
) -> Result<()> {
    attributes.push(WireguardAttribute::IfName(NAME.to_owned()));
    attributes.push(WireguardAttribute::Peers(peers));
    let message = WireguardMessage { cmd: WireguardCmd::SetDevice, attributes };
    let mut request = NetlinkMessage::from(GenlMessage::from_payload(message));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK;
    let mut answers = handle.request(request).await?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer?.payload
            && error.code.is_some()
        {
            bail!("{error}");
        }
    }
    Ok(())
}

async fn dump(mut handle: GenetlinkHandle) -> Result<()> {
    let attributes = vec![WireguardAttribute::IfName(NAME.to_owned())];
    let message = WireguardMessage { cmd: WireguardCmd::GetDevice, attributes };
    let mut request = NetlinkMessage::from(GenlMessage::from_payload(message));
    request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut answers = handle.request(request).await?;
    while let Some(answer) = answers.next().await {
        black_box(answer?);
    }
    Ok(())
}

fn key(subject: &Subject) -> WireguardPeerAttribute {
    WireguardPeerAttribute::PublicKey(subject.key)
}

fn psk(subject: &Subject) -> WireguardPeerAttribute {
    WireguardPeerAttribute::PresharedKey(subject.psk)
}

fn flags(flags: WireguardPeerFlags) -> WireguardPeerAttribute {
    WireguardPeerAttribute::Flags(flags)
}

fn ip(subject: &Subject) -> WireguardPeerAttribute {
    WireguardPeerAttribute::AllowedIps(vec![WireguardAllowedIp(vec![
        WireguardAllowedIpAttr::Family(WireguardAddressFamily::Ipv4),
        WireguardAllowedIpAttr::IpAddr(IpAddr::V4(subject.ip)),
        WireguardAllowedIpAttr::Cidr(32),
    ])])
}
