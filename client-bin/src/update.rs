//! The Instance Update: what the server knows of this device today.

use mfa_wire::http::DeviceConfigResponse;

use crate::api::{Api, ApiError};
use crate::location::{BadLocation, Location, changes};
use crate::state::{Instance, StateError, Store};

/// What an Instance Update says.
#[derive(Clone, Debug)]
pub struct Update {
    /// The instance's name today.
    pub name: String,
    /// Changes with anything in it; `None`: the server gives none.
    pub version: Option<String>,
    /// The locations of today.
    pub locations: Vec<Location>,
    /// Those that cannot be used.
    pub unusable: Vec<BadLocation>,
}

impl From<&DeviceConfigResponse> for Update {
    fn from(response: &DeviceConfigResponse) -> Self {
        let (mut locations, mut unusable) = (Vec::new(), Vec::new());
        for config in &response.configs {
            match Location::try_from(config) {
                Ok(location) => locations.push(location),
                Err(error) => unusable.push(error),
            }
        }
        Self {
            name: response.instance.name.clone(),
            version: response.config_version.clone(),
            locations,
            unusable,
        }
    }
}

impl Update {
    /// Asks the server.
    ///
    /// # Errors
    ///
    /// [`ApiError`], as all calls; [`ApiError::NotOffered`] if the server gave no polling token.
    pub async fn fetch(api: &Api, instance: &Instance) -> Result<Self, ApiError> {
        let token = instance
            .polling_token
            .clone()
            .ok_or_else(|| ApiError::NotOffered { server: api.server() })?;
        Ok(Self::from(&api.poll(token).await?))
    }

    /// Tells in words what is new against what is stored.
    #[must_use]
    pub fn against(&self, instance: &Instance) -> Vec<String> {
        changes(&instance.locations, &self.locations)
    }

    /// Stores it.
    ///
    /// # Errors
    ///
    /// [`StateError`] if the state cannot be written.
    pub fn store(&self, store: &Store, instance: &str) -> Result<(), StateError> {
        store.change(|state| {
            if let Some(instance) = state.instance_mut(instance) {
                instance.name.clone_from(&self.name);
                instance.config_version.clone_from(&self.version);
                instance.locations.clone_from(&self.locations);
            }
        })
    }
}
