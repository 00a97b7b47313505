//! wireguard-uapi: 512 peers a call; it cuts them into messages itself.

use std::hint::black_box;
use std::net::IpAddr;

use anyhow::Result;
use wireguard_uapi::WgSocket;
use wireguard_uapi::linux::DeviceInterface;
use wireguard_uapi::linux::set::{AllowedIp, Device, Peer, WgDeviceF, WgPeerF};

use super::{Contender, Job};
use crate::NAME;
use crate::workload::{Operation, Workload};

pub(crate) struct Uapi(WgSocket);

impl Uapi {
    pub(crate) fn open() -> Result<Self> {
        Ok(Self(WgSocket::connect()?))
    }
}

impl Contender for Uapi {
    fn name(&self) -> &'static str {
        "wireguard-uapi"
    }

    fn prepare<'a>(
        &'a mut self,
        operation: Operation,
        workload: &'a Workload,
    ) -> Result<Option<Job<'a>>> {
        let socket = &mut self.0;
        if matches!(operation, Operation::Dump | Operation::Statistics) {
            return Ok(Job::all(workload, move || {
                black_box(socket.get_device(DeviceInterface::from_name(NAME))?);
                Ok(())
            }));
        }
        let ips: Vec<IpAddr> =
            workload.peers.iter().map(|subject| IpAddr::V4(subject.ip)).collect();
        Ok(Job::all(workload, move || {
            let chunks = workload.peers.chunks(512).zip(ips.chunks(512));
            for (place, (subjects, ips)) in chunks.enumerate() {
                let peers = subjects.iter().zip(ips).map(|(subject, ip)| {
                    let peer = Peer::from_public_key(&subject.key);
                    let ip = || vec![AllowedIp { ipaddr: ip, cidr_mask: Some(32) }];
                    match operation {
                        Operation::Add | Operation::Replace => peer
                            .flags(vec![WgPeerF::ReplaceAllowedIps])
                            .preshared_key(&subject.psk)
                            .allowed_ips(ip()),
                        Operation::Psk => peer.preshared_key(&subject.psk),
                        Operation::Lock => peer.flags(vec![WgPeerF::ReplaceAllowedIps]),
                        Operation::Unlock => {
                            peer.flags(vec![WgPeerF::ReplaceAllowedIps]).allowed_ips(ip())
                        }
                        _ => peer.flags(vec![WgPeerF::RemoveMe]),
                    }
                });
                let mut device = Device::from_ifname(NAME).peers(peers.collect());
                if operation == Operation::Replace && place == 0 {
                    device = device.flags(vec![WgDeviceF::ReplacePeers]);
                }
                socket.set_device(device)?;
            }
            Ok(())
        }))
    }
}
