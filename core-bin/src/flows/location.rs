//! Locations, as administrators handle them.

mod effects;

pub use effects::effects;

use core::num::NonZeroU16;
use core::time::Duration;
use std::net::IpAddr;

use ipnet::IpNet;
use mfa_core::method::MethodSet;
use mfa_core::policy::{
    DailyEnd, IdleMode, IdlePolicy, Lifetime, LinkLoss, LocationPolicy, Mfa, OutageHold,
    PolicyError,
};
use mfa_core::rotate::PskPolicy;
use mfa_store::{By, Location, LocationSettings, Snapshot, StoreError, Tx};
use wg_types::PrivateKey;

use super::name::{self, NameError};
use super::user::groups;

/// The port that WireGuard users expect.
pub const DEFAULT_PORT: u16 = 51820;

/// The keepalive that keeps a client behind a NAT reachable, seconds (wg(8)).
pub const DEFAULT_KEEPALIVE: u16 = 25;

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum LocationError {
    /// No such location.
    #[error("there is no location {0}; `core-bin location list` shows which there are")]
    NotFound(String),
    /// The name is taken.
    #[error("there is a location {0} already")]
    Taken(String),
    /// A name cannot be taken.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Not "host:port".
    #[error("an endpoint is HOST:PORT as clients reach it, for example vpn.example.com:51820")]
    Endpoint,
    /// No network.
    #[error("a location needs a network for its devices, for example 10.1.0.0/24")]
    NoNetwork,
    /// A network that holds nobody.
    #[error("{0} is too small: it has no address for a device")]
    TooSmall(IpNet),
    /// Two networks that overlap.
    #[error("{0} and {1} overlap")]
    Overlap(IpNet, IpNet),
    /// The policy contradicts itself.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What to set of a location; `None` leaves a thing as it is, or takes the default.
#[derive(Clone, Debug, Default)]
pub struct LocationChange {
    /// Another name.
    pub name: Option<String>,
    /// `host:port` as clients reach it.
    pub endpoint: Option<String>,
    /// The gateways' UDP port; by default the endpoint's.
    pub listen_port: Option<u16>,
    /// Its networks, each with the gateways' own address in it; without one, the first.
    pub networks: Option<Vec<IpNet>>,
    /// What clients route into the tunnel; by default the networks.
    pub allowed_ips: Option<Vec<IpNet>>,
    /// Name servers for clients.
    pub dns: Option<Vec<IpAddr>>,
    /// Seconds between a client's keepalives; zero: off.
    pub keepalive: Option<u16>,
    /// The gateways' MTU; zero: their own choice.
    pub mtu: Option<u16>,
    /// Whether a second factor is asked.
    pub mfa: Option<Mfa>,
    /// Which methods are allowed.
    pub methods: Option<MethodSet>,
    /// Inactivity after which a session ends.
    pub idle_threshold: Option<Duration>,
    /// What counts as activity.
    pub idle_mode: Option<IdleMode>,
    /// How long a session lives at most.
    pub lifetime: Option<Duration>,
    /// The time of day at which sessions end; `Some(None)`: none.
    pub daily_end: Option<Option<DailyEnd>>,
    /// How long nothing at all may come from a peer; `Some(None)`: no limit.
    pub link_loss: Option<Option<LinkLoss>>,
    /// How long sessions outlive core's absence; `Some(None)`: as long as the lease.
    pub outage_hold: Option<Option<OutageHold>>,
    /// How often the PSK of a live session is replaced.
    pub psk: Option<PskPolicy>,
    /// Who may use it; empty: everyone.
    pub groups: Option<Vec<String>>,
}

/// Finds a location by name.
///
/// # Errors
///
/// [`LocationError::NotFound`].
pub fn find(view: &mut Snapshot, name: &str) -> Result<Location, LocationError> {
    view.location_by_name(name)?.ok_or_else(|| LocationError::NotFound(name.to_owned()))
}

/// Adds a location with a fresh key.
///
/// # Errors
///
/// [`LocationError`].
pub fn add(
    tx: &mut Tx,
    by: By,
    name: &str,
    change: &LocationChange,
    key: &PrivateKey,
) -> Result<Location, LocationError> {
    let name = name::word("location", name)?;
    let networks = change.networks.as_deref().unwrap_or_default();
    let addresses = own_addresses(networks)?;
    let endpoint = endpoint(change.endpoint.as_deref().ok_or(LocationError::Endpoint)?)?;
    let port = port_of(&endpoint);
    let blank = LocationSettings {
        name,
        listen_port: port,
        endpoint,
        allowed_ips: truncated(&addresses),
        addresses,
        dns: Vec::new(),
        keepalive: NonZeroU16::new(DEFAULT_KEEPALIVE),
        mtu: None,
        policy: LocationPolicy::off(),
    };
    let settings = apply(&blank, change)?;
    let location = match tx.add_location(by, &settings, key) {
        Err(StoreError::Exists { .. }) => return Err(LocationError::Taken(settings.name)),
        location => location?,
    };
    if let Some(groups) = &change.groups {
        set_groups(tx, by, &location, groups)?;
    }
    find(tx, &settings.name)
}

/// Changes a location. Returns it as it is then.
///
/// # Errors
///
/// [`LocationError`].
pub fn set(
    tx: &mut Tx,
    by: By,
    name: &str,
    change: &LocationChange,
) -> Result<Location, LocationError> {
    let before = find(tx, name)?;
    let settings = apply(&before.settings, change)?;
    match tx.set_location(by, before.id, &settings) {
        Err(StoreError::Exists { .. }) => return Err(LocationError::Taken(settings.name)),
        done => done?,
    }
    if let Some(groups) = &change.groups {
        set_groups(tx, by, &before, groups)?;
    }
    find(tx, &settings.name)
}

/// Removes a location with its gateways and sessions.
///
/// # Errors
///
/// [`LocationError::NotFound`].
pub fn remove(tx: &mut Tx, by: By, name: &str) -> Result<Location, LocationError> {
    let location = find(tx, name)?;
    tx.remove_location(by, location.id)?;
    Ok(location)
}

/// Returns the settings as they would be.
///
/// # Errors
///
/// [`LocationError`] for a setting that cannot be.
pub fn apply(
    before: &LocationSettings,
    change: &LocationChange,
) -> Result<LocationSettings, LocationError> {
    let mut after = before.clone();
    if let Some(name) = &change.name {
        after.name = name::word("location", name)?;
    }
    if let Some(text) = &change.endpoint {
        let follows = before.listen_port == port_of(&before.endpoint);
        after.endpoint = endpoint(text)?;
        if follows {
            after.listen_port = port_of(&after.endpoint);
        }
    }
    if let Some(port) = change.listen_port {
        after.listen_port = port;
    }
    if let Some(networks) = &change.networks {
        let follows = before.allowed_ips == truncated(&before.addresses);
        after.addresses = own_addresses(networks)?;
        if follows {
            after.allowed_ips = truncated(&after.addresses);
        }
    }
    if let Some(allowed) = &change.allowed_ips {
        after.allowed_ips = truncated(allowed);
    }
    if let Some(dns) = &change.dns {
        after.dns.clone_from(dns);
    }
    if let Some(keepalive) = change.keepalive {
        after.keepalive = NonZeroU16::new(keepalive);
    }
    if let Some(mtu) = change.mtu {
        after.mtu = Some(mtu).filter(|mtu| *mtu > 0);
    }
    after.policy = policy(&before.policy, change)?;
    if let Some(link_loss) = after.policy.link_loss() {
        link_loss.check_keepalive(after.keepalive)?;
    }
    Ok(after)
}

fn policy(before: &LocationPolicy, change: &LocationChange) -> Result<LocationPolicy, PolicyError> {
    let (idle, lifetime) = (before.idle(), before.lifetime());
    let (mfa, methods) = (before.mfa(), before.methods());
    let (mode, threshold) = (idle.mode(), idle.threshold());
    let daily_end = change.daily_end.unwrap_or_else(|| before.daily_end());
    let policy = LocationPolicy::new(
        change.mfa.unwrap_or(mfa),
        change.methods.unwrap_or(methods),
        IdlePolicy::new(
            change.idle_mode.unwrap_or(mode),
            change.idle_threshold.unwrap_or(threshold),
        )?,
        change.lifetime.map_or(Ok(lifetime), Lifetime::new)?,
        change.psk.unwrap_or_else(|| before.psk()),
    )?;
    let link_loss = change.link_loss.unwrap_or_else(|| before.link_loss());
    let outage_hold = change.outage_hold.unwrap_or_else(|| before.outage_hold());
    Ok(policy.with_daily_end(daily_end).with_link_loss(link_loss).with_outage_hold(outage_hold))
}

fn set_groups(
    tx: &mut Tx,
    by: By,
    location: &Location,
    names: &[String],
) -> Result<(), LocationError> {
    let names = groups(names)?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    tx.set_location_groups(by, location.id, &names)?;
    Ok(())
}

/// Takes `host:port`, with an IPv6 address in brackets.
fn endpoint(text: &str) -> Result<String, LocationError> {
    let text = text.trim();
    let (host, port) = text.rsplit_once(':').ok_or(LocationError::Endpoint)?;
    if port.parse::<u16>().map_or(true, |port| port == 0) {
        return Err(LocationError::Endpoint);
    }
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good = match bracketed {
        Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.len() <= 253
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
        }
    };
    if good { Ok(text.to_owned()) } else { Err(LocationError::Endpoint) }
}

fn port_of(endpoint: &str) -> u16 {
    let port = endpoint.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    port.unwrap_or(DEFAULT_PORT)
}

/// Gives the gateways their own address in each network: the one that was named, or the first.
fn own_addresses(networks: &[IpNet]) -> Result<Vec<IpNet>, LocationError> {
    if networks.is_empty() {
        return Err(LocationError::NoNetwork);
    }
    for (place, one) in networks.iter().enumerate() {
        for other in networks.iter().skip(place.saturating_add(1)) {
            if one.contains(&other.network()) || other.contains(&one.network()) {
                return Err(LocationError::Overlap(*one, *other));
            }
        }
    }
    networks.iter().map(own_address).collect()
}

fn own_address(network: &IpNet) -> Result<IpNet, LocationError> {
    let spare = network.max_prefix_len().saturating_sub(network.prefix_len());
    if spare < 1 {
        return Err(LocationError::TooSmall(*network));
    }
    if network.addr() != network.network() || spare == 1 {
        return Ok(*network);
    }
    let first = match network.network() {
        IpAddr::V4(ip) => IpAddr::V4(u32::from(ip).saturating_add(1).into()),
        IpAddr::V6(ip) => IpAddr::V6(u128::from(ip).saturating_add(1).into()),
    };
    IpNet::new(first, network.prefix_len()).map_err(|_| LocationError::TooSmall(*network))
}

fn truncated(networks: &[IpNet]) -> Vec<IpNet> {
    networks.iter().map(IpNet::trunc).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(text: &[&str]) -> Vec<IpNet> {
        text.iter().map(|net| net.parse().unwrap()).collect()
    }

    fn paris() -> LocationSettings {
        LocationSettings {
            name: "paris".to_owned(),
            endpoint: "h:51820".to_owned(),
            listen_port: 51820,
            addresses: nets(&["10.1.0.1/24"]),
            allowed_ips: nets(&["10.1.0.0/24"]),
            dns: Vec::new(),
            keepalive: None,
            mtu: None,
            policy: LocationPolicy::off(),
        }
    }

    #[test]
    fn gateways_have_the_first_address_unless_another_is_named() {
        let own = own_addresses(&nets(&["10.1.0.0/24", "10.2.0.7/24", "fd00::/64"])).unwrap();
        assert_eq!(own, nets(&["10.1.0.1/24", "10.2.0.7/24", "fd00::1/64"]));
    }

    #[test]
    fn networks_that_overlap_or_hold_nobody_are_refused() {
        let overlap = own_addresses(&nets(&["10.0.0.0/8", "10.1.0.0/24"]));
        assert!(matches!(overlap, Err(LocationError::Overlap(..))));
        assert!(matches!(own_addresses(&nets(&["10.1.0.1/32"])), Err(LocationError::TooSmall(_))));
        assert!(matches!(own_addresses(&[]), Err(LocationError::NoNetwork)));
    }

    #[test]
    fn an_endpoint_is_a_host_and_a_port() {
        for good in ["vpn.example.com:51820", "192.0.2.1:1", "[2001:db8::1]:51820"] {
            assert_eq!(endpoint(good).unwrap(), good);
        }
        for bad in ["vpn.example.com", ":51820", "a b:1", "h:0", "h:70000", "2001:db8::1:51820"] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_followed_a_setting_goes_on_to_follow_it() {
        let base = paris();
        let change = LocationChange {
            endpoint: Some("h:4000".to_owned()),
            networks: Some(nets(&["10.9.0.0/24"])),
            ..LocationChange::default()
        };
        let after = apply(&base, &change).unwrap();
        assert_eq!((after.listen_port, after.allowed_ips), (4000, nets(&["10.9.0.0/24"])));

        let own = LocationSettings { listen_port: 9, allowed_ips: nets(&["0.0.0.0/0"]), ..base };
        let after = apply(&own, &change).unwrap();
        assert_eq!((after.listen_port, after.allowed_ips), (9, nets(&["0.0.0.0/0"])));
    }

    #[test]
    fn a_link_loss_timer_and_no_keepalives_are_refused_whichever_came_first() {
        let link_loss = LinkLoss::new(Duration::from_secs(180)).unwrap();
        let timer =
            LocationChange { link_loss: Some(Some(link_loss)), ..LocationChange::default() };
        let silence = LocationChange { keepalive: Some(0), ..LocationChange::default() };
        let off = LocationChange { link_loss: Some(None), ..silence.clone() };
        let base = LocationSettings { keepalive: NonZeroU16::new(25), ..paris() };

        let with_timer = apply(&base, &timer).unwrap();
        let without_keepalive = apply(&base, &silence).unwrap();

        for (before, change) in [(&with_timer, &silence), (&without_keepalive, &timer)] {
            let refused = apply(before, change).unwrap_err();
            assert!(refused.to_string().contains("needs clients' keepalives"), "{refused}");
        }
        assert!(apply(&with_timer, &off).is_ok());
    }

    #[test]
    fn mfa_without_a_method_is_refused() {
        let change = LocationChange {
            mfa: Some(Mfa::Required),
            methods: Some(MethodSet::EMPTY),
            ..LocationChange::default()
        };
        assert_eq!(policy(&LocationPolicy::off(), &change), Err(PolicyError::NoMethod));
    }
}
