//! A host's kernel: `wg-netlink`'s model of its WireGuard, what that one leaves out (session keys that
//! outlive a pre-shared key by 180 s), and nftables' gate. It survives the gateway's process.

use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gateway_bin::lease::Gate;
use ipnet::IpNet;
use mutant::Mutant;
use wg_netlink::fake::{FakeInterface, FakeKernel};
use wg_netlink::gate::GateError;
use wg_netlink::{ApplyError, Backend, Error, WireGuard};
use wg_types::timers::REJECT_AFTER_TIME;
use wg_types::{Interface, InterfaceConfig, PeerConfig, PeerStats, PeerUpdate, PublicKey};

use crate::oracle::FOREIGN;
use crate::rng::serial;

/// One pair of session keys.
#[derive(Clone, Copy, Debug)]
pub struct Keypair {
    /// Which pre-shared key made it.
    pub psk: u64,
    /// When, in ms.
    pub at: u64,
}

/// A peer as the data plane has it.
#[derive(Clone, Debug)]
pub struct Shadow {
    /// Who.
    pub key: PublicKey,
    /// Which pre-shared key the next handshake needs; `None`: no key.
    pub psk: Option<u64>,
    /// Its address.
    pub address: Option<IpNet>,
    /// Its session keys.
    pub keypairs: Vec<Keypair>,
}

/// What the gateway's process does not see, or not at once.
#[derive(Debug, Default)]
pub struct State {
    /// All peers.
    pub peers: Vec<Shadow>,
    /// Whether the gate is built.
    pub built: bool,
    /// Until when it is open, in ms.
    pub open_until: u64,
    /// This many calls fail.
    pub failing: u32,
    /// The time.
    pub now: u64,
    /// Who had session keys when the gateway's process removed the peer, with the pre-shared key.
    pub removed: Vec<(PublicKey, u64)>,
    /// How often a pre-shared key gave way to another one of the same peer.
    pub in_place: u32,
}

impl State {
    /// Whether the gate lets packets through.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        !self.built || self.now < self.open_until
    }

    /// The peer of this key.
    #[must_use]
    pub fn peer(&self, key: &PublicKey) -> Option<&Shadow> {
        self.peers.iter().find(|peer| peer.key == *key)
    }

    /// Forgets session keys that are too old.
    pub fn expire(&mut self) {
        let oldest = self.now.saturating_sub(millis(REJECT_AFTER_TIME));
        for peer in &mut self.peers {
            peer.keypairs.retain(|pair| pair.at >= oldest);
        }
    }
}

/// One host's kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Its one WireGuard interface.
    pub fake: FakeInterface,
    state: Arc<Mutex<State>>,
}

impl Kernel {
    /// Boots.
    #[must_use]
    pub fn boot(now: u64) -> Self {
        let state = State { now, ..State::default() };
        Self { fake: FakeKernel::new().interface("wg0"), state: Arc::new(Mutex::new(state)) }
    }

    /// Lends the state.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A handle for a process.
    #[must_use]
    pub fn handle(&self) -> Box<dyn WireGuard> {
        Box::new(Handle(self.clone()))
    }

    /// A handle of the gate for a process.
    #[must_use]
    pub fn gate(&self) -> Box<dyn Gate> {
        Box::new(SimGate(self.clone()))
    }

    /// Somebody on the host, who is not the gateway, changes peers.
    pub fn meddle(&self, updates: &[PeerUpdate]) {
        if self.fake.apply(updates).is_ok() {
            self.follow(updates);
            self.state().removed.clear();
        }
    }

    /// Completes a handshake and tells so, if both sides have the same pre-shared key.
    #[must_use]
    pub fn shake_hands(&self, key: &PublicKey, psk: u64, wall: std::time::SystemTime) -> bool {
        let mut state = self.state();
        let now = state.now;
        let Some(peer) = state.peers.iter_mut().find(|peer| peer.key == *key) else {
            return false;
        };
        if peer.psk != Some(psk) {
            return false;
        }
        if peer.keypairs.len() >= 3 {
            peer.keypairs.remove(0);
        }
        peer.keypairs.push(Keypair { psk, at: now });
        drop(state);
        self.fake.shake_hands(key, wall, None);
        self.fake.hear(key, 148 + 32, 92);
        true
    }

    fn follow(&self, updates: &[PeerUpdate]) {
        let mut state = self.state();
        for update in updates {
            let key = *update.public_key();
            if matches!(update, PeerUpdate::Remove(_)) {
                let had = state.peer(&key).filter(|peer| !peer.keypairs.is_empty());
                if let Some(psk) = had.and_then(|peer| peer.psk) {
                    state.removed.push((key, psk));
                }
                state.peers.retain(|peer| peer.key != key);
            }
        }
        // An address that was given to one peer was taken from another, so all are read again.
        for update in updates {
            let key = *update.public_key();
            if let Some(now) = self.fake.peer(&key)
                && !state.peers.iter().any(|peer| peer.key == key)
            {
                let _ = now;
                state.peers.push(Shadow { key, psk: None, address: None, keypairs: Vec::new() });
            }
        }
        let mut in_place = 0;
        for peer in &mut state.peers {
            let now = self.fake.peer(&peer.key).map(|peer| peer.config);
            let now = now.unwrap_or_else(|| PeerConfig::new(peer.key));
            let psk = now.preshared_key.map(|psk| serial(psk.expose_secret()));
            let before = core::mem::replace(&mut peer.psk, psk);
            let ours = |psk: Option<u64>| psk.is_some_and(|psk| psk < FOREIGN);
            in_place += u32::from(ours(before) && ours(psk) && before != psk);
            peer.address = now.allowed_ips.first().copied();
        }
        state.in_place += in_place;
    }

    fn fails(&self) -> bool {
        let mut state = self.state();
        let fails = state.failing > 0;
        state.failing = state.failing.saturating_sub(1);
        fails
    }
}

/// What a process has of the kernel.
#[derive(Debug)]
struct Handle(Kernel);

impl Handle {
    fn call(&self) -> Result<&FakeInterface, Error> {
        if self.0.fails() { Err(Error::Busy) } else { Ok(&self.0.fake) }
    }
}

impl WireGuard for Handle {
    fn name(&self) -> &'static str {
        "wg0"
    }

    fn backend(&self) -> Backend {
        Backend::Fake
    }

    fn configure(&self, config: &InterfaceConfig) -> Result<(), Error> {
        self.call()?.configure(config)
    }

    fn set_addresses(&self, addresses: &[IpNet]) -> Result<(), Error> {
        self.call()?.set_addresses(addresses)
    }

    fn set_up(&self, mtu: Option<u32>) -> Result<(), Error> {
        self.call()?.set_up(mtu)
    }

    fn set_routes(&self, routes: &[IpNet]) -> Result<(), Error> {
        self.call()?.set_routes(routes)
    }

    fn apply(&self, updates: &[PeerUpdate]) -> Result<(), ApplyError> {
        if updates.is_empty() {
            return Ok(());
        }
        if self.0.fails() {
            // The next call of the model fails in the way that the kernel's would.
            self.0.fake.fail_next(Error::Busy);
            return self.0.fake.apply(updates);
        }
        let applied = self.0.fake.apply(updates);
        self.0.follow(updates);
        applied
    }

    fn interface(&self) -> Result<Interface, Error> {
        self.call()?.interface()
    }

    fn stats(&self, visit: &mut dyn FnMut(&PeerStats)) -> Result<(), Error> {
        self.call()?.stats(visit)
    }

    fn remove(&self) -> Result<(), Error> {
        self.call()?.remove()
    }
}

/// nftables' gate, with time.
#[derive(Debug)]
struct SimGate(Kernel);

impl SimGate {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> Result<T, GateError> {
        if self.0.fails() {
            return Err(GateError::Os(std::io::ErrorKind::ResourceBusy.into()));
        }
        let mut state = self.0.state();
        if state.built { Ok(act(&mut state)) } else { Err(GateError::Gone) }
    }
}

impl Gate for SimGate {
    fn ensure(&mut self) -> Result<(), GateError> {
        if self.0.fails() {
            return Err(GateError::Os(std::io::ErrorKind::ResourceBusy.into()));
        }
        let mut state = self.0.state();
        if !state.built {
            (state.built, state.open_until) = (true, 0);
        }
        Ok(())
    }

    fn renew(&mut self, lease: Duration) -> Result<(), GateError> {
        self.with(|state| {
            // The kernel would shut it by itself; with this bug the process has to.
            let for_ever = mutant::on(Mutant::ProcessLease);
            state.open_until = if for_ever { u64::MAX } else { state.now + millis(lease) };
        })
    }

    fn shut(&mut self) -> Result<(), GateError> {
        self.with(|state| state.open_until = 0)
    }

    fn remaining(&mut self) -> Result<Option<Duration>, GateError> {
        self.with(|state| {
            let left = state.open_until.saturating_sub(state.now);
            (left > 0).then(|| Duration::from_millis(left))
        })
    }

    fn is_whole(&mut self) -> Result<bool, GateError> {
        Ok(self.0.state().built)
    }

    fn remove(&mut self) -> Result<(), GateError> {
        let mut state = self.0.state();
        (state.built, state.open_until) = (false, 0);
        Ok(())
    }
}

/// Whole milliseconds.
#[must_use]
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
