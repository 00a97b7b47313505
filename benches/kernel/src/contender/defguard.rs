//! defguard_wireguard_rs: a call a peer.

use std::hint::black_box;
use std::net::IpAddr;

use anyhow::Result;
use defguard_wireguard_rs::key::Key;
use defguard_wireguard_rs::net::IpAddrMask;
use defguard_wireguard_rs::peer::Peer;
use defguard_wireguard_rs::{Kernel, WGApi, WireguardInterfaceApi as _};

use super::{Contender, Job};
use crate::NAME;
use crate::workload::{Operation, SAMPLE, Subject, Workload};

pub(crate) struct Defguard(WGApi<Kernel>);

impl Defguard {
    pub(crate) fn open() -> Result<Self> {
        Ok(Self(WGApi::new(NAME)?))
    }
}

impl Contender for Defguard {
    fn name(&self) -> &'static str {
        "defguard_wireguard_rs"
    }

    fn prepare<'a>(
        &'a mut self,
        operation: Operation,
        workload: &'a Workload,
    ) -> Result<Option<Job<'a>>> {
        let api = &self.0;
        match operation {
            Operation::Dump | Operation::Statistics => {
                return Ok(Job::all(workload, || {
                    black_box(api.read_interface_data()?);
                    Ok(())
                }));
            }
            // Its call for that wants the interface's key and addresses too, and sets them again.
            Operation::Replace => return Ok(None),
            Operation::Remove => {
                let sample = workload.sample(SAMPLE);
                return Ok(Job::some(sample.clone().count(), move || {
                    for subject in sample.clone() {
                        api.remove_peer(&Key::new(subject.key))?;
                    }
                    Ok(())
                }));
            }
            _ => {}
        }
        // Its call always replaces the allowed IPs.
        let peer = |subject: &Subject| {
            let mut peer = Peer::new(Key::new(subject.key));
            if matches!(operation, Operation::Add | Operation::Psk) {
                peer.preshared_key = Some(Key::new(subject.psk));
            }
            if operation != Operation::Lock {
                peer.set_allowed_ips(vec![IpAddrMask::new(IpAddr::V4(subject.ip), 32)]);
            }
            peer
        };
        let peers: Vec<Peer> = workload.sample(SAMPLE).map(peer).collect();
        Ok(Job::some(peers.len(), move || {
            for peer in &peers {
                api.configure_peer(peer)?;
            }
            Ok(())
        }))
    }
}
