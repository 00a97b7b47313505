//! The client as a value: what it remembers, the machine it works on, how often it asks.

use core::fmt::Write as _;
use core::time::Duration;
use std::io;
use std::sync::Arc;

use crate::api::Api;
use crate::error::ClientError;
use crate::host::{Host, ThisMachine};
use crate::location::Location;
use crate::running::Running;
use crate::state::{Instance, Store};

/// One client. Commands are its methods, each in the file of its journey.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) store: Store,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) periods: Periods,
}

/// How often a connection asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Periods {
    /// The server, for an Instance Update.
    pub update: Duration,
    /// The server, for the session.
    pub status: Duration,
    /// The interface, once the first handshake is done.
    pub link: Duration,
    /// The interface, until then.
    pub first_handshake: Duration,
}

impl Default for Periods {
    fn default() -> Self {
        Self {
            update: Duration::from_secs(30),
            status: Duration::from_secs(15),
            link: Duration::from_secs(1),
            first_handshake: Duration::from_millis(10),
        }
    }
}

impl Client {
    /// A client of this machine with its memory in a folder.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self::on(store, Arc::new(ThisMachine::default()))
    }

    /// A client of another machine: a test's or a demonstration's.
    #[must_use]
    pub fn on(store: Store, host: Arc<dyn Host>) -> Self {
        Self { store, host, periods: Periods::default() }
    }

    /// Asks at other times.
    #[must_use]
    pub const fn with_periods(mut self, periods: Periods) -> Self {
        self.periods = periods;
        self
    }

    /// What it remembers.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// The running connections' folder.
    #[must_use]
    pub fn running(&self) -> Running {
        Running::of(&self.store)
    }

    /// Picks an instance by name; without one, the only one there is.
    ///
    /// # Errors
    ///
    /// [`ClientError::State`], [`ClientError::Pick`].
    pub fn instance(&self, wanted: Option<&str>) -> Result<Instance, ClientError> {
        Ok(self.store.load()?.pick(wanted)?.clone())
    }

    /// Picks the instances that a command is about: the named one, or all.
    ///
    /// # Errors
    ///
    /// [`ClientError::State`], [`ClientError::Pick`] if there is none.
    pub fn instances(&self, wanted: Option<&str>) -> Result<Vec<Instance>, ClientError> {
        let state = self.store.load()?;
        if wanted.is_some() || state.instances.len() < 2 {
            return Ok(vec![state.pick(wanted)?.clone()]);
        }
        Ok(state.instances)
    }

    /// Finds a location by its name, in any case, or its number.
    ///
    /// # Errors
    ///
    /// [`ClientError::NoLocation`], [`ClientError::Ambiguous`], and those of
    /// [`instances`](Self::instances).
    pub fn location(
        &self,
        instance: Option<&str>,
        wanted: &str,
    ) -> Result<(Instance, Location), ClientError> {
        let instances = self.instances(instance)?;
        let fits = |location: &Location| {
            location.name.eq_ignore_ascii_case(wanted) || location.id.to_string() == wanted
        };
        let mut found: Vec<(Instance, Location)> = Vec::new();
        for instance in &instances {
            // A name beats another location's number.
            let exact = instance.locations.iter().find(|location| location.name == wanted);
            let any = exact.or_else(|| instance.locations.iter().find(|l| fits(l)));
            found.extend(any.map(|location| (instance.clone(), location.clone())));
        }
        if found.len() > 1 {
            let names: Vec<_> = found.iter().map(|(i, _)| format!("\"{}\"", i.name)).collect();
            let (wanted, instances) = (wanted.to_owned(), names.join(", "));
            return Err(ClientError::Ambiguous { wanted, instances });
        }
        found.pop().ok_or_else(|| no_location(wanted, &instances))
    }

    /// Finds a location again by the ids that a plan or an update has.
    ///
    /// # Errors
    ///
    /// [`ClientError::NoLocation`] if it is gone, and those of [`instances`](Self::instances).
    pub(crate) fn location_by_id(
        &self,
        instance: &str,
        location: i64,
    ) -> Result<(Instance, Location), ClientError> {
        let instance = self.instance(Some(instance))?;
        match instance.locations.iter().find(|found| found.id == location).cloned() {
            Some(location) => Ok((instance, location)),
            None => Err(no_location(&location.to_string(), &[instance])),
        }
    }

    /// The server of an instance.
    ///
    /// # Errors
    ///
    /// [`ClientError::Api`] if TLS cannot be set up.
    pub fn api(&self, instance: &Instance) -> Result<Api, ClientError> {
        Ok(Api::new(&instance.url, instance.ca_pin)?)
    }
}

fn no_location(wanted: &str, instances: &[Instance]) -> ClientError {
    let mut known = String::new();
    for location in instances.iter().flat_map(|instance| &instance.locations) {
        let comma = if known.is_empty() { "There is: " } else { ", " };
        let _ = write!(known, "{comma}{}", location.name);
    }
    known.push_str(if known.is_empty() { "There is none." } else { "." });
    ClientError::NoLocation { wanted: wanted.to_owned(), known }
}

/// Names what was tried when the system failed.
pub(crate) fn io_error(doing: &'static str) -> impl FnOnce(io::Error) -> ClientError {
    move |source| ClientError::Io { doing, source }
}
