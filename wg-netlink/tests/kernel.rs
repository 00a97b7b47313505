//! The kernel's WireGuard, with `wg`, `ip` and `ping` as witnesses.
//!
//! Needs root and a kernel with WireGuard: `cargo xtask test --only kernel` runs it in a virtual
//! machine that has both.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use ipnet::IpNet;
use wg_netlink::diff::diff;
use wg_netlink::{Backend, Error, Want, WireGuard};
use wg_types::{
    AllowedIpsChange, InterfaceConfig, Peer, PeerConfig, PeerUpdate, PresharedKey, PrivateKey,
    PskChange, PublicKey,
};

mod common;

use common::Namespace;

const MANY: u32 = 10_000;

fn nets(nets: &[&str]) -> Vec<IpNet> {
    nets.iter().map(|net| net.parse().unwrap()).collect()
}

fn open(namespace: &Namespace, name: &str) -> Arc<dyn WireGuard> {
    let name = name.to_owned();
    let wg = namespace.run(move || wg_netlink::open(&name, Want::Kernel));
    Arc::from(wg.expect("these tests need a kernel with WireGuard"))
}

fn private(number: u32) -> PrivateKey {
    let mut bytes = [9; 32];
    bytes[4..8].copy_from_slice(&number.to_be_bytes());
    PrivateKey::from_bytes(bytes)
}

/// A key that looks like a peer's; deriving 10,000 real ones would take the machine long.
fn key(number: u32) -> PublicKey {
    let mut bytes = [9; 32];
    bytes[4..8].copy_from_slice(&number.to_be_bytes());
    PublicKey::from_bytes(bytes)
}

fn psk(number: u32) -> PresharedKey {
    let mut bytes = [3; 32];
    bytes[4..8].copy_from_slice(&number.to_be_bytes());
    PresharedKey::from_bytes(bytes)
}

fn config(number: u32) -> PeerConfig {
    let v4 = IpNet::new(std::net::Ipv4Addr::from(0x0a00_0000 + number).into(), 32).unwrap();
    let v6 = std::net::Ipv6Addr::from(0xfd00_u128 << 112 | u128::from(number));
    PeerConfig {
        preshared_key: Some(psk(number)),
        endpoint: number.is_multiple_of(3).then(|| "192.0.2.9:7".parse().unwrap()),
        persistent_keepalive: None,
        allowed_ips: vec![v4, IpNet::new(v6.into(), 128).unwrap()],
        ..PeerConfig::new(key(number))
    }
}

fn puts(numbers: core::ops::Range<u32>) -> Vec<PeerUpdate> {
    numbers.map(|number| PeerUpdate::Put(config(number))).collect()
}

/// One peer as `wg show NAME dump` tells it.
fn line(peer: &Peer) -> String {
    let psk = peer.config.preshared_key.as_ref().map(|psk| psk.expose_base64().to_string());
    let ips: Vec<_> = peer.config.allowed_ips.iter().map(ToString::to_string).collect();
    let handshake =
        peer.stats.last_handshake.map_or(0, |at| at.duration_since(UNIX_EPOCH).unwrap().as_secs());
    let keepalive = peer.config.persistent_keepalive.map(|seconds| seconds.to_string());
    [
        peer.config.public_key.to_string(),
        psk.unwrap_or_else(|| "(none)".to_owned()),
        peer.stats.endpoint.map_or_else(|| "(none)".to_owned(), |at| at.to_string()),
        if ips.is_empty() { "(none)".to_owned() } else { ips.join(",") },
        handshake.to_string(),
        peer.stats.rx_bytes.to_string(),
        peer.stats.tx_bytes.to_string(),
        keepalive.unwrap_or_else(|| "off".to_owned()),
    ]
    .join("\t")
}

/// That our reader and `wg` see the same.
fn assert_wg_agrees(namespace: &Namespace, wg: &dyn WireGuard) -> Vec<Peer> {
    let interface = wg.interface().unwrap();
    let shown = namespace.shell(&format!("wg show {} dump", wg.name()));
    let mut lines = shown.lines();
    let first: Vec<_> = lines.next().unwrap().split('\t').collect();
    let own = interface.public_key.map_or_else(|| "(none)".to_owned(), |key| key.to_string());
    let mark = interface.fwmark.map_or_else(|| "off".to_owned(), |mark| format!("{mark:#x}"));
    assert_eq!(first.get(1..).unwrap(), [own, interface.listen_port.to_string(), mark]);
    let theirs: Vec<_> = lines.collect();
    let ours: Vec<_> = interface.peers.iter().map(line).collect();
    assert_eq!(ours.len(), theirs.len());
    for (our, their) in ours.iter().zip(theirs) {
        assert_eq!(our, their);
    }
    let mut stats = Vec::new();
    wg.stats(&mut |peer| stats.push(*peer)).unwrap();
    assert_eq!(stats, interface.peers.iter().map(|peer| peer.stats).collect::<Vec<_>>());
    interface.peers
}

#[test]
#[ignore = "needs root and a kernel with WireGuard"]
fn an_interface_is_made_configured_and_removed() {
    let namespace = Namespace::new();
    let wg = open(&namespace, "wgk");
    assert_eq!((wg.name(), wg.backend()), ("wgk", Backend::Kernel));
    assert_wg_agrees(&namespace, &*wg);
    wg.configure(&InterfaceConfig {
        private_key: Some(private(0)),
        listen_port: Some(51820),
        fwmark: Some(0xca6c),
    })
    .unwrap();
    wg.configure(&InterfaceConfig { listen_port: Some(51821), ..Default::default() }).unwrap();
    wg.set_addresses(&nets(&["10.9.0.1/24", "fd09::1/64"])).unwrap();
    wg.set_up(Some(1380)).unwrap();
    wg.set_addresses(&nets(&["10.9.0.2/24", "fd09::1/64"])).unwrap();
    wg.set_routes(&nets(&["10.20.0.0/16", "0.0.0.0/0", "::/0"])).unwrap();

    let shown = namespace.shell("ip address show wgk");
    assert!(shown.contains("mtu 1380") && shown.contains("10.9.0.2/24"), "{shown}");
    assert!(shown.contains("fd09::1/64") && !shown.contains("10.9.0.1"), "{shown}");
    assert!(namespace.shell("ip route").contains("10.20.0.0/16 dev wgk"));
    assert!(namespace.shell("ip rule").contains("not from all fwmark 0xca6c lookup 51820"));
    let interface = wg.interface().unwrap();
    assert_eq!(interface.public_key, Some(private(0).public_key()));
    assert_eq!(interface.listen_port, 51821);
    assert_wg_agrees(&namespace, &*wg);

    // Another handle finds it as it is.
    let again = open(&namespace, "wgk");
    assert_eq!(again.interface().unwrap().listen_port, 51821);

    wg.remove().unwrap();
    wg.remove().unwrap();
    let gone = Error::NoSuchInterface { name: "wgk".to_owned() };
    assert_eq!(again.interface().unwrap_err(), gone);
    assert_eq!(again.set_up(None).unwrap_err(), gone);
    assert_eq!(again.configure(&InterfaceConfig::default()).unwrap_err(), gone);
    assert_eq!(again.apply(&puts(0..3)).unwrap_err().cause(), Some(&gone));
    assert!(!namespace.shell("ip rule").contains("51820"));
}

#[test]
#[ignore = "needs root and a kernel with WireGuard"]
fn ten_thousand_peers_are_as_wg_shows_them() {
    let namespace = Namespace::new();
    let wg = open(&namespace, "wgk");
    wg.apply(&puts(0..MANY)).unwrap();
    let peers = assert_wg_agrees(&namespace, &*wg);
    assert_eq!(peers.len(), usize::try_from(MANY).unwrap());
    let desired: Vec<_> = (0..MANY).map(config).collect();
    assert!(diff(&peers, &desired).is_empty(), "what was put is there");

    let rotated: Vec<_> =
        (0..MANY).map(|number| PeerUpdate::set_psk(key(number), psk(number + MANY))).collect();
    wg.apply(&rotated).unwrap();
    let locks: Vec<_> = (0..MANY / 2).map(|number| PeerUpdate::lock(key(number))).collect();
    wg.apply(&locks).unwrap();
    let peers = assert_wg_agrees(&namespace, &*wg);
    for peer in &peers {
        let number =
            u32::from_be_bytes(peer.config.public_key.as_bytes()[4..8].try_into().unwrap());
        assert!(peer.config.preshared_key.as_ref().unwrap().same_as(&psk(number + MANY)));
        assert_eq!(peer.config.allowed_ips.is_empty(), number < MANY / 2);
    }
    let unlocks: Vec<_> = (0..MANY / 2)
        .map(|number| PeerUpdate::unlock(key(number), config(number).allowed_ips))
        .collect();
    wg.apply(&unlocks).unwrap();

    let left: Vec<_> = (0..100).map(config).collect();
    let updates = diff(&wg.interface().unwrap().peers, &left);
    wg.apply(&updates).unwrap();
    assert!(diff(&assert_wg_agrees(&namespace, &*wg), &left).is_empty());
    wg.remove().unwrap();
}

#[test]
#[ignore = "needs root and a kernel with WireGuard"]
fn one_peer_with_allowed_ips_for_many_messages_is_whole() {
    let namespace = Namespace::new();
    let wg = open(&namespace, "wgk");
    let mut big = config(1);
    big.allowed_ips = (0..20_000_u32)
        .map(|host| IpNet::new(std::net::Ipv4Addr::from(0x0b00_0000 + host).into(), 32).unwrap())
        .collect();
    let updates = [puts(2..3), vec![PeerUpdate::Put(big.clone())], puts(3..5)].concat();
    wg.apply(&updates).unwrap();
    wg.apply(&updates).unwrap();
    let peers = assert_wg_agrees(&namespace, &*wg);
    assert_eq!(peers.len(), 4);
    assert!(diff(&peers, &[config(2), big, config(3), config(4)]).is_empty());
    wg.remove().unwrap();
}

#[test]
#[ignore = "needs root and a kernel with WireGuard"]
fn each_change_does_what_it_says_and_no_more() {
    let namespace = Namespace::new();
    let wg = open(&namespace, "wgk");
    wg.configure(&InterfaceConfig { private_key: Some(private(0)), ..Default::default() }).unwrap();
    let own = PeerUpdate::Put(PeerConfig::new(private(0).public_key()));
    wg.apply(&[puts(1..3), vec![own]].concat()).unwrap();
    let change = |psk, allowed_ips| PeerUpdate::Update {
        public_key: key(1),
        psk,
        allowed_ips,
        endpoint: None,
        persistent_keepalive: None,
    };
    let find = || -> Peer {
        let peers: BTreeMap<_, _> = wg
            .interface()
            .unwrap()
            .peers
            .into_iter()
            .map(|peer| (peer.config.public_key, peer))
            .collect();
        assert_eq!(peers.len(), 2, "nobody is a peer of himself");
        peers[&key(1)].clone()
    };
    let shown = |field: usize| -> String {
        let dump = namespace.shell("wg show wgk dump");
        let line = dump.lines().find(|line| line.starts_with(&key(1).to_string())).unwrap();
        line.split('\t').nth(field).unwrap().to_owned()
    };

    wg.apply(&[change(PskChange::Keep, AllowedIpsChange::Keep)]).unwrap();
    assert!(find().config.preshared_key.unwrap().same_as(&psk(1)));
    wg.apply(&[change(PskChange::Set(psk(7)), AllowedIpsChange::Keep)]).unwrap();
    assert_eq!(shown(1), psk(7).expose_base64().as_str());
    wg.apply(&[change(PskChange::Clear, AllowedIpsChange::Keep)]).unwrap();
    assert_eq!(shown(1), "(none)");
    assert!(find().config.preshared_key.is_none());

    let (one, two) = (nets(&["10.1.0.1/32"]), nets(&["10.1.0.2/32"]));
    wg.apply(&[change(PskChange::Keep, AllowedIpsChange::Replace(one.clone()))]).unwrap();
    wg.apply(&[change(PskChange::Keep, AllowedIpsChange::Add(two.clone()))]).unwrap();
    assert_eq!(find().config.allowed_ips.len(), 2);
    // Linux 6.1 cannot do this itself.
    wg.apply(&[change(PskChange::Keep, AllowedIpsChange::Remove(one))]).unwrap();
    assert_eq!(find().config.allowed_ips, two);
    // An allowed IP moves to who got it last.
    let taker = PeerConfig { allowed_ips: two, ..config(2) };
    wg.apply(&[PeerUpdate::Put(taker)]).unwrap();
    assert_eq!(shown(3), "(none)");

    wg.apply(&[PeerUpdate::Update {
        public_key: key(1),
        psk: PskChange::Keep,
        allowed_ips: AllowedIpsChange::Keep,
        endpoint: Some("[2001:db8::1]:9".parse().unwrap()),
        persistent_keepalive: Some(Duration::from_secs(25)),
    }])
    .unwrap();
    assert_eq!((shown(2), shown(7)), ("[2001:db8::1]:9".to_owned(), "25".to_owned()));
    wg.apply(&[PeerUpdate::Put(PeerConfig::new(key(1)))]).unwrap();
    assert_eq!((shown(2), shown(7)), ("[2001:db8::1]:9".to_owned(), "off".to_owned()));

    // What is not there stays so, and can be told.
    wg.apply(&[PeerUpdate::set_psk(key(99), psk(1)), PeerUpdate::Remove(key(98))]).unwrap();
    assert_eq!(wg.missing(&[key(99), key(1)]).unwrap(), [key(99)]);
    wg.remove().unwrap();
}

#[test]
#[ignore = "needs root and a kernel with WireGuard"]
fn replaced_peers_are_all_there_is_and_are_shown_one_by_one() {
    let namespace = Namespace::new();
    let wg = open(&namespace, "wg0");
    wg.apply(&puts(1..2_001)).unwrap();
    let new: Vec<_> = (1_000..4_000).map(config).collect();
    wg.replace_peers(&new).unwrap();
    let peers = assert_wg_agrees(&namespace, &*wg);
    assert_eq!(peers.len(), 3_000);
    assert!(diff(&peers, &new).is_empty());

    let mut shown = Vec::new();
    wg.peers(&mut |peer| shown.push(line(peer))).unwrap();
    assert_eq!(shown, peers.iter().map(line).collect::<Vec<_>>());
}

#[test]
#[ignore = "needs root and a kernel with WireGuard"]
fn an_interface_deleted_under_use_is_told_with_what_is_left() {
    let namespace = Namespace::new();
    let wg = open(&namespace, "wgk");
    let updates = puts(0..1000);
    let writer = Arc::clone(&wg);
    let total = updates.len();
    // Until it is told that the interface is gone.
    let writing = thread::spawn(move || {
        loop {
            if let Err(error) = writer.apply(&updates) {
                return error;
            }
        }
    });
    // The writer's handle is busy. Its first message is in when a peer is there, or has changed the
    // dump that looks for it.
    let watcher = open(&namespace, "wgk");
    while watcher.missing(&[key(1)]).is_ok_and(|missing| !missing.is_empty()) {
        thread::yield_now();
    }
    namespace.shell("ip link delete wgk");
    let error = writing.join().unwrap();
    assert_eq!(error.cause(), Some(&Error::NoSuchInterface { name: "wgk".to_owned() }));
    let unapplied: Vec<_> = error.unapplied().collect();
    let first = *unapplied.first().unwrap();
    assert_eq!(unapplied, (first..total).collect::<Vec<_>>());
}

#[test]
#[ignore = "needs root and a kernel with WireGuard"]
fn a_dump_while_others_write_is_whole() {
    let namespace = Namespace::new();
    let wg = open(&namespace, "wgk");
    wg.apply(&puts(0..500)).unwrap();
    let other = open(&namespace, "wgk");
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let writing = thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            other.apply(&puts(5000..5002)).unwrap();
            other.apply(&[PeerUpdate::Remove(key(5000)), PeerUpdate::Remove(key(5001))]).unwrap();
            thread::yield_now();
        }
    });
    let mut whole = 0;
    for _ in 0..20 {
        match wg.interface() {
            Ok(interface) => {
                let keys: std::collections::BTreeSet<_> =
                    interface.peers.iter().map(|peer| peer.config.public_key).collect();
                assert_eq!(keys.len(), interface.peers.len(), "no peer twice");
                assert!((0..500).all(|number| keys.contains(&key(number))), "none left out");
                whole += 1;
            }
            Err(Error::Interrupted { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    stop.store(true, Ordering::Relaxed);
    writing.join().unwrap();
    assert!(whole > 0 || wg.interface().is_ok());
    wg.remove().unwrap();
}

#[test]
#[ignore = "needs root and a kernel with WireGuard"]
fn what_stands_in_the_way_is_named() {
    let namespace = Namespace::new();
    namespace.shell("ip link add wgk-other type dummy");
    let taken = namespace.run(|| wg_netlink::open("wgk-other", Want::Auto));
    assert_eq!(taken.err(), Some(Error::NameTaken { name: "wgk-other".to_owned() }));
    let bad = namespace.run(|| wg_netlink::open("no/slash", Want::Kernel));
    assert_eq!(bad.err(), Some(Error::BadName { name: "no/slash".to_owned() }));

    // Two interfaces cannot listen on one port; it shows when the second comes up.
    let (one, two) = (open(&namespace, "wgk1"), open(&namespace, "wgk2"));
    let config = InterfaceConfig { listen_port: Some(51820), ..Default::default() };
    one.configure(&config).unwrap();
    two.configure(&config).unwrap();
    one.set_up(None).unwrap();
    assert_eq!(two.set_up(None), Err(Error::PortInUse { port: 51820 }));
    two.configure(&InterfaceConfig { listen_port: Some(51821), ..Default::default() }).unwrap();
    two.set_up(None).unwrap();
    assert_eq!(two.configure(&config), Err(Error::PortInUse { port: 51820 }));

    // A route that another interface has is not taken over.
    one.set_routes(&nets(&["10.20.0.0/16"])).unwrap();
    let taken = Error::RouteTaken { route: "10.20.0.0/16".parse().unwrap() };
    assert_eq!(two.set_routes(&nets(&["10.20.0.0/16"])), Err(taken));
}

#[test]
#[ignore = "needs root and a kernel with WireGuard"]
fn without_permission_nothing_is_done_and_said() {
    const CHILD: &str = "WG_NETLINK_TEST_UNPRIVILEGED";
    if std::env::var_os(CHILD).is_none() {
        let wg = wg_netlink::open("wgk-root", Want::Kernel).unwrap();
        wg.apply(&puts(0..3)).unwrap();
        let name = "without_permission_nothing_is_done_and_said";
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--ignored", "--nocapture"])
            .env(CHILD, "1")
            .uid(65534)
            .output()
            .unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
        assert_eq!(wg.interface().unwrap().peers.len(), 3);
        wg.remove().unwrap();
        return;
    }
    let wg = wg_netlink::open("wgk-root", Want::Kernel).unwrap();
    let denied = |error: &Error| matches!(error, Error::PermissionDenied { .. });
    assert!(denied(&wg.interface().unwrap_err()));
    assert!(denied(&wg.stats(&mut |_| {}).unwrap_err()));
    assert!(denied(&wg.configure(&InterfaceConfig::default()).unwrap_err()));
    assert!(denied(&wg.set_up(None).unwrap_err()));
    assert!(denied(&wg.set_addresses(&nets(&["10.9.0.1/24"])).unwrap_err()));
    let error = wg.apply(&[PeerUpdate::Remove(key(1))]).unwrap_err();
    assert!(denied(error.cause().unwrap()));
    assert!(denied(&wg.remove().unwrap_err()));
    assert!(denied(&wg_netlink::open("wgk-new", Want::Kernel).unwrap_err()));
}

#[test]
#[ignore = "needs root and a kernel with WireGuard"]
fn packets_pass_are_cut_by_a_lock_and_pass_again_at_once() {
    let (here, there) = (Namespace::new(), Namespace::new());
    here.join(&["192.0.2.1/24", "2001:db8::1/64"], &there, &["192.0.2.2/24", "2001:db8::2/64"]);
    let (server, client) = (open(&here, "wgk"), open(&there, "wgk"));
    for (wg, number, port, addresses) in [
        (&server, 1, 51820, ["10.9.0.1/24", "fd09::1/64"]),
        (&client, 2, 0, ["10.9.0.2/24", "fd09::2/64"]),
    ] {
        let private_key = Some(private(number));
        let listen_port = Some(port);
        wg.configure(&InterfaceConfig { private_key, listen_port, fwmark: None }).unwrap();
        wg.set_addresses(&nets(&addresses)).unwrap();
        wg.set_up(None).unwrap();
    }
    let (server_key, client_key) = (private(1).public_key(), private(2).public_key());
    let ips = nets(&["10.9.0.2/32", "fd09::2/128"]);
    let of_client = PeerConfig {
        preshared_key: Some(psk(1)),
        allowed_ips: ips.clone(),
        ..PeerConfig::new(client_key)
    };
    let of_server = PeerConfig {
        preshared_key: Some(psk(1)),
        endpoint: Some("[2001:db8::1]:51820".parse().unwrap()),
        allowed_ips: nets(&["0.0.0.0/0", "::/0"]),
        ..PeerConfig::new(server_key)
    };
    client.apply(&[PeerUpdate::Put(of_server)]).unwrap();
    assert!(!there.pings("10.9.0.1", 2), "nobody has let the client in");
    server.apply(&[PeerUpdate::Put(of_client)]).unwrap();
    // The client's handshake is repeated 5 s after the one that was refused.
    assert!(there.pings("10.9.0.1", 15));
    assert!(there.pings("fd09::1", 5));
    let stats = assert_wg_agrees(&here, &*server)[0].stats;
    assert!(stats.last_handshake.is_some() && stats.rx_bytes > 0 && stats.tx_bytes > 0);
    assert_eq!(stats.endpoint.unwrap().ip(), "2001:db8::2".parse::<std::net::IpAddr>().unwrap());

    server.apply(&[PeerUpdate::lock(client_key)]).unwrap();
    assert!(!there.pings("10.9.0.1", 2));
    server.apply(&[PeerUpdate::unlock(client_key, ips)]).unwrap();
    assert!(there.pings("10.9.0.1", 1), "without a new handshake");

    // A pre-shared key that is rotated at both ends cuts nothing.
    server.apply(&[PeerUpdate::set_psk(client_key, psk(2))]).unwrap();
    assert!(there.pings("10.9.0.1", 1));
    client.apply(&[PeerUpdate::set_psk(server_key, psk(2))]).unwrap();
    assert!(there.pings("fd09::1", 1));
    let after = server.interface().unwrap().peers[0].stats;
    assert_eq!(after.last_handshake, stats.last_handshake);

    // The default route goes through the tunnel, the tunnel's own packets around it.
    client.set_routes(&nets(&["0.0.0.0/0", "::/0"])).unwrap();
    here.shell("ip address add 203.0.113.1/32 dev lo");
    assert!(there.pings("203.0.113.1", 2));

    server.apply(&[PeerUpdate::Remove(client_key)]).unwrap();
    assert!(!there.pings("10.9.0.1", 2));
    client.remove().unwrap();
    server.remove().unwrap();
}
