//! The peers that a location's gateways should have now.

use std::num::NonZeroU16;

use diesel::prelude::*;
use ipnet::IpNet;
use mfa_core::id::{LocationId, SessionId};
use mfa_core::rotate::PskGeneration;
use mfa_core::time::Timestamp;
use wg_types::{PresharedKey, PublicKey};

use crate::schema::{device, device_address, session, user_account, user_group_member};
use crate::session::{generation, psk_place};
use crate::value::{from_ip_bytes, from_millis, host, to_digest, to_key};
use crate::{Location, Snapshot, StoreError};

/// A peer that the gateways of a location should have.
#[derive(Clone, Debug)]
pub struct DesiredPeer {
    /// Its identity.
    pub public_key: PublicKey,
    /// Host routes: /32 and /128.
    pub allowed_ips: Vec<IpNet>,
    /// Seconds between keepalives towards the peer; `None`: off. Always off today: clients, which
    /// are behind NAT, keep the tunnel open, and gateways do not.
    pub keepalive: Option<NonZeroU16>,
    /// Its session; `None` in a location without MFA.
    pub session: Option<DesiredSession>,
}

/// What a peer of a location with MFA owes to its session.
#[derive(Clone, Debug)]
pub struct DesiredSession {
    /// Names the session. If it is another than before, the peer must be removed first.
    pub id: SessionId,
    /// Which PSK it is.
    pub generation: PskGeneration,
    /// The PSK.
    pub psk: PresharedKey,
    /// SHA-256 of the PSK of the generation before; `None`: there was none. What has it is of this
    /// session, and needs no removal.
    pub previous_psk_digest: Option<[u8; 32]>,
    /// When it ends at the latest.
    pub lifetime_ends: Timestamp,
}

/// A session's PSK as it is stored.
#[derive(Queryable, Selectable)]
#[diesel(table_name = session)]
struct Sealed {
    id: i64,
    generation: i64,
    psk: Option<Vec<u8>>,
    next_psk: Option<Vec<u8>>,
    next_set_at: Option<i64>,
    previous_psk_digest: Option<Vec<u8>>,
    lifetime_ends_at: i64,
}

struct Found {
    public_key: Vec<u8>,
    ip: Vec<u8>,
    session: Option<Sealed>,
}

impl Snapshot {
    /// Lists the peers that a location's gateways should have, in the order of their keys; with
    /// `among`, those of them that are in it. A key in `among` that is not in the answer must not
    /// be a peer.
    ///
    /// In a location with MFA a peer is a live session; without MFA, a device. In both its user
    /// must be active and permitted, and it must have an address.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] without that location, [`StoreError::Unsealable`] if somebody
    /// changed a stored PSK.
    pub fn desired_peers(
        &mut self,
        location: LocationId,
        among: Option<&[PublicKey]>,
    ) -> Result<Vec<DesiredPeer>, StoreError> {
        let location = self.location(location)?.ok_or(StoreError::missing("location"))?;
        let found = if location.asks_mfa() {
            self.peers_by_session(&location, among)?
        } else {
            self.peers_by_device(&location, among)?
        };
        let mut peers: Vec<DesiredPeer> = Vec::new();
        for Found { public_key, ip, session } in found {
            let public_key = to_key(&public_key, "device")?;
            let ip = host(from_ip_bytes(&ip, "device_address")?);
            if let Some(last) = peers.last_mut().filter(|peer| peer.public_key == public_key) {
                last.allowed_ips.push(ip);
                continue;
            }
            let session = session.map(|parts| self.open(parts)).transpose()?;
            peers.push(DesiredPeer { public_key, allowed_ips: vec![ip], keepalive: None, session });
        }
        Ok(peers)
    }

    /// The next PSK once the client has it, else the one in force.
    fn open(&self, row: Sealed) -> Result<DesiredSession, StoreError> {
        let current = generation(row.generation)?;
        let (generation, sealed) = match row.next_psk.filter(|_| row.next_set_at.is_some()) {
            Some(next) => (current.next(), Some(next)),
            None => (current, row.psk),
        };
        let sealed = sealed.ok_or(StoreError::corrupt("session"))?;
        let psk = self.seal.open_key(psk_place(row.id), &sealed)?;
        let previous = row.previous_psk_digest.as_deref();
        Ok(DesiredSession {
            id: SessionId::new(row.id),
            generation,
            psk: PresharedKey::from_bytes(*psk),
            previous_psk_digest: previous.map(|text| to_digest(text, "session")).transpose()?,
            lifetime_ends: from_millis(row.lifetime_ends_at),
        })
    }

    fn peers_by_session(
        &mut self,
        location: &Location,
        among: Option<&[PublicKey]>,
    ) -> Result<Vec<Found>, StoreError> {
        let mut query = session::table
            .inner_join(device::table.inner_join(device_address::table))
            .inner_join(user_account::table)
            .filter(session::ended_at.is_null())
            .filter(session::location_id.eq(location.id.get()))
            .filter(device_address::location_id.eq(location.id.get()))
            .filter(user_account::active.eq(true))
            .order((device::public_key.asc(), device_address::family.asc()))
            .select((device::public_key, device_address::ip, Sealed::as_select()))
            .into_boxed();
        if let Some(groups) = self.limited_to(location.id)? {
            query = query.filter(session::user_id.eq_any(members(groups)));
        }
        if let Some(keys) = among {
            query = query.filter(device::public_key.eq_any(bytes(keys)));
        }
        let rows: Vec<(Vec<u8>, Vec<u8>, Sealed)> = query.load(&mut self.conn)?;
        let with = |(public_key, ip, session)| Found { public_key, ip, session: Some(session) };
        Ok(rows.into_iter().map(with).collect())
    }

    fn peers_by_device(
        &mut self,
        location: &Location,
        among: Option<&[PublicKey]>,
    ) -> Result<Vec<Found>, StoreError> {
        let mut query = device::table
            .inner_join(device_address::table)
            .inner_join(user_account::table)
            .filter(device_address::location_id.eq(location.id.get()))
            .filter(user_account::active.eq(true))
            .order((device::public_key.asc(), device_address::family.asc()))
            .select((device::public_key, device_address::ip))
            .into_boxed();
        if let Some(groups) = self.limited_to(location.id)? {
            query = query.filter(device::user_id.eq_any(members(groups)));
        }
        if let Some(keys) = among {
            query = query.filter(device::public_key.eq_any(bytes(keys)));
        }
        let rows: Vec<(Vec<u8>, Vec<u8>)> = query.load(&mut self.conn)?;
        let without = |(public_key, ip)| Found { public_key, ip, session: None };
        Ok(rows.into_iter().map(without).collect())
    }
}

fn bytes(keys: &[PublicKey]) -> Vec<Vec<u8>> {
    keys.iter().map(|key| key.as_bytes().to_vec()).collect()
}

#[diesel::dsl::auto_type(no_type_alias)]
fn members(groups: Vec<i64>) -> _ {
    user_group_member::table
        .filter(user_group_member::group_id.eq_any(groups))
        .select(user_group_member::user_id)
}
