//! Passkeys: what a browser hands over is judged here, by Web Authentication Level 3, §7.1 (a new
//! passkey) and §7.2 (a signature).
//!
//! No clock, no database. No attestation is asked for, so whose make an authenticator is stays
//! unknown; of COSE keys only the two canonical forms of ES256 and `EdDSA` that CTAP2 prescribes are
//! read. A passkey is a second factor after a password: presence is required, verification of the
//! person by the authenticator is only asked for.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, ParsedPublicKey, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mfa_store::{NewPasskey, Passkey};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use url::{Host, Url};

/// COSE's number of ECDSA with P-256 and SHA-256.
pub const ES256: i64 = -7;
/// COSE's number of `EdDSA`; here with Ed25519.
pub const EDDSA: i64 = -8;

/// Flags of authenticator data (§6.1).
const PRESENT: u8 = 0x01;
const BACKUP_ELIGIBLE: u8 = 0x08;
const BACKED_UP: u8 = 0x10;
const HAS_CREDENTIAL: u8 = 0x40;

/// The longest id of a credential (§5.8.3).
const CREDENTIAL_BYTES: usize = 1023;

/// A COSE key of ES256 up to `x`, and from there to `y`.
const COSE_ES256: (&[u8], &[u8]) =
    (&[0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20], &[0x22, 0x58, 0x20]);
/// A COSE key of `EdDSA` up to `x`.
const COSE_EDDSA: &[u8] = &[0xa4, 0x01, 0x01, 0x03, 0x27, 0x20, 0x06, 0x21, 0x58, 0x20];

/// Why a passkey's answer is not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PasskeyError {
    /// Something that no browser sends.
    #[error("the browser's answer about the passkey is incomplete; try again")]
    Malformed,
    /// It answers something else, or too late, or a second time.
    #[error("this took too long, or was answered before; try again")]
    Challenge,
    /// It was made for another site.
    #[error("the passkey answered another site; open these pages at the server's own address")]
    Origin,
    /// Nobody touched the authenticator.
    #[error("the passkey was used without anybody's presence")]
    NotPresent,
    /// The kind of key is not one of the two.
    #[error("this kind of passkey is not supported: use one with ES256 or EdDSA")]
    Algorithm,
    /// It is none of this user's.
    #[error("this passkey does not belong to this account")]
    Unknown,
    /// The signature is wrong.
    #[error("the passkey's signature is wrong")]
    Signature,
    /// The authenticator counted less than before: there may be two of it.
    #[error(
        "the passkey counts behind what it counted before, so it may have been copied; remove it \
         and add it anew"
    )]
    Counter,
}

/// The site that passkeys are made for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Relying {
    /// Its host name: the relying party's id.
    pub id: String,
    origin: String,
}

impl Relying {
    /// Takes the site's address; `None` where browsers make no passkeys: at an IP address, and
    /// without TLS.
    #[must_use]
    pub fn of(url: &Url) -> Option<Self> {
        let Some(Host::Domain(name)) = url.host() else { return None };
        (url.scheme() == "https" || name == "localhost")
            .then(|| Self { id: name.to_owned(), origin: url.origin().ascii_serialization() })
    }
}

/// A new passkey, as the browser hands it over.
#[derive(Clone, Debug)]
pub struct Made {
    /// `clientDataJSON`.
    pub client: Vec<u8>,
    /// `authenticatorData`.
    pub data: Vec<u8>,
}

/// A signature, as the browser hands it over.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The credential's id.
    pub id: Vec<u8>,
    /// `clientDataJSON`.
    pub client: Vec<u8>,
    /// `authenticatorData`.
    pub data: Vec<u8>,
    /// The signature over `data` and the hash of `client`.
    pub signature: Vec<u8>,
}

/// `CollectedClientData` (§5.8.1).
#[derive(Deserialize)]
struct Client {
    #[serde(rename = "type")]
    kind: String,
    challenge: String,
    origin: String,
    #[serde(rename = "crossOrigin", default)]
    cross_origin: bool,
    #[serde(rename = "topOrigin")]
    top_origin: Option<String>,
}

/// Authenticator data (§6.1).
#[derive(Clone, Copy)]
struct Data<'a> {
    flags: u8,
    count: u32,
    /// The credential and what else follows.
    rest: &'a [u8],
}

/// Judges a new passkey that answers `challenge`.
///
/// # Errors
///
/// [`PasskeyError`].
pub fn register(
    site: &Relying,
    challenge: &[u8; 32],
    made: &Made,
    name: &str,
) -> Result<NewPasskey, PasskeyError> {
    judge_client(site, challenge, &made.client, "webauthn.create")?;
    let data = judge_data(site, &made.data)?;
    if data.flags & HAS_CREDENTIAL == 0 {
        return Err(PasskeyError::Malformed);
    }
    // The authenticator's make is not looked at.
    let rest = data.rest.get(16..).ok_or(PasskeyError::Malformed)?;
    let (length, rest) = rest.split_first_chunk::<2>().ok_or(PasskeyError::Malformed)?;
    let length = usize::from(u16::from_be_bytes(*length));
    if length == 0 || length > CREDENTIAL_BYTES {
        return Err(PasskeyError::Malformed);
    }
    let (credential, key) = rest.split_at_checked(length).ok_or(PasskeyError::Malformed)?;
    let (algorithm, public_key) = cose(key).ok_or(PasskeyError::Algorithm)?;
    let usable = match algorithm {
        ES256 => ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &public_key).is_ok(),
        _ => ParsedPublicKey::new(&ED25519, &public_key).is_ok(),
    };
    if !usable {
        return Err(PasskeyError::Algorithm);
    }
    Ok(NewPasskey {
        credential: credential.to_vec(),
        algorithm,
        public_key,
        sign_count: data.count,
        name: name.to_owned(),
    })
}

/// Judges a signature that answers `challenge`. Returns the authenticator's new counter.
///
/// # Errors
///
/// [`PasskeyError`].
pub fn verify(
    site: &Relying,
    challenge: &[u8; 32],
    known: &Passkey,
    signed: &Signed,
) -> Result<u32, PasskeyError> {
    if known.credential != signed.id {
        return Err(PasskeyError::Unknown);
    }
    judge_client(site, challenge, &signed.client, "webauthn.get")?;
    let data = judge_data(site, &signed.data)?;
    let mut message = signed.data.clone();
    message.extend_from_slice(&Sha256::digest(&signed.client));
    let algorithm: &'static dyn VerificationAlgorithm = match known.algorithm {
        ES256 => &ECDSA_P256_SHA256_ASN1,
        EDDSA => &ED25519,
        _ => return Err(PasskeyError::Algorithm),
    };
    UnparsedPublicKey::new(algorithm, &known.public_key)
        .verify(&message, &signed.signature)
        .map_err(|_| PasskeyError::Signature)?;
    // §6.1.1: both zero is an authenticator that does not count.
    if (data.count != 0 || known.sign_count != 0) && data.count <= known.sign_count {
        return Err(PasskeyError::Counter);
    }
    Ok(data.count)
}

fn judge_client(
    site: &Relying,
    challenge: &[u8; 32],
    client: &[u8],
    kind: &str,
) -> Result<(), PasskeyError> {
    let client: Client = serde_json::from_slice(client).map_err(|_| PasskeyError::Malformed)?;
    if client.kind != kind {
        return Err(PasskeyError::Malformed);
    }
    let answered = URL_SAFE_NO_PAD.decode(&client.challenge).unwrap_or_default();
    if !bool::from(answered.ct_eq(challenge)) {
        return Err(PasskeyError::Challenge);
    }
    if client.origin != site.origin || client.cross_origin || client.top_origin.is_some() {
        return Err(PasskeyError::Origin);
    }
    Ok(())
}

fn judge_data<'a>(site: &Relying, data: &'a [u8]) -> Result<Data<'a>, PasskeyError> {
    let (hash, rest) = data.split_first_chunk::<32>().ok_or(PasskeyError::Malformed)?;
    let (&flags, rest) = rest.split_first().ok_or(PasskeyError::Malformed)?;
    let (count, rest) = rest.split_first_chunk::<4>().ok_or(PasskeyError::Malformed)?;
    if *hash != <[u8; 32]>::from(Sha256::digest(site.id.as_bytes())) {
        return Err(PasskeyError::Origin);
    }
    if flags & PRESENT == 0 {
        return Err(PasskeyError::NotPresent);
    }
    if flags & BACKED_UP != 0 && flags & BACKUP_ELIGIBLE == 0 {
        return Err(PasskeyError::Malformed);
    }
    Ok(Data { flags, count: u32::from_be_bytes(*count), rest })
}

/// Reads the key at the beginning of `text`: its algorithm, and the form that signatures are
/// checked with. Extensions may follow it.
fn cose(text: &[u8]) -> Option<(i64, Vec<u8>)> {
    if let Some(rest) = text.strip_prefix(COSE_ES256.0) {
        let (x, rest) = rest.split_first_chunk::<32>()?;
        let (y, _) = rest.strip_prefix(COSE_ES256.1)?.split_first_chunk::<32>()?;
        // SEC 1 §2.3.3: an uncompressed point.
        return Some((ES256, [&[0x04], x.as_slice(), y.as_slice()].concat()));
    }
    let (x, _) = text.strip_prefix(COSE_EDDSA)?.split_first_chunk::<32>()?;
    Some((EDDSA, x.to_vec()))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    };
    use mfa_core::id::UserId;
    use mfa_core::time::Timestamp;

    use super::*;

    const CHALLENGE: [u8; 32] = [3; 32];

    enum Key {
        Es256(EcdsaKeyPair),
        EdDsa(Ed25519KeyPair),
    }

    impl Key {
        fn both() -> [Self; 2] {
            [
                Self::Es256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap()),
                Self::EdDsa(Ed25519KeyPair::generate().unwrap()),
            ]
        }

        fn cose(&self) -> Vec<u8> {
            match self {
                Self::Es256(key) => {
                    let point = key.public_key().as_ref();
                    [COSE_ES256.0, &point[1..33], COSE_ES256.1, &point[33..]].concat()
                }
                Self::EdDsa(key) => [COSE_EDDSA, key.public_key().as_ref()].concat(),
            }
        }

        fn sign(&self, message: &[u8]) -> Vec<u8> {
            match self {
                Self::Es256(key) => {
                    key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
                }
                Self::EdDsa(key) => key.sign(message).as_ref().to_vec(),
            }
        }

        fn made(&self, flags: u8) -> Made {
            let mut data = data(flags, 1);
            data.extend_from_slice(&[0; 16]);
            data.extend_from_slice(&[0, 4]);
            data.extend_from_slice(b"cred");
            data.extend_from_slice(&self.cose());
            Made { client: client("webauthn.create", "https://vpn.example.com:8443"), data }
        }

        fn signed(&self, client: Vec<u8>, data: Vec<u8>) -> Signed {
            let message = [data.as_slice(), &Sha256::digest(&client)].concat();
            Signed { id: b"cred".to_vec(), signature: self.sign(&message), client, data }
        }
    }

    fn site() -> Relying {
        Relying::of(&"https://vpn.example.com:8443/".parse().unwrap()).unwrap()
    }

    fn client(kind: &str, origin: &str) -> Vec<u8> {
        let challenge = URL_SAFE_NO_PAD.encode(CHALLENGE);
        serde_json::json!({ "type": kind, "challenge": challenge, "origin": origin })
            .to_string()
            .into_bytes()
    }

    fn data(flags: u8, count: u32) -> Vec<u8> {
        let mut data = Sha256::digest(b"vpn.example.com").to_vec();
        data.push(flags);
        data.extend_from_slice(&count.to_be_bytes());
        data
    }

    fn known(key: &Key) -> Passkey {
        let new = register(&site(), &CHALLENGE, &key.made(0x41), "key").unwrap();
        Passkey {
            id: 1,
            user: UserId::new(1),
            credential: new.credential,
            algorithm: new.algorithm,
            public_key: new.public_key,
            sign_count: new.sign_count,
            name: new.name,
            created: Timestamp::from_unix_millis(0),
            used: None,
        }
    }

    fn get() -> Vec<u8> {
        client("webauthn.get", "https://vpn.example.com:8443")
    }

    #[test]
    fn what_was_registered_signs_in_with_both_algorithms() {
        for key in Key::both() {
            let known = known(&key);
            let signed = key.signed(get(), data(0x01, 2));
            assert_eq!(verify(&site(), &CHALLENGE, &known, &signed), Ok(2));
        }
    }

    #[test]
    fn every_changed_bit_of_an_answer_is_noticed() {
        for key in Key::both() {
            let known = known(&key);
            let good = key.signed(get(), data(0x01, 2));
            for at in 0..good.data.len() {
                let mut bad = good.clone();
                bad.data[at] ^= 0x20;
                assert!(verify(&site(), &CHALLENGE, &known, &bad).is_err(), "data {at}");
            }
            for at in 0..good.signature.len() {
                let mut bad = good.clone();
                bad.signature[at] ^= 1;
                assert!(verify(&site(), &CHALLENGE, &known, &bad).is_err(), "signature {at}");
            }
            for at in 0..good.client.len() {
                let mut bad = good.clone();
                bad.client[at] ^= 1;
                assert!(verify(&site(), &CHALLENGE, &known, &bad).is_err(), "client {at}");
            }
        }
    }

    #[test]
    fn an_answer_is_for_one_challenge_one_site_one_purpose_and_one_key() {
        let [key, other] = Key::both();
        let known = known(&key);
        let judge = |signed: &Signed| verify(&site(), &CHALLENGE, &known, signed).unwrap_err();
        let good = key.signed(get(), data(0x01, 2));
        assert_eq!(verify(&site(), &[4; 32], &known, &good).unwrap_err(), PasskeyError::Challenge);
        for origin in
            ["https://evil.example", "https://vpn.example.com", "http://vpn.example.com:8443"]
        {
            let client = client("webauthn.get", origin);
            assert_eq!(judge(&key.signed(client, data(0x01, 2))), PasskeyError::Origin, "{origin}");
        }
        let mut framed: serde_json::Value = serde_json::from_slice(&get()).unwrap();
        framed["crossOrigin"] = true.into();
        let framed = framed.to_string().into_bytes();
        assert_eq!(judge(&key.signed(framed, data(0x01, 2))), PasskeyError::Origin);
        let create = client("webauthn.create", "https://vpn.example.com:8443");
        assert_eq!(judge(&key.signed(create, data(0x01, 2))), PasskeyError::Malformed);
        assert_eq!(judge(&key.signed(get(), data(0x00, 2))), PasskeyError::NotPresent);
        assert_eq!(judge(&other.signed(get(), data(0x01, 2))), PasskeyError::Signature);
        let named = Signed { id: b"other".to_vec(), ..good };
        assert_eq!(judge(&named), PasskeyError::Unknown);
    }

    #[test]
    fn a_counter_that_does_not_grow_is_a_copy_and_one_that_is_always_zero_is_not() {
        let [key, _] = Key::both();
        let mut known = known(&key);
        for (before, now, expected) in [
            (1, 1, Err(PasskeyError::Counter)),
            (5, 4, Err(PasskeyError::Counter)),
            (5, 0, Err(PasskeyError::Counter)),
            (5, 6, Ok(6)),
            (0, 0, Ok(0)),
            (0, 1, Ok(1)),
        ] {
            known.sign_count = before;
            let signed = key.signed(get(), data(0x01, now));
            assert_eq!(verify(&site(), &CHALLENGE, &known, &signed), expected, "{before} {now}");
        }
    }

    #[test]
    fn a_damaged_registration_is_refused_and_never_panics() {
        for key in Key::both() {
            let good = key.made(0x41);
            for length in 0..good.data.len() {
                let cut = Made { data: good.data[..length].to_vec(), ..good.clone() };
                assert!(register(&site(), &CHALLENGE, &cut, "k").is_err(), "{length}");
            }
            for flags in [0x01, 0x40, 0x51] {
                assert!(register(&site(), &CHALLENGE, &key.made(flags), "k").is_err(), "{flags}");
            }
            let mut foreign = good.clone();
            foreign.data[59] ^= 0xff;
            assert_eq!(
                register(&site(), &CHALLENGE, &foreign, "k").unwrap_err(),
                PasskeyError::Algorithm
            );
        }
        let Key::Es256(_) = &Key::both()[0] else { panic!("the first is ES256") };
        let mut off_curve = Key::both()[0].made(0x41);
        let last = off_curve.data.len() - 1;
        off_curve.data[last] ^= 1;
        assert_eq!(
            register(&site(), &CHALLENGE, &off_curve, "k").unwrap_err(),
            PasskeyError::Algorithm
        );
    }

    #[test]
    fn browsers_make_passkeys_for_names_and_with_tls() {
        let of = |url: &str| Relying::of(&url.parse().unwrap()).map(|site| site.id);
        assert_eq!(of("https://vpn.example.com:8443/"), Some("vpn.example.com".to_owned()));
        assert_eq!(of("http://localhost:8443/"), Some("localhost".to_owned()));
        for url in ["https://192.0.2.1/", "https://[2001:db8::1]/", "http://vpn.example.com/"] {
            assert_eq!(of(url), None, "{url}");
        }
    }
}
