//! **import** — a server's wg-quick configuration becomes a location, its peers become devices.

use std::net::IpAddr;

use ipnet::IpNet;
use mfa_core::token::TokenDigest;
use mfa_store::{By, Device, Location, NewDevice, StoreError, Tx};
use wg_types::{PrivateKey, PublicKey};

use super::location::{self, LocationChange, LocationError};
use super::name::{self, NameError};
use super::user::{self, UserError};

/// Peers at most: more than any server is known to have.
pub const MAX_PEERS: usize = 10_000;

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A line of the file.
    #[error("line {line}: {reason}; nothing was imported")]
    Line {
        /// Which, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Something that the file must have.
    #[error("the file has no {0}; nothing was imported")]
    Absent(&'static str),
    /// The location.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// Whose the devices are to be.
    #[error(transparent)]
    User(#[from] UserError),
    /// A name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A wg-quick configuration, as a server has it (wg(8), wg-quick(8)).
#[derive(Debug)]
pub struct Configuration {
    key: PrivateKey,
    addresses: Vec<IpNet>,
    listen_port: Option<u16>,
    mtu: Option<u16>,
    peers: Vec<Peer>,
    /// Lines that have no meaning here, in words.
    ignored: Vec<String>,
}

#[derive(Debug)]
struct Peer {
    /// Where its section begins.
    line: usize,
    /// What a comment above or in it calls it.
    name: Option<String>,
    key: Option<PublicKey>,
    addresses: Vec<(usize, IpAddr)>,
}

/// What was imported.
#[derive(Debug)]
pub struct Imported {
    /// The new location.
    pub location: Location,
    /// The new devices.
    pub devices: Vec<Device>,
    /// Lines that have no meaning here, in words.
    pub ignored: Vec<String>,
}

enum Section {
    None,
    Interface,
    Peer,
}

impl Configuration {
    /// Reads a file. Keys are never repeated in an error.
    ///
    /// # Errors
    ///
    /// [`ImportError::Line`] or [`ImportError::Absent`].
    pub fn parse(text: &str) -> Result<Self, ImportError> {
        let (mut key, mut addresses, mut listen_port, mut mtu) = (None, Vec::new(), None, None);
        let (mut peers, mut ignored) = (Vec::<Peer>::new(), Vec::new());
        let (mut section, mut comment) = (Section::None, None);
        for (line, raw) in (1..).zip(text.lines()) {
            let (code, remark) = raw.split_once('#').unwrap_or((raw, ""));
            let wrong = |reason: &str| ImportError::Line { line, reason: reason.to_owned() };
            let code = code.trim();
            if code.is_empty() {
                comment = Some(remark.trim()).filter(|words| !words.is_empty()).or(comment);
                if let (Section::Peer, Some(peer)) = (&section, peers.last_mut())
                    && peer.key.is_none()
                {
                    peer.name = peer.name.take().or_else(|| comment.map(str::to_owned));
                }
                continue;
            }
            if code.eq_ignore_ascii_case("[interface]") {
                if key.is_some() || !addresses.is_empty() {
                    return Err(wrong("a second [Interface]"));
                }
                section = Section::Interface;
            } else if code.eq_ignore_ascii_case("[peer]") {
                if peers.len() >= MAX_PEERS {
                    return Err(wrong("too many peers"));
                }
                section = Section::Peer;
                let name = comment.filter(|_| !peers.is_empty() || key.is_some());
                let name = name.map(str::to_owned);
                peers.push(Peer { line, name, key: None, addresses: Vec::new() });
            } else {
                let (field, value) = code
                    .split_once('=')
                    .ok_or_else(|| wrong("neither a section nor NAME = VALUE"))?;
                let (field, value) = (field.trim().to_ascii_lowercase(), value.trim());
                match (&section, field.as_str()) {
                    (Section::Interface, "privatekey") => {
                        let read = PrivateKey::from_base64(value);
                        key = Some(read.map_err(|_| wrong("this is no private key"))?);
                    }
                    (Section::Interface, "address") => {
                        for one in value.split(',') {
                            addresses.push(network(one).ok_or_else(|| {
                                wrong("this is no address with its network, such as 10.1.0.1/24")
                            })?);
                        }
                    }
                    (Section::Interface, "listenport") => {
                        let port = value.parse().ok().filter(|port| *port > 0);
                        listen_port = Some(port.ok_or_else(|| wrong("this is no port"))?);
                    }
                    (Section::Interface, "mtu") => {
                        mtu = Some(value.parse().map_err(|_| wrong("this is no MTU"))?);
                    }
                    (Section::Peer, "publickey") => {
                        let read = value.parse().map_err(|_| wrong("this is no public key"))?;
                        let peer = peers.last_mut().ok_or_else(|| wrong("no section"))?;
                        if peer.key.replace(read).is_some() {
                            return Err(wrong("a second public key; is a [Peer] missing?"));
                        }
                    }
                    (Section::Peer, "allowedips") => {
                        let peer = peers.last_mut().ok_or_else(|| wrong("no section"))?;
                        for one in value.split(',').filter(|one| !one.trim().is_empty()) {
                            let net = network(one).ok_or_else(|| wrong("this is no network"))?;
                            if net.prefix_len() != net.max_prefix_len() {
                                return Err(wrong(
                                    "a device has single addresses (/32, /128); a network behind a peer cannot be imported",
                                ));
                            }
                            peer.addresses.push((line, net.addr()));
                        }
                    }
                    (
                        Section::Interface,
                        "dns" | "table" | "fwmark" | "saveconfig" | "preup" | "postup" | "predown"
                        | "postdown",
                    )
                    | (Section::Peer, "presharedkey" | "endpoint" | "persistentkeepalive") => {
                        // The name alone: a pre-shared key is a secret.
                        ignored.push(format!("line {line}: {field} has no meaning here"));
                    }
                    (Section::None, _) => return Err(wrong("a setting before any section")),
                    (Section::Interface | Section::Peer, _) => {
                        return Err(wrong("an unknown setting for this section"));
                    }
                }
            }
            comment = None;
        }
        let key = key.ok_or(ImportError::Absent("PrivateKey in [Interface]"))?;
        if addresses.is_empty() {
            return Err(ImportError::Absent("Address in [Interface]"));
        }
        Ok(Self { key, addresses, listen_port, mtu, peers, ignored })
    }
}

/// Imports `file` as the location `name`: with its own key, so clients go on to know it. The devices
/// belong to `login`; each keeps its key and its addresses. `change` says what the file does not: the
/// endpoint, MFA, groups. `polling` are digests of tokens that nobody has: a device gets one when it
/// enrolls.
///
/// # Errors
///
/// [`ImportError`]; nothing was imported then.
pub fn import(
    tx: &mut Tx,
    by: By,
    (name, login): (&str, &str),
    file: &Configuration,
    change: &LocationChange,
    polling: &mut dyn FnMut() -> TokenDigest,
) -> Result<Imported, ImportError> {
    let user = user::find(tx, login)?;
    let change = LocationChange {
        networks: Some(file.addresses.clone()),
        listen_port: change.listen_port.or(file.listen_port),
        mtu: change.mtu.or(file.mtu),
        ..change.clone()
    };
    let location = location::add(tx, by, name, &change, &file.key)?;
    let peers = file.peers.iter();
    let kept: Vec<IpAddr> =
        peers.flat_map(|peer| peer.addresses.iter().map(|(_, ip)| *ip)).collect();
    tx.begin_import(location.id, &kept)?;
    let mut devices = Vec::with_capacity(file.peers.len());
    for (number, peer) in (1..).zip(&file.peers) {
        let wrong = |line: usize, reason: String| ImportError::Line { line, reason };
        let key = peer.key.ok_or_else(|| wrong(peer.line, "this peer has no PublicKey".into()))?;
        let label = peer.name.clone().unwrap_or_else(|| format!("{name}-{number}"));
        let label =
            name::label("device", &label).map_err(|error| wrong(peer.line, error.to_string()))?;
        let addresses: Vec<IpAddr> = peer.addresses.iter().map(|(_, ip)| *ip).collect();
        for (line, ip) in &peer.addresses {
            if !file.addresses.iter().any(|net| net.contains(ip)) {
                return Err(wrong(*line, format!("{ip} is in none of the interface's networks")));
            }
            if file.addresses.iter().any(|net| net.addr() == *ip) {
                return Err(wrong(*line, format!("{ip} is the interface's own address")));
            }
        }
        let new = NewDevice {
            user: user.id,
            name: label,
            public_key: key,
            polling_token: polling(),
            source: None,
        };
        let added = tx.import_device(by, &new, location.id, &addresses);
        let device = added.map_err(|error| match error {
            StoreError::Exists { what } => {
                wrong(peer.line, format!("this peer's {what} is taken already"))
            }
            error => error.into(),
        })?;
        devices.push(device);
    }
    tx.end_import(by, location.id)?;
    Ok(Imported { location, devices, ignored: file.ignored.clone() })
}

fn network(text: &str) -> Option<IpNet> {
    let text = text.trim();
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

#[cfg(test)]
mod tests {
    use mfa_core::policy::Mfa;
    use mfa_core::time::Timestamp;
    use mfa_core::token::Token;
    use mfa_store::{Actor, MasterKey, Store, UserDetails};

    use super::*;

    fn key(number: u8) -> PrivateKey {
        PrivateKey::from_bytes([number; 32])
    }

    fn file() -> String {
        let own = key(1);
        let own = own.expose_base64();
        let own = own.as_str();
        let (a, b) = (key(2).public_key(), key(3).public_key());
        format!(
            "[Interface]\nPrivateKey = {own}\nAddress = 10.1.0.1/24, fd10::1/64\nListenPort = 4000\n\
             PostUp = nft -f x\n\n# Ada's laptop\n[Peer]\nPublicKey = {a}\n\
             AllowedIPs = 10.1.0.7/32, fd10::7/128\n\n[Peer]\nPublicKey = {b} # spare\n\
             AllowedIPs = 10.1.0.9\nPersistentKeepalive = 25\n"
        )
    }

    async fn run(text: String) -> (Store, Result<Imported, ImportError>) {
        run_beside(text, &[]).await
    }

    /// Imports where devices with these keys are enrolled already.
    async fn run_beside(text: String, there: &[u8]) -> (Store, Result<Imported, ImportError>) {
        let store = Store::open("sqlite::memory:", &MasterKey::from_bytes([7; 32])).unwrap();
        let by = By::new(Actor::Cli, Timestamp::from_unix_millis(1_795_478_400_000));
        let ada = UserDetails { login: "ada".to_owned(), ..UserDetails::default() };
        let there = there.to_vec();
        store
            .write(move |tx| {
                let user = tx.add_user(by, &ada)?;
                for number in &there {
                    let new = NewDevice {
                        user,
                        name: format!("old-{number}"),
                        public_key: key(*number).public_key(),
                        polling_token: Token::from_random([100 + number; 32]).digest(),
                        source: None,
                    };
                    tx.add_device(by, &new)?;
                }
                Ok::<_, StoreError>(())
            })
            .await
            .unwrap();
        let change = LocationChange {
            endpoint: Some("vpn.example.org:51820".to_owned()),
            mfa: Some(Mfa::Required),
            ..LocationChange::default()
        };
        let done = store
            .write(move |tx| {
                let file = Configuration::parse(&text)?;
                let mut number = 0;
                let mut polling = || {
                    number += 1;
                    Token::from_random([number; 32]).digest()
                };
                import(tx, by, ("office", "ada"), &file, &change, &mut polling)
            })
            .await;
        (store, done)
    }

    #[tokio::test]
    async fn a_configuration_becomes_a_location_with_its_devices() {
        let (store, done) = run(file()).await;
        let done = done.unwrap();
        assert_eq!(done.location.public_key, key(1).public_key());
        assert_eq!(done.location.settings.listen_port, 4000);
        let names: Vec<&str> = done.devices.iter().map(|device| device.name.as_str()).collect();
        assert_eq!(names, ["Ada's laptop", "office-2"]);
        assert_eq!(done.ignored.len(), 2, "{:?}", done.ignored);
        let (at, ids) = (done.location.id, [done.devices[0].id, done.devices[1].id]);
        let addresses = store
            .read(move |view| {
                Ok::<_, StoreError>([view.addresses(ids[0], at)?, view.addresses(ids[1], at)?])
            })
            .await
            .unwrap();
        let text = addresses.map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(text[0], ["10.1.0.7/32", "fd10::7/128"]);
        // What the file does not say is given.
        assert_eq!((text[1][0].as_str(), text[1].len()), ("10.1.0.9/32", 2));
    }

    #[tokio::test]
    async fn devices_that_are_there_already_make_room() {
        let (store, done) = run_beside(file(), &[7, 8, 9]).await;
        let done = done.unwrap();
        let at = done.location.id;
        let all = store
            .read(move |view| {
                let mut all = Vec::new();
                for device in view.devices()? {
                    all.push((device.id, view.addresses(device.id, at)?));
                }
                Ok::<_, StoreError>(all)
            })
            .await
            .unwrap();
        let first = &all.iter().find(|(id, _)| *id == done.devices[0].id).unwrap().1;
        assert_eq!(
            first.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.1.0.7/32", "fd10::7/128"]
        );
        assert_eq!(all.len(), 5);
        assert!(all.iter().all(|(_, has)| has.len() == 2), "everybody has both: {all:?}");
        let mut seen: Vec<_> = all.into_iter().flat_map(|(_, has)| has).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 10, "nobody shares one");
    }

    #[tokio::test]
    async fn a_wrong_line_is_named_and_nothing_is_imported() {
        let good = file();
        let b = key(3).public_key().to_string();
        let cases = [
            (good.replace("10.1.0.9", "10.1.0.0/28"), 14, "single addresses"),
            (good.replace("10.1.0.9", "10.2.0.9"), 14, "none of the interface's"),
            (good.replace("10.1.0.9", "10.1.0.1"), 14, "own address"),
            (good.replace("10.1.0.9", "10.1.0.7"), 12, "address is taken"),
            (good.replace(&b, &key(2).public_key().to_string()), 12, "public key is taken"),
            (good.replace(&b, &b[1..]), 13, "no public key"),
            (good.replace("PersistentKeepalive", "Persistent"), 15, "unknown setting"),
            (good.replace("ListenPort = 4000", "ListenPort = 0"), 4, "no port"),
            (good.replace("PostUp = nft", "PostUp nft"), 5, "neither"),
            (format!("MTU = 1400\n{good}"), 1, "before any section"),
            (good.replace("fd10::1/64\n", "fd10::1/64\nAddress = x\n"), 4, "no address"),
        ];
        for (text, at, words) in cases {
            let (store, done) = run(text.clone()).await;
            match done {
                Err(ImportError::Line { line, reason }) => {
                    assert_eq!(line, at, "{reason}");
                    assert!(reason.contains(words), "{reason}");
                }
                other => panic!("{text}\n{other:?}"),
            }
            let left = store
                .read(|view| Ok::<_, StoreError>(view.locations()?.len() + view.devices()?.len()))
                .await;
            assert_eq!(left.unwrap(), 0, "half imported");
        }
    }

    #[test]
    fn a_key_is_in_no_error() {
        let text = file().replace("PrivateKey = ", "PrivateKey = x");
        let said = Configuration::parse(&text).unwrap_err().to_string();
        assert_eq!(said, "line 2: this is no private key; nothing was imported");
    }
}
