//! The keys that core derives from its master key. None of them is ever stored, and every core of
//! an installation has the same.

use mfa_core::factor::CodeKey;
use mfa_store::{AuditKey, MasterKey};
use mfa_wire::proof::NonceKey;
use wg_types::PrivateKey;

/// Derived keys.
#[derive(Debug)]
pub struct Keys {
    /// Digests e-mail and recovery codes.
    pub codes: CodeKey,
    /// Makes and knows the nonces of device proofs.
    pub nonces: NonceKey,
    /// Core's half of device proofs.
    pub proof: PrivateKey,
    /// Checks the audit log's chain.
    pub audit: AuditKey,
}

impl Keys {
    /// Derives them.
    #[must_use]
    pub fn derive(master: &MasterKey) -> Self {
        Self {
            codes: CodeKey::from_bytes(*master.derive("core codes")),
            nonces: NonceKey::from_bytes(*master.derive("core proof nonces")),
            proof: PrivateKey::from_bytes(*master.derive("core proof key")),
            audit: AuditKey::derive(master),
        }
    }
}
