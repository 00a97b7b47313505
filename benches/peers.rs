//! What wg-netlink does besides waiting for the kernel: `cargo bench --bench peers`.
//!
//! How long the kernel itself takes, and everything else that can program it, is measured on a real
//! one: `cargo xtask bench kernel`.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on panics")]

use std::hint::black_box;
use std::net::IpAddr;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use netlink_packet_core::Emitable as _;
use netlink_packet_wireguard::{
    WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAttribute,
    WireguardCmd, WireguardMessage, WireguardPeer, WireguardPeerAttribute, WireguardTimeSpec,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use wg_mfa::wg_netlink::diff::diff;
use wg_mfa::wg_netlink::kernel::batch::Packer;
use wg_mfa::wg_netlink::kernel::decode;
use wg_mfa::wg_netlink::kernel::encode::Target;
use wg_mfa::wg_types::{
    Interface, Peer, PeerConfig, PeerStats, PeerUpdate, PresharedKey, PublicKey,
};

/// Peers of one interface.
const PEERS: u32 = 10_000;

/// Bytes of a dump's datagram, at most.
const DATAGRAM: usize = 32_768;

fn rotate(c: &mut Criterion) {
    let mut random = StdRng::seed_from_u64(7);
    let updates = rotation(&mut random);
    let mut group = c.benchmark_group("rotate the PSKs of 10,000 peers");
    group.throughput(Throughput::Elements(u64::from(PEERS)));
    group.bench_function("draw and plan", |b| {
        b.iter(|| rotation(&mut random));
    });
    group.bench_function("encode", |b| {
        let mut buffer = Vec::with_capacity(65_536);
        b.iter(|| pack(&updates, &mut buffer));
    });
    group.finish();
}

fn program(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode 10,000 peers");
    group.throughput(Throughput::Elements(u64::from(PEERS)));
    let mut buffer = Vec::with_capacity(65_536);
    let put: Vec<_> = configs().into_iter().map(PeerUpdate::Put).collect();
    group.bench_function("put", |b| b.iter(|| pack(&put, &mut buffer)));
    let lock: Vec<_> = (0..PEERS).map(|number| PeerUpdate::lock(key(number))).collect();
    group.bench_function("lock", |b| b.iter(|| pack(&lock, &mut buffer)));
    let unlock: Vec<_> = configs()
        .into_iter()
        .map(|config| PeerUpdate::unlock(config.public_key, config.allowed_ips))
        .collect();
    group.bench_function("unlock", |b| b.iter(|| pack(&unlock, &mut buffer)));
    group.finish();
}

fn read(c: &mut Criterion) {
    let dump = dump();
    let mut group = c.benchmark_group("read a dump of 10,000 peers");
    group.throughput(Throughput::Elements(u64::from(PEERS)));
    group.bench_function("statistics", |b| {
        b.iter(|| {
            let (mut last, mut sum) = (None, 0);
            for message in &dump {
                decode::stats(message, &mut last, &mut |peer| sum += peer.rx_bytes).unwrap();
            }
            assert_eq!(sum, u64::from(PEERS));
        });
    });
    group.bench_function("everything", |b| {
        b.iter(|| {
            let mut interface = interface();
            for message in &dump {
                decode::device(message, &mut interface).unwrap();
            }
            assert_eq!(u32::try_from(interface.peers.len()), Ok(PEERS));
            interface
        });
    });
    group.finish();
}

fn compare(c: &mut Criterion) {
    let desired = configs();
    let mut changed = configs();
    for config in changed.iter_mut().step_by(100) {
        config.preshared_key = Some(PresharedKey::from_bytes([9; 32]));
    }
    let actual: Vec<Peer> = desired.iter().cloned().map(found).collect();
    let mut group = c.benchmark_group("diff 10,000 peers");
    group.throughput(Throughput::Elements(u64::from(PEERS)));
    group.bench_function("that are right", |b| {
        b.iter(|| assert!(diff(&actual, &desired).is_empty()));
    });
    group.bench_function("of which 100 have a new PSK", |b| {
        b.iter(|| assert_eq!(diff(&actual, &changed).len(), 100));
    });
    group.bench_function("that are all new", |b| {
        b.iter_batched(|| (), |()| diff(&[], black_box(&desired)), BatchSize::LargeInput);
    });
    group.finish();
}

fn rotation(random: &mut StdRng) -> Vec<PeerUpdate> {
    let mut psk = || {
        let mut bytes = [0; 32];
        random.fill_bytes(&mut bytes);
        PresharedKey::from_bytes(bytes)
    };
    (0..PEERS).map(|number| PeerUpdate::set_psk(key(number), psk())).collect()
}

fn pack(updates: &[PeerUpdate], buffer: &mut Vec<u8>) -> usize {
    let target = Target { family: 0x1c, name: "wg0".to_owned() };
    let mut packer = Packer::new(&target, updates);
    let mut sent = 0;
    while packer.pack(buffer, 1).is_some() {
        sent += black_box(&*buffer).len();
    }
    sent
}

fn key(number: u32) -> PublicKey {
    let mut bytes = [5; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    PublicKey::from_bytes(bytes)
}

fn address(number: u32) -> IpAddr {
    std::net::Ipv4Addr::from(0x0a00_0000 + number).into()
}

fn configs() -> Vec<PeerConfig> {
    let config = |number| PeerConfig {
        preshared_key: Some(PresharedKey::from_bytes([7; 32])),
        allowed_ips: vec![address(number).into()],
        ..PeerConfig::new(key(number))
    };
    (0..PEERS).map(config).collect()
}

fn found(config: PeerConfig) -> Peer {
    let stats = PeerStats {
        public_key: config.public_key,
        endpoint: None,
        last_handshake: None,
        rx_bytes: 0,
        tx_bytes: 0,
    };
    Peer { config, stats }
}

fn interface() -> Interface {
    Interface {
        name: "wg0".to_owned(),
        public_key: None,
        listen_port: 0,
        fwmark: None,
        peers: Vec::new(),
    }
}

/// The messages of a dump, as the kernel cuts and orders them, written by netlink-packet-wireguard.
fn dump() -> Vec<Vec<u8>> {
    let peers: Vec<_> = (0..PEERS).map(dumped).collect();
    let one = WireguardAttribute::Peers(vec![dumped(0)]);
    let per_message = DATAGRAM / one.buffer_len();
    peers
        .chunks(per_message)
        .map(|peers| {
            let attributes = vec![
                WireguardAttribute::IfName("wg0".to_owned()),
                WireguardAttribute::Peers(peers.to_vec()),
            ];
            let message = WireguardMessage { cmd: WireguardCmd::GetDevice, attributes };
            let mut attributes = vec![0; message.buffer_len()];
            message.emit(&mut attributes);
            let genl_header = vec![0, 1, 0, 0];
            [genl_header, attributes].concat()
        })
        .collect()
}

fn dumped(number: u32) -> WireguardPeer {
    let time = WireguardTimeSpec { seconds: 1_700_000_000, nano_seconds: 7 };
    WireguardPeer(vec![
        WireguardPeerAttribute::PublicKey(*key(number).as_bytes()),
        WireguardPeerAttribute::PresharedKey([7; 32]),
        WireguardPeerAttribute::LastHandshake(time),
        WireguardPeerAttribute::PersistentKeepalive(0),
        WireguardPeerAttribute::TxBytes(2),
        WireguardPeerAttribute::RxBytes(1),
        WireguardPeerAttribute::ProtocolVersion(1),
        WireguardPeerAttribute::Endpoint("192.0.2.1:51820".parse().unwrap()),
        WireguardPeerAttribute::AllowedIps(vec![WireguardAllowedIp(vec![
            WireguardAllowedIpAttr::Family(WireguardAddressFamily::Ipv4),
            WireguardAllowedIpAttr::IpAddr(address(number)),
            WireguardAllowedIpAttr::Cidr(32),
        ])]),
    ])
}

criterion_group!(benches, rotate, program, read, compare);
criterion_main!(benches);
