//! Core ↔ gateways of another make: an existing gRPC protocol, told in `proto/legacy.proto`.
//!
//! Core serves it; nothing of ours speaks the other side but tests.

#[expect(
    missing_docs,
    unused_qualifications,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::as_conversions,
    clippy::pedantic,
    reason = "generated from proto/legacy.proto"
)]
mod generated {
    tonic::include_proto!("gateway");
}

pub use generated::*;

use core::fmt;

impl fmt::Debug for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Configuration")
            .field("name", &self.name)
            .field("addresses", &self.addresses)
            .field("port", &self.port)
            .field("peers", &self.peers)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("pubkey", &self.pubkey)
            .field("allowed_ips", &self.allowed_ips)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_key() {
        let peer = Peer { preshared_key: Some("Z5a".into()), ..Peer::default() };
        let config =
            Configuration { prvkey: "Z5a".into(), peers: vec![peer], ..Configuration::default() };
        let shown = format!("{config:?}");
        assert!(!shown.contains("Z5a"), "{shown}");
    }
}
