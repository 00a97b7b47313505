//! Client ↔ core: JSON over HTTPS.
//!
//! The bodies under [`path::ENROLLMENT_START`] and its neighbours are those that the WireGuard-MFA
//! clients in use today already speak: enums are numbers, an absent optional and a null one are
//! equal, and an answer's fields that a client does not know are passed over. What only our own
//! client speaks stands under `/api/v1/device/`, and in extra optional fields of the shared bodies.
//!
//! Nothing here checks more than form. What a body means is for core to judge.

mod connect;
mod device;
mod enrollment;
mod method;
mod problem;
mod secret;

pub use connect::{FinishRequest, FinishResponse, SessionInfo, StartRequest, StartResponse};
pub use device::{
    CurrentFactor, DeviceStatus, DisconnectRequest, DisconnectResponse, EndInfo, LocationStatus,
    MethodAtLocation, MethodStatus, MfaFinishRequest, MfaList, MfaStartRequest, MfaStartResponse,
    NextKey, NonceResponse, RenewRequest, RenewResponse, RotateRequest, RotateResponse,
};
pub use enrollment::{
    ActivateUserRequest, AdminInfo, CreateDeviceRequest, DeviceConfig, DeviceConfigResponse,
    DeviceInfo, EnrollmentSettings, EnrollmentStartRequest, EnrollmentStartResponse,
    EnrollmentUser, InstanceInfo, LocationMfaMode, NetworkInfoRequest, PollRequest, PollResponse,
    RecoveryCodes, RegisterMfaFinishRequest, RegisterMfaStartRequest, RegisterMfaStartResponse,
    ServiceLocationMode,
};
pub use method::{Method, UnknownMethod};
pub use problem::{ErrorBody, Problem};
pub use secret::{Code, SecretText};

/// The request header that carries a [`Proof`](crate::proof::Proof).
pub const PROOF_HEADER: &str = "wgmfa-proof";

/// The cookie that is an enrollment's session, set by [`path::ENROLLMENT_START`]. The clients in use
/// look for this very name.
pub const ENROLLMENT_COOKIE: &str = "defguard_proxy";

/// What stands for the device's private key in [`DeviceConfig::config`]: core never knows it.
pub const PRIVATE_KEY_PLACEHOLDER: &str = "YOUR_PRIVATE_KEY";

/// Where each call is; all are POST.
pub mod path {
    /// Spends an enrollment token: [`EnrollmentStartRequest`](super::EnrollmentStartRequest).
    pub const ENROLLMENT_START: &str = "/api/v1/enrollment/start";
    /// Sets the user's password and ends the enrollment.
    pub const ENROLLMENT_ACTIVATE_USER: &str = "/api/v1/enrollment/activate_user";
    /// Adds a device: [`CreateDeviceRequest`](super::CreateDeviceRequest).
    pub const ENROLLMENT_CREATE_DEVICE: &str = "/api/v1/enrollment/create_device";
    /// Asks for a device's configuration within an enrollment.
    pub const ENROLLMENT_NETWORK_INFO: &str = "/api/v1/enrollment/network_info";
    /// Begins to set up a factor within an enrollment.
    pub const ENROLLMENT_MFA_START: &str = "/api/v1/enrollment/register-mfa/code/start";
    /// Confirms a factor within an enrollment.
    pub const ENROLLMENT_MFA_FINISH: &str = "/api/v1/enrollment/register-mfa/code/finish";
    /// Instance update: [`PollRequest`](super::PollRequest).
    pub const POLL: &str = "/api/v1/poll";
    /// Asks for a challenge: [`StartRequest`](super::StartRequest).
    pub const MFA_START: &str = "/api/v1/client-mfa/start";
    /// Answers a challenge: [`FinishRequest`](super::FinishRequest).
    pub const MFA_FINISH: &str = "/api/v1/client-mfa/finish";

    /// Asks for a nonce to prove with; the one call of ours that needs no proof. Body `{}`.
    pub const DEVICE_NONCE: &str = "/api/v1/device/nonce";
    /// Says how the device stands: [`DeviceStatus`](super::DeviceStatus). Body `{}`.
    pub const DEVICE_STATUS: &str = "/api/v1/device/status";
    /// Ends a session: [`DisconnectRequest`](super::DisconnectRequest).
    pub const DEVICE_DISCONNECT: &str = "/api/v1/device/disconnect";
    /// Extends a live session by a fresh factor: [`RenewRequest`](super::RenewRequest). Its challenge
    /// is begun by [`MFA_START`].
    pub const DEVICE_RENEW: &str = "/api/v1/device/renew";
    /// Takes part in the rotation of a session's pre-shared key:
    /// [`RotateRequest`](super::RotateRequest).
    pub const DEVICE_ROTATE: &str = "/api/v1/device/rotate";
    /// Lists the user's factors: [`MfaList`](super::MfaList). Body `{}`.
    pub const DEVICE_MFA: &str = "/api/v1/device/mfa";
    /// Begins to set up a factor with a code of another: [`MfaStartRequest`](super::MfaStartRequest).
    pub const DEVICE_MFA_START: &str = "/api/v1/device/mfa/start";
    /// Confirms it: [`MfaFinishRequest`](super::MfaFinishRequest).
    pub const DEVICE_MFA_FINISH: &str = "/api/v1/device/mfa/finish";
}
