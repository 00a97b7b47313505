//! What our own client asks beyond the shared calls. Every request but the nonce's carries a
//! [`Proof`](crate::proof::Proof).

use serde::{Deserialize, Serialize};

use super::{Code, Method, SecretText, SessionInfo};

/// What a device needs to prove its key.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct NonceResponse {
    /// A [`Nonce`](crate::proof::Nonce), good for a minute.
    pub nonce: String,
    /// Core's X25519 public key for proofs, base64.
    pub proof_pubkey: String,
}

/// How a device stands.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DeviceStatus {
    /// The device's name.
    pub device_name: String,
    /// Its user's login name.
    pub username: String,
    /// Another than the client's: an instance update is due.
    pub config_version: String,
    /// Every location that the user may use.
    pub locations: Vec<LocationStatus>,
    /// The methods that the user has set up.
    pub methods: Vec<Method>,
}

/// One location as a device stands to it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LocationStatus {
    /// Its number.
    pub location_id: i64,
    /// Its name.
    pub name: String,
    /// Connecting needs a factor.
    pub mfa_required: bool,
    /// The live session; absent: there is none, or none is needed.
    pub session: Option<SessionInfo>,
    /// How the last session ended, if none is live.
    pub ended: Option<EndInfo>,
    /// Gateways of the location that are connected to core now.
    pub gateways_connected: u32,
}

/// How a session ended.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct EndInfo {
    /// For programs: `idle`, `expired`, `disconnected`, `replaced`, …
    pub reason: String,
    /// For people: what happened and what to do next.
    pub detail: String,
    /// When, Unix seconds.
    pub at: u64,
}

/// Ends a session at the device's wish.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct DisconnectRequest {
    /// Where.
    pub location_id: i64,
}

/// What became of it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DisconnectResponse {
    /// False: there was no session to end.
    pub ended: bool,
}

/// Extends a live session by a fresh factor. The tunnel is not touched.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RenewRequest {
    /// Which session.
    pub session_id: i64,
    /// From [`StartResponse`](super::StartResponse).
    pub token: SecretText,
    /// The code.
    pub code: Code,
}

/// The session, which ends later now.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct RenewResponse {
    /// As it is now.
    pub session: SessionInfo,
}

/// Says how a client stands in the rotation of its session's pre-shared key, and asks for the next.
///
/// It says levels, not events: it may be repeated at any time, and one that was lost is made up for
/// by the next. The first one tells core that this client can take another key at all; a session
/// whose client never says so keeps its first one.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RotateRequest {
    /// Where.
    pub location_id: i64,
    /// Which session.
    pub session_id: i64,
    /// The highest generation that the client has set in its interface.
    pub set: u32,
    /// The highest generation with which it saw a handshake completed.
    pub proven: u32,
}

/// How the rotation stands at core.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RotateResponse {
    /// The generation in force at core; the client may forget those before it.
    pub generation: u32,
    /// A staged one that the client has not set yet; absent: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<NextKey>,
}

/// The next pre-shared key of a session.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct NextKey {
    /// Which it is; the first is 1.
    pub generation: u32,
    /// 32 bytes, base64.
    pub preshared_key: SecretText,
}

/// The user's factors and where they serve.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct MfaList {
    /// Every method that this server knows.
    pub methods: Vec<MethodStatus>,
    /// Recovery codes not used yet.
    pub recovery_codes_left: u32,
}

/// One method.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct MethodStatus {
    /// Which.
    pub method: Method,
    /// The user has set it up.
    pub set_up: bool,
    /// Why it cannot serve on this server at all, in words; absent: it can.
    pub unavailable: Option<String>,
    /// For e-mail: the address, masked.
    pub sent_to: Option<String>,
    /// Location by location.
    pub locations: Vec<MethodAtLocation>,
}

/// Whether a method opens a location.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct MethodAtLocation {
    /// The location's number.
    pub location_id: i64,
    /// The location's name.
    pub name: String,
    /// Why the method does not open it, in words; absent: it does.
    pub refused: Option<String>,
}

/// A factor that is set up already, with its code.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CurrentFactor {
    /// Which.
    pub method: Method,
    /// Its code; absent for e-mail: one is sent, and the call is made again with it.
    #[serde(default)]
    pub code: Option<Code>,
}

/// Begins to set up a factor.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct MfaStartRequest {
    /// The factor to set up.
    pub method: Method,
    /// One that is set up already. Without any, an enrollment is needed.
    #[serde(default)]
    pub current: Option<CurrentFactor>,
}

/// What to confirm the factor with.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct MfaStartResponse {
    /// Nothing was begun: a code of the *current* factor was mailed to this address (masked); make
    /// the call again with it.
    pub current_code_sent_to: Option<String>,
    /// Base32; null for e-mail.
    pub totp_secret: Option<SecretText>,
    /// The same as `otpauth://` address, for a QR code.
    pub otpauth_uri: Option<SecretText>,
    /// Where the new factor's code was mailed to, masked.
    pub sent_to: Option<String>,
}

/// Confirms a factor. The answer is [`RecoveryCodes`](super::RecoveryCodes).
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct MfaFinishRequest {
    /// Which.
    pub method: Method,
    /// A first code.
    pub code: Code,
}
