//! Stored forms of plain values.

use core::time::Duration;
use std::net::IpAddr;

use ipnet::IpNet;
use mfa_core::time::Timestamp;
use wg_types::PublicKey;

use crate::StoreError;

pub(crate) fn to_millis(time: Timestamp) -> i64 {
    i64::try_from(time.as_unix_millis()).unwrap_or(i64::MAX)
}

pub(crate) fn from_millis(millis: i64) -> Timestamp {
    Timestamp::from_unix_millis(u64::try_from(millis).unwrap_or(0))
}

pub(crate) fn to_span(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

pub(crate) fn from_span(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// A byte or packet counter: SQL has no unsigned integers.
pub(crate) fn to_count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(crate) fn from_count(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

pub(crate) fn to_key(bytes: &[u8], table: &'static str) -> Result<PublicKey, StoreError> {
    let bytes = bytes.try_into().map_err(|_| StoreError::corrupt(table))?;
    Ok(PublicKey::from_bytes(bytes))
}

pub(crate) fn to_digest(bytes: &[u8], table: &'static str) -> Result<[u8; 32], StoreError> {
    bytes.try_into().map_err(|_| StoreError::corrupt(table))
}

/// Joins values that print without commas.
pub(crate) fn to_list<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

pub(crate) fn from_list<T: core::str::FromStr>(
    text: &str,
    table: &'static str,
) -> Result<Vec<T>, StoreError> {
    text.split(',')
        .filter(|word| !word.is_empty())
        .map(|word| word.parse().map_err(|_| StoreError::corrupt(table)))
        .collect()
}

/// The bytes of an address in network order: they sort as the addresses do.
pub(crate) fn to_ip_bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

pub(crate) fn from_ip_bytes(bytes: &[u8], table: &'static str) -> Result<IpAddr, StoreError> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .map_err(|_| StoreError::corrupt(table))
}

/// The bytes of an address: 4 or 16.
pub(crate) const fn family(ip: IpAddr) -> i32 {
    match ip {
        IpAddr::V4(_) => 4,
        IpAddr::V6(_) => 16,
    }
}

/// The network of one address: /32 or /128.
pub(crate) fn host(ip: IpAddr) -> IpNet {
    IpNet::from(ip)
}
