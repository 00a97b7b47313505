//! Tokens of challenges: core knows its own again, and whether the device had proved itself, without a look
//! into the database. So a flood of made-up ones never gets there.

use core::fmt;

use hmac::{Hmac, Mac as _};
use mfa_core::budget::Lane;
use mfa_core::token::Token;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// Bytes that are random; as many more depend on these and on the lane.
const RANDOM: usize = 16;

/// What the tokens of an installation's challenges are made and known by; the same at every core.
///
/// A token is 16 random bytes and the first 16 of their HMAC-SHA256. Without the key it is as hard to guess
/// as 32 random ones, from its digest too.
#[derive(Clone)]
pub struct ChallengeTokens(Hmac<Sha256>);

impl ChallengeTokens {
    /// Wraps secret bytes.
    #[must_use]
    pub fn from_bytes(key: &[u8; 32]) -> Self {
        use hmac::KeyInit as _;
        // RFC 2104 pads a key to the hash's block with zeros; done here, no length can be wrong.
        let mut block = Zeroizing::new([0; 64]);
        for (padded, byte) in block.iter_mut().zip(key) {
            *padded = *byte;
        }
        Self(Hmac::new(&(*block).into()))
    }

    /// Makes the token of a challenge in `lane` from random bytes.
    #[must_use]
    pub fn issue(&self, random: [u8; RANDOM], lane: Lane) -> Token {
        let mut bytes = Zeroizing::new([0; 32]);
        let parts = random.into_iter().chain(self.tag(&random, lane));
        for (byte, part) in bytes.iter_mut().zip(parts) {
            *byte = part;
        }
        Token::from_random(*bytes)
    }

    /// Tells which lane a token was issued for; `None`: it is not one of ours.
    #[must_use]
    pub fn lane(&self, token: &Token) -> Option<Lane> {
        let (random, tag) = token.expose_secret().split_first_chunk::<RANDOM>()?;
        let is = |lane: &Lane| bool::from(self.tag(random, *lane).as_slice().ct_eq(tag));
        [Lane::Proven, Lane::Stranger].into_iter().find(is)
    }

    fn tag(&self, random: &[u8; RANDOM], lane: Lane) -> [u8; RANDOM] {
        let mut mac = self.0.clone();
        mac.update(random);
        mac.update(lane.code().as_bytes());
        let mut tag = [0; RANDOM];
        for (byte, part) in tag.iter_mut().zip(mac.finalize().into_bytes()) {
            *byte = part;
        }
        tag
    }
}

impl fmt::Debug for ChallengeTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChallengeTokens(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_tells_its_lane_to_who_has_the_key_and_nothing_else_is_one() {
        let (ours, others) =
            (ChallengeTokens::from_bytes(&[1; 32]), ChallengeTokens::from_bytes(&[2; 32]));
        for lane in [Lane::Proven, Lane::Stranger] {
            let token = ours.issue([7; 16], lane);
            assert_eq!(ours.lane(&token), Some(lane));
            assert_eq!(others.lane(&token), None);
            for at in 0..32 {
                let mut bytes = *token.expose_secret();
                bytes[at] ^= 1;
                assert_eq!(ours.lane(&Token::from_random(bytes)), None, "byte {at}");
            }
        }
        assert_eq!(format!("{ours:?}"), "ChallengeTokens(..)");
    }
}
