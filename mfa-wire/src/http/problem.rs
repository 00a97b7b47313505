//! Refusals.

use serde::{Deserialize, Serialize};

/// The body of every answer that is not 2xx.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ErrorBody {
    /// The short text that clients in use match on.
    pub error: String,
    /// What went wrong, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Problem>,
    /// What went wrong and what to do next, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Seconds after which it is worth trying again; absent: it does not depend on time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

/// Stable names of refusals.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Problem {
    /// The request is not of the form that the call needs.
    BadRequest,
    /// No such location, or none that this user may know of.
    LocationNotFound,
    /// No such device.
    DeviceNotFound,
    /// The device's user is gone.
    UserNotFound,
    /// The user, or the device, is disabled.
    Disabled,
    /// The location connects without a factor.
    MfaNotEnabled,
    /// None of the user's groups may use the location.
    NotAllowed,
    /// The user has not set up this method.
    MethodNotSetUp,
    /// The location forbids this method.
    MethodNotAllowed,
    /// This server cannot offer the method; the detail says why.
    MethodUnavailable,
    /// The method is locked after too many wrong codes in a row; an administrator unlocks it.
    MethodLocked,
    /// The challenge's token is unknown or expired.
    ChallengeInvalid,
    /// The challenge was spent by another request.
    ChallengeSpent,
    /// The session that the request is about is over, or is not this device's.
    SessionOver,
    /// The code is not of the form that the method has.
    CodeMalformed,
    /// The code is wrong.
    CodeWrong,
    /// The code was right, and was used before.
    CodeUsed,
    /// Too many wrong codes; see `retry_after`.
    TooManyTries,
    /// Too many requests or mails; see `retry_after`.
    TooManyRequests,
    /// No gateway of the location is connected.
    GatewayOffline,
    /// The client's configuration is older than the location's: an instance update is needed.
    ConfigStale,
    /// The enrollment token or session is unknown, used or expired.
    EnrollmentInvalid,
    /// A device with this public key exists already.
    DeviceExists,
    /// The device's polling token is unknown.
    PollTokenInvalid,
    /// The call needs a proof of the device's key.
    ProofRequired,
    /// The proof is not right, or its nonce has expired: ask for a new nonce.
    ProofInvalid,
    /// To change a factor, a code of one that is already set up is needed.
    CurrentCodeRequired,
    /// Nothing is set up yet, so only an enrollment can begin.
    EnrollmentRequired,
    /// The server has more work than it can do now.
    Busy,
    /// The server failed; its log says how.
    Internal,
    /// A name that this version does not know.
    #[serde(other)]
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_any_server_can_be_read() {
        let foreign: ErrorBody = serde_json::from_str(r#"{"error":"Unauthorized"}"#).unwrap();
        assert_eq!((foreign.code, foreign.detail), (None, None));
        let newer: ErrorBody =
            serde_json::from_str(r#"{"error":"x","code":"made-up-later"}"#).unwrap();
        assert_eq!(newer.code, Some(Problem::Unknown));
    }

    #[test]
    fn our_names_are_kebab_case() {
        assert_eq!(serde_json::to_string(&Problem::CodeWrong).unwrap(), r#""code-wrong""#);
    }
}
