//! Locations.

use core::num::NonZeroU16;
use core::time::Duration;

use mfa_core::method::Method;
use mfa_core::rotate::PskPolicy;
use mfa_store::{Location, Scope, Snapshot, StoreError};
use serde::Serialize;
use utoipa::ToSchema;

use super::time;

/// The period of gateways' statistics, unless a gateway says otherwise.
const STATISTICS_PERIOD: Duration = Duration::from_secs(30);

/// A tunnel network.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Location)]
pub struct LocationView {
    /// Names the location for ever.
    pub id: i64,
    /// What it is called.
    pub name: String,
    /// The gateways' own addresses with their networks.
    pub addresses: Vec<String>,
    /// Where clients send WireGuard's packets.
    pub endpoint: String,
    /// The gateways' UDP port.
    pub listen_port: u16,
    /// The gateways' WireGuard key.
    pub public_key: String,
    /// What clients reach through the tunnel.
    pub allowed_ips: Vec<String>,
    /// Name servers for connected clients.
    pub dns: Vec<String>,
    /// Seconds between a client's keepalives; 0: off.
    pub keepalive_seconds: u16,
    /// Bytes of the largest packet; absent: the gateways' own choice.
    pub mtu: Option<u16>,
    /// The groups that may use it; none: everyone.
    pub groups: Vec<String>,
    /// Whether each connection needs a second factor.
    pub mfa: bool,
    /// Which methods count.
    pub mfa_methods: Vec<&'static str>,
    /// Seconds of inactivity after which a client is disconnected.
    pub peer_disconnect_threshold_seconds: u64,
    /// What counts as activity: `transfer` or `handshake`.
    pub idle_mode: &'static str,
    /// Seconds that a session lasts at most.
    pub session_lifetime_seconds: u64,
    /// The local time of day at which every session ends, with its time zone; absent: none.
    pub session_ends_at: Option<String>,
    /// Seconds for which nothing at all may come from a client; absent: no limit.
    pub link_loss_seconds: Option<u64>,
    /// Seconds for which live sessions go on while core is away; absent: 90, the lease.
    pub core_outage_hold_seconds: Option<u64>,
    /// Seconds between pre-shared keys; absent: one for the session.
    pub psk_rotation_seconds: Option<u64>,
    /// Grows with each change that gateways must learn of.
    pub revision: i64,
    /// Grows with each change that clients must learn of.
    pub config_version: i64,
    /// When it was added.
    pub created_at: String,
    /// What is wrong with the settings.
    pub warnings: Vec<String>,
    /// How many sessions are live.
    pub sessions: usize,
}

impl LocationView {
    /// Gathers what there is to say of a location.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn of(view: &mut Snapshot, location: &Location) -> Result<Self, StoreError> {
        let (settings, policy) = (&location.settings, location.settings.policy);
        let supported = policy.idle().check_statistics_period(STATISTICS_PERIOD);
        let warning = supported.err().filter(|_| location.asks_mfa());
        Ok(Self {
            id: location.id.get(),
            name: settings.name.clone(),
            addresses: texts(&settings.addresses),
            endpoint: settings.endpoint.clone(),
            listen_port: settings.listen_port,
            public_key: location.public_key.to_string(),
            allowed_ips: texts(&settings.allowed_ips),
            dns: texts(&settings.dns),
            keepalive_seconds: settings.keepalive.map_or(0, NonZeroU16::get),
            mtu: settings.mtu,
            groups: view.groups_of_location(location.id)?,
            mfa: location.asks_mfa(),
            mfa_methods: policy.methods().iter().map(Method::code).collect(),
            peer_disconnect_threshold_seconds: policy.idle().threshold().as_secs(),
            idle_mode: policy.idle().mode().code(),
            session_lifetime_seconds: policy.lifetime().get().as_secs(),
            session_ends_at: policy.daily_end().map(|end| end.to_string()),
            link_loss_seconds: policy.link_loss().map(|limit| limit.get().as_secs()),
            core_outage_hold_seconds: policy.outage_hold().map(|hold| hold.get().as_secs()),
            psk_rotation_seconds: match policy.psk() {
                PskPolicy::Fixed => None,
                PskPolicy::Every(period) => Some(period.get().as_secs()),
            },
            revision: location.revision,
            config_version: location.config_version,
            created_at: time(location.created),
            warnings: warning.iter().map(ToString::to_string).collect(),
            sessions: view.live_count(Scope::Location(location.id))?,
        })
    }
}

fn texts<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(T::to_string).collect()
}
