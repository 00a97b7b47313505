//! Reads from the store what a location's gateways should have, in the words of the protocol.
//!
//! Pre-shared keys and the location's key are in memory only from here to the message.

use core::ops::Deref;
use core::time::Duration;
use std::collections::BTreeSet;

use mfa_core::id::LocationId;
use mfa_core::policy::IdleMode;
use mfa_core::time::Timestamp;
use mfa_store::{DesiredPeer, Location, Store, StoreError, Touched};
use mfa_wire::codec::Wipe;
use mfa_wire::gateway::{InterfaceConfig, Peer};
use wg_types::{PrivateKey, PublicKey};

/// Everything that a location's gateways should have.
#[derive(Debug)]
pub struct All {
    /// As of which revision.
    pub revision: i64,
    /// The interface.
    pub interface: InterfaceConfig,
    /// Its peers.
    pub peers: Peers,
    /// The peers' keys.
    pub keys: BTreeSet<PublicKey>,
}

/// What became of the peers that were touched.
#[derive(Debug)]
pub enum News {
    /// It cannot be said, or not shortly: see [`all`].
    Everything,
    /// These peers are as they are now, whatever happened in between.
    Peers {
        /// As of which revision.
        revision: i64,
        /// Who should be there.
        peers: Peers,
        /// Who must not be there.
        removed: Vec<PublicKey>,
    },
}

/// Peers with their pre-shared keys, which are wiped on drop.
#[derive(Debug, Default)]
pub struct Peers(Vec<Peer>);

impl Peers {
    /// Hands the peers over to a message.
    #[must_use]
    pub fn into_message(mut self) -> Vec<Peer> {
        core::mem::take(&mut self.0)
    }
}

impl FromIterator<Peer> for Peers {
    fn from_iter<I: IntoIterator<Item = Peer>>(peers: I) -> Self {
        Self(peers.into_iter().collect())
    }
}

impl Deref for Peers {
    type Target = [Peer];

    fn deref(&self) -> &[Peer] {
        &self.0
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(Wipe::wipe);
    }
}

/// Reads everything, as it is at `now`.
///
/// # Errors
///
/// What the store reports; [`StoreError::Missing`] without that location.
pub async fn all(store: &Store, location: LocationId, now: Timestamp) -> Result<All, StoreError> {
    store
        .read(move |view| {
            let found = view.location(location)?.ok_or(StoreError::Missing { what: "location" })?;
            let private_key = view.location_private_key(location)?;
            let held_at = held_at(&found, now);
            let (mut keys, mut peers) = (BTreeSet::new(), Vec::new());
            view.each_desired_peer(location, |one| {
                keys.insert(one.public_key);
                peers.push(peer(&one, held_at));
            })?;
            Ok(All {
                revision: found.revision,
                interface: interface(&found, &private_key),
                keys,
                peers: Peers(peers),
            })
        })
        .await
}

/// Reads what happened after the revision `since`, as it is at `now`.
///
/// # Errors
///
/// What the store reports; [`StoreError::Missing`] without that location.
pub async fn since(
    store: &Store,
    location: LocationId,
    since: i64,
    now: Timestamp,
) -> Result<News, StoreError> {
    store
        .read(move |view| {
            let changes = view.changes_since(location, since)?;
            let touched = match changes.touched {
                Touched::Everything => return Ok(News::Everything),
                Touched::Peers(keys) if keys.len() > super::message::PEERS_MAX => {
                    return Ok(News::Everything);
                }
                Touched::Peers(keys) => keys,
            };
            let keys: Vec<PublicKey> = touched.iter().copied().collect();
            let desired = if keys.is_empty() {
                Vec::new()
            } else {
                view.desired_peers(location, Some(&keys))?
            };
            let found = view.location(location)?.ok_or(StoreError::Missing { what: "location" })?;
            let held_at = held_at(&found, now);
            let there: BTreeSet<PublicKey> = desired.iter().map(|peer| peer.public_key).collect();
            Ok(News::Peers {
                revision: changes.revision,
                peers: desired.iter().map(|one| peer(one, held_at)).collect(),
                removed: touched.difference(&there).copied().collect(),
            })
        })
        .await
}

/// Where gateways hold sessions while core is away they must know how long each may last.
fn held_at(location: &Location, now: Timestamp) -> Option<Timestamp> {
    location.settings.policy.outage_hold().map(|_| now)
}

fn interface(location: &Location, private_key: &PrivateKey) -> InterfaceConfig {
    let settings = &location.settings;
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let (hold, idle) = (settings.policy.outage_hold(), settings.policy.idle());
    InterfaceConfig {
        location_name: settings.name.clone(),
        private_key: private_key.expose_secret().to_vec(),
        listen_port: settings.listen_port.into(),
        addresses: settings.addresses.iter().map(ToString::to_string).collect(),
        mtu: settings.mtu.map_or(0, Into::into),
        mfa_required: location.asks_mfa(),
        statistics_period_millis: 0,
        outage_hold_millis: hold.map_or(0, |hold| millis(hold.get())),
        idle_threshold_millis: hold.map_or(0, |_| millis(idle.threshold())),
        idle_by_handshake: hold.is_some() && idle.mode() == IdleMode::Handshake,
    }
}

fn peer(peer: &DesiredPeer, held_at: Option<Timestamp>) -> Peer {
    let session = peer.session.as_ref();
    Peer {
        public_key: peer.public_key.as_bytes().to_vec(),
        allowed_ips: peer.allowed_ips.iter().map(ToString::to_string).collect(),
        preshared_key: session.map(|session| session.psk.expose_secret().to_vec()),
        persistent_keepalive: peer.keepalive.map_or(0, |seconds| seconds.get().into()),
        session_id: session.map_or(0, |session| session.id.get()),
        generation: session.map_or(0, |session| session.generation.get()),
        previous_psk_sha256: session
            .and_then(|session| session.previous_psk_digest)
            .map(|digest| digest.to_vec()),
        lifetime_left_millis: session.zip(held_at).map(|(session, now)| {
            u64::try_from(session.lifetime_ends.since(now).as_millis()).unwrap_or(u64::MAX)
        }),
    }
}
