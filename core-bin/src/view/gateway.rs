//! Gateways.

use core::time::Duration;

use mfa_core::time::Timestamp;
use mfa_store::{Gateway, Snapshot, StoreError};
use serde::Serialize;
use utoipa::ToSchema;

use super::time;

/// Silence after which a gateway counts as away: three statistics periods of 30 s.
const AWAY: Duration = Duration::from_secs(90);

/// How a gateway stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ToSchema)]
pub enum GatewayState {
    /// It was invited.
    #[serde(rename = "not enrolled")]
    NotEnrolled,
    /// It has its certificate.
    #[serde(rename = "never connected")]
    NeverConnected,
    /// It has been silent for 90 s.
    #[serde(rename = "away")]
    Away,
    /// It has not applied the newest revision yet.
    #[serde(rename = "catching up")]
    CatchingUp,
    /// Its kernel has what it should.
    #[serde(rename = "in sync")]
    InSync,
}

impl GatewayState {
    /// Judges a gateway whose location is at `revision`.
    #[must_use]
    pub fn of(gateway: &Gateway, revision: i64, now: Timestamp) -> Self {
        match (gateway.heard, gateway.enrolled) {
            (_, None) => Self::NotEnrolled,
            (None, Some(_)) => Self::NeverConnected,
            (Some(heard), _) if now.since(heard) > AWAY => Self::Away,
            _ if gateway.applied_revision < revision => Self::CatchingUp,
            _ => Self::InSync,
        }
    }

    /// Says it.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::NotEnrolled => "not enrolled",
            Self::NeverConnected => "never connected",
            Self::Away => "away",
            Self::CatchingUp => "catching up",
            Self::InSync => "in sync",
        }
    }
}

/// A host that programs WireGuard for a location.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Gateway)]
pub struct GatewayView {
    /// Names the gateway for ever.
    pub id: i64,
    /// What it is called.
    pub name: String,
    /// Which location it serves.
    pub location: String,
    /// How it stands.
    #[schema(inline)]
    pub state: GatewayState,
    /// When core last heard from it.
    pub last_heard_at: Option<String>,
    /// The revision that its kernel has.
    pub applied_revision: i64,
    /// The revision that it should have.
    pub revision: i64,
    /// What programs WireGuard there.
    pub backend: String,
    /// Its program's version.
    pub version: String,
    /// Its host.
    pub hostname: String,
}

impl GatewayView {
    /// Lists all gateways.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn all(view: &mut Snapshot, now: Timestamp) -> Result<Vec<Self>, StoreError> {
        let mut all = Vec::new();
        for gateway in view.gateways()? {
            let location = view.location(gateway.location)?;
            let revision = location.as_ref().map_or(0, |location| location.revision);
            all.push(Self {
                id: gateway.id.get(),
                state: GatewayState::of(&gateway, revision, now),
                location: location.map(|location| location.settings.name).unwrap_or_default(),
                last_heard_at: gateway.heard.map(time),
                applied_revision: gateway.applied_revision,
                revision,
                name: gateway.name,
                backend: gateway.backend,
                version: gateway.version,
                hostname: gateway.hostname,
            });
        }
        Ok(all)
    }
}
