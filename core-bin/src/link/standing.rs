//! Whether what a gateway shows is in force.
//!
//! Asked when a stream begins and, for all streams, each second after that.

use mfa_store::Gateway;

use super::registry::{Closing, Credential};

/// Compares what a gateway shows with what the store says of it.
///
/// Of certificates two count, the newest one and the one with which it was asked for: a gateway
/// that never got the answer to its renewal still has only the older one.
///
/// # Errors
///
/// Why the gateway must not be served.
pub fn check(gateway: &Gateway, shown: &Credential) -> Result<(), Closing> {
    if gateway.revoked.is_some() {
        return Err(Closing::Revoked);
    }
    let in_force = match shown {
        Credential::Certificate(serial) => {
            let serial = Some(serial.as_bytes().as_slice());
            gateway.cert_serial.as_deref() == serial
                || gateway.previous_cert_serial.as_deref() == serial
        }
        Credential::Token(digest) => gateway.legacy_token.as_ref() == Some(digest),
    };
    if in_force { Ok(()) } else { Err(Closing::CertificateSpent) }
}
