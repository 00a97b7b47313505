//! WireGuard without any privilege: two userspace devices joined by loopback UDP, with channels
//! where a kernel has a network interface. For the demonstration only.
//!
//! The packets and the handshakes are real; what is missing is a network interface, so that only
//! this process can send through the tunnel. [`ping`](Tunnel::ping) does, and the gateway's
//! end answers.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::mpsc as std_mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use gotatun::device::{Device, DeviceBuilder, Peer as GotaPeer};
use gotatun::packet::{Ip, Packet, PacketBufPool};
use gotatun::tun::{IpRecv, IpSend, MtuWatcher};
use gotatun::udp::socket::UdpSocketFactory;
use gotatun::x25519;
use ipnet::IpNet;
use ipnetwork::IpNetwork;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use wg_netlink::{ApplyError, Backend, Error, WireGuard};
use wg_types::{
    AllowedIpsChange, Interface, InterfaceConfig, Peer, PeerConfig, PeerStats, PeerUpdate,
    PresharedKey, PskChange, PublicKey,
};

type Transport = (UdpSocketFactory, ChannelEnd, ChannelEnd);

/// One end of a tunnel.
#[derive(Clone)]
pub struct Tunnel(Arc<Inner>);

struct Inner {
    name: String,
    runtime: Handle,
    device: Device<Transport>,
    public_key: Mutex<Option<PublicKey>>,
    addresses: Mutex<Vec<IpNet>>,
    to_tunnel: mpsc::Sender<Vec<u8>>,
    from_tunnel: tokio::sync::Mutex<mpsc::Receiver<Vec<u8>>>,
}

impl Tunnel {
    /// Starts a device that listens on loopback.
    ///
    /// # Errors
    ///
    /// If its UDP socket cannot be had.
    pub async fn new(name: &str) -> Result<Self> {
        let (to_tunnel, inbound) = mpsc::channel(64);
        let (outbound, from_tunnel) = mpsc::channel(64);
        let device = DeviceBuilder::new()
            .with_default_udp()
            .with_ip_pair(ChannelEnd::Out(outbound), ChannelEnd::In(inbound))
            .build()
            .await
            .context("userspace WireGuard did not start")?;
        Ok(Self(Arc::new(Inner {
            name: name.to_owned(),
            runtime: Handle::current(),
            device,
            public_key: Mutex::new(None),
            addresses: Mutex::new(Vec::new()),
            to_tunnel,
            from_tunnel: tokio::sync::Mutex::new(from_tunnel),
        })))
    }

    /// Sends an ICMP echo request from this end's own address and says whether the answer came
    /// within a second. Called from outside the runtime.
    #[must_use]
    pub fn pings(&self, to: Ipv4Addr, number: u16) -> bool {
        let own = self.0.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let from = own.iter().find_map(|net| match net.addr() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
        drop(own);
        let Some(from) = from else { return false };
        let answer = self.ping(from, to, number, Duration::from_secs(1));
        self.0.runtime.block_on(answer).is_some()
    }

    /// Whether the tunnel still has a peer; a client's without one is over.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.dump().is_ok_and(|peers| !peers.is_empty())
    }

    /// Puts one packet that nobody answers into the tunnel, so that a handshake begins.
    pub fn wake(&self, to: Ipv4Addr) {
        // A full tunnel is awake.
        let _ = self.0.to_tunnel.try_send(icmp::request(Ipv4Addr::UNSPECIFIED, to, 0));
    }

    /// Answers every ICMP echo request that comes out of the tunnel, for ever.
    pub async fn answer_pings(&self) {
        let mut packets = self.0.from_tunnel.lock().await;
        while let Some(packet) = packets.recv().await {
            if let Some(answer) = icmp::answer(&packet) {
                // A full tunnel drops packets, as every network does.
                let _ = self.0.to_tunnel.try_send(answer);
            }
        }
    }

    /// Sends an ICMP echo request through the tunnel and returns how long the answer took, or
    /// `None` if none came in time.
    pub async fn ping(
        &self,
        from: Ipv4Addr,
        to: Ipv4Addr,
        number: u16,
        patience: Duration,
    ) -> Option<Duration> {
        let mut packets = self.0.from_tunnel.lock().await;
        let start = tokio::time::Instant::now();
        self.0.to_tunnel.try_send(icmp::request(from, to, number)).ok()?;
        let answer = async {
            while let Some(packet) = packets.recv().await {
                if icmp::is_answer(&packet, to, number) {
                    return Some(start.elapsed());
                }
            }
            None
        };
        tokio::time::timeout(patience, answer).await.ok().flatten()
    }

    /// Runs `work` on the runtime and waits for it, from any thread.
    fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Error> {
        let (done, result) = std_mpsc::sync_channel(1);
        self.0.runtime.spawn(async move {
            // Nobody waits any more when the receiver is gone.
            let _ = done.send(work.await);
        });
        result.recv().map_err(|_| failed("the runtime has ended"))
    }

    fn dump(&self) -> Result<Vec<Peer>, Error> {
        let inner = Arc::clone(&self.0);
        self.run(async move { inner.device.peers().await.iter().map(found).collect() })
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").field("name", &self.0.name).finish_non_exhaustive()
    }
}

impl WireGuard for Tunnel {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn backend(&self) -> Backend {
        Backend::Userspace
    }

    fn configure(&self, config: &InterfaceConfig) -> Result<(), Error> {
        let (inner, config) = (Arc::clone(&self.0), config.clone());
        self.run(async move {
            if let Some(key) = &config.private_key {
                let secret = x25519::StaticSecret::from(*key.expose_secret());
                inner.device.set_private_key(secret).await.map_err(failed)?;
                *inner.public_key.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(key.public_key());
            }
            if let Some(port) = config.listen_port {
                inner.device.set_listen_port(port).await.map_err(failed)?;
            }
            Ok(())
        })?
    }

    fn set_addresses(&self, addresses: &[IpNet]) -> Result<(), Error> {
        addresses.clone_into(&mut self.0.addresses.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    fn set_up(&self, _: Option<u32>) -> Result<(), Error> {
        Ok(())
    }

    fn set_routes(&self, _: &[IpNet]) -> Result<(), Error> {
        Ok(())
    }

    fn apply(&self, updates: &[PeerUpdate]) -> Result<(), ApplyError> {
        let (inner, updates) = (Arc::clone(&self.0), updates.to_vec());
        let total = updates.len();
        let all = self.run(async move {
            for (index, update) in updates.into_iter().enumerate() {
                if let Err(error) = change(&inner.device, update).await {
                    return Err(ApplyError::stopped(total, index, error));
                }
            }
            Ok(())
        });
        all.map_err(|error| ApplyError::stopped(total, 0, error))?
    }

    fn interface(&self) -> Result<Interface, Error> {
        let inner = Arc::clone(&self.0);
        let listen_port =
            self.run(async move { inner.device.read(async |device| device.listen_port()).await })?;
        Ok(Interface {
            name: self.0.name.clone(),
            public_key: *self.0.public_key.lock().unwrap_or_else(PoisonError::into_inner),
            listen_port,
            fwmark: None,
            peers: self.dump()?,
        })
    }

    fn stats(&self, visit: &mut dyn FnMut(&PeerStats)) -> Result<(), Error> {
        for peer in self.dump()? {
            visit(&peer.stats);
        }
        Ok(())
    }

    fn remove(&self) -> Result<(), Error> {
        let inner = Arc::clone(&self.0);
        // One by one: taking all at once binds the port anew, which the old socket may still hold.
        self.run(async move {
            for peer in inner.device.peers().await {
                inner.device.remove_peer(&peer.peer.public_key).await.map_err(failed)?;
            }
            Ok(())
        })?
    }
}

async fn change(device: &Device<Transport>, update: PeerUpdate) -> Result<(), Error> {
    match update {
        PeerUpdate::Put(config) => {
            let key = theirs(&config.public_key);
            let known = device.peers().await.iter().any(|peer| peer.peer.public_key == key);
            if known {
                let psk = config.preshared_key.map_or(PskChange::Clear, PskChange::Set);
                let ips = AllowedIpsChange::Replace(config.allowed_ips);
                let keepalive = config.persistent_keepalive.map_or(0, core::num::NonZero::get);
                modify(device, key, psk, ips, config.endpoint, Some(keepalive)).await
            } else {
                device.add_peer(new_peer(&config)).await.map(drop).map_err(failed)
            }
        }
        PeerUpdate::Update { public_key, psk, allowed_ips, endpoint, persistent_keepalive } => {
            let keepalive = persistent_keepalive
                .map(|every| u16::try_from(every.as_secs()).unwrap_or(u16::MAX));
            modify(device, theirs(&public_key), psk, allowed_ips, endpoint, keepalive).await
        }
        PeerUpdate::Remove(public_key) => {
            device.remove_peer(&theirs(&public_key)).await.map(drop).map_err(failed)
        }
    }
}

async fn modify(
    device: &Device<Transport>,
    key: x25519::PublicKey,
    psk: PskChange,
    allowed_ips: AllowedIpsChange,
    endpoint: Option<SocketAddr>,
    keepalive: Option<u16>,
) -> Result<(), Error> {
    let change = |peer: &mut gotatun::device::configure::PeerMut| {
        match psk {
            PskChange::Keep => {}
            PskChange::Clear => peer.set_preshared_key(None),
            PskChange::Set(psk) => peer.set_preshared_key(Some(*psk.expose_secret())),
        }
        match allowed_ips {
            // Taking single addresses away is not needed here.
            AllowedIpsChange::Keep | AllowedIpsChange::Remove(_) => {}
            AllowedIpsChange::Replace(ips) => {
                peer.clear_allowed_ips();
                peer.add_allowed_ips(networks(&ips));
            }
            AllowedIpsChange::Add(ips) => peer.add_allowed_ips(networks(&ips)),
        }
        if endpoint.is_some() {
            peer.set_endpoint(endpoint);
        }
        if let Some(seconds) = keepalive {
            peer.set_keepalive(Some(seconds).filter(|seconds| *seconds > 0));
        }
    };
    device
        .write(async |device| device.modify_peer(&key, change).await)
        .await
        .map(drop)
        .map_err(failed)
}

fn new_peer(config: &PeerConfig) -> GotaPeer {
    let mut peer = GotaPeer::new(theirs(&config.public_key));
    peer.allowed_ips = networks(&config.allowed_ips);
    peer.endpoint = config.endpoint;
    peer.keepalive = config.persistent_keepalive.map(core::num::NonZero::get);
    peer.preshared_key = config.preshared_key.as_ref().map(|psk| *psk.expose_secret());
    peer
}

fn found(seen: &gotatun::device::configure::PeerStats) -> Peer {
    let public_key = PublicKey::from_bytes(*seen.peer.public_key.as_bytes());
    let endpoint = seen.peer.endpoint;
    let stats = PeerStats {
        public_key,
        endpoint,
        last_handshake: seen.stats.last_handshake.and_then(|age| clock().checked_sub(age)),
        rx_bytes: u64::try_from(seen.stats.rx_bytes).unwrap_or(u64::MAX),
        tx_bytes: u64::try_from(seen.stats.tx_bytes).unwrap_or(u64::MAX),
    };
    let config = PeerConfig {
        public_key,
        preshared_key: seen.peer.preshared_key.map(PresharedKey::from_bytes),
        endpoint,
        persistent_keepalive: seen.peer.keepalive.and_then(core::num::NonZeroU16::new),
        allowed_ips: seen
            .peer
            .allowed_ips
            .iter()
            .filter_map(|net| IpNet::new(net.ip(), net.prefix()).ok())
            .collect(),
    };
    Peer { config, stats }
}

#[expect(clippy::disallowed_methods, reason = "the device reports ages, the trait wants times")]
fn clock() -> SystemTime {
    SystemTime::now()
}

fn theirs(key: &PublicKey) -> x25519::PublicKey {
    x25519::PublicKey::from(*key.as_bytes())
}

fn networks(ips: &[IpNet]) -> Vec<IpNetwork> {
    ips.iter().filter_map(|net| IpNetwork::new(net.addr(), net.prefix_len()).ok()).collect()
}

fn failed(error: impl fmt::Display) -> Error {
    Error::Userspace { doing: "change its device", said: error.to_string() }
}

/// The device's side of the channels.
enum ChannelEnd {
    Out(mpsc::Sender<Vec<u8>>),
    In(mpsc::Receiver<Vec<u8>>),
}

impl IpSend for ChannelEnd {
    async fn send(&mut self, packet: Packet<Ip>) -> std::io::Result<()> {
        if let Self::Out(packets) = self {
            let bytes: Packet<[u8]> = packet.into_bytes();
            // A full channel drops packets, as every network does.
            let _ = packets.try_send(bytes.to_vec());
        }
        Ok(())
    }
}

impl IpRecv for ChannelEnd {
    async fn recv<'a>(
        &'a mut self,
        _: &mut PacketBufPool,
    ) -> std::io::Result<impl Iterator<Item = Packet<Ip>> + Send + 'a> {
        if let Self::In(packets) = self
            && let Some(bytes) = packets.recv().await
            && let Ok(packet) = Packet::from_bytes(bytes.as_slice().into()).try_into_ip()
        {
            return Ok(std::iter::once(packet));
        }
        std::future::pending().await
    }

    fn mtu(&self) -> MtuWatcher {
        MtuWatcher::new(1420)
    }
}

/// As much of ICMP (RFC 792) and IPv4 (RFC 791) as a ping needs.
mod icmp {
    use std::net::Ipv4Addr;

    const IP_HEADER: usize = 20;
    const ECHO_REQUEST: u8 = 8;
    const ECHO_REPLY: u8 = 0;
    const PROTOCOL: u8 = 1;
    const IDENTIFIER: u16 = 0x6d66;

    pub(super) fn request(from: Ipv4Addr, to: Ipv4Addr, number: u16) -> Vec<u8> {
        packet(ECHO_REQUEST, from, to, IDENTIFIER, number)
    }

    pub(super) fn answer(bytes: &[u8]) -> Option<Vec<u8>> {
        let echo = parse(bytes).filter(|echo| echo.kind == ECHO_REQUEST)?;
        Some(packet(ECHO_REPLY, echo.to, echo.from, echo.identifier, echo.number))
    }

    pub(super) fn is_answer(bytes: &[u8], from: Ipv4Addr, number: u16) -> bool {
        parse(bytes).is_some_and(|echo| {
            echo.kind == ECHO_REPLY
                && echo.from == from
                && echo.identifier == IDENTIFIER
                && echo.number == number
        })
    }

    struct Echo {
        kind: u8,
        from: Ipv4Addr,
        to: Ipv4Addr,
        identifier: u16,
        number: u16,
    }

    fn parse(bytes: &[u8]) -> Option<Echo> {
        let (header, body) = bytes.split_at_checked(IP_HEADER)?;
        // Version 4, no options.
        if header.first() != Some(&0x45) || header.get(9) != Some(&PROTOCOL) {
            return None;
        }
        let address = |at: usize| -> Option<Ipv4Addr> {
            Some(<[u8; 4]>::try_from(header.get(at..at + 4)?).ok()?.into())
        };
        let word = |at: usize| -> Option<u16> {
            Some(u16::from_be_bytes(body.get(at..at + 2)?.try_into().ok()?))
        };
        Some(Echo {
            kind: *body.first()?,
            from: address(12)?,
            to: address(16)?,
            identifier: word(4)?,
            number: word(6)?,
        })
    }

    fn packet(kind: u8, from: Ipv4Addr, to: Ipv4Addr, identifier: u16, number: u16) -> Vec<u8> {
        let mut icmp = vec![kind, 0, 0, 0];
        icmp.extend(identifier.to_be_bytes());
        icmp.extend(number.to_be_bytes());
        let sum = checksum(&icmp);
        icmp.splice(2..4, sum.to_be_bytes());

        let length = u16::try_from(IP_HEADER + icmp.len()).unwrap_or(u16::MAX);
        let mut ip = vec![0x45, 0];
        ip.extend(length.to_be_bytes());
        ip.extend([0, 0, 0, 0, 64, PROTOCOL, 0, 0]);
        ip.extend(from.octets());
        ip.extend(to.octets());
        let sum = checksum(&ip);
        ip.splice(10..12, sum.to_be_bytes());
        ip.extend(icmp);
        ip
    }

    /// RFC 1071.
    fn checksum(bytes: &[u8]) -> u16 {
        let mut sum: u32 = bytes
            .chunks(2)
            .map(|pair| match pair {
                [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
                [high] => u32::from(*high) << 8,
                _ => 0,
            })
            .sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !u16::try_from(sum).unwrap_or(0)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_request_is_answered_to_its_sender() {
            let (client, server) = (Ipv4Addr::new(10, 1, 0, 2), Ipv4Addr::new(10, 99, 0, 1));
            let reply = answer(&request(client, server, 7)).unwrap();
            assert!(is_answer(&reply, server, 7));
            assert!(!is_answer(&reply, server, 8));
            assert!(answer(&reply).is_none());
        }

        #[test]
        fn checksums_of_whole_headers_are_zero() {
            let bytes = request(Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST, 1);
            assert_eq!(checksum(&bytes[..IP_HEADER]), 0);
            assert_eq!(checksum(&bytes[IP_HEADER..]), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wg_types::PrivateKey;

    const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
    const OFFICE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_handshake_needs_the_same_preshared_key_at_both_ends() {
        let (client_key, gateway_key) =
            (PrivateKey::from_bytes([1; 32]), PrivateKey::from_bytes([2; 32]));
        let gateway = tunnel("gateway", &gateway_key).await;
        let client = tunnel("client", &client_key).await;
        let answering = gateway.clone();
        tokio::spawn(async move { answering.answer_pings().await });

        let port = gateway.interface().unwrap().listen_port;
        let mut there = PeerConfig::new(gateway_key.public_key());
        there.allowed_ips = vec!["10.99.0.0/24".parse().unwrap()];
        there.endpoint = Some((Ipv4Addr::LOCALHOST, port).into());
        there.preshared_key = Some(PresharedKey::from_bytes([3; 32]));
        let mut here = PeerConfig::new(client_key.public_key());
        here.allowed_ips = vec!["10.1.0.2/32".parse().unwrap()];
        here.preshared_key = Some(PresharedKey::from_bytes([4; 32]));
        gateway.apply(&[PeerUpdate::Put(here.clone())]).unwrap();
        client.apply(&[PeerUpdate::Put(there)]).unwrap();
        let short = Duration::from_millis(500);
        assert_eq!(client.ping(CLIENT, OFFICE, 1, short).await, None);

        let right = PresharedKey::from_bytes([3; 32]);
        gateway.apply(&[PeerUpdate::set_psk(client_key.public_key(), right)]).unwrap();
        // The client tries again five seconds after its first attempt.
        let long = Duration::from_secs(15);
        assert!(client.ping(CLIENT, OFFICE, 2, long).await.is_some());
        assert!(gateway.interface().unwrap().peers[0].stats.rx_bytes > 0);
    }

    async fn tunnel(name: &str, key: &PrivateKey) -> Tunnel {
        let tunnel = Tunnel::new(name).await.unwrap();
        let config = InterfaceConfig {
            private_key: Some(key.clone()),
            listen_port: Some(0),
            ..InterfaceConfig::default()
        };
        tunnel.configure(&config).unwrap();
        tunnel
    }
}
