//! Core ↔ gateway: gRPC with mutual TLS. The protocol is told in `proto/gateway.proto`.

#[expect(
    missing_docs,
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::as_conversions,
    clippy::pedantic,
    reason = "generated from proto/gateway.proto"
)]
mod generated {
    tonic::include_proto!("wgmfa.gateway.v1");
}

pub use generated::*;

use core::fmt;

impl fmt::Debug for EnrollRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrollRequest").field("hostname", &self.hostname).finish_non_exhaustive()
    }
}

impl fmt::Debug for InterfaceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InterfaceConfig")
            .field("location_name", &self.location_name)
            .field("listen_port", &self.listen_port)
            .field("addresses", &self.addresses)
            .field("mfa_required", &self.mfa_required)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("allowed_ips", &self.allowed_ips)
            .field("session_id", &self.session_id)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_key() {
        let peer = Peer { preshared_key: Some(vec![0x5a; 32]), ..Peer::default() };
        let interface = InterfaceConfig { private_key: vec![0x5a; 32], ..Default::default() };
        let enroll = EnrollRequest { token: "Z5a".into(), ..Default::default() };
        let shown = format!("{peer:?} {interface:?} {enroll:?}");
        assert!(!shown.contains("90") && !shown.contains("Z5a"), "{shown}");
    }
}
