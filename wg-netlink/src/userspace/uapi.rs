//! The text that a userspace WireGuard speaks (<https://www.wireguard.com/xplatform/>). Pure.
//!
//! It holds keys, so it is kept in memory that is wiped.

use core::fmt::Write as _;
use core::num::{NonZeroU16, NonZeroU32};
use core::str::FromStr;
use core::time::Duration;
use std::time::SystemTime;

use wg_types::{
    Interface, InterfaceConfig, Peer, PeerConfig, PeerStats, PresharedKey, PrivateKey, PublicKey,
};
use zeroize::Zeroizing;

/// Asks for everything.
pub(super) const GET: &str = "get=1\n\n";

/// Text that is wiped.
pub(super) type Secret = Zeroizing<String>;

/// Writes the request to set what is given of an interface.
pub(super) fn configure(config: &InterfaceConfig) -> Secret {
    let mut text = request();
    if let Some(key) = &config.private_key {
        line(&mut text, "private_key", &hex(key.expose_secret()));
    }
    if let Some(port) = config.listen_port {
        line(&mut text, "listen_port", &port.to_string());
    }
    if let Some(fwmark) = config.fwmark {
        line(&mut text, "fwmark", &fwmark.to_string());
    }
    text.push('\n');
    text
}

/// Writes the request that removes a peer.
pub(super) fn remove_peer(key: &PublicKey) -> Secret {
    let mut text = request();
    line(&mut text, "public_key", &hex(key.as_bytes()));
    line(&mut text, "remove", "true");
    text.push('\n');
    text
}

/// Writes the request that adds a peer which is not there.
pub(super) fn add_peer(config: &PeerConfig) -> Secret {
    let mut text = request();
    line(&mut text, "public_key", &hex(config.public_key.as_bytes()));
    if let Some(psk) = &config.preshared_key {
        line(&mut text, "preshared_key", &hex(psk.expose_secret()));
    }
    if let Some(endpoint) = config.endpoint {
        line(&mut text, "endpoint", &endpoint.to_string());
    }
    if let Some(seconds) = config.persistent_keepalive {
        line(&mut text, "persistent_keepalive_interval", &seconds.to_string());
    }
    for net in &config.allowed_ips {
        line(&mut text, "allowed_ip", &net.to_string());
    }
    text.push('\n');
    text
}

/// Reads the answer to a request for changes: zero or an errno. `None`: it is no answer.
pub(super) fn errno(answer: &str) -> Option<i32> {
    answer.lines().find_map(|line| line.strip_prefix("errno=")).and_then(|code| code.parse().ok())
}

/// Reads the answer to [`GET`]. `None`: it is no answer. Unknown keys are skipped.
pub(super) fn interface(name: &str, answer: &str) -> Option<Interface> {
    let mut interface = Interface {
        name: name.to_owned(),
        public_key: None,
        listen_port: 0,
        fwmark: None,
        peers: Vec::new(),
    };
    let mut handshake = Duration::ZERO;
    for line in answer.lines().filter(|line| !line.is_empty()) {
        let (key, value) = line.split_once('=')?;
        match (key, interface.peers.last_mut()) {
            ("public_key", _) => {
                handshake = Duration::ZERO;
                interface.peers.push(silent_peer(PublicKey::from_bytes(*bytes(value)?)));
            }
            ("private_key", None) => {
                let private_key = PrivateKey::from_bytes(*bytes(value)?);
                interface.public_key = Some(private_key.public_key());
            }
            ("listen_port", None) => interface.listen_port = value.parse().ok()?,
            ("fwmark", None) => interface.fwmark = NonZeroU32::new(value.parse().ok()?),
            ("errno", _) if value != "0" => return None,
            (key, Some(peer)) => peer_line(peer, &mut handshake, key, value)?,
            (_, None) => {}
        }
    }
    Some(interface)
}

fn peer_line(peer: &mut Peer, handshake: &mut Duration, key: &str, value: &str) -> Option<()> {
    match key {
        "preshared_key" => {
            let psk = bytes(value)?;
            let is_set = *psk != [0; 32];
            peer.config.preshared_key = is_set.then(|| PresharedKey::from_bytes(*psk));
        }
        "endpoint" => {
            peer.config.endpoint = Some(value.parse().ok()?);
            peer.stats.endpoint = peer.config.endpoint;
        }
        "persistent_keepalive_interval" => {
            peer.config.persistent_keepalive = NonZeroU16::new(value.parse().ok()?);
        }
        "allowed_ip" => peer.config.allowed_ips.push(value.parse().ok()?),
        "last_handshake_time_sec" => *handshake = Duration::from_secs(value.parse().ok()?),
        "last_handshake_time_nsec" => {
            let at = handshake.checked_add(Duration::from_nanos(value.parse().ok()?))?;
            peer.stats.last_handshake =
                if at.is_zero() { None } else { SystemTime::UNIX_EPOCH.checked_add(at) };
        }
        "rx_bytes" => peer.stats.rx_bytes = value.parse().ok()?,
        "tx_bytes" => peer.stats.tx_bytes = value.parse().ok()?,
        _ => {}
    }
    Some(())
}

const fn silent_peer(public_key: PublicKey) -> Peer {
    let stats =
        PeerStats { public_key, endpoint: None, last_handshake: None, rx_bytes: 0, tx_bytes: 0 };
    Peer { config: PeerConfig::new(public_key), stats }
}

fn request() -> Secret {
    // Room enough that it is seldom moved, which would leave a copy behind.
    let mut text = Secret::new(String::with_capacity(4096));
    text.push_str("set=1\n");
    text
}

fn line(text: &mut Secret, key: &str, value: &str) {
    text.push_str(key);
    text.push('=');
    text.push_str(value);
    text.push('\n');
}

fn hex(bytes: &[u8; 32]) -> Secret {
    let mut text = Secret::new(String::with_capacity(64));
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(*text, "{byte:02x}");
    }
    text
}

fn bytes(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0; 32]);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    for (byte, &[high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(bytes)
}

fn digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::from_str(&value.to_string()).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALICE: PublicKey = PublicKey::from_bytes([0xa1; 32]);

    #[test]
    fn what_is_written_is_read_back() {
        let config = PeerConfig {
            preshared_key: Some(PresharedKey::from_bytes([0x5e; 32])),
            endpoint: Some("[2001:db8::1]:51820".parse().unwrap()),
            persistent_keepalive: NonZeroU16::new(25),
            allowed_ips: vec!["10.0.0.1/32".parse().unwrap(), "fd00::/64".parse().unwrap()],
            ..PeerConfig::new(ALICE)
        };
        let text = add_peer(&config);
        let text = format!("{}errno=0\n\n", text.trim_end());
        let text = text.replace("set=1\n", "").replace("/64", "/64\n");
        let interface = interface("wg0", &text).unwrap();
        let peer = &interface.peers.first().unwrap().config;
        assert!(
            peer.preshared_key.as_ref().unwrap().same_as(&PresharedKey::from_bytes([0x5e; 32]))
        );
        assert_eq!(peer.public_key, ALICE);
        assert_eq!(peer.endpoint, config.endpoint);
        assert_eq!(peer.persistent_keepalive, config.persistent_keepalive);
        assert_eq!(peer.allowed_ips, config.allowed_ips);
    }

    #[test]
    fn an_interface_is_read() {
        let key = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a";
        let peer = "a1".repeat(32);
        let answer = format!(
            "private_key={key}\nlisten_port=51820\nfwmark=7\nnew_key=1\npublic_key={peer}\n\
             preshared_key={}\nlast_handshake_time_sec=12\nlast_handshake_time_nsec=5\n\
             rx_bytes=1\ntx_bytes=2\nprotocol_version=1\nerrno=0\n\n",
            "0".repeat(64)
        );
        let interface = interface("wg0", &answer).unwrap();
        assert_eq!(
            interface.public_key.unwrap().to_string(),
            "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=" // RFC 7748 §6.1
        );
        assert_eq!((interface.listen_port, interface.fwmark), (51820, NonZeroU32::new(7)));
        let peer = interface.peers.first().unwrap();
        let at = SystemTime::UNIX_EPOCH + Duration::new(12, 5);
        assert_eq!(peer.stats.last_handshake, Some(at));
        assert_eq!((peer.stats.rx_bytes, peer.stats.tx_bytes), (1, 2));
        assert!(peer.config.preshared_key.is_none(), "zeros are no key");
    }

    #[test]
    fn an_error_is_no_interface() {
        assert!(interface("wg0", "errno=5\n\n").is_none());
        assert_eq!(errno("errno=98\n\n"), Some(98));
        assert_eq!(errno(""), None);
    }

    proptest! {
        #[test]
        fn any_text_gives_an_answer_or_none(text in "([a-z_]{0,14}=?[0-9a-f:./\\[\\]]{0,70}\n){0,8}") {
            let _ = interface("wg0", &text);
            let _ = errno(&text);
        }
    }
}
