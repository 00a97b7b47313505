//! Devices: one WireGuard key pair of a person each.

use std::net::IpAddr;

use diesel::prelude::*;
use mfa_core::connect::EndReason;
use mfa_core::id::{DeviceId, LocationId, UserId};
use mfa_core::time::Timestamp;
use mfa_core::token::TokenDigest;
use serde_json::json;
use wg_types::PublicKey;

use crate::schema::device;
use crate::session::Scope;
use crate::value::{from_millis, to_key, to_millis};
use crate::{By, Snapshot, StoreError, Tx};

const TABLE: &str = "device";

/// A device to add.
#[derive(Clone, Debug)]
pub struct NewDevice {
    /// Whose it is.
    pub user: UserId,
    /// What the person calls it.
    pub name: String,
    /// Its identity; no other device has it.
    pub public_key: PublicKey,
    /// Finds the device when it polls.
    pub polling_token: TokenDigest,
    /// Where the request to add it came from; counts as its first poll.
    pub source: Option<IpAddr>,
}

/// A device.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Device {
    /// Names the device.
    pub id: DeviceId,
    /// Whose it is.
    pub user: UserId,
    /// What the person calls it.
    pub name: String,
    /// Its identity.
    pub public_key: PublicKey,
    /// When and from where it last presented its polling token; `None`: never.
    pub last_poll: Option<Poll>,
    /// When it was added.
    pub created: Timestamp,
}

/// When and from where a device presented its polling token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Poll {
    /// When.
    pub at: Timestamp,
    /// From which address; `None` if it is not known.
    pub source: Option<IpAddr>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = device)]
struct Row {
    id: i64,
    user_id: i64,
    name: String,
    public_key: Vec<u8>,
    polled_at: Option<i64>,
    polled_from: Option<String>,
    created_at: i64,
}

impl TryFrom<Row> for Device {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: DeviceId::new(row.id),
            user: UserId::new(row.user_id),
            name: row.name,
            public_key: to_key(&row.public_key, TABLE)?,
            last_poll: row.polled_at.map(|at| Poll {
                at: from_millis(at),
                source: row.polled_from.and_then(|text| text.parse().ok()),
            }),
            created: from_millis(row.created_at),
        })
    }
}

impl Snapshot {
    /// Returns the device `id`.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn device(&mut self, id: DeviceId) -> Result<Option<Device>, StoreError> {
        let row: Option<Row> = device::table
            .find(id.get())
            .select(Row::as_select())
            .get_result(&mut self.conn)
            .optional()?;
        row.map(Device::try_from).transpose()
    }

    /// Returns the device with this identity.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn device_by_key(&mut self, key: &PublicKey) -> Result<Option<Device>, StoreError> {
        let row: Option<Row> = device::table
            .filter(device::public_key.eq(key.as_bytes().as_slice()))
            .select(Row::as_select())
            .get_result(&mut self.conn)
            .optional()?;
        row.map(Device::try_from).transpose()
    }

    /// Returns the device that polls with this token.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn device_by_token(&mut self, token: &TokenDigest) -> Result<Option<Device>, StoreError> {
        let row: Option<Row> = device::table
            .filter(device::polling_token.eq(token.as_bytes().as_slice()))
            .select(Row::as_select())
            .get_result(&mut self.conn)
            .optional()?;
        row.map(Device::try_from).transpose()
    }

    /// Lists all devices by id.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn devices(&mut self) -> Result<Vec<Device>, StoreError> {
        let rows: Vec<Row> =
            device::table.order(device::id.asc()).select(Row::as_select()).load(&mut self.conn)?;
        rows.into_iter().map(Device::try_from).collect()
    }

    /// Lists a user's devices by id.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn devices_of(&mut self, user: UserId) -> Result<Vec<Device>, StoreError> {
        let rows: Vec<Row> = device::table
            .filter(device::user_id.eq(user.get()))
            .order(device::id.asc())
            .select(Row::as_select())
            .load(&mut self.conn)?;
        rows.into_iter().map(Device::try_from).collect()
    }
}

impl Tx {
    /// Adds a device and gives it an address in each location that its user may use.
    ///
    /// # Errors
    ///
    /// [`StoreError::Exists`] if some device or location has this key,
    /// [`StoreError::NoFreeAddress`] if a location is full, [`StoreError::Missing`] without the
    /// user.
    pub fn add_device(&mut self, by: By, new: &NewDevice) -> Result<Device, StoreError> {
        self.add_device_with(by, new, |_, _| Ok(()))
    }

    /// Adds a device that has addresses in `location` already, from before wg-mfa: those that
    /// [`begin_import`](Self::begin_import) kept.
    ///
    /// # Errors
    ///
    /// As [`add_device`](Self::add_device), and [`StoreError::Exists`] for an address that another
    /// device has.
    pub fn import_device(
        &mut self,
        by: By,
        new: &NewDevice,
        location: LocationId,
        addresses: &[IpAddr],
    ) -> Result<Device, StoreError> {
        self.add_device_with(by, new, |tx, device| {
            addresses.iter().try_for_each(|ip| tx.keep_address(device.id, location, *ip))
        })
    }

    fn add_device_with(
        &mut self,
        by: By,
        new: &NewDevice,
        before: impl FnOnce(&mut Self, &Device) -> Result<(), StoreError>,
    ) -> Result<Device, StoreError> {
        self.user(new.user)?.ok_or(StoreError::missing("user"))?;
        let taken = self.device_by_key(&new.public_key)?.is_some()
            || self.location_by_key(&new.public_key)?.is_some();
        if taken {
            return Err(StoreError::Exists { what: "public key" });
        }
        let id: i64 = diesel::insert_into(device::table)
            .values((
                device::user_id.eq(new.user.get()),
                device::name.eq(&new.name),
                device::public_key.eq(new.public_key.as_bytes().as_slice()),
                device::polling_token.eq(new.polling_token.as_bytes().as_slice()),
                device::polled_at.eq(new.source.map(|_| to_millis(by.now))),
                device::polled_from.eq(new.source.map(|ip| ip.to_string())),
                device::created_at.eq(to_millis(by.now)),
            ))
            .returning(device::id)
            .get_result(&mut self.conn)?;
        let device = self.device(DeviceId::new(id))?.ok_or(StoreError::missing(TABLE))?;
        before(self, &device)?;
        self.give_addresses(by, &device)?;
        self.touch_device(&device)?;
        let detail = json!({
            "user": new.user.get(),
            "name": new.name,
            "public_key": new.public_key.to_string(),
        });
        self.audit(by, "device.add", format_args!("device:{id}"), &detail)?;
        Ok(device)
    }

    /// Gives a device another polling token; the old one is worth nothing from now on.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] without that device.
    pub fn set_polling_token(
        &mut self,
        by: By,
        id: DeviceId,
        token: &TokenDigest,
    ) -> Result<(), StoreError> {
        let changed = diesel::update(device::table.find(id.get()))
            .set(device::polling_token.eq(token.as_bytes().as_slice()))
            .execute(&mut self.conn)?;
        if changed == 0 {
            return Err(StoreError::missing(TABLE));
        }
        self.audit(by, "device.token", format_args!("device:{id}"), &json!({}))
    }

    /// Notes that a device presented its polling token. Not audited: nothing changes by it.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn note_poll(&mut self, id: DeviceId, poll: Poll) -> Result<(), StoreError> {
        diesel::update(device::table.find(id.get()))
            .set((
                device::polled_at.eq(to_millis(poll.at)),
                device::polled_from.eq(poll.source.map(|ip| ip.to_string())),
            ))
            .execute(&mut self.conn)?;
        Ok(())
    }

    /// Removes a device: its sessions end, its peers go, its addresses rest. Returns whether there
    /// was one.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn remove_device(&mut self, by: By, id: DeviceId) -> Result<bool, StoreError> {
        let Some(device) = self.device(id)? else { return Ok(false) };
        self.end_sessions(by, Scope::Device(id), EndReason::DeviceRemoved)?;
        self.touch_device(&device)?;
        self.release_addresses(by, id)?;
        diesel::delete(device::table.find(id.get())).execute(&mut self.conn)?;
        let detail = json!({
            "user": device.user.get(),
            "name": device.name,
            "public_key": device.public_key.to_string(),
        });
        self.audit(by, "device.remove", format_args!("device:{id}"), &detail)?;
        Ok(true)
    }

    /// Touches the device's peer where it is one without a session.
    pub(crate) fn touch_device(&mut self, device: &Device) -> Result<(), StoreError> {
        for location in self.locations_of(device.user)? {
            if !location.asks_mfa() {
                self.touch(location.id, Some(&device.public_key))?;
            }
        }
        Ok(())
    }
}
