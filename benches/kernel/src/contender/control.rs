//! wireguard-control (innernet's): all peers in one call.

use std::hint::black_box;
use std::net::IpAddr;

use anyhow::Result;
use wireguard_control::{Backend, Device, DeviceUpdate, InterfaceName, Key, PeerConfigBuilder};

use super::{Contender, Job};
use crate::NAME;
use crate::workload::{Operation, Subject, Workload};

pub(crate) struct Control;

impl Contender for Control {
    fn name(&self) -> &'static str {
        "wireguard-control"
    }

    fn prepare<'a>(
        &'a mut self,
        operation: Operation,
        workload: &'a Workload,
    ) -> Result<Option<Job<'a>>> {
        let name: InterfaceName = NAME.parse()?;
        // It has no "only if it is there".
        let peer: fn(&Subject) -> PeerConfigBuilder = match operation {
            Operation::Add | Operation::Replace => |subject| {
                builder(subject)
                    .set_preshared_key(Key(subject.psk))
                    .replace_allowed_ips()
                    .add_allowed_ip(IpAddr::V4(subject.ip), 32)
            },
            Operation::Psk => |subject| builder(subject).set_preshared_key(Key(subject.psk)),
            Operation::Lock => |subject| builder(subject).replace_allowed_ips(),
            Operation::Unlock => |subject| {
                builder(subject).replace_allowed_ips().add_allowed_ip(IpAddr::V4(subject.ip), 32)
            },
            Operation::Remove => |subject| builder(subject).remove(),
            Operation::Dump | Operation::Statistics => {
                return Ok(Job::all(workload, move || {
                    black_box(Device::get(&name, Backend::Kernel)?);
                    Ok(())
                }));
            }
        };
        let start = match operation {
            Operation::Replace => DeviceUpdate::new().replace_peers(),
            _ => DeviceUpdate::new(),
        };
        let peers: Vec<_> = workload.peers.iter().map(peer).collect();
        let mut update = Some(start.add_peers(&peers));
        Ok(Job::all(workload, move || {
            if let Some(update) = update.take() {
                update.apply(&name, Backend::Kernel)?;
            }
            Ok(())
        }))
    }
}

fn builder(subject: &Subject) -> PeerConfigBuilder {
    PeerConfigBuilder::new(&Key(subject.key))
}
