//! `core-bin location …`

use core::num::NonZeroU16;
use core::time::Duration;
use std::net::IpAddr;

use clap::{Args, Subcommand};
use ipnet::IpNet;
use mfa_core::method::MethodSet;
use mfa_core::policy::{IdleMode, IdlePolicy, Lifetime, LocationPolicy, Mfa};
use mfa_core::rotate::PskPolicy;
use mfa_store::{Location, LocationSettings, Scope, Snapshot, StoreError};
use serde_json::{Value, json};
use wg_types::PrivateKey;

use super::answer::{table, time};
use super::{AdminError, Answer, Consent, Desk, count};
use crate::flows::name;
use crate::span::Span;

/// The period of gateways' statistics, unless a gateway says otherwise.
const STATISTICS_PERIOD: Duration = Duration::from_secs(30);

/// What can be done with locations.
#[derive(Debug, Subcommand)]
pub enum LocationCommand {
    /// Add a tunnel network. Then give it a gateway: `core-bin gateway token LOCATION NAME`.
    #[command(after_help = "Example:\n  core-bin location add office --address 10.1.0.1/24 \
        --endpoint vpn.example.org:51820 --allowed-ips 10.0.0.0/16 --mfa on \
        --peer-disconnect-threshold 300")]
    Add {
        /// What to call it.
        name: String,
        /// What to set.
        #[command(flatten)]
        changes: Changes,
    },
    /// Change a location. What is not given stays.
    #[command(after_help = "Example:\n  core-bin location set office --mfa on \
        --peer-disconnect-threshold 300 --mfa-methods totp")]
    Set {
        /// Which.
        name: String,
        /// What to set.
        #[command(flatten)]
        changes: Changes,
        /// Whether it may cut people off.
        #[command(flatten)]
        consent: Consent,
    },
    /// List locations.
    List,
    /// Show all settings of a location, and what is wrong with them.
    Show {
        /// Which.
        name: String,
    },
    /// Remove a location with its gateways.
    Remove {
        /// Which.
        name: String,
        /// Whether it may cut people off.
        #[command(flatten)]
        consent: Consent,
    },
}

/// What can be set of a location.
#[derive(Debug, Args)]
pub struct Changes {
    /// The gateways' own address in the tunnel with its network, such as 10.1.0.1/24; devices get
    /// theirs from it. One IPv4 and one IPv6 network may be given, separated by a comma.
    #[arg(long, value_delimiter = ',', value_name = "ADDRESS/BITS")]
    address: Option<Vec<IpNet>>,
    /// Where clients send WireGuard's packets, such as vpn.example.org:51820.
    #[arg(long, value_name = "HOST:PORT")]
    endpoint: Option<String>,
    /// The UDP port of the gateways; by default the endpoint's.
    #[arg(long, value_name = "PORT")]
    listen_port: Option<u16>,
    /// The networks that clients reach through the tunnel; by default the tunnel's own. Everything:
    /// `0.0.0.0/0,::/0`
    #[arg(long, value_delimiter = ',', value_name = "NETWORK")]
    allowed_ips: Option<Vec<IpNet>>,
    /// Name servers for connected clients.
    #[arg(long, value_delimiter = ',', value_name = "ADDRESS")]
    dns: Option<Vec<IpAddr>>,
    /// Seconds between a client's keepalives, so that its router keeps the way open; 0: off.
    /// [default: 25]
    #[arg(long, value_name = "SECONDS")]
    keepalive: Option<u16>,
    /// The largest packet in the tunnel, in bytes; 0: what each gateway thinks best.
    #[arg(long, value_name = "BYTES")]
    mtu: Option<u16>,
    /// Require a second factor at each connection. [default: on]
    #[arg(long, value_name = "on|off")]
    mfa: Option<Switch>,
    /// Seconds of inactivity after which a connected client is disconnected. 300 is recommended.
    /// [default: 300]
    #[arg(long, value_name = "SECONDS")]
    peer_disconnect_threshold: Option<u64>,
    /// What inactivity means: no user data (transfer), or no handshake, which a keepalive
    /// renews for ever (handshake). [default: transfer]
    #[arg(long, value_name = "transfer|handshake")]
    idle_mode: Option<IdleMode>,
    /// The methods that count: totp, email or both. A mailbox is the weaker proof.
    /// [default: totp,email]
    #[arg(long, value_name = "METHODS")]
    mfa_methods: Option<MethodSet>,
    /// How long a session lasts at most, in use or not. [default: 12h]
    #[arg(long, value_name = "TIME")]
    session_lifetime: Option<Span>,
    /// Only these groups may use the location; may be given several times. `--group ''`: everyone
    /// again.
    #[arg(long = "group", value_name = "GROUP")]
    groups: Option<Vec<String>>,
}

/// On or off.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

pub(super) async fn run(desk: &Desk, command: LocationCommand) -> Result<Answer, AdminError> {
    match command {
        LocationCommand::Add { name, changes } => add(desk, name, changes).await,
        LocationCommand::Set { name, changes, consent } => set(desk, name, changes, consent).await,
        LocationCommand::List => list(desk).await,
        LocationCommand::Show { name } => {
            let (location, groups) = desk
                .store
                .read(move |view| {
                    let location = find(view, &name)?;
                    let groups = view.groups_of_location(location.id)?;
                    Ok::<_, AdminError>((location, groups))
                })
                .await?;
            Ok(show(&location, &groups))
        }
        LocationCommand::Remove { name, consent } => {
            let which = name.clone();
            let (location, live) = desk
                .store
                .read(move |view| {
                    let location = find(view, &which)?;
                    let live = view.live_sessions(Scope::Location(location.id))?.len();
                    Ok::<_, AdminError>((location, live))
                })
                .await?;
            let live = count(live, "session");
            consent.to(&format!("{name} and its gateways will be removed; {live} will end"))?;
            let by = desk.by();
            desk.store.write(move |tx| tx.remove_location(by, location.id)).await?;
            Ok(Answer::new(json!({ "removed": name }), format!("{name} is removed.")))
        }
    }
}

async fn add(desk: &Desk, name: String, changes: Changes) -> Result<Answer, AdminError> {
    let missing = |option: &str| {
        AdminError::Invalid(format!(
            "a new location needs {option}; see `core-bin location add -h`"
        ))
    };
    let addresses = changes.address.clone().ok_or_else(|| missing("--address"))?;
    let endpoint = changes.endpoint.clone().ok_or_else(|| missing("--endpoint"))?;
    let start = LocationSettings {
        name: name::word("location", &name)?,
        listen_port: port_of(&endpoint)?,
        endpoint,
        allowed_ips: addresses.iter().map(IpNet::trunc).collect(),
        addresses,
        dns: Vec::new(),
        keepalive: NonZeroU16::new(25),
        mtu: None,
        policy: LocationPolicy::recommended(),
    };
    let groups = changes.groups.clone();
    let settings = changes.apply(start)?;
    let key = PrivateKey::from_bytes(*desk.rng.bytes());
    let by = desk.by();
    let (location, groups) = desk
        .store
        .write(move |tx| {
            let location = tx.add_location(by, &settings, &key)?;
            if let Some(groups) = &groups {
                tx.set_location_groups(by, location.id, &named(groups))?;
            }
            let groups = tx.groups_of_location(location.id)?;
            Ok::<_, StoreError>((find_again(tx, &location)?, groups))
        })
        .await?;
    let name = &location.settings.name;
    let mut answer = show(&location, &groups);
    answer.text = format!("{}\n\nNext: `core-bin gateway token {name} GATEWAY`", answer.text);
    Ok(answer)
}

async fn set(
    desk: &Desk,
    name: String,
    changes: Changes,
    consent: Consent,
) -> Result<Answer, AdminError> {
    let (before, live, devices) = desk
        .store
        .read(move |view| {
            let location = find(view, &name)?;
            let live = view.live_sessions(Scope::Location(location.id))?.len();
            let mut devices = 0_usize;
            for device in view.devices()? {
                let active = view.user(device.user)?.is_some_and(|user| user.active);
                if active && view.may_use(device.user, location.id)? {
                    devices = devices.saturating_add(1);
                }
            }
            Ok::<_, AdminError>((location, live, devices))
        })
        .await?;
    let groups = changes.groups.clone();
    let settings = changes.apply(before.settings.clone())?;
    if let Some(consequence) = consequence(&before.settings, &settings, live, devices) {
        consent.to(&consequence)?;
    }
    let by = desk.by();
    let (location, groups) = desk
        .store
        .write(move |tx| {
            tx.set_location(by, before.id, &settings)?;
            if let Some(groups) = &groups {
                tx.set_location_groups(by, before.id, &named(groups))?;
            }
            let groups = tx.groups_of_location(before.id)?;
            Ok::<_, StoreError>((find_again(tx, &before)?, groups))
        })
        .await?;
    Ok(show(&location, &groups))
}

/// What a change will do to those who are connected; `None`: nothing.
fn consequence(
    before: &LocationSettings,
    after: &LocationSettings,
    live: usize,
    devices: usize,
) -> Option<String> {
    match (before.policy.mfa(), after.policy.mfa()) {
        (Mfa::Off, Mfa::Required) if devices > 0 => {
            let (which, have) =
                (count(devices, "device"), if devices == 1 { "has" } else { "have" });
            Some(format!("{which} {have} no session and will be disconnected"))
        }
        (Mfa::Required, Mfa::Off) => Some(format!(
            "{} will be able to connect without a second factor; {} will end",
            count(devices, "device"),
            count(live, "session")
        )),
        _ if before.addresses != after.addresses && live > 0 => {
            Some(format!("every device gets a new address; {} will end", count(live, "session")))
        }
        _ if live > 0 && before.policy.methods() != after.policy.methods() => {
            Some("sessions that a method bought which is no longer allowed will end".to_owned())
        }
        _ => None,
    }
}

impl Changes {
    fn apply(self, mut settings: LocationSettings) -> Result<LocationSettings, AdminError> {
        if let Some(addresses) = self.address {
            settings.addresses = addresses;
        }
        check_addresses(&settings.addresses)?;
        if let Some(endpoint) = self.endpoint {
            settings.listen_port = port_of(&endpoint)?;
            settings.endpoint = endpoint;
        }
        settings.listen_port = self.listen_port.unwrap_or(settings.listen_port);
        settings.allowed_ips = match self.allowed_ips {
            Some(networks) => networks.iter().map(IpNet::trunc).collect(),
            None => settings.allowed_ips,
        };
        settings.dns = self.dns.unwrap_or(settings.dns);
        if let Some(seconds) = self.keepalive {
            settings.keepalive = NonZeroU16::new(seconds);
        }
        if let Some(mtu) = self.mtu {
            if mtu != 0 && mtu < 1280 {
                let message = format!("an MTU of {mtu} is too small; use at least 1280, or 0");
                return Err(AdminError::Invalid(message));
            }
            settings.mtu = Some(mtu).filter(|mtu| *mtu > 0);
        }
        let mut policy = settings.policy;
        // Methods first: MFA with none is refused.
        if let Some(methods) = self.mfa_methods {
            policy = policy.with_methods(methods)?;
        }
        if let Some(switch) = self.mfa {
            let mfa = if switch == Switch::On { Mfa::Required } else { Mfa::Off };
            policy = policy.with_mfa(mfa)?;
        }
        if self.peer_disconnect_threshold.is_some() || self.idle_mode.is_some() {
            let now = policy.idle();
            let threshold =
                self.peer_disconnect_threshold.map_or_else(|| now.threshold(), Duration::from_secs);
            let mode = self.idle_mode.unwrap_or_else(|| now.mode());
            policy = policy.with_idle(IdlePolicy::new(mode, threshold)?);
        }
        if let Some(lifetime) = self.session_lifetime {
            policy = policy.with_lifetime(Lifetime::new(lifetime.duration())?);
        }
        settings.policy = policy;
        Ok(settings)
    }
}

fn check_addresses(addresses: &[IpNet]) -> Result<(), AdminError> {
    let invalid = |message: String| Err(AdminError::Invalid(message));
    let of_kind = |four: bool| addresses.iter().filter(|net| net.addr().is_ipv4() == four).count();
    if addresses.is_empty() || of_kind(true) > 1 || of_kind(false) > 1 {
        return invalid("give one IPv4 network, one IPv6 network, or one of each".to_owned());
    }
    for net in addresses {
        if net.addr() == net.network() && net.prefix_len() < net.max_prefix_len().saturating_sub(1)
        {
            let network = net.trunc();
            return invalid(format!(
                "{net} is a network; give the gateway's own address in it, such as the first of \
                 {network}"
            ));
        }
        if net.hosts().nth(1).is_none() {
            return invalid(format!("{net} has no room for devices; use a larger network"));
        }
    }
    Ok(())
}

fn port_of(endpoint: &str) -> Result<u16, AdminError> {
    let port = endpoint
        .rsplit_once(':')
        .filter(|(host, _)| !host.is_empty() && !host.contains(char::is_whitespace))
        .and_then(|(_, port)| port.parse::<NonZeroU16>().ok());
    port.map(NonZeroU16::get).ok_or_else(|| {
        AdminError::Invalid(format!("{endpoint:?} is no endpoint; use HOST:PORT, [IPv6]:PORT"))
    })
}

async fn list(desk: &Desk) -> Result<Answer, AdminError> {
    let all = desk
        .store
        .read(|view| {
            let mut all = Vec::new();
            for location in view.locations()? {
                let live = view.live_sessions(Scope::Location(location.id))?.len();
                let groups = view.groups_of_location(location.id)?;
                all.push((location, live, groups));
            }
            Ok::<_, StoreError>(all)
        })
        .await?;
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|(location, live, groups)| {
            let policy = location.settings.policy;
            vec![
                location.id.to_string(),
                location.settings.name.clone(),
                if location.asks_mfa() { policy.methods().to_string() } else { "off".into() },
                format!("{} s", policy.idle().threshold().as_secs()),
                listed(&location.settings.addresses),
                location.settings.endpoint.clone(),
                if groups.is_empty() { "everyone".into() } else { groups.join(",") },
                live.to_string(),
            ]
        })
        .collect();
    let json = all
        .iter()
        .map(|(location, live, groups)| {
            let mut described = describe(location, groups);
            if let Some(fields) = described.as_object_mut() {
                fields.insert("sessions".into(), (*live).into());
            }
            described
        })
        .collect();
    let headings =
        ["id", "location", "MFA", "threshold", "addresses", "endpoint", "groups", "connected"];
    let nothing = "There is no location yet. Add one: `core-bin location add -h`";
    Ok(Answer::new(json, table(&headings, &rows, nothing)))
}

fn show(location: &Location, groups: &[String]) -> Answer {
    let (settings, policy) = (&location.settings, location.settings.policy);
    let mut text = format!(
        "{}\n  addresses: {}\n  endpoint: {}\n  listen port: {}\n  public key: {}\n  \
         allowed IPs: {}\n  DNS: {}\n  keepalive: {}\n  groups: {}\n  MFA: {}\n  methods: {}\n  \
         peer disconnect threshold: {} s (by {})\n  session lifetime: {}",
        settings.name,
        listed(&settings.addresses),
        settings.endpoint,
        settings.listen_port,
        location.public_key,
        listed(&settings.allowed_ips),
        if settings.dns.is_empty() { "none".into() } else { listed(&settings.dns) },
        settings.keepalive.map_or_else(|| "off".into(), |seconds| format!("{seconds} s")),
        if groups.is_empty() { "everyone".into() } else { groups.join(", ") },
        if location.asks_mfa() { "required" } else { "off" },
        policy.methods(),
        policy.idle().threshold().as_secs(),
        policy.idle().mode(),
        Span::from_secs(policy.lifetime().get().as_secs()),
    );
    for warning in warnings(location) {
        text = format!("{text}\n\nWarning: {warning}");
    }
    Answer::new(describe(location, groups), text)
}

fn warnings(location: &Location) -> Vec<String> {
    let idle = location.settings.policy.idle();
    let supported = idle.check_statistics_period(STATISTICS_PERIOD);
    supported.err().filter(|_| location.asks_mfa()).iter().map(ToString::to_string).collect()
}

fn describe(location: &Location, groups: &[String]) -> Value {
    let (settings, policy) = (&location.settings, location.settings.policy);
    let methods: Vec<&str> = policy.methods().iter().map(mfa_core::method::Method::code).collect();
    json!({
        "id": location.id.get(),
        "name": settings.name,
        "addresses": settings.addresses,
        "endpoint": settings.endpoint,
        "listen_port": settings.listen_port,
        "public_key": location.public_key.to_string(),
        "allowed_ips": settings.allowed_ips,
        "dns": settings.dns,
        "keepalive_seconds": settings.keepalive.map_or(0, NonZeroU16::get),
        "mtu": settings.mtu,
        "groups": groups,
        "mfa": location.asks_mfa(),
        "mfa_methods": methods,
        "peer_disconnect_threshold_seconds": policy.idle().threshold().as_secs(),
        "idle_mode": policy.idle().mode().code(),
        "session_lifetime_seconds": policy.lifetime().get().as_secs(),
        "psk_rotation_seconds": match policy.psk() {
            PskPolicy::Fixed => Value::Null,
            PskPolicy::Every(period) => period.get().as_secs().into(),
        },
        "revision": location.revision,
        "config_version": location.config_version,
        "created_at": time(Some(location.created)),
        "warnings": warnings(location),
    })
}

pub(super) fn find(view: &mut Snapshot, name: &str) -> Result<Location, AdminError> {
    view.location_by_name(name)?
        .ok_or_else(|| AdminError::NotFound { what: "location", name: name.to_owned() })
}

fn find_again(view: &mut Snapshot, location: &Location) -> Result<Location, StoreError> {
    view.location(location.id)?.ok_or(StoreError::Missing { what: "location" })
}

fn named(groups: &[String]) -> Vec<&str> {
    groups.iter().map(String::as_str).filter(|group| !group.is_empty()).collect()
}

fn listed<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateways_address_is_told_from_its_network() {
        let check = |text: &str| {
            let nets: Result<Vec<IpNet>, _> = text.split(',').map(str::parse).collect();
            check_addresses(&nets.unwrap()).is_ok()
        };
        assert!(check("10.1.0.1/24"));
        assert!(check("10.1.0.1/24,fd10::1/64"));
        assert!(!check("10.1.0.0/24"));
        assert!(!check("10.1.0.1/32"));
        assert!(!check("10.1.0.1/24,10.2.0.1/24"));
    }

    #[test]
    fn an_endpoint_has_a_host_and_a_port() {
        assert_eq!(port_of("vpn.example.org:51820").unwrap(), 51820);
        assert_eq!(port_of("[fd00::1]:443").unwrap(), 443);
        for wrong in ["vpn.example.org", ":51820", "vpn:0", "vpn:65536", "a b:1"] {
            assert!(port_of(wrong).is_err(), "{wrong}");
        }
    }
}
