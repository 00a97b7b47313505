//! Locations: tunnel networks, and what each asks of those who connect.

use core::num::NonZeroU16;
use std::collections::BTreeSet;
use std::net::IpAddr;

use diesel::prelude::*;
use ipnet::IpNet;
use mfa_core::connect::EndReason;
use mfa_core::id::{LocationId, UserId};
use mfa_core::policy::{IdlePolicy, Lifetime, LinkLoss, LocationPolicy, Mfa, OutageHold};
use mfa_core::rotate::PskPolicy;
use mfa_core::time::Timestamp;
use serde_json::json;
use wg_types::{PrivateKey, PublicKey};

use crate::schema::{location, location_group, user_group_member};
use crate::seal::Place;
use crate::session::Scope;
use crate::value::{from_list, from_millis, from_span, to_key, to_list, to_millis, to_span};
use crate::{By, Snapshot, StoreError, Tx};

const TABLE: &str = "location";

/// What an administrator sets of a location.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LocationSettings {
    /// Its name, unique.
    pub name: String,
    /// Where clients send to: "vpn.example.org:51820".
    pub endpoint: String,
    /// The UDP port of its gateways.
    pub listen_port: u16,
    /// The gateways' own address in each of its networks, with the network: `10.1.0.1/24`.
    pub addresses: Vec<IpNet>,
    /// What clients route into the tunnel.
    pub allowed_ips: Vec<IpNet>,
    /// Name servers for clients; may be empty.
    pub dns: Vec<IpAddr>,
    /// Seconds between a client's keepalives; `None`: off.
    pub keepalive: Option<NonZeroU16>,
    /// Of the gateways' interfaces; `None`: their own choice.
    pub mtu: Option<u16>,
    /// What it asks.
    pub policy: LocationPolicy,
}

/// A location.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Location {
    /// Names the location.
    pub id: LocationId,
    /// What was set.
    pub settings: LocationSettings,
    /// Its identity, shared by its gateways.
    pub public_key: PublicKey,
    /// Grows with each change that its gateways must learn of.
    pub revision: i64,
    /// Grows with each change that clients must learn of.
    pub config_version: i64,
    /// When it was added.
    pub created: Timestamp,
}

impl Location {
    /// Tells whether a peer exists here only for a live session.
    #[must_use]
    pub fn asks_mfa(&self) -> bool {
        self.settings.policy.mfa() == Mfa::Required
    }
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = location)]
struct Row {
    id: i64,
    public_key: Vec<u8>,
    #[diesel(embed)]
    settings: Settings,
    revision: i64,
    config_version: i64,
    created_at: i64,
}

#[derive(AsChangeset, Insertable, Queryable, Selectable)]
#[diesel(table_name = location)]
struct Settings {
    name: String,
    endpoint: String,
    listen_port: i32,
    addresses: String,
    allowed_ips: String,
    dns: String,
    keepalive: i32,
    mtu: i32,
    mfa: String,
    methods: String,
    idle_mode: String,
    idle_millis: i64,
    lifetime_millis: i64,
    psk_rotation_millis: i64,
    daily_end: String,
    link_loss_millis: i64,
    outage_hold_millis: i64,
}

impl From<&LocationSettings> for Settings {
    fn from(settings: &LocationSettings) -> Self {
        let policy = &settings.policy;
        Self {
            name: settings.name.clone(),
            endpoint: settings.endpoint.clone(),
            listen_port: settings.listen_port.into(),
            addresses: to_list(&settings.addresses),
            allowed_ips: to_list(&settings.allowed_ips),
            dns: to_list(&settings.dns),
            keepalive: settings.keepalive.map_or(0, |seconds| seconds.get().into()),
            mtu: settings.mtu.map_or(0, Into::into),
            mfa: policy.mfa().code().to_owned(),
            methods: policy.methods().to_string(),
            idle_mode: policy.idle().mode().to_string(),
            idle_millis: to_span(policy.idle().threshold()),
            lifetime_millis: to_span(policy.lifetime().get()),
            psk_rotation_millis: rotation_millis(policy.psk()),
            daily_end: policy.daily_end().map_or_else(String::new, |end| end.to_string()),
            link_loss_millis: policy.link_loss().map_or(0, |limit| to_span(limit.get())),
            outage_hold_millis: policy.outage_hold().map_or(0, |hold| to_span(hold.get())),
        }
    }
}

impl TryFrom<Settings> for LocationSettings {
    type Error = StoreError;

    fn try_from(row: Settings) -> Result<Self, StoreError> {
        let corrupt = || StoreError::corrupt(TABLE);
        Ok(Self {
            policy: row.policy().ok_or_else(corrupt)?,
            name: row.name,
            endpoint: row.endpoint,
            listen_port: u16::try_from(row.listen_port).map_err(|_| corrupt())?,
            addresses: from_list(&row.addresses, TABLE)?,
            allowed_ips: from_list(&row.allowed_ips, TABLE)?,
            dns: from_list(&row.dns, TABLE)?,
            keepalive: NonZeroU16::new(u16::try_from(row.keepalive).map_err(|_| corrupt())?),
            mtu: Some(u16::try_from(row.mtu).map_err(|_| corrupt())?).filter(|mtu| *mtu > 0),
        })
    }
}

impl Settings {
    fn policy(&self) -> Option<LocationPolicy> {
        let idle =
            IdlePolicy::new(self.idle_mode.parse().ok()?, from_span(self.idle_millis)).ok()?;
        let psk = match self.psk_rotation_millis {
            0 => PskPolicy::Fixed,
            millis => PskPolicy::every(from_span(millis)).ok()?,
        };
        let daily_end = match self.daily_end.as_str() {
            "" => None,
            text => Some(text.parse().ok()?),
        };
        let link_loss = match self.link_loss_millis {
            0 => None,
            millis => Some(LinkLoss::new(from_span(millis)).ok()?),
        };
        let outage_hold = match self.outage_hold_millis {
            0 => None,
            millis => Some(OutageHold::new(from_span(millis)).ok()?),
        };
        let policy = LocationPolicy::new(
            Mfa::from_code(&self.mfa)?,
            self.methods.parse().ok()?,
            idle,
            Lifetime::new(from_span(self.lifetime_millis)).ok()?,
            psk,
        );
        let policy = policy.ok()?.with_daily_end(daily_end);
        Some(policy.with_link_loss(link_loss).with_outage_hold(outage_hold))
    }
}

impl TryFrom<Row> for Location {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: LocationId::new(row.id),
            settings: row.settings.try_into()?,
            public_key: to_key(&row.public_key, TABLE)?,
            revision: row.revision,
            config_version: row.config_version,
            created: from_millis(row.created_at),
        })
    }
}

const NAME_TAKEN: StoreError = StoreError::Exists { what: "location" };

const fn place(id: i64) -> Place {
    Place { table: TABLE, column: "private_key", row: id }
}

impl Snapshot {
    /// Returns the location `id`.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn location(&mut self, id: LocationId) -> Result<Option<Location>, StoreError> {
        let row: Option<Row> = location::table
            .find(id.get())
            .select(Row::as_select())
            .get_result(&mut self.conn)
            .optional()?;
        row.map(Location::try_from).transpose()
    }

    /// Returns the location called `name`.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn location_by_name(&mut self, name: &str) -> Result<Option<Location>, StoreError> {
        let row: Option<Row> = location::table
            .filter(location::name.eq(name))
            .select(Row::as_select())
            .get_result(&mut self.conn)
            .optional()?;
        row.map(Location::try_from).transpose()
    }

    pub(crate) fn location_by_key(
        &mut self,
        key: &PublicKey,
    ) -> Result<Option<LocationId>, StoreError> {
        let id: Option<i64> = location::table
            .filter(location::public_key.eq(key.as_bytes().as_slice()))
            .select(location::id)
            .get_result(&mut self.conn)
            .optional()?;
        Ok(id.map(LocationId::new))
    }

    /// Lists all locations by name.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn locations(&mut self) -> Result<Vec<Location>, StoreError> {
        let rows: Vec<Row> = location::table
            .order(location::name.asc())
            .select(Row::as_select())
            .load(&mut self.conn)?;
        rows.into_iter().map(Location::try_from).collect()
    }

    /// Lists the locations that a user's groups let the user use, by name. Whether the user is
    /// active is another question.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn locations_of(&mut self, user: UserId) -> Result<Vec<Location>, StoreError> {
        let ids = self.location_ids_of(user)?;
        Ok(self.locations()?.into_iter().filter(|location| ids.contains(&location.id)).collect())
    }

    pub(crate) fn location_ids_of(
        &mut self,
        user: UserId,
    ) -> Result<BTreeSet<LocationId>, StoreError> {
        let limited = location_group::table.select(location_group::location_id);
        let groups = user_group_member::table
            .filter(user_group_member::user_id.eq(user.get()))
            .select(user_group_member::group_id);
        let permitted = location_group::table
            .filter(location_group::group_id.eq_any(groups))
            .select(location_group::location_id);
        let ids: Vec<i64> = location::table
            .filter(location::id.ne_all(limited).or(location::id.eq_any(permitted)))
            .select(location::id)
            .load(&mut self.conn)?;
        Ok(ids.into_iter().map(LocationId::new).collect())
    }

    /// Opens a location's private key, for its gateways.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] without that location, [`StoreError::Unsealable`] if somebody
    /// changed the stored key.
    pub fn location_private_key(&mut self, id: LocationId) -> Result<PrivateKey, StoreError> {
        let sealed: Option<Vec<u8>> = location::table
            .find(id.get())
            .select(location::private_key)
            .get_result(&mut self.conn)
            .optional()?;
        let sealed = sealed.ok_or(StoreError::missing(TABLE))?;
        Ok(PrivateKey::from_bytes(*self.seal.open_key(place(id.get()), &sealed)?))
    }
}

impl Tx {
    /// Adds a location for everyone, and gives each device an address in it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Exists`] if the name is taken, [`StoreError::NoFreeAddress`] if there are more
    /// devices than addresses.
    pub fn add_location(
        &mut self,
        by: By,
        settings: &LocationSettings,
        key: &PrivateKey,
    ) -> Result<Location, StoreError> {
        if self.location_by_name(&settings.name)?.is_some() {
            return Err(NAME_TAKEN);
        }
        let id: i64 = diesel::insert_into(location::table)
            .values((
                Settings::from(settings),
                location::private_key.eq([].as_slice()),
                location::public_key.eq(key.public_key().as_bytes().as_slice()),
                location::revision.eq(1),
                location::pruned_revision.eq(0),
                location::config_version.eq(1),
                location::created_at.eq(to_millis(by.now)),
            ))
            .returning(location::id)
            .get_result(&mut self.conn)?;
        let sealed = self.seal_in(place(id), key.expose_secret())?;
        diesel::update(location::table.find(id))
            .set(location::private_key.eq(sealed))
            .execute(&mut self.conn)?;
        let location = self.location(LocationId::new(id))?.ok_or(StoreError::missing(TABLE))?;
        for device in self.devices()? {
            self.give_addresses_in(by, device.id, &location)?;
        }
        self.touch(location.id, None)?;
        self.audit(by, "location.add", format_args!("location:{id}"), &describe(settings))?;
        Ok(location)
    }

    /// Changes a location. Where MFA is switched on or off, or the networks change, no session and
    /// no peer survives; where a method is no longer allowed, the sessions that it bought end.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] without that location, [`StoreError::Exists`] if the new name is
    /// taken, [`StoreError::NoFreeAddress`] if there are more devices than addresses.
    pub fn set_location(
        &mut self,
        by: By,
        id: LocationId,
        settings: &LocationSettings,
    ) -> Result<(), StoreError> {
        let before = self.location(id)?.ok_or(StoreError::missing(TABLE))?.settings;
        if before == *settings {
            return Ok(());
        }
        if self.location_by_name(&settings.name)?.is_some_and(|other| other.id != id) {
            return Err(NAME_TAKEN);
        }
        diesel::update(location::table.find(id.get()))
            .set(Settings::from(settings))
            .execute(&mut self.conn)?;
        self.audit(by, "location.change", format_args!("location:{id}"), &describe(settings))?;

        if before.addresses != settings.addresses || before.policy.mfa() != settings.policy.mfa() {
            self.end_sessions(by, Scope::Location(id), EndReason::PolicyChanged)?;
        }
        for method in before.policy.methods().iter() {
            if !settings.policy.methods().contains(method) {
                self.end_sessions(by, Scope::Method(id, method), EndReason::PolicyChanged)?;
            }
        }
        if before.addresses != settings.addresses {
            self.forget_addresses(id)?;
            self.give_everyone_addresses(by, id)?;
        }
        self.touch(id, None)?;
        self.bump_config(id)
    }

    /// Lets exactly these groups use a location, none: everyone. Sessions and peers of those who
    /// may no longer use it end.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] without that location, [`StoreError::NoFreeAddress`] if there are
    /// more devices than addresses.
    pub fn set_location_groups(
        &mut self,
        by: By,
        id: LocationId,
        groups: &[&str],
    ) -> Result<(), StoreError> {
        self.location(id)?.ok_or(StoreError::missing(TABLE))?;
        diesel::delete(location_group::table.filter(location_group::location_id.eq(id.get())))
            .execute(&mut self.conn)?;
        for group in self.group_ids(groups)? {
            diesel::insert_into(location_group::table)
                .values((
                    location_group::location_id.eq(id.get()),
                    location_group::group_id.eq(group),
                ))
                .execute(&mut self.conn)?;
        }
        let detail = json!({ "groups": groups });
        self.audit(by, "location.groups", format_args!("location:{id}"), &detail)?;

        for user in self.users_with_session(id)? {
            if !self.may_use(user, id)? {
                self.end_sessions(by, Scope::UserAt(user, id), EndReason::AccessRemoved)?;
            }
        }
        self.give_everyone_addresses(by, id)?;
        self.touch(id, None)?;
        self.bump_config(id)
    }

    /// Removes a location with its gateways, addresses and sessions. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn remove_location(&mut self, by: By, id: LocationId) -> Result<bool, StoreError> {
        let Some(location) = self.location(id)? else { return Ok(false) };
        self.end_sessions(by, Scope::Location(id), EndReason::LocationRemoved)?;
        diesel::delete(location::table.find(id.get())).execute(&mut self.conn)?;
        self.touched.remove(&id);
        let detail = json!({ "name": location.settings.name });
        self.audit(by, "location.remove", format_args!("location:{id}"), &detail)?;
        Ok(true)
    }

    /// Says that clients must learn something new of a location.
    pub(crate) fn bump_config(&mut self, id: LocationId) -> Result<(), StoreError> {
        diesel::update(location::table.find(id.get()))
            .set(location::config_version.eq(location::config_version + 1))
            .execute(&mut self.conn)?;
        Ok(())
    }

    pub(crate) fn give_everyone_addresses(
        &mut self,
        by: By,
        id: LocationId,
    ) -> Result<(), StoreError> {
        let location = self.location(id)?.ok_or(StoreError::missing(TABLE))?;
        for device in self.devices()? {
            if self.may_use(device.user, id)? {
                self.give_addresses_in(by, device.id, &location)?;
            }
        }
        Ok(())
    }
}

/// Zero: off.
fn rotation_millis(psk: PskPolicy) -> i64 {
    match psk {
        PskPolicy::Fixed => 0,
        PskPolicy::Every(period) => to_span(period.get()),
    }
}

fn describe(settings: &LocationSettings) -> serde_json::Value {
    let policy = &settings.policy;
    json!({
        "name": settings.name,
        "endpoint": settings.endpoint,
        "listen_port": settings.listen_port,
        "addresses": to_list(&settings.addresses),
        "allowed_ips": to_list(&settings.allowed_ips),
        "mfa": policy.mfa().code(),
        "methods": policy.methods().to_string(),
        "idle_mode": policy.idle().mode().code(),
        "idle_millis": to_span(policy.idle().threshold()),
        "lifetime_millis": to_span(policy.lifetime().get()),
        "psk_rotation_millis": rotation_millis(policy.psk()),
        "daily_end": policy.daily_end().map(|end| end.to_string()),
        "link_loss_millis": policy.link_loss().map(|limit| to_span(limit.get())),
        "outage_hold_millis": policy.outage_hold().map(|hold| to_span(hold.get())),
    })
}
