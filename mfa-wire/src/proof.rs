//! How a device proves that it owns its WireGuard key, without a signature scheme of its own.
//!
//! A public key is no secret: who has seen one could start challenges, have codes mailed and use up
//! guesses in its name. So a request can carry a [`Proof`]: a MAC under a key that only the owner
//! of the device's private key and core can compute.
//!
//! ```text
//! client                                         core
//!   POST /api/v1/device/nonce ────────────────▶   nonce = random ‖ expiry ‖ HMAC(nonce key, …)
//!        ◀──────────────── nonce, proof_pubkey
//!   key = HKDF-SHA256(ikm  = X25519(own private key, proof_pubkey),
//!                     salt = nonce, info = "wg-mfa device proof v1")
//!   wgmfa-proof: v1 DEVICE_PUBKEY NONCE MAC ──▶   the same key by X25519(proof key, DEVICE_PUBKEY)
//!   MAC = HMAC-SHA256(key, METHOD ‖ 0x20 ‖ path ‖ 0x0a ‖ SHA256(body))
//! ```
//!
//! Core keeps nothing for a nonce. Within its minute a proof can be repeated for the very same
//! request by who can read it, which is to say by who has broken TLS.
//!
//! ```
//! use mfa_wire::proof::{Nonce, NonceKey, Proof};
//! use wg_types::PrivateKey;
//!
//! let (device, core) = (PrivateKey::from_bytes([1; 32]), PrivateKey::from_bytes([2; 32]));
//! let nonces = NonceKey::from_bytes([3; 32]);
//! let nonce = nonces.issue([4; 16], 1_000);
//!
//! let header = Proof::make(&device, &core.public_key(), nonce, "POST", "/x", b"{}").unwrap();
//!
//! let proof: Proof = header.to_string().parse()?;
//! proof.verify(&core, &nonces, "POST", "/x", b"{}", 2_000)?;
//! assert!(proof.verify(&core, &nonces, "POST", "/y", b"{}", 2_000).is_err());
//! # Ok::<(), mfa_wire::proof::ProofError>(())
//! ```

use core::fmt;
use core::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use wg_types::{PrivateKey, PublicKey};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// How long a nonce is good, milliseconds.
pub const NONCE_LIFE_MILLIS: u64 = 60_000;

const INFO: &[u8] = b"wg-mfa device proof v1";
const RANDOM: usize = 16;
const EXPIRY: usize = 8;
const TAG: usize = 16;
const NONCE: usize = RANDOM + EXPIRY + TAG;
const MAC: usize = 32;

/// Why a proof proves nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProofError {
    /// Not "v1 PUBKEY NONCE MAC".
    #[error("the proof header is malformed")]
    Malformed,
    /// The nonce is not core's.
    #[error("the nonce is not of this server")]
    ForeignNonce,
    /// The nonce's minute is over.
    #[error("the nonce has expired")]
    Expired,
    /// The MAC is another.
    #[error("the proof does not match the request")]
    Mismatch,
}

/// Core's challenge: 16 random bytes, an expiry, a MAC over both.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Nonce {
    random: [u8; RANDOM],
    expiry: [u8; EXPIRY],
    tag: [u8; TAG],
}

impl Nonce {
    fn to_bytes(self) -> [u8; NONCE] {
        let mut bytes = [0; NONCE];
        let parts = self.random.iter().chain(&self.expiry).chain(&self.tag);
        for (byte, part) in bytes.iter_mut().zip(parts) {
            *byte = *part;
        }
        bytes
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.to_bytes()))
    }
}

impl FromStr for Nonce {
    type Err = ProofError;

    fn from_str(text: &str) -> Result<Self, ProofError> {
        let bytes: [u8; NONCE] = decode(text)?;
        let (random, rest) = bytes.split_first_chunk().ok_or(ProofError::Malformed)?;
        let (expiry, rest) = rest.split_first_chunk().ok_or(ProofError::Malformed)?;
        let tag = rest.try_into().map_err(|_| ProofError::Malformed)?;
        Ok(Self { random: *random, expiry: *expiry, tag })
    }
}

/// What core makes and knows its nonces by. Wiped on drop.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct NonceKey([u8; 32]);

impl NonceKey {
    /// Wraps secret bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Makes a nonce from random bytes; good for [`NONCE_LIFE_MILLIS`] from `now`, in milliseconds
    /// since the Unix epoch.
    #[must_use]
    pub fn issue(&self, random: [u8; RANDOM], now: u64) -> Nonce {
        let expiry = now.saturating_add(NONCE_LIFE_MILLIS).to_be_bytes();
        Nonce { random, expiry, tag: self.tag(random, expiry) }
    }

    /// Tells whether the nonce is ours and still good at `now`.
    ///
    /// # Errors
    ///
    /// [`ProofError::ForeignNonce`] or [`ProofError::Expired`].
    pub fn check(&self, nonce: &Nonce, now: u64) -> Result<(), ProofError> {
        let tag = self.tag(nonce.random, nonce.expiry);
        if !bool::from(tag.as_slice().ct_eq(&nonce.tag)) {
            return Err(ProofError::ForeignNonce);
        }
        // An expiry far ahead means that the clock was set back: such a nonce would live too long.
        let expiry = u64::from_be_bytes(nonce.expiry);
        if expiry <= now || expiry > now.saturating_add(NONCE_LIFE_MILLIS) {
            return Err(ProofError::Expired);
        }
        Ok(())
    }

    fn tag(&self, random: [u8; RANDOM], expiry: [u8; EXPIRY]) -> [u8; TAG] {
        let mac = hmac(&self.0, &[&random, &expiry]).finalize().into_bytes();
        let mut tag = [0; TAG];
        for (byte, part) in tag.iter_mut().zip(mac) {
            *byte = part;
        }
        tag
    }
}

impl fmt::Debug for NonceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NonceKey(..)")
    }
}

/// The value of the `wgmfa-proof` header: `v1 PUBKEY NONCE MAC`, each base64.
#[derive(Clone, Debug)]
pub struct Proof {
    device: PublicKey,
    nonce: Nonce,
    mac: [u8; MAC],
}

impl Proof {
    /// Proves possession of `device` for one request. `path` is the request's path as sent,
    /// without a query.
    ///
    /// Returns `None` if `proof_pubkey` is of low order, as no honest core's is.
    #[must_use]
    pub fn make(
        device: &PrivateKey,
        proof_pubkey: &PublicKey,
        nonce: Nonce,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> Option<Self> {
        let mac = mac(device, proof_pubkey, &nonce, method, path, body)?;
        Some(Self { device: device.public_key(), nonce, mac: mac.finalize().into_bytes().into() })
    }

    /// Whom the proof is about. Believe it after [`verify`](Self::verify).
    #[must_use]
    pub const fn device(&self) -> &PublicKey {
        &self.device
    }

    /// Checks the proof for the request that it came with, `now` in milliseconds since the Unix
    /// epoch.
    ///
    /// # Errors
    ///
    /// Those of [`NonceKey::check`], and [`ProofError::Mismatch`] for another request or key.
    pub fn verify(
        &self,
        proof_key: &PrivateKey,
        nonces: &NonceKey,
        method: &str,
        path: &str,
        body: &[u8],
        now: u64,
    ) -> Result<(), ProofError> {
        nonces.check(&self.nonce, now)?;
        let mac = mac(proof_key, &self.device, &self.nonce, method, path, body);
        mac.ok_or(ProofError::Mismatch)?.verify_slice(&self.mac).map_err(|_| ProofError::Mismatch)
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v1 {} {} {}", self.device, self.nonce, STANDARD.encode(self.mac))
    }
}

impl FromStr for Proof {
    type Err = ProofError;

    fn from_str(text: &str) -> Result<Self, ProofError> {
        let mut words = text.split(' ');
        let (Some("v1"), Some(device), Some(nonce), Some(mac), None) =
            (words.next(), words.next(), words.next(), words.next(), words.next())
        else {
            return Err(ProofError::Malformed);
        };
        Ok(Self {
            device: device.parse().map_err(|_| ProofError::Malformed)?,
            nonce: nonce.parse()?,
            mac: decode(mac)?,
        })
    }
}

/// The proof's MAC, fed and ready; the same from either side of the key exchange.
fn mac(
    own: &PrivateKey,
    other: &PublicKey,
    nonce: &Nonce,
    method: &str,
    path: &str,
    body: &[u8],
) -> Option<Hmac<Sha256>> {
    let shared = own.diffie_hellman(other)?;
    let mut key = Zeroizing::new([0; 32]);
    let salt = nonce.to_bytes();
    Hkdf::<Sha256>::new(Some(&salt), shared.as_slice()).expand(INFO, key.as_mut_slice()).ok()?;
    let digest = Sha256::digest(body);
    Some(hmac(&key, &[method.as_bytes(), b" ", path.as_bytes(), b"\n", &digest]))
}

fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> Hmac<Sha256> {
    // RFC 2104 pads a key to the hash's block with zeros; done here, no length can be wrong.
    let mut block = Zeroizing::new([0; 64]);
    for (padded, byte) in block.iter_mut().zip(key) {
        *padded = *byte;
    }
    let mut mac = Hmac::<Sha256>::new(&(*block).into());
    for part in parts {
        mac.update(part);
    }
    mac
}

fn decode<const N: usize>(text: &str) -> Result<[u8; N], ProofError> {
    let bytes = STANDARD.decode(text).map_err(|_| ProofError::Malformed)?;
    bytes.try_into().map_err(|_| ProofError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    fn device() -> PrivateKey {
        PrivateKey::from_bytes([1; 32])
    }

    fn core() -> PrivateKey {
        PrivateKey::from_bytes([2; 32])
    }

    fn nonces() -> NonceKey {
        NonceKey::from_bytes([3; 32])
    }

    fn proof(nonce: Nonce) -> Proof {
        Proof::make(&device(), &core().public_key(), nonce, "POST", "/a", b"{}").unwrap()
    }

    #[test]
    fn the_header_survives_the_wire_and_proves_its_request() {
        let header = proof(nonces().issue([9; 16], NOW)).to_string();
        let read: Proof = header.parse().unwrap();
        assert_eq!(read.device(), &device().public_key());
        assert_eq!(read.verify(&core(), &nonces(), "POST", "/a", b"{}", NOW + 59_999), Ok(()));
    }

    #[test]
    fn another_request_is_not_proven() {
        let proof = proof(nonces().issue([9; 16], NOW));
        for (method, path, body) in
            [("GET", "/a", b"{}"), ("POST", "/b", b"{}"), ("POST", "/a", b"[]")]
        {
            let verdict = proof.verify(&core(), &nonces(), method, path, body, NOW);
            assert_eq!(verdict, Err(ProofError::Mismatch));
        }
    }

    #[test]
    fn a_stranger_with_the_public_key_proves_nothing() {
        let nonce = nonces().issue([9; 16], NOW);
        let stranger = PrivateKey::from_bytes([7; 32]);
        let core_key = core().public_key();
        let mut forged = Proof::make(&stranger, &core_key, nonce, "POST", "/a", b"{}").unwrap();
        forged.device = device().public_key();
        let verdict = forged.verify(&core(), &nonces(), "POST", "/a", b"{}", NOW);
        assert_eq!(verdict, Err(ProofError::Mismatch));
    }

    #[test]
    fn a_nonce_lives_a_minute_and_no_clock_makes_it_older() {
        let nonce = nonces().issue([9; 16], NOW);
        assert_eq!(nonces().check(&nonce, NOW), Ok(()));
        assert_eq!(nonces().check(&nonce, NOW + NONCE_LIFE_MILLIS), Err(ProofError::Expired));
        assert_eq!(nonces().check(&nonce, NOW - 1), Err(ProofError::Expired));
    }

    #[test]
    fn a_nonce_made_elsewhere_is_refused() {
        let foreign = NonceKey::from_bytes([4; 32]).issue([9; 16], NOW);
        assert_eq!(nonces().check(&foreign, NOW), Err(ProofError::ForeignNonce));
        let mut stretched = nonces().issue([9; 16], NOW);
        stretched.expiry = (NOW + 61_000).to_be_bytes();
        assert_eq!(nonces().check(&stretched, NOW + 2_000), Err(ProofError::ForeignNonce));
    }

    #[test]
    fn malformed_headers_are_refused() {
        let good = proof(nonces().issue([9; 16], NOW)).to_string();
        let doubled = format!("{good} x");
        let other_version = good.replacen("v1", "v2", 1);
        let truncated = good.get(..good.len() - 4).unwrap();
        for text in ["", "v1", doubled.as_str(), other_version.as_str(), truncated] {
            assert_eq!(text.parse::<Proof>().unwrap_err(), ProofError::Malformed, "{text}");
        }
    }

    #[test]
    fn debug_of_the_key_shows_nothing() {
        assert_eq!(format!("{:?}", nonces()), "NonceKey(..)");
    }
}
