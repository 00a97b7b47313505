//! Writes requests, byte by byte. Pure.
//!
//! A request to change peers is this tree (`WG_CMD_SET_DEVICE` in the kernel's `wireguard.h`):
//!
//! ```text
//! nlmsghdr, genlmsghdr
//!   WGDEVICE_A_IFNAME
//!   WGDEVICE_A_PEERS
//!     0: WGPEER_A_PUBLIC_KEY
//!        WGPEER_A_FLAGS               remove, replace allowed IPs, update only
//!        WGPEER_A_PRESHARED_KEY       absent: stays; zeros: none
//!        WGPEER_A_ENDPOINT            absent: stays
//!        WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL   absent: stays; zero: off
//!        WGPEER_A_ALLOWEDIPS          added to what there is
//!          0: WGALLOWEDIP_A_FAMILY, _IPADDR, _CIDR_MASK
//!          …
//!     …
//! ```

use core::time::Duration;
use std::net::SocketAddr;

use ipnet::IpNet;
use wg_types::{AllowedIpsChange, InterfaceConfig, PeerUpdate, PskChange};

use super::abi::{
    AF_INET, AF_INET6, CTRL_ATTR_FAMILY_NAME, CTRL_CMD_GETFAMILY, GENL_ID_CTRL, NLA_F_NESTED,
    NLA_HEADER, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, WG_CMD_GET_DEVICE, WG_CMD_SET_DEVICE,
    WG_GENL_NAME, WG_GENL_VERSION, WGALLOWEDIP_A_CIDR_MASK, WGALLOWEDIP_A_FAMILY,
    WGALLOWEDIP_A_FLAGS, WGALLOWEDIP_A_IPADDR, WGALLOWEDIP_F_REMOVE_ME, WGDEVICE_A_FWMARK,
    WGDEVICE_A_IFNAME, WGDEVICE_A_LISTEN_PORT, WGDEVICE_A_PRIVATE_KEY, WGPEER_A_ALLOWEDIPS,
    WGPEER_A_ENDPOINT, WGPEER_A_FLAGS, WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL,
    WGPEER_A_PRESHARED_KEY, WGPEER_A_PUBLIC_KEY, WGPEER_F_REMOVE_ME, WGPEER_F_REPLACE_ALLOWEDIPS,
    WGPEER_F_UPDATE_ONLY, align,
};

/// To the kernel: no pre-shared key.
const NO_PSK: [u8; 32] = [0; 32];

/// Bytes of a peer without its allowed IPs, at most: nest, key, flags, pre-shared key, endpoint,
/// keepalive, nest.
const PEER_MAX: usize = 4 + 36 + 8 + 36 + 32 + 8 + 4;

/// Bytes of one allowed IP, at most: nest, family, IPv6 address, prefix, flags.
const ALLOWED_IP_MAX: usize = 4 + 8 + 20 + 8 + 8;

/// Which WireGuard family and interface requests are for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// The number that the kernel gave the family `wireguard`.
    pub family: u16,
    /// The interface's name.
    pub name: String,
}

/// Writes the question for the family id of `wireguard`.
pub fn get_family(out: &mut Vec<u8>, sequence: u32) {
    begin(out, GENL_ID_CTRL, NLM_F_REQUEST, sequence, CTRL_CMD_GETFAMILY);
    attribute_text(out, CTRL_ATTR_FAMILY_NAME, WG_GENL_NAME);
    end(out);
}

/// Writes the request for a dump of everything.
pub fn get_device(out: &mut Vec<u8>, target: &Target, sequence: u32) {
    begin(out, target.family, NLM_F_REQUEST | NLM_F_DUMP, sequence, WG_CMD_GET_DEVICE);
    attribute_text(out, WGDEVICE_A_IFNAME, &target.name);
    end(out);
}

/// Writes the request to set what is given of an interface.
pub fn set_device(out: &mut Vec<u8>, target: &Target, sequence: u32, config: &InterfaceConfig) {
    begin_set(out, target, sequence);
    if let Some(key) = &config.private_key {
        attribute(out, WGDEVICE_A_PRIVATE_KEY, key.expose_secret());
    }
    if let Some(port) = config.listen_port {
        attribute(out, WGDEVICE_A_LISTEN_PORT, &port.to_ne_bytes());
    }
    if let Some(fwmark) = config.fwmark {
        attribute(out, WGDEVICE_A_FWMARK, &fwmark.to_ne_bytes());
    }
    end(out);
}

/// Begins a request for changes; an acknowledgement is asked for.
pub(crate) fn begin_set(out: &mut Vec<u8>, target: &Target, sequence: u32) {
    begin(out, target.family, NLM_F_REQUEST | NLM_F_ACK, sequence, WG_CMD_SET_DEVICE);
    attribute_text(out, WGDEVICE_A_IFNAME, &target.name);
}

/// Bytes that [`peer`] writes for the whole of `update`, at most.
pub(crate) fn peer_len(update: &PeerUpdate) -> usize {
    PEER_MAX + allowed_ips(update).len() * ALLOWED_IP_MAX
}

/// Writes one peer, with as many of its allowed IPs from number `from` on as fit before `out` is
/// `limit` bytes long, but at least one. Returns the number of the first that did not fit, `None` if all did.
///
/// What is left goes into another message with `from` set so; it then adds and changes nothing
/// else.
pub(crate) fn peer(
    out: &mut Vec<u8>,
    update: &PeerUpdate,
    from: usize,
    limit: usize,
) -> Option<usize> {
    let nest = open(out, 0);
    attribute(out, WGPEER_A_PUBLIC_KEY, update.public_key().as_bytes());
    if from == 0 {
        whole_peer(out, update);
    } else {
        flags(out, WGPEER_F_UPDATE_ONLY);
    }
    let left = some_allowed_ips(out, update, from, limit);
    close(out, nest);
    left
}

fn whole_peer(out: &mut Vec<u8>, update: &PeerUpdate) {
    match update {
        PeerUpdate::Put(config) => {
            flags(out, WGPEER_F_REPLACE_ALLOWEDIPS);
            let psk = config.preshared_key.as_ref().map_or(&NO_PSK, |psk| psk.expose_secret());
            attribute(out, WGPEER_A_PRESHARED_KEY, psk);
            endpoint(out, config.endpoint);
            let keepalive = config.persistent_keepalive.map_or(0, core::num::NonZeroU16::get);
            attribute(out, WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL, &keepalive.to_ne_bytes());
        }
        PeerUpdate::Update { psk, allowed_ips, endpoint: at, persistent_keepalive, .. } => {
            match allowed_ips {
                AllowedIpsChange::Replace(_) => {
                    flags(out, WGPEER_F_UPDATE_ONLY | WGPEER_F_REPLACE_ALLOWEDIPS);
                }
                AllowedIpsChange::Keep | AllowedIpsChange::Add(_) | AllowedIpsChange::Remove(_) => {
                    flags(out, WGPEER_F_UPDATE_ONLY);
                }
            }
            match psk {
                PskChange::Keep => {}
                PskChange::Clear => attribute(out, WGPEER_A_PRESHARED_KEY, &NO_PSK),
                PskChange::Set(psk) => attribute(out, WGPEER_A_PRESHARED_KEY, psk.expose_secret()),
            }
            endpoint(out, *at);
            if let Some(every) = persistent_keepalive {
                let seconds = keepalive_seconds(*every).to_ne_bytes();
                attribute(out, WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL, &seconds);
            }
        }
        PeerUpdate::Remove(_) => flags(out, WGPEER_F_REMOVE_ME),
    }
}

/// Whole seconds, rounded up, so that only zero is zero.
pub(crate) fn keepalive_seconds(every: Duration) -> u16 {
    let seconds = every.as_secs().saturating_add(u64::from(every.subsec_nanos() > 0));
    u16::try_from(seconds).unwrap_or(u16::MAX)
}

fn flags(out: &mut Vec<u8>, flags: u32) {
    attribute(out, WGPEER_A_FLAGS, &flags.to_ne_bytes());
}

/// `struct sockaddr_in` or `sockaddr_in6`: family, port and address in network order.
fn endpoint(out: &mut Vec<u8>, endpoint: Option<SocketAddr>) {
    match endpoint {
        None => {}
        Some(SocketAddr::V4(at)) => {
            header(out, WGPEER_A_ENDPOINT, 16);
            out.extend_from_slice(&AF_INET.to_ne_bytes());
            out.extend_from_slice(&at.port().to_be_bytes());
            out.extend_from_slice(&at.ip().octets());
            out.extend_from_slice(&[0; 8]);
        }
        Some(SocketAddr::V6(at)) => {
            header(out, WGPEER_A_ENDPOINT, 28);
            out.extend_from_slice(&AF_INET6.to_ne_bytes());
            out.extend_from_slice(&at.port().to_be_bytes());
            out.extend_from_slice(&at.flowinfo().to_be_bytes());
            out.extend_from_slice(&at.ip().octets());
            out.extend_from_slice(&at.scope_id().to_ne_bytes());
        }
    }
}

fn allowed_ips(update: &PeerUpdate) -> &[IpNet] {
    match update {
        PeerUpdate::Put(config) => &config.allowed_ips,
        PeerUpdate::Update { allowed_ips, .. } => match allowed_ips {
            AllowedIpsChange::Keep => &[],
            AllowedIpsChange::Replace(nets)
            | AllowedIpsChange::Add(nets)
            | AllowedIpsChange::Remove(nets) => nets,
        },
        PeerUpdate::Remove(_) => &[],
    }
}

fn some_allowed_ips(
    out: &mut Vec<u8>,
    update: &PeerUpdate,
    from: usize,
    limit: usize,
) -> Option<usize> {
    let nets = allowed_ips(update).get(from..).unwrap_or_default();
    if nets.is_empty() {
        return None;
    }
    let is_removal =
        matches!(update, PeerUpdate::Update { allowed_ips: AllowedIpsChange::Remove(_), .. });
    let nest = open(out, WGPEER_A_ALLOWEDIPS);
    let mut left = None;
    for (count, net) in nets.iter().enumerate() {
        if count > 0 && out.len() + ALLOWED_IP_MAX > limit {
            left = Some(from + count);
            break;
        }
        allowed_ip(out, net, is_removal);
    }
    close(out, nest);
    left
}

fn allowed_ip(out: &mut Vec<u8>, net: &IpNet, is_removal: bool) {
    let at = open(out, 0);
    match net {
        IpNet::V4(net) => {
            attribute(out, WGALLOWEDIP_A_FAMILY, &AF_INET.to_ne_bytes());
            attribute(out, WGALLOWEDIP_A_IPADDR, &net.addr().octets());
        }
        IpNet::V6(net) => {
            attribute(out, WGALLOWEDIP_A_FAMILY, &AF_INET6.to_ne_bytes());
            attribute(out, WGALLOWEDIP_A_IPADDR, &net.addr().octets());
        }
    }
    attribute(out, WGALLOWEDIP_A_CIDR_MASK, &[net.prefix_len()]);
    if is_removal {
        attribute(out, WGALLOWEDIP_A_FLAGS, &WGALLOWEDIP_F_REMOVE_ME.to_ne_bytes());
    }
    close(out, at);
}

fn begin(out: &mut Vec<u8>, family: u16, flags: u16, sequence: u32, command: u8) {
    let version = if family == GENL_ID_CTRL { 2 } else { WG_GENL_VERSION };
    out.clear();
    out.extend_from_slice(&[0; 4]); // the length, known at the end
    out.extend_from_slice(&family.to_ne_bytes());
    out.extend_from_slice(&flags.to_ne_bytes());
    out.extend_from_slice(&sequence.to_ne_bytes());
    out.extend_from_slice(&[0; 4]); // the port, for the kernel to fill in
    out.extend_from_slice(&[command, version, 0, 0]);
}

/// Ends the message that `begin` began: writes its length.
pub(crate) fn end(out: &mut [u8]) {
    let len = u32::try_from(out.len()).unwrap_or(u32::MAX);
    patch(out, 0, &len.to_ne_bytes());
}

/// Begins an attribute that holds attributes.
pub(crate) fn open(out: &mut Vec<u8>, kind: u16) -> usize {
    let at = out.len();
    header(out, kind | NLA_F_NESTED, 0);
    at
}

/// Ends what [`open`] began: writes its length.
pub(crate) fn close(out: &mut [u8], at: usize) {
    // Messages are packed below 64 KiB; a longer nest would be refused, never misread.
    let len = u16::try_from(out.len() - at).unwrap_or(u16::MAX);
    patch(out, at, &len.to_ne_bytes());
}

fn attribute<const N: usize>(out: &mut Vec<u8>, kind: u16, value: &[u8; N]) {
    header(out, kind, N);
    out.extend_from_slice(value);
    pad(out, N);
}

fn attribute_text(out: &mut Vec<u8>, kind: u16, text: &str) {
    header(out, kind, text.len() + 1);
    out.extend_from_slice(text.as_bytes());
    out.push(0);
    pad(out, text.len() + 1);
}

fn header(out: &mut Vec<u8>, kind: u16, len: usize) {
    let len = u16::try_from(NLA_HEADER + len).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
}

fn pad(out: &mut Vec<u8>, len: usize) {
    let zeros: &[u8] = match align(len) - len {
        0 => &[],
        1 => &[0],
        2 => &[0; 2],
        _ => &[0; 3],
    };
    out.extend_from_slice(zeros);
}

fn patch<const N: usize>(out: &mut [u8], at: usize, value: &[u8; N]) {
    if let Some(place) = out.get_mut(at..at + N) {
        place.copy_from_slice(value);
    }
}

#[cfg(test)]
mod tests;
