//! The keys that core derives from the installation's root. None of them is ever stored, every core
//! has the same, and they stay when the master key is changed.

use mfa_core::factor::CodeKey;
use mfa_store::{AuditKey, RootKey};
use mfa_wire::proof::NonceKey;
use wg_types::{PrivateKey, PublicKey};

use crate::flows::connect::tokens::ChallengeTokens;

/// Derived keys.
#[derive(Debug)]
pub struct Keys {
    /// Digests e-mail and recovery codes.
    pub codes: CodeKey,
    /// Makes and knows the nonces of device proofs.
    pub nonces: NonceKey,
    /// Core's half of device proofs.
    pub proof: PrivateKey,
    /// Its public half, for clients.
    pub proof_public: PublicKey,
    /// Makes and knows the tokens of challenges.
    pub challenges: ChallengeTokens,
    /// Checks the audit log's chain.
    pub audit: AuditKey,
}

impl Keys {
    /// Derives them.
    #[must_use]
    pub fn derive(root: impl Into<RootKey>) -> Self {
        let root = root.into();
        let proof = PrivateKey::from_bytes(*root.derive("core proof key"));
        Self {
            codes: CodeKey::from_bytes(*root.derive("core codes")),
            nonces: NonceKey::from_bytes(*root.derive("core proof nonces")),
            proof_public: proof.public_key(),
            proof,
            challenges: ChallengeTokens::from_bytes(&root.derive("core challenge tokens")),
            audit: AuditKey::derive(&root),
        }
    }
}
