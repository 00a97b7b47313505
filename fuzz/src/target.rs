//! What is fed, and what it is fed with at first.

use core::hint::black_box;
use core::str;
use std::net::SocketAddr;

use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;
use mfa_core::factor::email_code::EmailCode;
use mfa_core::factor::recovery::RecoveryCode;
use mfa_core::factor::totp::{TotpCode, TotpSecret};
use mfa_core::token::Token;
use mfa_wire::http::{
    ActivateUserRequest, Code, CreateDeviceRequest, DisconnectRequest, EnrollmentStartRequest,
    ErrorBody, FinishRequest, MfaFinishRequest, MfaStartRequest, NetworkInfoRequest, PollRequest,
    RegisterMfaFinishRequest, RegisterMfaStartRequest, StartRequest,
};
use mfa_wire::{gateway, legacy, proof::Proof};
use prost::Message;
use serde::de::DeserializeOwned;
use wg_netlink::kernel::decode;
use wg_types::{Interface, PresharedKey, PrivateKey, PublicKey};

/// A reader of bytes from outside.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What it reads.
    pub name: &'static str,
    /// Reads it; must return.
    pub read: fn(&[u8]),
    /// Input that is good, or nearly, to start from.
    pub seeds: &'static [&'static [u8]],
}

const KEY: &[u8] = b"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

/// All of them.
#[must_use]
pub fn all() -> Vec<Target> {
    vec![
        Target { name: "netlink-dump", read: dump, seeds: &[DUMP, DUMP_OF_TWO] },
        Target { name: "gateway-frames", read: frames, seeds: &[HELLO, ACK] },
        Target {
            name: "legacy-frames",
            read: legacy_frames,
            seeds: &[HELLO, b"\x08\x01\x12\x02gw"],
        },
        Target { name: "http-bodies", read: bodies, seeds: BODIES },
        Target {
            name: "codes",
            read: codes,
            seeds: &[b"123456", b"12345678", b"ABCD-EFGH-IJKL-MNOP"],
        },
        Target { name: "keys", read: keys, seeds: &[KEY] },
        Target {
            name: "tokens",
            read: tokens,
            seeds: &[b"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE", PROOF],
        },
        Target { name: "networks", read: networks, seeds: &[b"10.0.0.0/8", b"fd00::1/64"] },
        Target { name: "forwarded", read: forwarded, seeds: &[b"192.0.2.1, 10.0.0.1"] },
        Target { name: "config", read: config, seeds: CONFIG },
    ]
}

const CONFIG: &[&[u8]] = &[core_bin::config::EXAMPLE.as_bytes()];

/// One peer with a key, an endpoint, times, an allowed IP.
const DUMP: &[u8] = include_bytes!("../corpus/netlink-dump/one-peer");
const DUMP_OF_TWO: &[u8] = include_bytes!("../corpus/netlink-dump/two-peers");

const HELLO: &[u8] = b"\x0a\x12\x0a\x05\x31.2.3\x12\x02gw\x1a\x03\x01\x02\x03\x20\x07";
const ACK: &[u8] = b"\x12\x02\x08\x05";

const PROOF: &[u8] = b"v1 AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE= AQEB AQEB";

const BODIES: &[&[u8]] = &[
    br#"{"location_id":1,"pubkey":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=","method":0}"#,
    br#"{"token":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE","code":"012345"}"#,
    br#"{"token":"x","code":12345}"#,
    br#"{"name":"laptop","pubkey":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="}"#,
    br#"{"method":1,"code":"12345678","current":{"method":0,"code":"123456"}}"#,
    br#"{"error":"x","code":"y","detail":"z"}"#,
];

fn dump(bytes: &[u8]) {
    let mut interface = empty();
    let _ = black_box(decode::device(bytes, &mut interface));
    let mut interface = empty();
    let _ = black_box(decode::device_alone(bytes, &mut interface));
}

fn frames(bytes: &[u8]) {
    again::<gateway::FromGateway>(bytes);
    again::<gateway::ToGateway>(bytes);
    again::<gateway::EnrollRequest>(bytes);
    again::<gateway::RenewRequest>(bytes);
}

fn legacy_frames(bytes: &[u8]) {
    again::<legacy::StatsUpdate>(bytes);
    again::<legacy::ConfigurationRequest>(bytes);
    again::<legacy::Update>(bytes);
    again::<legacy::Configuration>(bytes);
}

/// What can be read can be written, and then reads the same.
fn again<M: Message + Default + PartialEq>(bytes: &[u8]) {
    if let Ok(message) = M::decode(bytes) {
        let written = message.encode_to_vec();
        assert!(M::decode(written.as_slice()).is_ok(), "what was written cannot be read");
    }
}

fn bodies(bytes: &[u8]) {
    fn read<T: DeserializeOwned>(bytes: &[u8]) {
        let _ = black_box(serde_json::from_slice::<T>(bytes));
    }
    read::<StartRequest>(bytes);
    read::<FinishRequest>(bytes);
    read::<EnrollmentStartRequest>(bytes);
    read::<CreateDeviceRequest>(bytes);
    read::<ActivateUserRequest>(bytes);
    read::<NetworkInfoRequest>(bytes);
    read::<RegisterMfaStartRequest>(bytes);
    read::<RegisterMfaFinishRequest>(bytes);
    read::<PollRequest>(bytes);
    read::<DisconnectRequest>(bytes);
    read::<MfaStartRequest>(bytes);
    read::<MfaFinishRequest>(bytes);
    read::<ErrorBody>(bytes);
    read::<Code>(bytes);
}

fn text(bytes: &[u8], read: impl Fn(&str)) {
    if let Ok(text) = str::from_utf8(bytes) {
        read(text);
    }
}

fn codes(bytes: &[u8]) {
    text(bytes, |text| {
        let digits = text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_digit());
        assert_eq!(TotpCode::parse(text).is_ok(), digits, "six digits are a code, nothing else");
        if let Ok(code) = TotpCode::parse(text) {
            assert_eq!(&*code.expose_text(), text);
        }
        let digits = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit());
        assert_eq!(EmailCode::parse(text).is_ok(), digits, "eight digits are a code");
        let _ = black_box(RecoveryCode::parse(text));
        let _ = black_box(TotpSecret::from_base32(text));
    });
}

fn keys(bytes: &[u8]) {
    text(bytes, |text| {
        if let Ok(key) = text.parse::<PublicKey>() {
            assert_eq!(key.to_string(), text, "a key has one spelling");
        }
        let _ = black_box(PrivateKey::from_base64(text));
        let _ = black_box(PresharedKey::from_base64(text));
    });
}

fn tokens(bytes: &[u8]) {
    text(bytes, |text| {
        if let Some(token) = Token::parse(text) {
            assert_eq!(&*token.expose_text(), text, "a token has one spelling");
        }
        let _ = black_box(text.parse::<Proof>());
    });
}

fn networks(bytes: &[u8]) {
    text(bytes, |text| {
        if let Ok(network) = text.parse::<IpNet>() {
            let again = network.to_string().parse::<IpNet>();
            assert_eq!(again.ok(), Some(network));
        }
        let _ = black_box(text.parse::<SocketAddr>());
    });
}

fn forwarded(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    let mut headers = HeaderMap::new();
    headers.append("x-forwarded-for", value);
    let nets: Vec<IpNet> = "10.0.0.0/8".parse().into_iter().collect();
    let stranger = SocketAddr::from(([192, 0, 2, 9], 1));
    let found = core_bin::http::source::source(stranger, &headers, &nets);
    assert_eq!(found, stranger.ip(), "a stranger cannot say who it is");
    let proxy = SocketAddr::from(([10, 0, 0, 1], 1));
    let _ = black_box(core_bin::http::source::source(proxy, &headers, &nets));
}

fn config(bytes: &[u8]) {
    text(bytes, |text| {
        let _ = black_box(toml::from_str::<core_bin::config::Config>(text));
    });
}

const fn empty() -> Interface {
    Interface {
        name: String::new(),
        public_key: None,
        listen_port: 0,
        fwmark: None,
        peers: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_of_dumps_are_good_ones() {
        for (seed, peers) in [(DUMP, 1), (DUMP_OF_TWO, 2)] {
            let mut interface = empty();
            decode::device(seed, &mut interface).unwrap();
            assert_eq!(interface.peers.len(), peers);
        }
    }
}
