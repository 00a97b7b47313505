//! Reads what the kernel answers, without copying. Total: any bytes give a value or an error.
//!
//! Unknown attributes are skipped. A peer is known by its key alone: bytes that do not hold a whole
//! one give an error, never another peer.

use core::num::{NonZeroU16, NonZeroU32};
use core::time::Duration;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::time::SystemTime;

use ipnet::IpNet;
use wg_types::{Interface, Peer, PeerConfig, PeerStats, PresharedKey, PublicKey};

use super::abi::{
    AF_INET, AF_INET6, CTRL_ATTR_FAMILY_ID, GENL_HEADER, NLA_HEADER, NLA_TYPE_MASK, NLM_F_ACK_TLVS,
    NLM_F_CAPPED, NLMSG_HEADER, NLMSGERR_ATTR_MSG, WGALLOWEDIP_A_CIDR_MASK, WGALLOWEDIP_A_FAMILY,
    WGALLOWEDIP_A_IPADDR, WGDEVICE_A_FWMARK, WGDEVICE_A_LISTEN_PORT, WGDEVICE_A_PEERS,
    WGDEVICE_A_PUBLIC_KEY, WGPEER_A_ALLOWEDIPS, WGPEER_A_ENDPOINT, WGPEER_A_LAST_HANDSHAKE_TIME,
    WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL, WGPEER_A_PRESHARED_KEY, WGPEER_A_PROTOCOL_VERSION,
    WGPEER_A_PUBLIC_KEY, WGPEER_A_RX_BYTES, WGPEER_A_TX_BYTES, align, attribute_header,
};

/// Why bytes are not an answer to the request.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A length runs past the bytes that are there, or is shorter than its own header.
    #[error("a length in the message does not fit the bytes that are there")]
    Length,
    /// A value does not have its size.
    #[error("attribute {kind} of the message has the wrong size")]
    Size {
        /// The attribute's number.
        kind: u16,
    },
    /// Something that every answer has is not there.
    #[error("attribute {kind} is missing in the message")]
    Missing {
        /// The attribute's number.
        kind: u16,
    },
    /// An allowed IP that is no network.
    #[error("an allowed IP in the message is no network")]
    AllowedIp,
}

/// Bytes of an IPv4 allowed IP in a dump: nest, family, address, prefix.
const ALLOWED_IP_LEN: usize = 4 + 8 + 8 + 8;

/// One netlink message of a datagram.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) payload: &'a [u8],
}

/// Walks over the messages of a datagram.
#[derive(Clone, Debug)]
pub(crate) struct Messages<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let parsed = self.parse();
        if parsed.is_none() {
            self.0 = &[];
        }
        Some(parsed.ok_or(DecodeError::Length))
    }
}

impl<'a> Messages<'a> {
    fn parse(&mut self) -> Option<Message<'a>> {
        let (header, _) = self.0.split_first_chunk::<NLMSG_HEADER>()?;
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *header;
        let len = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?;
        let payload = self.0.get(NLMSG_HEADER..len)?;
        self.0 = self.0.get(align(len)..).unwrap_or_default();
        Some(Message {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            payload,
        })
    }
}

/// Walks over attributes: each one's number without flags, and its value.
///
/// It ends also before bytes that are no attribute; [`finish`](Self::finish) tells that from the
/// end. The two are apart because this is where a dump's time goes.
#[derive(Clone, Debug)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (&[l0, l1, k0, k1], _) = self.0.split_first_chunk::<NLA_HEADER>()?;
        let len = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = self.0.get(NLA_HEADER..len)?;
        self.0 = self.0.get(align(len)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & NLA_TYPE_MASK, value))
    }
}

impl Attributes<'_> {
    /// That every byte was part of an attribute.
    #[inline]
    const fn finish(&self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::Length) }
    }
}

/// Reads an acknowledgement, or the end of a dump: zero or a positive errno, and the kernel's
/// words if it has any.
pub(crate) fn acknowledgement(message: &Message<'_>) -> Result<(i32, String), DecodeError> {
    let (code, rest) = message.payload.split_first_chunk::<4>().ok_or(DecodeError::Length)?;
    let code = i32::from_ne_bytes(*code).saturating_neg();
    let said = words(message, rest).unwrap_or_default();
    Ok((code, said))
}

fn words(message: &Message<'_>, rest: &[u8]) -> Option<String> {
    if message.flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let is_dump_end = message.kind == super::abi::NLMSG_DONE;
    let (request_len, _) = rest.split_first_chunk::<4>()?;
    let skip = if is_dump_end {
        0
    } else if message.flags & NLM_F_CAPPED == 0 {
        align(usize::try_from(u32::from_ne_bytes(*request_len)).ok()?)
    } else {
        NLMSG_HEADER
    };
    let text = Attributes(rest.get(skip..)?)
        .find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)
        .map(|(_, value)| value)?;
    let text = text.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// Reads the family id from the controller's answer.
pub(crate) fn family(payload: &[u8]) -> Result<u16, DecodeError> {
    let id = device_attributes(payload)?.find(|(kind, _)| *kind == CTRL_ATTR_FAMILY_ID);
    let (kind, value) = id.ok_or(DecodeError::Missing { kind: CTRL_ATTR_FAMILY_ID })?;
    number(kind, value).map(u16::from_ne_bytes)
}

/// Adds what one message of a dump tells to `interface`; the dump begins with an empty one.
///
/// # Errors
///
/// [`DecodeError`]; `interface` then holds a part.
pub fn device(payload: &[u8], interface: &mut Interface) -> Result<(), DecodeError> {
    let mut attributes = device_attributes(payload)?;
    for attribute in attributes.by_ref() {
        match attribute {
            (WGDEVICE_A_PEERS, nest) => peers(nest, &mut interface.peers)?,
            (kind, value) => device_attribute(kind, value, interface)?,
        }
    }
    attributes.finish()
}

/// Adds what one message of a dump tells of the interface itself, and leaves its peers out.
///
/// # Errors
///
/// [`DecodeError`]; `interface` then holds a part.
pub fn device_alone(payload: &[u8], interface: &mut Interface) -> Result<(), DecodeError> {
    let mut attributes = device_attributes(payload)?;
    for (kind, value) in attributes.by_ref() {
        device_attribute(kind, value, interface)?;
    }
    attributes.finish()
}

fn device_attribute(kind: u16, value: &[u8], interface: &mut Interface) -> Result<(), DecodeError> {
    match kind {
        WGDEVICE_A_PUBLIC_KEY => {
            interface.public_key = Some(PublicKey::from_bytes(number(kind, value)?));
        }
        WGDEVICE_A_LISTEN_PORT => {
            interface.listen_port = u16::from_ne_bytes(number(kind, value)?);
        }
        WGDEVICE_A_FWMARK => {
            interface.fwmark = NonZeroU32::new(u32::from_ne_bytes(number(kind, value)?));
        }
        _ => {}
    }
    Ok(())
}

fn peers(nest: &[u8], peers: &mut Vec<Peer>) -> Result<(), DecodeError> {
    let mut attributes = Attributes(nest);
    for (place, (_, value)) in attributes.by_ref().enumerate() {
        let peer = PeerRef::parse(value)?;
        match peers.last_mut() {
            // A peer whose allowed IPs do not fit is continued as the first of the next message.
            Some(last) if place == 0 && last.config.public_key.as_bytes() == peer.public_key => {
                peer.allowed_ips(&mut last.config.allowed_ips)?;
            }
            _ => peers.push(peer.to_peer(Vec::new())?),
        }
    }
    attributes.finish()
}

/// Shows each peer of one message of a dump but its last, which may be continued in the next: it is
/// held, and the caller shows it at the dump's end.
///
/// # Errors
///
/// [`DecodeError`]; peers before the error were shown.
pub fn each_peer(
    payload: &[u8],
    held: &mut Option<Peer>,
    visit: &mut dyn FnMut(&Peer),
) -> Result<(), DecodeError> {
    let mut attributes = device_attributes(payload)?;
    for (kind, nest) in attributes.by_ref() {
        if kind == WGDEVICE_A_PEERS {
            each_peer_of(nest, held, visit)?;
        }
    }
    attributes.finish()
}

fn each_peer_of(
    nest: &[u8],
    held: &mut Option<Peer>,
    visit: &mut dyn FnMut(&Peer),
) -> Result<(), DecodeError> {
    let mut attributes = Attributes(nest);
    for (place, (_, value)) in attributes.by_ref().enumerate() {
        let peer = PeerRef::parse(value)?;
        match held {
            Some(held) if place == 0 && held.config.public_key.as_bytes() == peer.public_key => {
                peer.allowed_ips(&mut held.config.allowed_ips)?;
            }
            Some(held) => {
                visit(held);
                let mut room = core::mem::take(&mut held.config.allowed_ips);
                room.clear();
                *held = peer.to_peer(room)?;
            }
            None => *held = Some(peer.to_peer(Vec::new())?),
        }
    }
    attributes.finish()
}

/// Shows each peer's statistics in one message of a dump. `last` is the key of the message's last
/// peer, to be handed to the call for the next: a peer that is continued is shown once.
///
/// # Errors
///
/// [`DecodeError`]; peers before the error were shown.
pub fn stats(
    payload: &[u8],
    last: &mut Option<PublicKey>,
    visit: &mut dyn FnMut(&PeerStats),
) -> Result<(), DecodeError> {
    let mut attributes = device_attributes(payload)?;
    for (kind, nest) in attributes.by_ref() {
        if kind == WGDEVICE_A_PEERS {
            stats_of_peers(nest, last, visit)?;
        }
    }
    attributes.finish()
}

fn stats_of_peers(
    nest: &[u8],
    last: &mut Option<PublicKey>,
    visit: &mut dyn FnMut(&PeerStats),
) -> Result<(), DecodeError> {
    let mut attributes = Attributes(nest);
    let mut key = None;
    // Only the first of a message can be the continuation of the message before.
    let mut before = last.take();
    for (_, value) in attributes.by_ref() {
        let (public_key, stats) = stats_of_peer(value)?;
        key = Some(public_key);
        if let Some(before) = before.take()
            && before.as_bytes() == public_key
        {
            continue;
        }
        visit(&stats);
    }
    *last = key.copied().map(PublicKey::from_bytes);
    attributes.finish()
}

/// The statistics of a peer as Linux writes it, without a look at the rest; any other way round is
/// left to [`PeerRef`].
#[inline]
fn stats_of_peer(nest: &[u8]) -> Result<(&[u8; 32], PeerStats), DecodeError> {
    let Some((usual, rest)) = Usual::split(nest) else { return stats_of_unusual(nest) };
    let mut address: &[u8] = &[];
    let mut attributes = Attributes(rest);
    for (kind, value) in attributes.by_ref() {
        match kind {
            WGPEER_A_ENDPOINT => address = value,
            WGPEER_A_ALLOWEDIPS => {}
            _ => return stats_of_unusual(nest),
        }
    }
    attributes.finish()?;
    let stats = PeerStats {
        public_key: PublicKey::from_bytes(*usual.public_key),
        endpoint: endpoint(address)?,
        last_handshake: timespec(usual.handshake)?,
        rx_bytes: u64::from_ne_bytes(*usual.rx_bytes),
        tx_bytes: u64::from_ne_bytes(*usual.tx_bytes),
    };
    Ok((usual.public_key, stats))
}

#[cold]
fn stats_of_unusual(nest: &[u8]) -> Result<(&[u8; 32], PeerStats), DecodeError> {
    let peer = PeerRef::parse(nest)?;
    Ok((peer.public_key, peer.stats()?))
}

fn device_attributes(payload: &[u8]) -> Result<Attributes<'_>, DecodeError> {
    payload.get(GENL_HEADER..).map(Attributes).ok_or(DecodeError::Length)
}

/// A peer as it lies in the buffer; what is not asked for is not read.
#[derive(Debug)]
struct PeerRef<'a> {
    public_key: &'a [u8; 32],
    psk: &'a [u8],
    endpoint: &'a [u8],
    keepalive: &'a [u8],
    handshake: &'a [u8],
    rx_bytes: &'a [u8],
    tx_bytes: &'a [u8],
    allowed_ips: &'a [u8],
}

impl<'a> PeerRef<'a> {
    const NOTHING: Self = Self {
        public_key: &[0; 32],
        psk: &[],
        endpoint: &[],
        keepalive: &[],
        handshake: &[],
        rx_bytes: &[],
        tx_bytes: &[],
        allowed_ips: &[],
    };

    #[inline]
    fn parse(nest: &'a [u8]) -> Result<Self, DecodeError> {
        let Some((usual, rest)) = Usual::split(nest) else { return Self::NOTHING.parse_all(nest) };
        let Usual { public_key, psk, handshake, keepalive, tx_bytes, rx_bytes } = usual;
        Self { public_key, psk, keepalive, handshake, rx_bytes, tx_bytes, ..Self::NOTHING }
            .parse_rest(rest)
    }

    fn parse_all(self, nest: &'a [u8]) -> Result<Self, DecodeError> {
        const KIND: u16 = WGPEER_A_PUBLIC_KEY;
        let key = Attributes(nest).find(|(kind, _)| *kind == KIND);
        let (_, key) = key.ok_or(DecodeError::Missing { kind: KIND })?;
        let public_key = key.try_into().map_err(|_| DecodeError::Size { kind: KIND })?;
        Self { public_key, ..self }.parse_rest(nest)
    }

    #[inline]
    fn parse_rest(mut self, nest: &'a [u8]) -> Result<Self, DecodeError> {
        let mut attributes = Attributes(nest);
        for (kind, value) in attributes.by_ref() {
            match kind {
                WGPEER_A_PRESHARED_KEY => self.psk = value,
                WGPEER_A_ENDPOINT => self.endpoint = value,
                WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL => self.keepalive = value,
                WGPEER_A_LAST_HANDSHAKE_TIME => self.handshake = value,
                WGPEER_A_RX_BYTES => self.rx_bytes = value,
                WGPEER_A_TX_BYTES => self.tx_bytes = value,
                WGPEER_A_ALLOWEDIPS => self.allowed_ips = value,
                _ => {}
            }
        }
        attributes.finish()?;
        Ok(self)
    }

    #[inline]
    fn stats(&self) -> Result<PeerStats, DecodeError> {
        Ok(PeerStats {
            public_key: PublicKey::from_bytes(*self.public_key),
            endpoint: endpoint(self.endpoint)?,
            last_handshake: timespec(self.handshake)?,
            rx_bytes: counter(WGPEER_A_RX_BYTES, self.rx_bytes)?,
            tx_bytes: counter(WGPEER_A_TX_BYTES, self.tx_bytes)?,
        })
    }

    /// `room` is empty; its memory is for the allowed IPs.
    fn to_peer(&self, room: Vec<IpNet>) -> Result<Peer, DecodeError> {
        let stats = self.stats()?;
        let mut config = PeerConfig::new(stats.public_key);
        config.allowed_ips = room;
        config.endpoint = stats.endpoint;
        if !self.psk.is_empty() {
            let psk = number(WGPEER_A_PRESHARED_KEY, self.psk)?;
            config.preshared_key = (psk != [0; 32]).then(|| PresharedKey::from_bytes(psk));
        }
        if !self.keepalive.is_empty() {
            let seconds = number(WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL, self.keepalive)?;
            config.persistent_keepalive = NonZeroU16::new(u16::from_ne_bytes(seconds));
        }
        self.allowed_ips(&mut config.allowed_ips)?;
        Ok(Peer { config, stats })
    }

    fn allowed_ips(&self, into: &mut Vec<IpNet>) -> Result<(), DecodeError> {
        let mut attributes = Attributes(self.allowed_ips);
        // As many as there are if all are IPv4, some more if not.
        into.reserve_exact(self.allowed_ips.len() / ALLOWED_IP_LEN);
        for (_, value) in attributes.by_ref() {
            into.push(allowed_ip(value)?);
        }
        attributes.finish()
    }
}

/// What Linux writes first of a peer, in the order in which it does so since 5.6: comparing with what
/// is expected takes a third of the time of finding out.
#[derive(Debug)]
struct Usual<'a> {
    public_key: &'a [u8; 32],
    psk: &'a [u8; 32],
    handshake: &'a [u8; 16],
    keepalive: &'a [u8; 2],
    tx_bytes: &'a [u8; 8],
    rx_bytes: &'a [u8; 8],
}

impl<'a> Usual<'a> {
    /// Each of them with its header, and two bytes after the keepalive.
    const LEN: usize = 36 + 36 + 20 + 8 + 12 + 12 + 8;

    /// It and what follows; `None`: these bytes are anything else.
    #[inline]
    fn split(nest: &'a [u8]) -> Option<(Self, &'a [u8])> {
        // One look at the length: all that is read from here on is known to be there.
        let (head, rest) = nest.split_first_chunk::<{ Usual::LEN }>()?;
        let (public_key, head) = expect::<32>(head, WGPEER_A_PUBLIC_KEY)?;
        let (psk, head) = expect::<32>(head, WGPEER_A_PRESHARED_KEY)?;
        let (handshake, head) = expect::<16>(head, WGPEER_A_LAST_HANDSHAKE_TIME)?;
        let (keepalive, head) = expect::<2>(head, WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL)?;
        let (_, head) = head.split_first_chunk::<2>()?;
        let (tx_bytes, head) = expect::<8>(head, WGPEER_A_TX_BYTES)?;
        let (rx_bytes, head) = expect::<8>(head, WGPEER_A_RX_BYTES)?;
        expect::<4>(head, WGPEER_A_PROTOCOL_VERSION)?;
        Some((Self { public_key, psk, handshake, keepalive, tx_bytes, rx_bytes }, rest))
    }
}

/// The value of an attribute of this number and size, and what follows. `None`: it is another.
#[inline]
fn expect<const N: usize>(bytes: &[u8], kind: u16) -> Option<(&[u8; N], &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<NLA_HEADER>()?;
    let size = u16::try_from(N).ok()?;
    if *header != attribute_header(kind, size) {
        return None;
    }
    rest.split_first_chunk::<N>()
}

fn allowed_ip(nest: &[u8]) -> Result<IpNet, DecodeError> {
    let (mut family, mut address, mut prefix): (u16, &[u8], _) = (0, &[], None);
    let mut attributes = Attributes(nest);
    for attribute in attributes.by_ref() {
        match attribute {
            (WGALLOWEDIP_A_FAMILY, value) => {
                family = u16::from_ne_bytes(number(WGALLOWEDIP_A_FAMILY, value)?);
            }
            (WGALLOWEDIP_A_IPADDR, value) => address = value,
            (WGALLOWEDIP_A_CIDR_MASK, value) => {
                let [bits] = number(WGALLOWEDIP_A_CIDR_MASK, value)?;
                prefix = Some(bits);
            }
            _ => {}
        }
    }
    attributes.finish()?;
    let address = match family {
        AF_INET => IpAddr::V4(Ipv4Addr::from(number::<4>(WGALLOWEDIP_A_IPADDR, address)?)),
        AF_INET6 => IpAddr::V6(Ipv6Addr::from(number::<16>(WGALLOWEDIP_A_IPADDR, address)?)),
        _ => return Err(DecodeError::AllowedIp),
    };
    let prefix = prefix.ok_or(DecodeError::Missing { kind: WGALLOWEDIP_A_CIDR_MASK })?;
    IpNet::new(address, prefix).map_err(|_| DecodeError::AllowedIp)
}

/// `struct sockaddr_in` or `sockaddr_in6`; nothing at all, or family 0: no endpoint.
fn endpoint(value: &[u8]) -> Result<Option<SocketAddr>, DecodeError> {
    const SIZE: DecodeError = DecodeError::Size { kind: WGPEER_A_ENDPOINT };
    let Some((&family, rest)) = value.split_first_chunk::<2>() else {
        return if value.is_empty() { Ok(None) } else { Err(SIZE) };
    };
    match u16::from_ne_bytes(family) {
        AF_INET => {
            let &[p0, p1, a, b, c, d, ..] = rest.first_chunk::<6>().ok_or(SIZE)?;
            let port = u16::from_be_bytes([p0, p1]);
            Ok(Some(SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), port).into()))
        }
        AF_INET6 => {
            let (&port, rest) = rest.split_first_chunk::<2>().ok_or(SIZE)?;
            let (&flow, rest) = rest.split_first_chunk::<4>().ok_or(SIZE)?;
            let (&address, rest) = rest.split_first_chunk::<16>().ok_or(SIZE)?;
            let &scope = rest.first_chunk::<4>().ok_or(SIZE)?;
            let (port, flow) = (u16::from_be_bytes(port), u32::from_be_bytes(flow));
            let scope = u32::from_ne_bytes(scope);
            Ok(Some(SocketAddrV6::new(Ipv6Addr::from(address), port, flow, scope).into()))
        }
        _ => Ok(None),
    }
}

/// `struct __kernel_timespec`: seconds and nanoseconds, 64 bits each; zero: never.
#[inline]
fn timespec(value: &[u8]) -> Result<Option<SystemTime>, DecodeError> {
    const SIZE: DecodeError = DecodeError::Size { kind: WGPEER_A_LAST_HANDSHAKE_TIME };
    if value.is_empty() {
        return Ok(None);
    }
    let (&seconds, rest) = value.split_first_chunk::<8>().ok_or(SIZE)?;
    let &nanos = rest.first_chunk::<8>().ok_or(SIZE)?;
    let seconds = u64::try_from(i64::from_ne_bytes(seconds)).unwrap_or(0);
    let nanos = u32::try_from(i64::from_ne_bytes(nanos)).unwrap_or(0).min(999_999_999);
    if seconds == 0 && nanos == 0 {
        return Ok(None);
    }
    Ok(SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos)))
}

fn counter(kind: u16, value: &[u8]) -> Result<u64, DecodeError> {
    if value.is_empty() {
        return Ok(0);
    }
    number(kind, value).map(u64::from_ne_bytes)
}

fn number<const N: usize>(kind: u16, value: &[u8]) -> Result<[u8; N], DecodeError> {
    value.try_into().map_err(|_| DecodeError::Size { kind })
}

#[cfg(test)]
mod tests;
