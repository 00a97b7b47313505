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

/// Rows that one statement brings: whatever the number of peers, few are in memory twice.
const ROWS: usize = 4_095;

/// One address of a peer.
struct Found {
    /// Of the session; without MFA, of the device.
    id: i64,
    public_key: Vec<u8>,
    ip: Vec<u8>,
    session: Option<Sealed>,
}

/// Which rows a statement brings.
#[derive(Clone, Copy)]
enum Which<'a> {
    /// As many as [`ROWS`], of peers with a higher id.
    After(i64),
    /// All of these keys.
    Among(&'a [PublicKey]),
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
        let mut peers = Vec::new();
        match among {
            None => self.each_desired_peer(location, |peer| peers.push(peer))?,
            Some(keys) => {
                let location = self.location(location)?.ok_or(StoreError::missing("location"))?;
                let found = self.rows(&location, Which::Among(keys))?;
                self.put_together(found, &mut |peer| peers.push(peer))?;
            }
        }
        peers.sort_unstable_by_key(|peer| peer.public_key);
        Ok(peers)
    }

    /// Shows each of a location's [desired peers](Self::desired_peers), in no order. They are never all in
    /// memory.
    ///
    /// # Errors
    ///
    /// As [`desired_peers`](Self::desired_peers).
    pub fn each_desired_peer(
        &mut self,
        location: LocationId,
        mut show: impl FnMut(DesiredPeer),
    ) -> Result<(), StoreError> {
        let location = self.location(location)?.ok_or(StoreError::missing("location"))?;
        let mut after = -1;
        loop {
            let mut found = self.rows(&location, Which::After(after))?;
            let is_last = found.len() < ROWS;
            if !is_last {
                // The last peer's other address may be on the next page.
                let cut_off = found.last().map_or(after, |row| row.id);
                found.retain(|row| row.id != cut_off);
            }
            after = found.last().map_or(after, |row| row.id);
            self.put_together(found, &mut show)?;
            if is_last {
                return Ok(());
            }
        }
    }

    /// Makes peers of their addresses, which stand together.
    fn put_together(
        &self,
        found: Vec<Found>,
        show: &mut impl FnMut(DesiredPeer),
    ) -> Result<(), StoreError> {
        let mut peer: Option<(i64, DesiredPeer)> = None;
        for Found { id, public_key, ip, session } in found {
            let ip = host(from_ip_bytes(&ip, "device_address")?);
            if let Some((_, peer)) = peer.as_mut().filter(|(of, _)| *of == id) {
                peer.allowed_ips.push(ip);
                continue;
            }
            let public_key = to_key(&public_key, "device")?;
            let session = session.map(|parts| self.open(parts)).transpose()?;
            let next = DesiredPeer { public_key, allowed_ips: vec![ip], keepalive: None, session };
            if let Some((_, whole)) = peer.replace((id, next)) {
                show(whole);
            }
        }
        if let Some((_, whole)) = peer {
            show(whole);
        }
        Ok(())
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

    fn rows(&mut self, location: &Location, which: Which<'_>) -> Result<Vec<Found>, StoreError> {
        if location.asks_mfa() {
            self.rows_by_session(location.id, which)
        } else {
            self.rows_by_device(location.id, which)
        }
    }

    fn rows_by_session(
        &mut self,
        location: LocationId,
        which: Which<'_>,
    ) -> Result<Vec<Found>, StoreError> {
        let mut query = session::table
            .inner_join(device::table.inner_join(device_address::table))
            .inner_join(user_account::table)
            .filter(session::ended_at.is_null())
            .filter(session::location_id.eq(location.get()))
            .filter(device_address::location_id.eq(location.get()))
            .filter(user_account::active.eq(true))
            .order((session::id.asc(), device_address::family.asc()))
            .select((device::public_key, device_address::ip, Sealed::as_select()))
            .into_boxed();
        if let Some(groups) = self.limited_to(location)? {
            query = query.filter(session::user_id.eq_any(members(groups)));
        }
        query = match which {
            Which::After(id) => query.filter(session::id.gt(id)).limit(rows_at_most()),
            Which::Among(keys) => query.filter(device::public_key.eq_any(bytes(keys))),
        };
        let rows: Vec<(Vec<u8>, Vec<u8>, Sealed)> = query.load(&mut self.conn)?;
        let with = |(public_key, ip, session): (_, _, Sealed)| Found {
            id: session.id,
            public_key,
            ip,
            session: Some(session),
        };
        Ok(rows.into_iter().map(with).collect())
    }

    fn rows_by_device(
        &mut self,
        location: LocationId,
        which: Which<'_>,
    ) -> Result<Vec<Found>, StoreError> {
        let mut query = device::table
            .inner_join(device_address::table)
            .inner_join(user_account::table)
            .filter(device_address::location_id.eq(location.get()))
            .filter(user_account::active.eq(true))
            .order((device::id.asc(), device_address::family.asc()))
            .select((device::id, device::public_key, device_address::ip))
            .into_boxed();
        if let Some(groups) = self.limited_to(location)? {
            query = query.filter(device::user_id.eq_any(members(groups)));
        }
        query = match which {
            Which::After(id) => query.filter(device::id.gt(id)).limit(rows_at_most()),
            Which::Among(keys) => query.filter(device::public_key.eq_any(bytes(keys))),
        };
        let rows: Vec<(i64, Vec<u8>, Vec<u8>)> = query.load(&mut self.conn)?;
        let without = |(id, public_key, ip)| Found { id, public_key, ip, session: None };
        Ok(rows.into_iter().map(without).collect())
    }
}

fn rows_at_most() -> i64 {
    i64::try_from(ROWS).unwrap_or(i64::MAX)
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
