//! A challenge and its answer.

use serde::{Deserialize, Serialize};

use super::{Code, Method, SecretText};

/// Asks for a challenge.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct StartRequest {
    /// Where to.
    pub location_id: i64,
    /// The device's WireGuard public key, base64.
    pub pubkey: String,
    /// With what.
    pub method: Method,
    /// Ours: the [`DeviceConfigResponse::config_version`](super::DeviceConfigResponse) that the
    /// client has; an older one than core's is refused in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_version: Option<String>,
}

/// A challenge.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct StartResponse {
    /// Names the challenge in [`FinishRequest`].
    pub token: SecretText,
    /// For a phone's key; always null here.
    pub challenge: Option<String>,
    /// Ours: when it expires, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    /// Ours: where the code was mailed to, masked; only to a device that proved itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_to: Option<String>,
}

/// Answers a challenge.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct FinishRequest {
    /// From [`StartResponse`].
    pub token: SecretText,
    /// The code; absent for methods that have none.
    #[serde(default)]
    pub code: Option<Code>,
}

/// What a right code buys.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct FinishResponse {
    /// 32 bytes, base64.
    pub preshared_key: SecretText,
    /// For mobile approval; always null here.
    pub token: Option<String>,
    /// Ours: the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionInfo>,
}

/// A live session.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SessionInfo {
    /// Its number in core's records.
    pub id: i64,
    /// When the factor was proven, Unix seconds.
    pub since: u64,
    /// When it ends at the latest, Unix seconds.
    pub expires: u64,
    /// Seconds of inactivity that end it.
    pub idle_threshold: u64,
    /// The n-th pre-shared key; the first is 1.
    pub generation: u32,
    /// The generation that waits for the client to take it; absent: none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_generation: Option<u32>,
    /// Gateways of the location that are connected to core now.
    pub gateways_connected: u32,
    /// Those of them that have the peer in their kernel.
    pub gateways_applied: u32,
}
