//! The state of one modelled interface.

use core::num::NonZeroU32;
use std::collections::{BTreeMap, VecDeque};

use ipnet::IpNet;
use wg_types::{Interface, InterfaceConfig, PeerUpdate, PublicKey};

use crate::model::Peers;
use crate::{Error, Refused};

/// The first port of the range from which the kernel chooses.
const FIRST_PORT: u16 = 32_768;

#[derive(Debug, Default)]
pub(super) struct Device {
    public_key: Option<PublicKey>,
    listen_port: u16,
    fwmark: Option<NonZeroU32>,
    pub(super) peers: Peers,
    pub(super) addresses: Vec<IpNet>,
    pub(super) routes: Vec<IpNet>,
    pub(super) up: bool,
    pub(super) mtu: Option<u32>,
    pub(super) faults: VecDeque<Error>,
    pub(super) refuse: BTreeMap<PublicKey, Error>,
    pub(super) updates_taken: usize,
}

impl Device {
    pub(super) fn configure(&mut self, config: &InterfaceConfig) {
        if let Some(key) = &config.private_key {
            self.public_key = Some(key.public_key());
            self.peers.set_own_key(key.public_key());
        }
        if let Some(port) = config.listen_port {
            self.listen_port = port;
            self.choose_port();
        }
        if let Some(fwmark) = config.fwmark {
            self.fwmark = NonZeroU32::new(fwmark);
        }
    }

    pub(super) fn set_up(&mut self, mtu: Option<u32>) {
        self.up = true;
        self.mtu = mtu.or(self.mtu);
        self.choose_port();
    }

    pub(super) fn dump(&self, name: &str) -> Interface {
        Interface {
            name: name.to_owned(),
            public_key: self.public_key,
            listen_port: self.listen_port,
            fwmark: self.fwmark,
            peers: self.peers.to_vec(),
        }
    }

    pub(super) fn apply(&mut self, updates: &[PeerUpdate]) -> Vec<Refused> {
        let mut refused = Vec::new();
        for (index, update) in updates.iter().enumerate() {
            let public_key = *update.public_key();
            if let Some(error) = self.refuse.get(&public_key) {
                refused.push(Refused { index, public_key, error: error.clone() });
            } else {
                self.updates_taken += 1;
                self.peers.apply(update);
            }
        }
        refused
    }

    const fn choose_port(&mut self) {
        if self.up && self.listen_port == 0 {
            self.listen_port = FIRST_PORT;
        }
    }
}
