//! wg-netlink, and its other way to do what there are two ways to do.

use std::hint::black_box;

use anyhow::Result;
use wg_netlink::{Want, WireGuard};
use wg_types::{PeerConfig, PeerUpdate, PresharedKey, PublicKey};

use super::{Contender, Job};
use crate::NAME;
use crate::workload::{Operation, Subject, Workload};

pub(crate) struct Ours(Box<dyn WireGuard>);

impl Ours {
    pub(crate) fn open() -> Result<Self> {
        Ok(Self(wg_netlink::open(NAME, Want::Kernel)?))
    }
}

/// Replaces peers by the difference, so that sessions stay; reads peers one by one and keeps none.
pub(crate) struct OneByOne(Box<dyn WireGuard>);

impl OneByOne {
    pub(crate) fn open() -> Result<Self> {
        Ok(Self(wg_netlink::open(NAME, Want::Kernel)?))
    }
}

impl Contender for OneByOne {
    fn name(&self) -> &'static str {
        "wg-netlink, set_peers and peers"
    }

    fn prepare<'a>(
        &'a mut self,
        operation: Operation,
        workload: &'a Workload,
    ) -> Result<Option<Job<'a>>> {
        let wg = &self.0;
        match operation {
            Operation::Replace => {
                let peers: Vec<_> = workload.peers.iter().map(config).collect();
                Ok(Job::all(workload, move || Ok(wg.set_peers(&peers)?)))
            }
            Operation::Dump => Ok(Job::all(workload, || {
                let mut sum = 0_usize;
                wg.peers(&mut |peer| {
                    sum = sum.wrapping_add(black_box(peer).config.allowed_ips.len());
                })?;
                black_box(sum);
                Ok(())
            })),
            _ => Ok(None),
        }
    }
}

impl Contender for Ours {
    fn name(&self) -> &'static str {
        "wg-netlink"
    }

    fn is_too_slow(&self, _: Operation, _: usize) -> bool {
        false
    }

    fn prepare<'a>(
        &'a mut self,
        operation: Operation,
        workload: &'a Workload,
    ) -> Result<Option<Job<'a>>> {
        let wg = &self.0;
        let update: fn(&Subject) -> PeerUpdate = match operation {
            Operation::Add => |subject| PeerUpdate::Put(config(subject)),
            Operation::Replace => {
                let peers: Vec<_> = workload.peers.iter().map(config).collect();
                return Ok(Job::all(workload, move || Ok(wg.replace_peers(&peers)?)));
            }
            Operation::Psk => {
                |subject| PeerUpdate::set_psk(key(subject), PresharedKey::from_bytes(subject.psk))
            }
            Operation::Lock => |subject| PeerUpdate::lock(key(subject)),
            Operation::Unlock => |subject| PeerUpdate::unlock(key(subject), vec![subject.net()]),
            Operation::Remove => |subject| PeerUpdate::Remove(key(subject)),
            Operation::Dump => {
                return Ok(Job::all(workload, || {
                    black_box(wg.interface()?);
                    Ok(())
                }));
            }
            Operation::Statistics => {
                return Ok(Job::all(workload, || {
                    let mut sum = 0_u64;
                    wg.stats(&mut |peer| {
                        sum = sum.wrapping_add(black_box(peer).rx_bytes);
                    })?;
                    black_box(sum);
                    Ok(())
                }));
            }
        };
        let updates: Vec<_> = workload.peers.iter().map(update).collect();
        Ok(Job::all(workload, move || Ok(wg.apply(&updates)?)))
    }
}

fn config(subject: &Subject) -> PeerConfig {
    PeerConfig {
        preshared_key: Some(PresharedKey::from_bytes(subject.psk)),
        allowed_ips: vec![subject.net()],
        ..PeerConfig::new(key(subject))
    }
}

fn key(subject: &Subject) -> PublicKey {
    PublicKey::from_bytes(subject.key)
}
