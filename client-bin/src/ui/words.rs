//! What is said at a window. Elsewhere advice names commands; here it names what is on the page.

use mfa_wire::http::{Method, Problem};

use crate::api::{ApiError, Refusal};
use crate::error::ClientError;
use crate::state::PickError;
use crate::tunnel::TunnelError;

/// A method's name.
pub(super) const fn method(method: Method) -> &'static str {
    match method {
        Method::Totp => "Authenticator app",
        Method::Email => "E-mail",
        Method::Oidc => "Browser",
        Method::Biometric => "Phone's fingerprint",
        Method::MobileApprove => "Mobile app",
    }
}

/// What went wrong and what to do.
pub(super) fn error(error: &ClientError) -> String {
    let said = match error {
        ClientError::Api(ApiError::Refused(refusal)) => return self::refusal(refusal),
        ClientError::Pick(PickError::NotEnrolled) => "This device is not enrolled yet.",
        ClientError::Pick(_) | ClientError::NoLocation { .. } | ClientError::Ambiguous { .. } => {
            "This location is not there any more."
        }
        ClientError::Tunnel(TunnelError::WireGuard(wg_netlink::Error::PermissionDenied {
            ..
        })) => {
            "This program may not make network interfaces. An administrator of this machine allows it once, by: sudo setcap cap_net_admin+ep /usr/bin/client-bin (or where it is)."
        }
        ClientError::Tunnel(TunnelError::Taken(name)) => {
            return format!("There is an interface {name} already, which is not this location's.");
        }
        ClientError::Stale { .. } => "The configuration has changed at the server.",
        ClientError::NoMethod { location, reasons } => {
            return format!(
                "{location} asks for a code, and no method of yours opens it: {reasons}."
            );
        }
        ClientError::AlreadyConnected(location) => {
            return format!("{location} is connected already.");
        }
        ClientError::NotConnected(location) => {
            return format!("{location} has no session to extend. Connect to begin one.");
        }
        ClientError::NothingPending(_) => "No setup waits for this code any more. Begin again.",
        ClientError::Url { url, why } => {
            return format!(
                "\"{url}\" is not the address of a server: {why}. It looks like https://vpn.example.org:8443/"
            );
        }
        other => return other.to_string(),
    };
    said.to_owned()
}

/// What a server refused.
fn refusal(refusal: &Refusal) -> String {
    let said = match refusal.problem {
        Problem::LocationNotFound => {
            "The server does not know this location, or not for you. Update to see the list of today."
        }
        Problem::DeviceNotFound | Problem::PollTokenInvalid => {
            "The server does not know this device any more. Ask your administrator for a new enrollment token, and add the server again with it."
        }
        Problem::MfaNotEnabled => {
            "This location connects without a code by now. Update, then connect again."
        }
        Problem::MethodNotSetUp => {
            "Selected method has not been configured on your account. Set it up under \"My methods\", or choose another."
        }
        Problem::MethodNotAllowed => "This location does not accept this method. Choose another.",
        Problem::MethodUnavailable => "The server cannot offer this method now. Choose another.",
        Problem::ChallengeInvalid | Problem::ChallengeSpent => {
            "The time for this code is over, or it had too many tries. Begin again."
        }
        Problem::SessionOver => "This session is over. Connect again.",
        Problem::ConfigStale => {
            "The configuration of this location has changed at the server. Update, then connect again."
        }
        Problem::DeviceExists => {
            "The server has a device of this name already. Ask your administrator to remove it, or choose another name."
        }
        Problem::ProofRequired | Problem::ProofInvalid => {
            "The server does not accept this device's proof of its key. Update; if that fails too, add the server again."
        }
        Problem::CurrentCodeRequired => {
            "To change a method, a code of one that is set up already is needed."
        }
        Problem::EnrollmentRequired => {
            "No method is set up yet, and the enrollment is over. Ask your administrator for a new enrollment token, and add the server again with it."
        }
        // The rest names no command.
        _ => return refusal.text.clone(),
    };
    said.to_owned()
}

/// Makes a sentence of a clause.
pub(super) fn sentence(clause: &str) -> String {
    let mut letters = clause.trim().chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let text = first + letters.as_str();
    if text.ends_with(['.', '!', '?']) { text } else { text + "." }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::api::{Call, Refusal};

    #[test]
    fn a_window_names_no_command() {
        let problems = [
            "location-not-found",
            "device-not-found",
            "user-not-found",
            "disabled",
            "mfa-not-enabled",
            "not-allowed",
            "method-not-set-up",
            "method-not-allowed",
            "method-unavailable",
            "method-locked",
            "challenge-invalid",
            "challenge-spent",
            "session-over",
            "code-malformed",
            "code-wrong",
            "code-used",
            "too-many-tries",
            "too-many-requests",
            "gateway-offline",
            "config-stale",
            "enrollment-invalid",
            "device-exists",
            "proof-required",
            "proof-invalid",
            "current-code-required",
            "enrollment-required",
            "poll-token-invalid",
            "busy",
            "internal",
        ];
        for name in problems {
            let problem: Problem = serde_json::from_value(name.into()).unwrap();
            assert_ne!(problem, Problem::Unknown, "{name}");
            let body = format!(r#"{{"error":"x","code":"{name}"}}"#);
            let told = Refusal::read(Call::Connect, StatusCode::BAD_REQUEST, body.as_bytes());
            let text = error(&ClientError::Api(ApiError::Refused(told)));
            assert!(!text.contains('`') && !text.contains("--"), "{name}: {text}");
        }
        let ours = [
            ClientError::Pick(PickError::NotEnrolled),
            ClientError::Stale { location: "office".into(), changes: Vec::new() },
            ClientError::NoMethod { location: "office".into(), reasons: "none".into() },
            ClientError::AlreadyConnected("office".into()),
            ClientError::NotConnected("office".into()),
            ClientError::NothingPending(Method::Totp),
            ClientError::External("office".into()),
        ];
        for one in ours {
            assert!(!error(&one).contains('`'), "{}", error(&one));
        }
    }

    #[test]
    fn a_clause_becomes_a_sentence() {
        assert_eq!(sentence("this device may not use it"), "This device may not use it.");
        assert_eq!(sentence("Ended."), "Ended.");
    }
}
