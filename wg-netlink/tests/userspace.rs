//! The userspace backend on real TUN devices, with `wg`, `ip` and `ping` as witnesses.
//!
//! `cargo test -p wg-netlink --test userspace -- --ignored`, as root.
#![cfg(feature = "userspace")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on panics")]

use std::sync::Arc;

use ipnet::IpNet;
use wg_netlink::{Error, Want, WireGuard};
use wg_types::{
    InterfaceConfig, PeerConfig, PeerUpdate, PresharedKey, PrivateKey, PskChange, PublicKey,
};

mod common;

use common::Namespace;

fn nets(nets: &[&str]) -> Vec<IpNet> {
    nets.iter().map(|net| net.parse().unwrap()).collect()
}

fn open(namespace: &Namespace, name: &str) -> Arc<dyn WireGuard> {
    let name = name.to_owned();
    Arc::from(namespace.run(move || wg_netlink::open(&name, Want::Userspace)).unwrap())
}

fn set_up(wg: &dyn WireGuard, key: u8, port: u16, addresses: &[&str]) {
    wg.configure(&InterfaceConfig {
        private_key: Some(PrivateKey::from_bytes([key; 32])),
        listen_port: Some(port),
        fwmark: None,
    })
    .unwrap();
    wg.set_addresses(&nets(addresses)).unwrap();
    wg.set_up(None).unwrap();
}

fn public(key: u8) -> PublicKey {
    PrivateKey::from_bytes([key; 32]).public_key()
}

fn peer(key: u8, psk: u8, allowed_ips: &[&str], endpoint: Option<&str>) -> PeerConfig {
    PeerConfig {
        preshared_key: (psk > 0).then(|| PresharedKey::from_bytes([psk; 32])),
        endpoint: endpoint.map(|text| text.parse().unwrap()),
        allowed_ips: nets(allowed_ips),
        ..PeerConfig::new(public(key))
    }
}

#[test]
#[ignore = "needs root, /dev/net/tun, wg and ping"]
fn two_ends_meet_over_both_families_and_part_when_locked() {
    let (here, there) = (Namespace::new(), Namespace::new());
    here.join(&["192.0.2.1/24", "2001:db8::1/64"], &there, &["192.0.2.2/24", "2001:db8::2/64"]);
    let (server, client) = (open(&here, "wgt-server"), open(&there, "wgt-client"));
    set_up(&*server, 1, 51820, &["10.9.0.1/24", "fd09::1/64"]);
    set_up(&*client, 2, 0, &["10.9.0.2/24", "fd09::2/64"]);
    let ips = ["10.9.0.2/32", "fd09::2/128"];
    let server_ips = ["10.9.0.1/32", "fd09::1/128"];
    let at = "[2001:db8::1]:51820";

    client.apply(&[PeerUpdate::Put(peer(1, 7, &server_ips, Some(at)))]).unwrap();
    assert!(!there.pings("10.9.0.1", 2), "nobody has let the client in");

    server.apply(&[PeerUpdate::Put(peer(2, 7, &ips, None))]).unwrap();
    assert!(there.pings("10.9.0.1", 20));
    assert!(there.pings("fd09::1", 5));

    // What `wg` tells is what we tell.
    let dump = here.shell("wg show wgt-server dump");
    let fields: Vec<&str> = dump.lines().nth(1).unwrap().split('\t').collect();
    let interface = server.interface().unwrap();
    assert_eq!((interface.listen_port, interface.public_key), (51820, Some(public(1))));
    let found = &interface.peers[0];
    assert_eq!(fields[0], public(2).to_string());
    assert_eq!(fields[1], PresharedKey::from_bytes([7; 32]).expose_base64().as_str());
    assert_eq!(fields[2], found.stats.endpoint.unwrap().to_string());
    assert_eq!(fields[3], "10.9.0.2/32,fd09::2/128");
    assert_eq!(fields[5], found.stats.rx_bytes.to_string());
    assert!(found.stats.last_handshake.is_some() && found.stats.tx_bytes > 0);

    // What changes nothing leaves the session alone.
    server.apply(&[PeerUpdate::Put(peer(2, 7, &ips, None))]).unwrap();
    assert!(server.interface().unwrap().peers[0].stats.rx_bytes > 0);
    assert!(there.pings("10.9.0.1", 2));

    server.apply(&[PeerUpdate::lock(public(2))]).unwrap();
    assert!(!there.pings("10.9.0.1", 2), "a locked peer's packets do not pass");
    assert!(server.missing(&[public(2)]).unwrap().is_empty());

    server.apply(&[PeerUpdate::unlock(public(2), nets(&ips))]).unwrap();
    // The peer was made anew, so both shake hands again; here the client is told to.
    client.apply(&[PeerUpdate::Remove(public(1))]).unwrap();
    client.apply(&[PeerUpdate::Put(peer(1, 7, &server_ips, Some(at)))]).unwrap();
    assert!(there.pings("10.9.0.1", 20));

    server.apply(&[PeerUpdate::Remove(public(2))]).unwrap();
    assert!(!there.pings("10.9.0.1", 2));
    assert_eq!(server.missing(&[public(2)]).unwrap(), [public(2)]);

    // A wrong pre-shared key lets nobody in.
    server.apply(&[PeerUpdate::Put(peer(2, 8, &ips, None))]).unwrap();
    client.apply(&[PeerUpdate::Remove(public(1))]).unwrap();
    client.apply(&[PeerUpdate::Put(peer(1, 7, &server_ips, Some(at)))]).unwrap();
    assert!(!there.pings("10.9.0.1", 3));
}

#[test]
#[ignore = "needs root, /dev/net/tun and wg"]
fn peers_are_changed_as_the_kernel_would() {
    let namespace = Namespace::new();
    let wg = open(&namespace, "wgt-change");
    set_up(&*wg, 1, 0, &[]);
    let all = [
        PeerUpdate::Put(peer(2, 0, &["10.9.0.2/32"], None)),
        PeerUpdate::Put(peer(3, 7, &["10.9.0.2/32", "10.9.1.1/24"], None)),
        PeerUpdate::Put(peer(1, 0, &["10.9.0.9/32"], None)),
        PeerUpdate::set_psk(public(9), PresharedKey::from_bytes([1; 32])),
    ];
    wg.apply(&all).unwrap();
    let peers = wg.interface().unwrap().peers;
    assert_eq!(peers.len(), 2, "neither oneself nor who is not there becomes a peer");
    let of = |key| peers.iter().find(|peer| peer.config.public_key == public(key)).unwrap();
    assert_eq!(of(2).config.allowed_ips, [], "an allowed IP moves to who got it last");
    assert_eq!(of(3).config.allowed_ips, nets(&["10.9.0.2/32", "10.9.1.0/24"]));
    assert!(of(2).config.preshared_key.is_none() && of(3).config.preshared_key.is_some());

    let clear = PeerUpdate::Update {
        public_key: public(3),
        psk: PskChange::Clear,
        allowed_ips: wg_types::AllowedIpsChange::Remove(nets(&["10.9.1.0/24"])),
        endpoint: Some("[2001:db8::9]:1".parse().unwrap()),
        persistent_keepalive: Some(std::time::Duration::from_secs(25)),
    };
    wg.apply(&[clear]).unwrap();
    let shown = namespace.shell("wg show wgt-change dump");
    let line = shown.lines().find(|line| line.starts_with(&public(3).to_string())).unwrap();
    let expected = format!("{}\t(none)\t[2001:db8::9]:1\t10.9.0.2/32\t0\t0\t0\t25", public(3));
    assert_eq!(line, expected);
    namespace.shell(&format!("wg show wgt-change peers | grep -q '{}'", public(2)));
}

#[test]
#[ignore = "needs root and /dev/net/tun"]
fn what_stands_in_the_way_is_named() {
    let namespace = Namespace::new();
    let wg = open(&namespace, "wgt-once");
    let again = namespace.run(|| wg_netlink::open("wgt-once", Want::Userspace));
    assert_eq!(again.err(), Some(Error::InUse { name: "wgt-once".to_owned() }));
    namespace.shell("ip link add wgt-dummy type veth peer name wgt-peer");
    let taken = namespace.run(|| wg_netlink::open("wgt-dummy", Want::Userspace));
    assert_eq!(taken.err(), Some(Error::NameTaken { name: "wgt-dummy".to_owned() }));
    let number = namespace.run(|| wg_netlink::open("7", Want::Userspace));
    assert_eq!(number.err(), Some(Error::BadName { name: "7".to_owned() }));

    let busy = namespace.run(|| {
        let taken = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        (taken, port)
    });
    let wg: Arc<dyn WireGuard> = wg;
    let (wg, port) = (Arc::clone(&wg), busy.1);
    let config = InterfaceConfig { listen_port: Some(port), ..Default::default() };
    let asked = Arc::clone(&wg);
    let refused = namespace.run(move || asked.configure(&config));
    assert_eq!(refused, Err(Error::PortInUse { port }));

    wg.remove().unwrap();
    wg.remove().unwrap();
    assert_eq!(wg.interface().unwrap_err(), Error::NoSuchInterface { name: "wgt-once".to_owned() });
    assert!(!namespace.shell("ip -br link").contains("wgt-once"));
    drop(open(&namespace, "wgt-once"));
}

#[test]
#[ignore = "needs root and /dev/net/tun"]
fn addresses_routes_and_rules_become_what_is_asked() {
    let namespace = Namespace::new();
    let wg = open(&namespace, "wgt-routes");
    set_up(&*wg, 1, 0, &["10.9.0.1/24", "fd09::1/64"]);
    wg.set_up(Some(1380)).unwrap();
    assert!(namespace.shell("ip link show wgt-routes").contains("mtu 1380"));
    wg.set_addresses(&nets(&["10.9.0.2/24", "10.9.0.3/24", "fd09::2/64"])).unwrap();
    let shown = namespace.shell("ip -br address show wgt-routes");
    for address in ["10.9.0.2/24", "10.9.0.3/24", "fd09::2/64"] {
        assert!(shown.contains(address), "{shown}");
    }
    assert!(!shown.contains("10.9.0.1/24") && !shown.contains("fd09::1/64"), "{shown}");

    wg.set_routes(&nets(&["10.20.0.0/16", "fd20::/32", "10.9.0.0/24"])).unwrap();
    assert!(namespace.shell("ip route").contains("10.20.0.0/16 dev wgt-routes proto 87"));
    assert!(namespace.shell("ip -6 route").contains("fd20::/32 dev wgt-routes proto 87"));
    assert!(namespace.shell("ip rule").lines().count() == 3, "no default route, no rule");

    wg.set_routes(&nets(&["0.0.0.0/0", "::/0", "10.21.0.0/16"])).unwrap();
    wg.set_routes(&nets(&["0.0.0.0/0", "::/0", "10.21.0.0/16"])).unwrap();
    let routes = namespace.shell("ip route; ip -6 route");
    assert!(!routes.contains("10.20.0.0/16") && !routes.contains("fd20::/32"), "{routes}");
    let mark = wg.interface().unwrap().fwmark.unwrap();
    for version in ["-4", "-6"] {
        let rules = namespace.shell(&format!("ip {version} rule"));
        let tunnel = format!("32765:\tnot from all fwmark 0x{mark:x} lookup {mark}");
        assert!(rules.contains(&tunnel), "{rules}");
        assert!(rules.contains("32764:\tfrom all lookup main suppress_prefixlength 0"), "{rules}");
        let table = namespace.shell(&format!("ip {version} route show table {mark}"));
        assert!(table.contains("default dev wgt-routes"), "{table}");
    }
    // The tunnel's own packets go around it.
    let outside = Namespace::new();
    namespace.join(&["192.0.2.1/24"], &outside, &[]);
    namespace.shell("ip route add default via 192.0.2.254");
    assert!(namespace.shell("ip route get 203.0.113.1").contains("dev wgt-routes"));
    let own = format!("ip route get 203.0.113.1 mark {mark}");
    assert!(namespace.shell(&own).contains("dev eth0"));

    wg.set_routes(&nets(&["::/0"])).unwrap();
    assert_eq!(namespace.shell("ip rule").lines().count(), 3);
    wg.remove().unwrap();
    assert_eq!(namespace.shell("ip -6 rule").lines().count(), 2);
    assert!(namespace.shell("ip route get 203.0.113.1").contains("dev eth0"));
}

#[test]
#[ignore = "needs root and /dev/net/tun"]
fn signals_still_reach_the_process() {
    let namespace = Namespace::new();
    let wg = open(&namespace, "wgt-signal");
    let status = namespace.shell("cat /proc/$PPID/task/*/status | grep -c SigBlk");
    assert!(status.trim().parse::<u32>().unwrap() > 1);
    // The bits of SIGINT (2) and SIGTERM (15).
    let blocked = namespace.run(|| std::fs::read_to_string("/proc/thread-self/status").unwrap());
    let mask = blocked.lines().find_map(|line| line.strip_prefix("SigBlk:\t")).unwrap();
    assert_eq!(u64::from_str_radix(mask, 16).unwrap() & 0x4002, 0);
    drop(wg);
}
