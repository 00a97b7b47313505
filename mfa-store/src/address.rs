//! The tunnel addresses of devices: one in each network of each location that the user may use.

use core::time::Duration;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use diesel::prelude::*;
use ipnet::IpNet;
use mfa_core::id::{DeviceId, LocationId};
use mfa_core::policy::OutageHold;

use crate::schema::device_address;
use crate::value::{family, from_ip_bytes, host, to_ip_bytes, to_millis};
use crate::{By, Device, Location, Snapshot, StoreError, Tx};

const TABLE: &str = "device_address";

/// How long an address given back stays unused: longer than any gateway without word from core
/// keeps its old owner.
pub const ADDRESS_REST: Duration = Duration::from_secs(2 * 3600);

impl Snapshot {
    /// Lists a device's addresses in a location as host routes: /32 and /128.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn addresses(
        &mut self,
        device: DeviceId,
        location: LocationId,
    ) -> Result<Vec<IpNet>, StoreError> {
        let rows: Vec<Vec<u8>> = device_address::table
            .filter(device_address::device_id.eq(device.get()))
            .filter(device_address::location_id.eq(location.get()))
            .order((device_address::family.asc(), device_address::ip.asc()))
            .select(device_address::ip)
            .load(&mut self.conn)?;
        rows.iter().map(|ip| from_ip_bytes(ip, TABLE).map(host)).collect()
    }
}

impl Tx {
    /// Gives a device an address in each network that it may use and has none in.
    pub(crate) fn give_addresses(&mut self, by: By, device: &Device) -> Result<(), StoreError> {
        for location in self.locations_of(device.user)? {
            self.give_addresses_in(by, device.id, &location)?;
        }
        Ok(())
    }

    /// The same in one location.
    pub(crate) fn give_addresses_in(
        &mut self,
        by: By,
        device: DeviceId,
        location: &Location,
    ) -> Result<(), StoreError> {
        let has = self.addresses(device, location.id)?;
        for network in &location.settings.addresses {
            if has.iter().any(|ip| network.contains(ip)) {
                continue;
            }
            let ip = self.free_address(by, location.id, network)?.ok_or_else(|| {
                StoreError::NoFreeAddress {
                    location: location.settings.name.clone(),
                    network: network.trunc().to_string(),
                }
            })?;
            diesel::insert_into(device_address::table)
                .values((
                    device_address::location_id.eq(location.id.get()),
                    device_address::device_id.eq(device.get()),
                    device_address::family.eq(family(ip)),
                    device_address::ip.eq(to_ip_bytes(ip)),
                    device_address::rest_until.eq(0),
                ))
                .execute(&mut self.conn)?;
        }
        Ok(())
    }

    /// Keeps addresses of a location that was added in this transaction for the devices that
    /// [`import_device`](Self::import_device) brings: nobody else gets them meanwhile, and whoever
    /// was given one gets another by [`end_import`](Self::end_import).
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn begin_import(
        &mut self,
        location: LocationId,
        addresses: &[IpAddr],
    ) -> Result<(), StoreError> {
        self.forget_addresses(location)?;
        let unique: BTreeSet<&IpAddr> = addresses.iter().collect();
        for ip in unique {
            diesel::insert_into(device_address::table)
                .values((
                    device_address::location_id.eq(location.get()),
                    device_address::family.eq(family(*ip)),
                    device_address::ip.eq(to_ip_bytes(*ip)),
                    device_address::rest_until.eq(i64::MAX),
                ))
                .execute(&mut self.conn)?;
        }
        Ok(())
    }

    /// Gives every device that may use the location the addresses that it has not got.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoFreeAddress`] if there are more devices than addresses.
    pub fn end_import(&mut self, by: By, location: LocationId) -> Result<(), StoreError> {
        self.give_everyone_addresses(by, location)
    }

    /// Gives a device an address that [`begin_import`](Self::begin_import) kept.
    pub(crate) fn keep_address(
        &mut self,
        device: DeviceId,
        location: LocationId,
        ip: IpAddr,
    ) -> Result<(), StoreError> {
        let kept = device_address::table
            .filter(device_address::location_id.eq(location.get()))
            .filter(device_address::family.eq(family(ip)))
            .filter(device_address::ip.eq(to_ip_bytes(ip)))
            .filter(device_address::device_id.is_null());
        let given = diesel::update(kept)
            .set((device_address::device_id.eq(device.get()), device_address::rest_until.eq(0)))
            .execute(&mut self.conn)?;
        if given == 0 { Err(StoreError::Exists { what: "address" }) } else { Ok(()) }
    }

    /// Takes a device's addresses away; they rest before another device gets them. Where gateways may go on
    /// without core, one of them may know the device for as long as that.
    pub(crate) fn release_addresses(&mut self, by: By, device: DeviceId) -> Result<(), StoreError> {
        let holds =
            self.locations()?.into_iter().filter_map(|one| one.settings.policy.outage_hold());
        let longest = holds.map(OutageHold::get).max().unwrap_or_default();
        let rest = ADDRESS_REST.max(longest);
        diesel::update(device_address::table.filter(device_address::device_id.eq(device.get())))
            .set((
                device_address::device_id.eq(None::<i64>),
                device_address::rest_until.eq(to_millis(by.now.saturating_add(rest))),
            ))
            .execute(&mut self.conn)?;
        Ok(())
    }

    /// Forgets all addresses of a location, because its networks change.
    pub(crate) fn forget_addresses(&mut self, location: LocationId) -> Result<(), StoreError> {
        diesel::delete(
            device_address::table.filter(device_address::location_id.eq(location.get())),
        )
        .execute(&mut self.conn)?;
        Ok(())
    }

    /// Returns an address of `network` that nobody has, and that rests no more.
    ///
    /// Addresses are given out upwards; only when the last one is reached are gaps looked for.
    fn free_address(
        &mut self,
        by: By,
        location: LocationId,
        network: &IpNet,
    ) -> Result<Option<IpAddr>, StoreError> {
        let range = Range::of(network);
        let taken = || {
            device_address::table
                .filter(device_address::location_id.eq(location.get()))
                .filter(device_address::family.eq(family(network.addr())))
                .filter(device_address::ip.ge(to_ip_bytes(range.ip(range.first))))
                .filter(device_address::ip.le(to_ip_bytes(range.ip(range.last))))
                .select(device_address::ip)
        };
        let highest: Option<Vec<u8>> =
            taken().order(device_address::ip.desc()).first(&mut self.conn).optional()?;
        let highest = highest.map(|ip| from_ip_bytes(&ip, TABLE)).transpose()?;
        let next = highest.map_or(Some(range.first), |ip| number(ip).checked_add(1));
        if let Some(ip) = next.and_then(|next| range.at_or_after(next, [])) {
            return Ok(Some(ip));
        }
        diesel::delete(
            device_address::table
                .filter(device_address::location_id.eq(location.get()))
                .filter(device_address::device_id.is_null())
                .filter(device_address::rest_until.le(to_millis(by.now))),
        )
        .execute(&mut self.conn)?;
        let taken: Vec<Vec<u8>> = taken().order(device_address::ip.asc()).load(&mut self.conn)?;
        let taken =
            taken.iter().map(|ip| from_ip_bytes(ip, TABLE)).collect::<Result<Vec<_>, _>>()?;
        Ok(range.at_or_after(range.first, taken.into_iter().map(number)))
    }
}

/// The addresses of a network that devices may have, as numbers.
#[derive(Clone, Copy)]
struct Range {
    first: u128,
    last: u128,
    /// The gateways' own.
    own: u128,
    v4: bool,
}

impl Range {
    /// Leaves out the network's own address and IPv4's broadcast address, except in networks so
    /// small that they have none (RFC 3021, RFC 6164).
    fn of(network: &IpNet) -> Self {
        let (mut first, mut last) = (number(network.network()), number(network.broadcast()));
        let v4 = matches!(network, IpNet::V4(_));
        let tiny = network.max_prefix_len().saturating_sub(network.prefix_len()) <= 1;
        if !tiny {
            first = first.saturating_add(1);
            if v4 {
                last = last.saturating_sub(1);
            }
        }
        Self { first, last, own: number(network.addr()), v4 }
    }

    fn ip(self, number: u128) -> IpAddr {
        if self.v4 {
            Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into()
        } else {
            Ipv6Addr::from(number).into()
        }
    }

    /// Returns the first address from `next` on that is neither the gateways' nor in `taken`,
    /// which goes upwards.
    fn at_or_after(self, next: u128, taken: impl IntoIterator<Item = u128>) -> Option<IpAddr> {
        let mut next = next;
        let mut taken = taken.into_iter().peekable();
        while next <= self.last {
            while taken.next_if(|ip| *ip < next).is_some() {}
            if next != self.own && taken.peek() != Some(&next) {
                return Some(self.ip(next));
            }
            next = next.checked_add(1)?;
        }
        None
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(network: &str) -> Range {
        Range::of(&network.parse().unwrap())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_gives_neither_its_own_nor_its_broadcast_nor_the_gateways_address() {
        let range = range("10.1.0.1/30");
        assert_eq!(range.at_or_after(range.first, []), Some(ip("10.1.0.2")));
        assert_eq!(range.at_or_after(number(ip("10.1.0.3")), []), None);
    }

    #[test]
    fn a_gap_is_found_and_a_full_network_has_none() {
        let range = range("10.1.0.1/29");
        let all = ["10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6"];
        let taken = |without: &'static str| {
            all.into_iter().filter(move |ip| *ip != without).map(|text| number(ip(text)))
        };
        assert_eq!(range.at_or_after(range.first, taken("10.1.0.4")), Some(ip("10.1.0.4")));
        assert_eq!(range.at_or_after(range.first, taken("")), None);
    }

    #[test]
    fn ipv6_has_no_broadcast_address() {
        let range = range("fd00::1/126");
        assert_eq!(range.at_or_after(number(ip("fd00::3")), []), Some(ip("fd00::3")));
        assert_eq!(range.at_or_after(number(ip("fd00::4")), []), None);
    }
}
