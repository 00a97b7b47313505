//! Keys in `client.json`, as base64.

/// A private key, in the one file that may hold it.
pub(crate) mod private_key {
    use serde::{Deserialize as _, Deserializer, Serializer, de};
    use wg_types::PrivateKey;
    use zeroize::Zeroizing;

    pub(crate) fn serialize<S: Serializer>(key: &PrivateKey, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&key.expose_base64())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PrivateKey, D::Error> {
        let text = Zeroizing::new(String::deserialize(from)?);
        PrivateKey::from_base64(&text).map_err(de::Error::custom)
    }
}

/// A public key.
pub(crate) mod public_key {
    use serde::{Deserialize as _, Deserializer, Serializer, de};
    use wg_types::PublicKey;

    pub(crate) fn serialize<S: Serializer>(key: &PublicKey, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(key)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PublicKey, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}
