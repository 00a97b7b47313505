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
use wg_types::{AllowedIpsChange, InterfaceConfig, PeerUpdate, PresharedKey, PskChange, PublicKey};

use super::abi::{
    AF_INET, AF_INET6, CTRL_ATTR_FAMILY_NAME, CTRL_CMD_GETFAMILY, GENL_ID_CTRL, NLA_F_NESTED,
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, WG_CMD_GET_DEVICE, WG_CMD_SET_DEVICE, WG_GENL_NAME,
    WG_GENL_VERSION, WGALLOWEDIP_A_CIDR_MASK, WGALLOWEDIP_A_FAMILY, WGALLOWEDIP_A_FLAGS,
    WGALLOWEDIP_A_IPADDR, WGALLOWEDIP_F_REMOVE_ME, WGDEVICE_A_FLAGS, WGDEVICE_A_FWMARK,
    WGDEVICE_A_IFNAME, WGDEVICE_A_LISTEN_PORT, WGDEVICE_A_PRIVATE_KEY, WGDEVICE_F_REPLACE_PEERS,
    WGPEER_A_ALLOWEDIPS, WGPEER_A_ENDPOINT, WGPEER_A_FLAGS, WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL,
    WGPEER_A_PRESHARED_KEY, WGPEER_A_PUBLIC_KEY, WGPEER_F_REMOVE_ME, WGPEER_F_REPLACE_ALLOWEDIPS,
    WGPEER_F_UPDATE_ONLY, align, attribute_header,
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

/// Writes the request to remove all peers of an interface at once.
pub fn remove_all_peers(out: &mut Vec<u8>, target: &Target, sequence: u32) {
    begin_set(out, target, sequence);
    attribute(out, WGDEVICE_A_FLAGS, &WGDEVICE_F_REPLACE_PEERS.to_ne_bytes());
    end(out);
}

/// Begins a request for changes; an acknowledgement is asked for.
pub(crate) fn begin_set(out: &mut Vec<u8>, target: &Target, sequence: u32) {
    begin(out, target.family, NLM_F_REQUEST | NLM_F_ACK, sequence, WG_CMD_SET_DEVICE);
    attribute_text(out, WGDEVICE_A_IFNAME, &target.name);
}

/// Bytes that [`peer`] writes for a whole peer with so many allowed IPs, at most.
pub(crate) const fn peer_len(allowed_ips: usize) -> usize {
    PEER_MAX + allowed_ips * ALLOWED_IP_MAX
}

/// Bytes of an update of the pre-shared key alone.
pub(crate) const PSK_LEN: usize = 4 + 36 + 8 + 36;

/// The pre-shared key that an update sets, if it does nothing else: what rotation is made of.
#[inline]
pub(crate) const fn psk_alone(update: &PeerUpdate) -> Option<(&PublicKey, &PresharedKey)> {
    match update {
        PeerUpdate::Update {
            public_key,
            psk: PskChange::Set(psk),
            allowed_ips: AllowedIpsChange::Keep,
            endpoint: None,
            persistent_keepalive: None,
        } => Some((public_key, psk)),
        _ => None,
    }
}

/// Writes in one piece what [`peer`] writes for such an update.
#[inline]
pub(crate) fn peer_psk(out: &mut Vec<u8>, public_key: &PublicKey, psk: &PresharedKey) {
    const NEST: [u8; 4] = attribute_header(NLA_F_NESTED, 36 + 8 + 36);
    const KEY: [u8; 4] = attribute_header(WGPEER_A_PUBLIC_KEY, 32);
    const FLAGS: [[u8; 4]; 2] =
        [attribute_header(WGPEER_A_FLAGS, 4), WGPEER_F_UPDATE_ONLY.to_ne_bytes()];
    const PSK: [u8; 4] = attribute_header(WGPEER_A_PRESHARED_KEY, 32);
    let &[k0, k1, k2, k3, k4, k5, k6, k7] = words(public_key.as_bytes());
    let &[p0, p1, p2, p3, p4, p5, p6, p7] = words(psk.expose_secret());
    let [flags, update_only] = FLAGS;
    let peer: [[u8; 4]; PSK_LEN / 4] = [
        NEST,
        KEY,
        k0,
        k1,
        k2,
        k3,
        k4,
        k5,
        k6,
        k7,
        flags,
        update_only,
        PSK,
        p0,
        p1,
        p2,
        p3,
        p4,
        p5,
        p6,
        p7,
    ];
    out.extend_from_slice(peer.as_flattened());
}

/// Writes one peer, with as many of `nets`, its [`allowed_ips`], from number `from` on as fit before `out` is
/// `limit` bytes long, but at least one. Returns the number of the first that did not fit, `None`
/// if all did.
///
/// What is left goes into another message with `from` set so; it then adds and changes nothing
/// else.
pub(crate) fn peer(
    out: &mut Vec<u8>,
    update: &PeerUpdate,
    nets: &[IpNet],
    from: usize,
    limit: usize,
) -> Option<usize> {
    let nest = out.len();
    if from > 0 {
        head(out, update.public_key(), WGPEER_F_UPDATE_ONLY);
    } else {
        whole_peer(out, update);
    }
    let left = if nets.is_empty() {
        None
    } else {
        let is_removal =
            matches!(update, PeerUpdate::Update { allowed_ips: AllowedIpsChange::Remove(_), .. });
        some_allowed_ips(out, nets, is_removal, from, limit)
    };
    close(out, nest);
    left
}

fn whole_peer(out: &mut Vec<u8>, update: &PeerUpdate) {
    match update {
        PeerUpdate::Put(config) => {
            head(out, &config.public_key, WGPEER_F_REPLACE_ALLOWEDIPS);
            let psk = config.preshared_key.as_ref().map_or(&NO_PSK, |psk| psk.expose_secret());
            key(out, WGPEER_A_PRESHARED_KEY, psk);
            if let Some(at) = &config.endpoint {
                endpoint(out, at);
            }
            let keepalive = config.persistent_keepalive.map_or(0, core::num::NonZeroU16::get);
            keepalive_interval(out, keepalive);
        }
        PeerUpdate::Update { public_key, psk, allowed_ips, endpoint: at, persistent_keepalive } => {
            let flags = match allowed_ips {
                AllowedIpsChange::Replace(_) => WGPEER_F_UPDATE_ONLY | WGPEER_F_REPLACE_ALLOWEDIPS,
                AllowedIpsChange::Keep | AllowedIpsChange::Add(_) | AllowedIpsChange::Remove(_) => {
                    WGPEER_F_UPDATE_ONLY
                }
            };
            head(out, public_key, flags);
            match psk {
                PskChange::Keep => {}
                PskChange::Clear => key(out, WGPEER_A_PRESHARED_KEY, &NO_PSK),
                PskChange::Set(psk) => key(out, WGPEER_A_PRESHARED_KEY, psk.expose_secret()),
            }
            if let Some(at) = at {
                endpoint(out, at);
            }
            if let Some(every) = persistent_keepalive {
                keepalive_interval(out, keepalive_seconds(*every));
            }
        }
        PeerUpdate::Remove(public_key) => head(out, public_key, WGPEER_F_REMOVE_ME),
    }
}

/// What every peer begins with: its nest, whose length is not known yet, its key and its flags. In
/// one piece, for this is where the time goes.
fn head(out: &mut Vec<u8>, public_key: &PublicKey, flags: u32) {
    let &[k0, k1, k2, k3, k4, k5, k6, k7] = words(public_key.as_bytes());
    let nest = attribute_header(NLA_F_NESTED, 0);
    let key = attribute_header(WGPEER_A_PUBLIC_KEY, 32);
    let flag = attribute_header(WGPEER_A_FLAGS, 4);
    let head = [nest, key, k0, k1, k2, k3, k4, k5, k6, k7, flag, flags.to_ne_bytes()];
    out.extend_from_slice(head.as_flattened());
}

fn key(out: &mut Vec<u8>, kind: u16, key: &[u8; 32]) {
    let &[k0, k1, k2, k3, k4, k5, k6, k7] = words(key);
    let header = attribute_header(kind, 32);
    // On the stack for an instant, in registers mostly: not worth a wipe, which would cost more
    // than all the rest.
    out.extend_from_slice([header, k0, k1, k2, k3, k4, k5, k6, k7].as_flattened());
}

fn keepalive_interval(out: &mut Vec<u8>, seconds: u16) {
    let [low, high] = seconds.to_ne_bytes();
    let header = attribute_header(WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL, 2);
    out.extend_from_slice([header, [low, high, 0, 0]].as_flattened());
}

/// Whole seconds, rounded up, so that only zero is zero.
pub(crate) fn keepalive_seconds(every: Duration) -> u16 {
    let seconds = every.as_secs().saturating_add(u64::from(every.subsec_nanos() > 0));
    u16::try_from(seconds).unwrap_or(u16::MAX)
}

/// `struct sockaddr_in` or `sockaddr_in6`: family, port and address in network order.
fn endpoint(out: &mut Vec<u8>, endpoint: &SocketAddr) {
    match endpoint {
        SocketAddr::V4(at) => {
            header(out, WGPEER_A_ENDPOINT, 16);
            out.extend_from_slice(&AF_INET.to_ne_bytes());
            out.extend_from_slice(&at.port().to_be_bytes());
            out.extend_from_slice(&at.ip().octets());
            out.extend_from_slice(&[0; 8]);
        }
        SocketAddr::V6(at) => {
            header(out, WGPEER_A_ENDPOINT, 28);
            out.extend_from_slice(&AF_INET6.to_ne_bytes());
            out.extend_from_slice(&at.port().to_be_bytes());
            out.extend_from_slice(&at.flowinfo().to_be_bytes());
            out.extend_from_slice(&at.ip().octets());
            out.extend_from_slice(&at.scope_id().to_ne_bytes());
        }
    }
}

/// The allowed IPs that an update names.
#[inline]
pub(crate) fn allowed_ips(update: &PeerUpdate) -> &[IpNet] {
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
    nets: &[IpNet],
    is_removal: bool,
    from: usize,
    limit: usize,
) -> Option<usize> {
    let nets = nets.get(from..).unwrap_or_default();
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
    let at = out.len();
    let begin = attribute_header(NLA_F_NESTED, 24);
    let [f0, f1] = match net {
        IpNet::V4(_) => AF_INET.to_ne_bytes(),
        IpNet::V6(_) => AF_INET6.to_ne_bytes(),
    };
    let family = [attribute_header(WGALLOWEDIP_A_FAMILY, 2), [f0, f1, 0, 0]];
    let [family_header, family] = family;
    let mask = attribute_header(WGALLOWEDIP_A_CIDR_MASK, 1);
    let prefix = [net.prefix_len(), 0, 0, 0];
    match net {
        IpNet::V4(net) => {
            let header = attribute_header(WGALLOWEDIP_A_IPADDR, 4);
            let address = net.addr().octets();
            let all = [begin, family_header, family, header, address, mask, prefix];
            out.extend_from_slice(all.as_flattened());
        }
        IpNet::V6(net) => {
            let header = attribute_header(WGALLOWEDIP_A_IPADDR, 16);
            out.extend_from_slice([begin, family_header, family, header].as_flattened());
            out.extend_from_slice(&net.addr().octets());
            out.extend_from_slice([mask, prefix].as_flattened());
        }
    }
    if is_removal {
        attribute(out, WGALLOWEDIP_A_FLAGS, &WGALLOWEDIP_F_REMOVE_ME.to_ne_bytes());
    }
    if is_removal || matches!(net, IpNet::V6(_)) {
        close(out, at);
    }
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
    out.extend_from_slice(&attribute_header(kind, u16::try_from(len).unwrap_or(u16::MAX)));
}

/// A key as words of four bytes.
fn words(key: &[u8; 32]) -> &[[u8; 4]; 8] {
    const NONE: [[u8; 4]; 8] = [[0; 4]; 8];
    // 32 bytes are eight words: the other branch does not exist in the program.
    key.as_chunks::<4>().0.first_chunk::<8>().unwrap_or(&NONE)
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
