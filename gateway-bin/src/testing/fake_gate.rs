//! A kernel's gate, modelled. Clones are handles of the same.

use core::time::Duration;
use std::sync::{Arc, Mutex};

use wg_netlink::gate::GateError;

use crate::lease::Gate;

#[derive(Clone, Debug, Default)]
pub(crate) struct FakeGate(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Whether there is a table, and whether it has all its rules.
    built: Option<bool>,
    open: Option<Duration>,
    no_nftables: bool,
}

impl FakeGate {
    pub(crate) fn flush(&self) {
        self.with(|state| (state.built, state.open) = (None, None));
    }

    pub(crate) fn damage(&self) {
        self.with(|state| state.built = Some(false));
    }

    pub(crate) fn take_nftables_away(&self) {
        self.with(|state| state.no_nftables = true);
    }

    /// The granted time is over.
    pub(crate) fn shut_by_time(&self) {
        self.with(|state| state.open = None);
    }

    /// The granted time; the model's clock stands still.
    pub(crate) fn open(&self) -> Option<Duration> {
        self.with(|state| state.open)
    }

    pub(crate) fn is_built(&self) -> bool {
        self.with(|state| state.built == Some(true))
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap())
    }

    fn built<T>(&self, act: impl FnOnce(&mut State) -> T) -> Result<T, GateError> {
        self.with(|state| match (state.no_nftables, state.built) {
            (true, _) => Err(GateError::NoNftables),
            (false, None) => Err(GateError::Gone),
            (false, Some(_)) => Ok(act(state)),
        })
    }
}

impl Gate for FakeGate {
    fn ensure(&mut self) -> Result<(), GateError> {
        self.with(|state| state.built = state.built.or(Some(true)));
        self.built(|state| state.built = Some(true))
    }

    fn renew(&mut self, lease: Duration) -> Result<(), GateError> {
        self.built(|state| state.open = Some(lease))
    }

    fn shut(&mut self) -> Result<(), GateError> {
        self.built(|state| state.open = None)
    }

    fn remaining(&mut self) -> Result<Option<Duration>, GateError> {
        self.built(|state| state.open)
    }

    fn is_whole(&mut self) -> Result<bool, GateError> {
        self.with(|state| match (state.no_nftables, state.built) {
            (true, _) => Err(GateError::NoNftables),
            (false, built) => Ok(built == Some(true)),
        })
    }

    fn remove(&mut self) -> Result<(), GateError> {
        self.flush();
        Ok(())
    }
}
