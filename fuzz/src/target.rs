//! What is fed, and what it is fed with at first.

use core::hint::black_box;
use core::str;
use std::net::SocketAddr;

use core_bin::mail::{CodeMail, CodePurpose, Mail};
use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;
use lettre::Address;
use mfa_core::factor::email_code::EmailCode;
use mfa_core::factor::recovery::RecoveryCode;
use mfa_core::factor::totp::{TotpCode, TotpSecret};
use mfa_core::time::Timestamp;
use mfa_core::token::Token;
use mfa_store::{KeySource, MasterKey, Place, Sealer};
use mfa_wire::http::{
    ActivateUserRequest, Code, CreateDeviceRequest, DisconnectRequest, EnrollmentStartRequest,
    ErrorBody, FinishRequest, MfaFinishRequest, MfaStartRequest, NetworkInfoRequest, PollRequest,
    RegisterMfaFinishRequest, RegisterMfaStartRequest, StartRequest,
};
use mfa_wire::{gateway, legacy, proof::Proof};
use prost::Message;
use serde::de::DeserializeOwned;
use url::Url;
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
        Target { name: "sealed-values", read: sealed, seeds: &[SEALED_PSK, SEALED_TOTP] },
        Target { name: "mails", read: mails, seeds: NAMES },
        Target { name: "mail-headers", read: headers, seeds: &[b"ada@example.com", b"Code"] },
        Target { name: "otpauth", read: otpauth, seeds: NAMES },
        Target { name: "wg-quick", read: wg_quick, seeds: &[WG_QUICK] },
    ]
}

const CONFIG: &[&[u8]] = &[core_bin::config::EXAMPLE.as_bytes()];

/// One peer with a key, an endpoint, times, an allowed IP.
const DUMP: &[u8] = include_bytes!("../corpus/netlink-dump/one-peer");
const DUMP_OF_TWO: &[u8] = include_bytes!("../corpus/netlink-dump/two-peers");

const SEALED_PSK: &[u8] = include_bytes!("../corpus/sealed-values/psk");
const SEALED_TOTP: &[u8] = include_bytes!("../corpus/sealed-values/totp");

/// What people call things.
const NAMES: &[&[u8]] = &[
    b"laptop",
    b"Ada's <b>\"phone\"</b> & co",
    b"x\r\nBcc: eve@example.com\r\n\r\nbody",
    "b\u{fc}ro \u{202e}moc.elpmaxe\u{2028}{{ code }}%0a=?utf-8?q?=0a?=".as_bytes(),
];

const WG_QUICK: &[u8] = b"[Interface]\nPrivateKey = AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n\
    Address = 10.1.0.1/24, fd00::1/64\nListenPort = 51820\nMTU = 1420\n\n# ada\n[Peer]\n\
    PublicKey = AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=\n\
    PresharedKey = AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=\nAllowedIPs = 10.1.0.2/32\n";

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

/// Where the seeds belong, and the key that sealed them.
const PLACE: Place = Place { table: "session", column: "psk", row: 7 };
const MASTER: [u8; 32] = [7; 32];
/// What is in the seeds.
const PSK: [u8; 32] = [0x5a; 32];
const TOTP: [u8; 20] = [0x3c; 20];

fn sealed(bytes: &[u8]) {
    thread_local! {
        static SEALER: Sealer = Sealer::new(KeySource::from(&MasterKey::from_bytes(MASTER)));
    }
    SEALER.with(|sealer| {
        if let Ok(secret) = sealer.open(PLACE, bytes) {
            assert!(bytes == SEALED_PSK || bytes == SEALED_TOTP, "a changed value opens");
            assert!(secret.as_slice() == PSK || secret.as_slice() == TOTP);
        }
        let elsewhere = Place { row: 8, ..PLACE };
        assert!(sealer.open(elsewhere, bytes).is_err(), "a value opens in another's place");
    });
}

/// Writes a mail in which every name is `name`.
fn write_mail(name: &str, to: Address) -> Mail {
    let purpose = CodePurpose::Connect { location: name.to_owned() };
    CodeMail {
        instance: name,
        purpose: &purpose,
        device: Some(name),
        asked: Timestamp::from_unix_millis(1_700_000_000_000),
        minutes: 10,
        contact: name,
    }
    .write(to, "01234567")
}

/// No name becomes markup, and none a header.
fn mails(bytes: &[u8]) {
    thread_local! {
        static ADA: Option<Address> = "ada@example.com".parse().ok();
        static MARKS: usize = ADA.with(|ada| {
            ada.clone().map_or(0, |ada| marks(&write_mail("x", ada).html))
        });
    }
    text(bytes, |name| {
        let Some(ada) = ADA.with(Clone::clone) else { return };
        let mail = write_mail(name, ada.clone());
        assert_eq!(marks(&mail.html), MARKS.with(|marks| *marks), "a name became markup");
        assert!(mail.text.contains("01234567") && mail.html.contains("01234567"));
        whole(&mail);
        whole(&write_notice(name, ada));
    });
}

fn write_notice(name: &str, to: Address) -> Mail {
    let now = Timestamp::from_unix_millis(1_700_000_000_000);
    core_bin::mail::notice(to, name, name, now, name)
}

/// Whatever may be an address or a subject.
fn headers(bytes: &[u8]) {
    text(bytes, |text| {
        if let Ok(to) = text.parse::<Address>() {
            whole(&write_mail("x", to));
        }
        if let Ok(ada) = "ada@example.com".parse() {
            whole(&Mail { subject: text.to_owned(), ..write_mail("x", ada) });
        }
    });
}

fn marks(html: &str) -> usize {
    html.matches(['<', '>', '"']).count()
}

/// A mail that can be sent has the headers that it should have, each once.
fn whole(mail: &Mail) {
    let Ok(from) = "VPN <vpn@example.com>".parse() else { return };
    let Ok(message) = core_bin::mail::compose(&from, mail) else { return };
    let bytes = message.formatted();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let head = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
    let head = String::from_utf8_lossy(head);
    let mut names: Vec<&str> = head
        .split("\r\n")
        .filter(|line| !line.starts_with([' ', '\t']))
        .map(|line| line.split(':').next().unwrap_or_default())
        .collect();
    names.sort_unstable();
    assert_eq!(names, HEADERS, "{head}");
}

const HEADERS: &[&str] = &[
    "Auto-Submitted",
    "Content-Type",
    "Date",
    "From",
    "MIME-Version",
    "Message-ID",
    "Subject",
    "To",
];

/// Whatever an installation and a person are called, an app reads the secret that was made.
fn otpauth(bytes: &[u8]) {
    text(bytes, |name| {
        let secret = TotpSecret::from_bytes(TOTP);
        let uri = secret.expose_uri(name, name);
        let uri = uri.parse::<Url>();
        assert!(uri.is_ok(), "no URI: {name:?}");
        let Ok(uri) = uri else { return };
        assert_eq!((uri.scheme(), uri.host_str()), ("otpauth", Some("totp")));
        let of = |wanted: &str| -> Vec<String> {
            let pairs = uri.query_pairs().filter(|(name, _)| name == wanted);
            pairs.map(|(_, value)| value.into_owned()).collect()
        };
        assert_eq!(of("secret"), [secret.expose_base32().to_string()]);
        assert!(of("issuer").len() <= 1 && uri.fragment().is_none());
    });
}

fn wg_quick(bytes: &[u8]) {
    text(bytes, |text| {
        let read = core_bin::flows::import::Configuration::parse(text);
        let told = read.as_ref().map_or_else(ToString::to_string, |read| format!("{read:?}"));
        for secret in [KEY, b"AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM="] {
            let secret = str::from_utf8(secret).unwrap_or_default();
            assert!(!told.contains(secret), "a key is told");
        }
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
    fn the_sealed_seeds_open() {
        let sealer = Sealer::new(KeySource::from(&MasterKey::from_bytes(MASTER)));
        if std::env::var_os("WGMFA_WRITE_CORPUS").is_some() {
            sealer.learn(mfa_store::KeyId::FIRST, &MasterKey::from_bytes(MASTER));
            let seal = |secret: &[u8]| sealer.seal(mfa_store::KeyId::FIRST, PLACE, secret).unwrap();
            let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/sealed-values/");
            std::fs::write(format!("{dir}psk"), seal(&PSK)).unwrap();
            std::fs::write(format!("{dir}totp"), seal(&TOTP)).unwrap();
        }
        assert_eq!(sealer.open(PLACE, SEALED_PSK).unwrap().as_slice(), PSK);
        assert_eq!(sealer.open(PLACE, SEALED_TOTP).unwrap().as_slice(), TOTP);
    }

    #[test]
    fn the_seeds_of_dumps_are_good_ones() {
        for (seed, peers) in [(DUMP, 1), (DUMP_OF_TWO, 2)] {
            let mut interface = empty();
            decode::device(seed, &mut interface).unwrap();
            assert_eq!(interface.peers.len(), peers);
        }
    }
}
