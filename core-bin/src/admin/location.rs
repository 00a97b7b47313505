//! `core-bin location …`

use core::num::NonZeroU16;
use core::str::FromStr;
use core::time::Duration;
use std::net::IpAddr;

use clap::{Args, Subcommand};
use ipnet::IpNet;
use mfa_core::method::{Method, MethodSet};
use mfa_core::policy::{DailyEnd, IdleMode, LinkLoss, Mfa, OutageHold, PolicyError};
use mfa_core::rotate::PskPolicy;
use mfa_core::token::Token;
use mfa_store::{Location, LocationSettings, Scope, StoreError};
use serde_json::{Value, json};
use wg_types::PrivateKey;

use super::answer::{table, time};
use super::{AdminError, Answer, Consent, Desk};
use crate::flows::import::{self, Configuration};
use crate::flows::location::{self as flow, LocationChange};
use crate::span::Span;
use crate::text::count;

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
    /// Make a location of a server's wg-quick configuration, with its key, its peers as devices and
    /// their addresses. Nothing is imported unless all of it can be.
    #[command(after_help = "Example:\n  core-bin location import /etc/wireguard/wg0.conf office \
        --user alice --endpoint vpn.example.org:51820")]
    Import {
        /// The file.
        file: std::path::PathBuf,
        /// What to call the location.
        name: String,
        /// Whose the devices are.
        #[arg(long, value_name = "LOGIN")]
        user: String,
        /// Where clients send WireGuard's packets.
        #[arg(long, value_name = "HOST:PORT")]
        endpoint: String,
        /// Require a second factor at each connection.
        #[arg(long, value_name = "on|off", default_value = "on")]
        mfa: Switch,
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
    /// Another name.
    #[arg(long, value_name = "NAME")]
    rename: Option<String>,
    /// The networks of the tunnel, separated by commas, such as `10.1.0.0/24,fd10::/64`; devices
    /// get their addresses from them. The gateways have the first of each, or the one given: 10.1.0.7/24.
    #[arg(long, value_delimiter = ',', value_name = "NETWORK")]
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
    /// The local time of day at which every session ends, with the location's time zone, such as
    /// `18:30 Europe/Warsaw`; off: none. Holds for sessions that begin from now on. [default: off]
    #[arg(long, value_name = "HH:MM ZONE|off")]
    session_ends_at: Option<EndsAt>,
    /// How long nothing at all may come from a client, keepalives included, before its session ends; off:
    /// the peer disconnect threshold alone decides. Two of the location's keepalives must fit into it.
    /// [default: off]
    #[arg(long, value_name = "TIME|off")]
    link_loss: Option<Limit<LinkLoss>>,
    /// How long live sessions go on when gateways cannot reach core, each until its own lifetime or
    /// idleness, which its gateway judges; off: 90 seconds, the lease. Until core is back nobody can be
    /// disconnected. [default: off]
    #[arg(long, value_name = "TIME|off")]
    core_outage_hold: Option<Limit<OutageHold>>,
    /// How often the pre-shared key of a session in use is replaced, without interrupting it; off: it
    /// serves until the session ends. [default: 10m]
    #[arg(long, value_name = "TIME|off")]
    psk_rotation: Option<Rotation>,
    /// Only these groups may use the location; may be given several times. `--group ''`: everyone
    /// again.
    #[arg(long = "group", value_name = "GROUP")]
    groups: Option<Vec<String>>,
}

/// `off`, or a time of day.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct EndsAt(Option<DailyEnd>);

impl FromStr for EndsAt {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        if text.eq_ignore_ascii_case("off") {
            return Ok(Self(None));
        }
        text.parse().map(|end| Self(Some(end)))
    }
}

/// `off`, or a time span within its range.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Limit<T>(Option<T>);

impl<T: FromSpan> FromStr for Limit<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("off") {
            return Ok(Self(None));
        }
        let span: Span = text.parse().map_err(|error| format!("{error}, or off"))?;
        T::from_span(span.duration()).map(|limit| Self(Some(limit))).map_err(|e| e.to_string())
    }
}

/// What is a time span within a range.
pub(super) trait FromSpan: Sized {
    fn from_span(span: Duration) -> Result<Self, PolicyError>;
}

impl FromSpan for LinkLoss {
    fn from_span(span: Duration) -> Result<Self, PolicyError> {
        Self::new(span)
    }
}

impl FromSpan for OutageHold {
    fn from_span(span: Duration) -> Result<Self, PolicyError> {
        Self::new(span)
    }
}

/// `off`, or a time span within the policy's range.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Rotation(PskPolicy);

impl FromStr for Rotation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("off") {
            return Ok(Self(PskPolicy::Fixed));
        }
        let span: Span = text.parse().map_err(|error| format!("{error}, or off"))?;
        PskPolicy::every(span.duration()).map(Self).map_err(|error| error.to_string())
    }
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
        LocationCommand::Import { file, name, user, endpoint, mfa } => {
            import(desk, &file, (name, user), endpoint, mfa).await
        }
        LocationCommand::List => list(desk).await,
        LocationCommand::Show { name } => {
            let (location, groups) = desk
                .store
                .read(move |view| {
                    let location = flow::find(view, &name)?;
                    let groups = view.groups_of_location(location.id)?;
                    Ok::<_, AdminError>((location, groups))
                })
                .await?;
            Ok(show(&location, &groups))
        }
        LocationCommand::Remove { name, consent } => {
            let which = name.clone();
            let live = desk
                .store
                .read(move |view| {
                    let location = flow::find(view, &which)?;
                    Ok::<_, AdminError>(view.live_count(Scope::Location(location.id))?)
                })
                .await?;
            let live = count(live, "session");
            consent.to(&format!("{name} and its gateways will be removed; {live} will end"))?;
            let (by, which) = (desk.by(), name.clone());
            desk.store.write(move |tx| flow::remove(tx, by, &which)).await?;
            Ok(Answer::new(json!({ "removed": name }), format!("{name} is removed.")))
        }
    }
}

async fn add(desk: &Desk, name: String, changes: Changes) -> Result<Answer, AdminError> {
    let mut change = LocationChange::from(changes);
    // What a location is for here, unless somebody says otherwise.
    change.mfa = change.mfa.or(Some(Mfa::Required));
    let key = PrivateKey::from_bytes(*desk.rng.bytes());
    let by = desk.by();
    let (location, groups) = desk
        .store
        .write(move |tx| {
            let location = flow::add(tx, by, &name, &change, &key)?;
            let groups = tx.groups_of_location(location.id)?;
            Ok::<_, AdminError>((location, groups))
        })
        .await?;
    let mut answer = show(&location, &groups);
    let next = format!("Next: `core-bin gateway token {} GATEWAY`", location.settings.name);
    answer.text = format!("{}\n\n{next}", answer.text);
    Ok(answer)
}

async fn set(
    desk: &Desk,
    name: String,
    changes: Changes,
    consent: Consent,
) -> Result<Answer, AdminError> {
    let offered = desk.offered();
    let change = LocationChange::from(changes);
    let (which, wanted) = (name.clone(), change.clone());
    let (before, after, effects) = desk
        .store
        .read(move |view| {
            let before = flow::find(view, &which)?;
            let after = flow::apply(&before.settings, &wanted)?;
            let effects = flow::effects(view, &before, &after, offered)?;
            Ok::<_, AdminError>((before.settings, after, effects))
        })
        .await?;
    if cuts(&before, &after) && !effects.is_empty() {
        consent.to(&effects.join(".\n"))?;
    }
    let by = desk.by();
    let (location, groups) = desk
        .store
        .write(move |tx| {
            let location = flow::set(tx, by, &name, &change)?;
            let groups = tx.groups_of_location(location.id)?;
            Ok::<_, AdminError>((location, groups))
        })
        .await?;
    let mut answer = show(&location, &groups);
    if let Some(fields) = answer.json.as_object_mut() {
        fields.insert("effects".into(), json!(effects));
    }
    for effect in effects.iter().filter(|effect| !effect.starts_with("WARNING")) {
        answer.text = format!("{}\n\n{effect}", answer.text);
    }
    Ok(answer)
}

async fn import(
    desk: &Desk,
    file: &std::path::Path,
    (name, login): (String, String),
    endpoint: String,
    mfa: Switch,
) -> Result<Answer, AdminError> {
    let read = std::fs::read_to_string(file);
    let path = file.display().to_string();
    let text = zeroize::Zeroizing::new(read.map_err(|source| AdminError::File { path, source })?);
    let file = Configuration::parse(&text)?;
    let mfa = match mfa {
        Switch::On => Mfa::Required,
        Switch::Off => Mfa::Off,
    };
    let change =
        LocationChange { endpoint: Some(endpoint), mfa: Some(mfa), ..LocationChange::default() };
    let (by, rng) = (desk.by(), desk.rng.clone());
    let done = desk
        .store
        .write(move |tx| {
            let mut polling = || Token::from_random(*rng.bytes()).digest();
            let names = (name.as_str(), login.as_str());
            let done = import::import(tx, by, names, &file, &change, &mut polling)?;
            let groups = tx.groups_of_location(done.location.id)?;
            Ok::<_, AdminError>((done, groups))
        })
        .await?;
    let (done, groups) = done;
    let mut answer = show(&done.location, &groups);
    if let Some(fields) = answer.json.as_object_mut() {
        fields.insert("devices".into(), done.devices.len().into());
        fields.insert("ignored".into(), json!(done.ignored));
    }
    let devices = count(done.devices.len(), "device");
    answer.text = format!("{}\n\n{devices} imported.\n{}", answer.text, done.ignored.join("\n"));
    Ok(answer)
}

/// Whether a change can take the connection from somebody.
fn cuts(before: &LocationSettings, after: &LocationSettings) -> bool {
    let (old, new) = (&before.policy, &after.policy);
    let narrower = old.methods().iter().any(|method| !new.methods().contains(method));
    old.mfa() != new.mfa() || before.addresses != after.addresses || narrower
}

impl From<Changes> for LocationChange {
    fn from(changes: Changes) -> Self {
        Self {
            name: changes.rename,
            endpoint: changes.endpoint,
            listen_port: changes.listen_port,
            networks: changes.address,
            allowed_ips: changes.allowed_ips,
            dns: changes.dns,
            keepalive: changes.keepalive,
            mtu: changes.mtu,
            mfa: changes.mfa.map(|switch| match switch {
                Switch::On => Mfa::Required,
                Switch::Off => Mfa::Off,
            }),
            methods: changes.mfa_methods,
            idle_threshold: changes.peer_disconnect_threshold.map(Duration::from_secs),
            idle_mode: changes.idle_mode,
            lifetime: changes.session_lifetime.map(Span::duration),
            daily_end: changes.session_ends_at.map(|EndsAt(end)| end),
            link_loss: changes.link_loss.map(|Limit(limit)| limit),
            outage_hold: changes.core_outage_hold.map(|Limit(limit)| limit),
            psk: changes.psk_rotation.map(|Rotation(policy)| policy),
            groups: changes
                .groups
                .map(|groups| groups.into_iter().filter(|group| !group.is_empty()).collect()),
        }
    }
}

async fn list(desk: &Desk) -> Result<Answer, AdminError> {
    let all = desk
        .store
        .read(|view| {
            let mut all = Vec::new();
            for location in view.locations()? {
                let live = view.live_count(Scope::Location(location.id))?;
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
         peer disconnect threshold: {} s (by {})\n  session lifetime: {}\n  sessions end at: {}\n  \
         link loss: {}\n  hold while core is away: {}\n  PSK rotation: {}",
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
        policy.daily_end().map_or_else(|| "no time of day".into(), |end| end.to_string()),
        limit(policy.link_loss().map(LinkLoss::get)),
        limit(policy.outage_hold().map(OutageHold::get)),
        match policy.psk() {
            PskPolicy::Fixed => "off".into(),
            PskPolicy::Every(period) => format!("every {}", Span::from(period.get())),
        },
    );
    for warning in warnings(location) {
        text = format!("{text}\n\nWarning: {warning}");
    }
    Answer::new(describe(location, groups), text)
}

fn limit(span: Option<Duration>) -> String {
    span.map_or_else(|| "off".into(), |span| Span::from(span).to_string())
}

fn warnings(location: &Location) -> Vec<String> {
    let idle = location.settings.policy.idle();
    let supported = idle.check_statistics_period(STATISTICS_PERIOD);
    supported.err().filter(|_| location.asks_mfa()).iter().map(ToString::to_string).collect()
}

fn describe(location: &Location, groups: &[String]) -> Value {
    let (settings, policy) = (&location.settings, location.settings.policy);
    let methods: Vec<&str> = policy.methods().iter().map(Method::code).collect();
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
        "session_ends_at": policy.daily_end().map(|end| end.to_string()),
        "link_loss_seconds": policy.link_loss().map(|limit| limit.get().as_secs()),
        "core_outage_hold_seconds": policy.outage_hold().map(|hold| hold.get().as_secs()),
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

fn listed<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}
