//! Opens the state for a command.

use super::Globals;
use crate::admin::Desk;
use crate::clock::Clock;
use crate::config::{Config, Loader};
use crate::dir::StateDir;
use crate::rng::Rng;
use crate::serve::open_store;

impl Globals {
    /// Returns the state directory.
    pub(super) fn dir(&self) -> StateDir {
        self.dir.as_ref().map_or_else(StateDir::default_for_user, StateDir::new)
    }

    /// Reads the configuration.
    pub(super) fn load(&self) -> anyhow::Result<Config> {
        let loader = match &self.config {
            Some(file) => Loader::new().required_file(file),
            None => Loader::new().file(self.dir().config()),
        };
        // A variable that is no text is none of ours.
        let texts = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Ok(loader.environment(texts).load()?)
    }

    /// Opens the state.
    pub(super) async fn open(&self) -> anyhow::Result<Desk> {
        let (dir, config) = (self.dir(), self.load()?);
        let store = open_store(&config, &dir).await?;
        Ok(Desk { store, clock: Clock::system(), rng: Rng::system(), config, dir })
    }
}
