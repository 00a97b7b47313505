//! The wished end of a connection: the interface goes, the server knows, whoever is still alive.

use mfa_wire::http::DisconnectRequest;
use serde::Serialize;

use crate::client::{Client, io_error};
use crate::control::{self, Ask, Reply};
use crate::error::ClientError;
use crate::location::Location;
use crate::state::Instance;

/// What became of one location.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Disconnected {
    /// The server's name.
    pub instance: String,
    /// The location's name.
    pub location: String,
    /// There was an interface of this client.
    pub was_connected: bool,
    /// The server ended the session, or had none.
    pub server_told: bool,
    /// Why the server could not be told; absent: it was.
    pub server_error: Option<String>,
}

impl Client {
    /// Ends the connection to a location; without one, every connection of this client.
    ///
    /// # Errors
    ///
    /// [`ClientError`] if something cannot be cleaned up. A server that cannot be told is no
    /// error: its own rules end the session.
    pub async fn disconnect(
        &self,
        instance: Option<&str>,
        location: Option<&str>,
    ) -> Result<Vec<Disconnected>, ClientError> {
        if let Some(location) = location {
            let (instance, location) = self.location(instance, location)?;
            return Ok(vec![self.end(&instance, &location).await?]);
        }
        let mut ended = Vec::new();
        for instance in self.instances(instance)? {
            for location in &instance.locations {
                let one = self.end_if_up(&instance, location).await?;
                ended.extend(one);
            }
        }
        Ok(ended)
    }

    async fn end_if_up(
        &self,
        instance: &Instance,
        location: &Location,
    ) -> Result<Option<Disconnected>, ClientError> {
        let running = self.running();
        let claim = running
            .claim(&instance.id, location.id)
            .map_err(io_error("cannot write to the client's folder"))?;
        let up = claim.is_none() || running.record(&instance.id, location.id).is_some();
        drop(claim);
        if up { self.end(instance, location).await.map(Some) } else { Ok(None) }
    }

    async fn end(
        &self,
        instance: &Instance,
        location: &Location,
    ) -> Result<Disconnected, ClientError> {
        let running = self.running();
        let mut outcome = Disconnected {
            instance: instance.name.clone(),
            location: location.name.clone(),
            was_connected: true,
            server_told: false,
            server_error: None,
        };
        let socket = running.socket(&instance.id, location.id);
        if let Ok(Some(Reply::Disconnected { server_told })) =
            control::ask(&socket, Ask::Disconnect).await
        {
            outcome.server_told = server_told;
            if server_told {
                return Ok(outcome);
            }
        } else {
            // No process answers: clean up for it. One that hangs finds its interface gone.
            outcome.was_connected = running.record(&instance.id, location.id).is_some();
            self.clean_up(instance, location)?;
            let claim = running.claim(&instance.id, location.id);
            if let Some(claim) = claim.map_err(io_error("cannot write to the client's folder"))? {
                claim.clear();
            }
        }
        if location.mfa.required() {
            let body = DisconnectRequest { location_id: location.id };
            let told = self.api(instance)?.disconnect(&instance.private_key, &body).await;
            outcome.server_told = told.is_ok();
            outcome.server_error = told.err().map(|error| error.to_string());
        } else {
            outcome.server_told = true;
        }
        Ok(outcome)
    }
}
