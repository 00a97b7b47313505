//! Messages for this crate's own tests.

mod authority;
mod fake_core;
mod fake_gate;

pub(crate) use authority::{Authority, enroll};
pub(crate) use fake_core::{FakeCore, TOKEN, Talk, enroll_due};
pub(crate) use fake_gate::FakeGate;

use core::time::Duration;

use mfa_wire::gateway as wire;
use sha2::{Digest as _, Sha256};
use wg_types::{PrivateKey, PublicKey};

use crate::lease::{Lease, Without};

/// A lease that nobody holds.
pub(crate) fn no_lease() -> Lease {
    Lease::new(None, Duration::from_secs(90), Without::Serve)
}

/// The public key of peer `n`. No private key goes with it: these peers never shake hands.
pub(crate) fn key(n: u8) -> PublicKey {
    let mut bytes = [n; 32];
    bytes[0] = 9;
    PublicKey::from_bytes(bytes)
}

/// The interface's own public key.
pub(crate) fn own_key() -> [u8; 32] {
    *PrivateKey::from_bytes([0xee; 32]).public_key().as_bytes()
}

/// The pre-shared key of a session's generation: another one for each.
pub(crate) fn psk(session: i64, generation: u32) -> [u8; 32] {
    let mut bytes = [0x77; 32];
    bytes[..8].copy_from_slice(&session.to_be_bytes());
    bytes[8..12].copy_from_slice(&generation.to_be_bytes());
    bytes
}

/// Peer `n` with the address 10.1.0.n; session zero has no pre-shared key.
pub(crate) fn peer(n: u8, session: i64, generation: u32) -> wire::Peer {
    wire::Peer {
        public_key: key(n).as_bytes().to_vec(),
        allowed_ips: vec![format!("10.1.0.{n}/32")],
        preshared_key: (session != 0).then(|| psk(session, generation).to_vec()),
        persistent_keepalive: 25,
        session_id: session,
        generation,
        previous_psk_sha256: (generation > 1)
            .then(|| Sha256::digest(psk(session, generation - 1)).to_vec()),
        lifetime_left_millis: None,
    }
}

/// A snapshot of a location with MFA.
pub(crate) fn snapshot(
    revision: u64,
    peers: impl IntoIterator<Item = wire::Peer>,
) -> wire::Snapshot {
    wire::Snapshot {
        revision,
        interface: Some(wire::InterfaceConfig {
            location_name: "Office".into(),
            private_key: vec![0xee; 32],
            listen_port: 51820,
            addresses: vec!["10.1.0.254/24".into()],
            mtu: 0,
            mfa_required: true,
            ..wire::InterfaceConfig::default()
        }),
        peers: peers.into_iter().collect(),
        part: 0,
        last: true,
    }
}

/// A change that follows `base`.
pub(crate) fn change(base: u64, peers: Vec<wire::Peer>, removed: &[u8]) -> wire::Change {
    wire::Change {
        base_revision: base,
        revision: base + 1,
        peers,
        removed: removed.iter().map(|&n| key(n).as_bytes().to_vec()).collect(),
    }
}
