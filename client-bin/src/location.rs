//! A location as this device sees it: one tunnel network and how to reach it.

use core::fmt;
use core::num::NonZeroU16;
use core::str::FromStr;
use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use mfa_wire::http::{DeviceConfig, LocationMfaMode};
use serde::{Deserialize, Serialize};
use wg_types::PublicKey;

use crate::serde_keys::public_key;

/// The longest name of an interface (`IFNAMSIZ` less its end).
const MAX_INTERFACE: usize = 15;

/// One location.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Location {
    /// Its number at the server.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Who asks for a factor before connecting.
    pub mfa: Mfa,
    /// Where its gateways are.
    pub endpoint: Endpoint,
    /// The gateways' public key.
    #[serde(with = "public_key")]
    pub public_key: PublicKey,
    /// This device's addresses in the tunnel.
    pub addresses: Vec<IpNet>,
    /// What is routed into the tunnel.
    pub allowed_ips: Vec<IpNet>,
    /// Name servers while connected.
    pub dns: Vec<IpAddr>,
    /// Search domains while connected.
    pub search: Vec<String>,
    /// Seconds between keepalives; `None`: off.
    pub keepalive: Option<NonZeroU16>,
    /// Bytes; `None`: the system's default.
    pub mtu: Option<u32>,
}

/// Who asks for a factor.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mfa {
    /// Nobody: plain WireGuard.
    Off,
    /// The server, at every connect.
    Required,
    /// An identity provider in a browser, which this client cannot show.
    External,
}

impl Mfa {
    /// Connecting needs a factor.
    #[must_use]
    pub const fn required(self) -> bool {
        !matches!(self, Self::Off)
    }
}

/// A host, by name or address, and a UDP port.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    /// A name or an address, without brackets.
    pub host: String,
    /// The UDP port.
    pub port: u16,
}

impl FromStr for Endpoint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = text.trim().rsplit_once(':').ok_or("an endpoint is host:port")?;
        let port = port.parse().map_err(|_| "an endpoint's port is a number up to 65535")?;
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() || port == 0 {
            return Err("an endpoint is host:port");
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl TryFrom<String> for Endpoint {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

/// A location that the server described in a way that cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "the server describes the location \"{name}\" with {what} \"{value}\". Tell your administrator"
)]
pub struct BadLocation {
    /// Its name.
    pub name: String,
    /// Which part is wrong.
    pub what: &'static str,
    /// The part.
    pub value: String,
}

impl TryFrom<&DeviceConfig> for Location {
    type Error = BadLocation;

    fn try_from(config: &DeviceConfig) -> Result<Self, BadLocation> {
        let bad = |what, value: &str| BadLocation {
            name: config.network_name.clone(),
            what,
            value: value.to_owned(),
        };
        let networks = |what, text: &str| -> Result<Vec<IpNet>, BadLocation> {
            parts(text).map(|part| network(part).ok_or_else(|| bad(what, part))).collect()
        };
        let (dns, search) = name_servers(config.dns.as_deref().unwrap_or(""));
        let addresses = networks("the address", &config.assigned_ip)?;
        if addresses.is_empty() {
            return Err(bad("the address", ""));
        }
        Ok(Self {
            id: config.network_id,
            name: config.network_name.clone(),
            mfa: match config.location_mfa_mode {
                Some(LocationMfaMode::External) => Mfa::External,
                Some(LocationMfaMode::Internal) => Mfa::Required,
                _ if config.mfa_enabled => Mfa::Required,
                _ => Mfa::Off,
            },
            endpoint: config.endpoint.parse().map_err(|_| bad("the endpoint", &config.endpoint))?,
            public_key: config.pubkey.parse().map_err(|_| bad("the public key", &config.pubkey))?,
            addresses,
            allowed_ips: networks("the route", &config.allowed_ips)?,
            dns,
            search,
            keepalive: u16::try_from(config.keepalive_interval).ok().and_then(NonZeroU16::new),
            mtu: mtu(&config.config),
        })
    }
}

impl Location {
    /// The interface's name where the user gives none: `wg-` and what fits of the location's name.
    #[must_use]
    pub fn interface(&self, siblings: &[Self]) -> String {
        let own = slug(&self.name);
        let shared = siblings.iter().any(|other| other.id != self.id && slug(&other.name) == own);
        if own.is_empty() || shared {
            let number = self.id.to_string();
            let room = MAX_INTERFACE.saturating_sub("wg-".len() + "-".len() + number.len());
            let mut name = format!("wg-{}-{number}", own.get(..room).unwrap_or(&own));
            if own.is_empty() {
                name = format!("wg-{number}");
            }
            name.truncate(MAX_INTERFACE);
            return name;
        }
        format!("wg-{own}")
    }
}

/// What can stand in an interface's name of what a location is called.
fn slug(name: &str) -> String {
    let mut slug = String::new();
    for c in name.chars() {
        let c = if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        if c != '-' || !(slug.is_empty() || slug.ends_with('-')) {
            slug.push(c);
        }
    }
    slug.truncate(MAX_INTERFACE - "wg-".len());
    slug.trim_end_matches('-').to_owned()
}

/// Tells in words what changed between two views of the server's locations.
#[must_use]
pub fn changes(old: &[Location], new: &[Location]) -> Vec<String> {
    let by_id = |locations: &[Location]| -> BTreeMap<i64, Location> {
        locations.iter().map(|location| (location.id, location.clone())).collect()
    };
    let (old, new) = (by_id(old), by_id(new));
    let mut told = Vec::new();
    for (id, location) in &new {
        match old.get(id) {
            None => told.push(format!("location \"{}\" is new", location.name)),
            Some(before) if before != location => told.extend(differences(before, location)),
            Some(_) => {}
        }
    }
    for (id, location) in &old {
        if !new.contains_key(id) {
            told.push(format!("location \"{}\" is gone", location.name));
        }
    }
    told
}

fn differences(old: &Location, new: &Location) -> Vec<String> {
    let name = &old.name;
    let mut told = Vec::new();
    if old.mfa != new.mfa {
        told.push(match new.mfa {
            Mfa::Required => format!("\"{name}\" asks for a code at every connect now"),
            Mfa::External => format!("\"{name}\" asks for a log-in by browser now"),
            Mfa::Off => format!("\"{name}\" connects without a code now"),
        });
    }
    if old.name != new.name {
        told.push(format!("\"{name}\" is called \"{}\" now", new.name));
    }
    if old.endpoint != new.endpoint {
        told.push(format!("\"{name}\" has the endpoint {} now", new.endpoint));
    }
    if old.public_key != new.public_key {
        told.push(format!("\"{name}\" has a new key"));
    }
    if old.addresses != new.addresses {
        told.push(format!("this device's address in \"{name}\" is {} now", list(&new.addresses)));
    }
    if old.allowed_ips != new.allowed_ips {
        told.push(format!("\"{name}\" routes {} now", list(&new.allowed_ips)));
    }
    if (&old.dns, &old.search) != (&new.dns, &new.search) {
        told.push(format!("\"{name}\" has other name servers"));
    }
    if (old.keepalive, old.mtu) != (new.keepalive, new.mtu) {
        told.push(format!("\"{name}\" has another keepalive or MTU"));
    }
    told
}

/// Joins for people.
pub(crate) fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// Reads a network, or a bare address as its host route.
fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Sorts a `DNS =` line as `wg-quick` does: addresses are servers, the rest are search domains.
fn name_servers(text: &str) -> (Vec<IpAddr>, Vec<String>) {
    let mut sorted = (Vec::new(), Vec::new());
    for part in parts(text) {
        let domain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '~');
        match part.parse() {
            Ok(address) => sorted.0.push(address),
            // A name goes into resolv.conf or to a program: nothing else may pass.
            Err(_) if part.chars().all(domain) => sorted.1.push(part.to_owned()),
            Err(_) => {}
        }
    }
    sorted
}

/// Finds the `MTU =` line of a `wg-quick` text.
fn mtu(config: &str) -> Option<u32> {
    config.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        key.trim().eq_ignore_ascii_case("mtu").then(|| value.trim().parse().ok())?
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn config(id: i64, name: &str) -> DeviceConfig {
        DeviceConfig {
            network_id: id,
            network_name: name.to_owned(),
            config: String::new(),
            endpoint: "vpn.example.org:51820".to_owned(),
            assigned_ip: "10.1.0.7/32, fd00::7".to_owned(),
            pubkey: "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=".to_owned(),
            allowed_ips: "10.1.0.0/24,fd00::/64".to_owned(),
            dns: None,
            mfa_enabled: true,
            keepalive_interval: 25,
            location_mfa_mode: None,
            service_location_mode: None,
        }
    }

    pub(crate) fn location(id: i64, name: &str) -> Location {
        Location::try_from(&config(id, name)).unwrap()
    }

    #[test]
    fn a_configuration_is_read_into_types() {
        let mut wire = config(3, "Office");
        wire.dns = Some("10.1.0.1, fd00::1,corp.example.org, bad;name".to_owned());
        wire.config = "[Interface]\nMTU = 1380\n".to_owned();

        let office = Location::try_from(&wire).unwrap();

        assert_eq!(list(&office.addresses), "10.1.0.7/32, fd00::7/128");
        assert_eq!(list(&office.allowed_ips), "10.1.0.0/24, fd00::/64");
        assert_eq!(list(&office.dns), "10.1.0.1, fd00::1");
        assert_eq!(office.search, ["corp.example.org"]);
        assert_eq!(office.keepalive, NonZeroU16::new(25));
        assert_eq!(office.mtu, Some(1380));
        assert_eq!(office.mfa, Mfa::Required);
    }

    #[test]
    fn both_spellings_of_the_factor_are_read() {
        let mut wire = config(1, "a");
        wire.mfa_enabled = false;
        assert_eq!(Location::try_from(&wire).unwrap().mfa, Mfa::Off);
        wire.location_mfa_mode = Some(LocationMfaMode::Internal);
        assert_eq!(Location::try_from(&wire).unwrap().mfa, Mfa::Required);
        wire.location_mfa_mode = Some(LocationMfaMode::External);
        assert_eq!(Location::try_from(&wire).unwrap().mfa, Mfa::External);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let refused = |spoil: &dyn Fn(&mut DeviceConfig)| {
            let mut wire = config(1, "Office");
            spoil(&mut wire);
            Location::try_from(&wire).unwrap_err().what
        };
        assert_eq!(refused(&|c| c.endpoint = "vpn.example.org".to_owned()), "the endpoint");
        assert_eq!(refused(&|c| c.pubkey = "AAAA".to_owned()), "the public key");
        assert_eq!(refused(&|c| c.assigned_ip = String::new()), "the address");
        assert_eq!(refused(&|c| c.allowed_ips = "10.1.0.0/33".to_owned()), "the route");
    }

    #[test]
    fn endpoints_of_both_families_read_back() {
        for text in ["vpn.example.org:51820", "192.0.2.1:1", "[2001:db8::1]:51820"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        for text in ["", "host", ":51820", "host:0", "host:70000"] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }

    #[test]
    fn interfaces_are_named_after_locations() {
        let name = |text: &str| location(7, text).interface(&[]);
        assert_eq!(name("Office"), "wg-office");
        assert_eq!(name("Head  Office (Köln)"), "wg-head-office");
        assert_eq!(name("東京"), "wg-7");
        assert_eq!(name("../../etc"), "wg-etc");
        assert_eq!(name("a-very-long-location-name"), "wg-a-very-long");
    }

    #[test]
    fn no_interface_name_is_too_long_or_taken_twice() {
        let twins = [location(1, "Headquarters A"), location(1_234_567, "Headquarters Ä")];
        let names: Vec<_> = twins.iter().map(|twin| twin.interface(&twins)).collect();
        assert_ne!(names[0], names[1]);
        for name in names {
            assert!(name.len() <= MAX_INTERFACE, "{name}");
        }
    }

    #[test]
    fn changes_are_told_in_words() {
        let old = [location(1, "Office"), location(2, "Lab")];
        let mut new = [location(1, "Office"), location(3, "Plant")];
        new[0].mfa = Mfa::Off;
        new[0].endpoint.port = 443;
        assert_eq!(
            changes(&old, &new),
            [
                "\"Office\" connects without a code now",
                "\"Office\" has the endpoint vpn.example.org:443 now",
                "location \"Plant\" is new",
                "location \"Lab\" is gone",
            ]
        );
        assert!(changes(&old, &old).is_empty());
    }
}
