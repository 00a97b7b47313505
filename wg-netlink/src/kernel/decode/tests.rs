use netlink_packet_core::Emitable as _;
use netlink_packet_wireguard::{
    WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAttribute,
    WireguardCmd, WireguardMessage, WireguardPeer, WireguardPeerAttribute, WireguardTimeSpec,
};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const ALICE: PublicKey = PublicKey::from_bytes([0xa1; 32]);
const BOB: PublicKey = PublicKey::from_bytes([0xb0; 32]);

fn empty() -> Interface {
    Interface {
        name: "wg0".to_owned(),
        public_key: None,
        listen_port: 0,
        fwmark: None,
        peers: Vec::new(),
    }
}

/// What the kernel would send, as netlink-packet-wireguard writes it, behind a `genlmsghdr`.
fn answer(attributes: Vec<WireguardAttribute>) -> Vec<u8> {
    let message = WireguardMessage { cmd: WireguardCmd::GetDevice, attributes };
    let mut bytes = vec![0; GENL_HEADER + message.buffer_len()];
    message.emit(&mut bytes[GENL_HEADER..]);
    bytes
}

fn ip(address: &str, prefix: u8) -> WireguardAllowedIp {
    let address: IpAddr = address.parse().unwrap();
    let family = match address {
        IpAddr::V4(_) => WireguardAddressFamily::Ipv4,
        IpAddr::V6(_) => WireguardAddressFamily::Ipv6,
    };
    WireguardAllowedIp(vec![
        WireguardAllowedIpAttr::Family(family),
        WireguardAllowedIpAttr::IpAddr(address),
        WireguardAllowedIpAttr::Cidr(prefix),
    ])
}

fn whole(key: PublicKey, ips: Vec<WireguardAllowedIp>) -> WireguardPeer {
    WireguardPeer(vec![
        WireguardPeerAttribute::PublicKey(*key.as_bytes()),
        WireguardPeerAttribute::PresharedKey([0x5e; 32]),
        WireguardPeerAttribute::Endpoint("[2001:db8::7%3]:9".parse().unwrap()),
        WireguardPeerAttribute::PersistentKeepalive(25),
        WireguardPeerAttribute::LastHandshake(WireguardTimeSpec { seconds: 12, nano_seconds: 5 }),
        WireguardPeerAttribute::RxBytes(1 << 40),
        WireguardPeerAttribute::TxBytes(2),
        WireguardPeerAttribute::ProtocolVersion(1),
        WireguardPeerAttribute::AllowedIps(ips),
    ])
}

/// As the kernel continues a peer: its key and more allowed IPs.
fn rest(key: PublicKey, ips: Vec<WireguardAllowedIp>) -> WireguardPeer {
    WireguardPeer(vec![
        WireguardPeerAttribute::PublicKey(*key.as_bytes()),
        WireguardPeerAttribute::AllowedIps(ips),
    ])
}

#[test]
fn another_encoders_interface_is_read() {
    let bytes = answer(vec![
        WireguardAttribute::IfIndex(3),
        WireguardAttribute::IfName("wg0".to_owned()),
        WireguardAttribute::PrivateKey([0x42; 32]),
        WireguardAttribute::PublicKey(*BOB.as_bytes()),
        WireguardAttribute::ListenPort(51820),
        WireguardAttribute::Fwmark(7),
        WireguardAttribute::Peers(vec![whole(ALICE, vec![ip("10.0.0.1", 32), ip("fd00::", 64)])]),
    ]);
    let mut interface = empty();
    device(&bytes, &mut interface).unwrap();
    assert_eq!(interface.public_key, Some(BOB));
    assert_eq!((interface.listen_port, interface.fwmark), (51820, NonZeroU32::new(7)));
    let [peer] = interface.peers.as_slice() else { panic!("{interface:?}") };
    let psk = peer.config.preshared_key.as_ref().unwrap();
    assert!(psk.same_as(&PresharedKey::from_bytes([0x5e; 32])));
    assert_eq!(peer.config.endpoint, Some("[2001:db8::7%3]:9".parse().unwrap()));
    assert_eq!(peer.config.persistent_keepalive, NonZeroU16::new(25));
    let ips: Vec<IpNet> = vec!["10.0.0.1/32".parse().unwrap(), "fd00::/64".parse().unwrap()];
    assert_eq!(peer.config.allowed_ips, ips);
    let at = SystemTime::UNIX_EPOCH + Duration::new(12, 5);
    assert_eq!(peer.stats.last_handshake, Some(at));
    assert_eq!((peer.stats.rx_bytes, peer.stats.tx_bytes), (1 << 40, 2));
    assert_eq!(peer.stats.endpoint, peer.config.endpoint);
}

#[test]
fn an_interface_without_peers_is_read_alone() {
    let bytes = answer(vec![
        WireguardAttribute::ListenPort(9),
        WireguardAttribute::Peers(vec![whole(ALICE, Vec::new())]),
    ]);
    let mut interface = empty();
    device_alone(&bytes, &mut interface).unwrap();
    assert_eq!((interface.listen_port, interface.peers.len()), (9, 0));
}

#[test]
fn a_peer_that_spans_messages_is_one() {
    let messages = [
        vec![whole(BOB, Vec::new()), whole(ALICE, vec![ip("10.0.0.1", 32)])],
        vec![rest(ALICE, vec![ip("10.0.0.2", 32)])],
        vec![rest(ALICE, vec![ip("10.0.0.3", 32)]), whole(BOB, Vec::new())],
    ];
    let (mut interface, mut last, mut seen) = (empty(), None, Vec::new());
    let (mut held, mut whole) = (None, Vec::new());
    for message in messages {
        let bytes = answer(vec![WireguardAttribute::Peers(message)]);
        device(&bytes, &mut interface).unwrap();
        each_peer(&bytes, &mut held, &mut |peer| whole.push(format!("{peer:?}"))).unwrap();
        stats(&bytes, &mut last, &mut |stats| seen.push(*stats)).unwrap();
    }
    let keys: Vec<_> = interface.peers.iter().map(|peer| peer.config.public_key).collect();
    assert_eq!(keys, [BOB, ALICE, BOB]);
    assert_eq!(interface.peers[1].config.allowed_ips.len(), 3);
    let shown: Vec<_> = interface.peers.iter().map(|peer| peer.stats).collect();
    assert_eq!(seen, shown);
    whole.push(format!("{:?}", held.unwrap()));
    let kept: Vec<_> = interface.peers.iter().map(|peer| format!("{peer:?}")).collect();
    assert_eq!(whole, kept);
    assert_eq!(seen[1].rx_bytes, 1 << 40);
}

/// As Linux writes a peer since 5.6, which is not the order of the others here.
fn usual(key: PublicKey, endpoint: Option<&str>, ips: Vec<WireguardAllowedIp>) -> WireguardPeer {
    let mut attributes = vec![
        WireguardPeerAttribute::PublicKey(*key.as_bytes()),
        WireguardPeerAttribute::PresharedKey([0x5e; 32]),
        WireguardPeerAttribute::LastHandshake(WireguardTimeSpec { seconds: 12, nano_seconds: 5 }),
        WireguardPeerAttribute::PersistentKeepalive(25),
        WireguardPeerAttribute::TxBytes(2),
        WireguardPeerAttribute::RxBytes(1 << 40),
        WireguardPeerAttribute::ProtocolVersion(1),
    ];
    attributes.extend(endpoint.map(|at| WireguardPeerAttribute::Endpoint(at.parse().unwrap())));
    attributes.push(WireguardPeerAttribute::AllowedIps(ips));
    WireguardPeer(attributes)
}

#[test]
fn the_usual_order_is_read_as_any_other_is() {
    let ips = || vec![ip("10.0.0.1", 32), ip("fd00::", 64)];
    for endpoint in [None, Some("192.0.2.1:9"), Some("[2001:db8::7%3]:9")] {
        let WireguardPeer(mut shuffled) = usual(ALICE, endpoint, ips());
        let straight = answer(vec![WireguardAttribute::Peers(vec![usual(ALICE, endpoint, ips())])]);
        let expected = read(&straight);
        let first = Attributes(&straight[GENL_HEADER..]).next().unwrap().1;
        let (_, peer) = Attributes(first).next().unwrap();
        assert!(Usual::split(peer).is_some(), "the short way is not taken at all");
        for _ in 0..shuffled.len() {
            shuffled.rotate_left(1);
            let peers = vec![WireguardPeer(shuffled.clone())];
            let bytes = answer(vec![WireguardAttribute::Peers(peers)]);
            assert_eq!(read(&bytes), expected);
        }
    }
}

/// All that every reader makes of a message, in words, and that they agree.
fn read(bytes: &[u8]) -> String {
    let (mut interface, mut held, mut seen) = (empty(), None, Vec::new());
    device(bytes, &mut interface).unwrap();
    stats(bytes, &mut None, &mut |stats| seen.push(*stats)).unwrap();
    each_peer(bytes, &mut held, &mut |_| panic!("the last one is held")).unwrap();
    let [peer] = interface.peers.as_slice() else { panic!("{interface:?}") };
    assert_eq!(seen, [peer.stats]);
    let text = |peer: &Peer| {
        let psk = peer.config.preshared_key.as_ref().map(PresharedKey::expose_base64);
        format!("{peer:?} {psk:?}")
    };
    assert_eq!(text(&held.unwrap()), text(peer));
    text(peer)
}

#[test]
fn never_is_none() {
    let peer = WireguardPeer(vec![
        WireguardPeerAttribute::PublicKey(*ALICE.as_bytes()),
        WireguardPeerAttribute::PresharedKey([0; 32]),
        WireguardPeerAttribute::PersistentKeepalive(0),
        WireguardPeerAttribute::LastHandshake(WireguardTimeSpec { seconds: 0, nano_seconds: 0 }),
    ]);
    let mut interface = empty();
    let bytes = answer(vec![WireguardAttribute::Fwmark(0), WireguardAttribute::Peers(vec![peer])]);
    device(&bytes, &mut interface).unwrap();
    let peer = &interface.peers[0];
    assert_eq!(peer.stats.last_handshake, None);
    assert!(peer.config.preshared_key.is_none());
    assert_eq!((peer.config.endpoint, peer.config.persistent_keepalive), (None, None));
    assert_eq!(interface.fwmark, None);
}

#[test]
fn a_peer_without_a_whole_key_is_an_error() {
    let nameless = WireguardPeer(vec![WireguardPeerAttribute::RxBytes(1)]);
    let bytes = answer(vec![WireguardAttribute::Peers(vec![nameless])]);
    let missing = DecodeError::Missing { kind: WGPEER_A_PUBLIC_KEY };
    assert_eq!(device(&bytes, &mut empty()), Err(missing));

    let mut bytes = answer(vec![WireguardAttribute::Peers(vec![rest(ALICE, Vec::new())])]);
    // genlmsghdr, PEERS, peer: then the key's own length, shortened by one.
    bytes[12] = 35;
    let size = DecodeError::Size { kind: WGPEER_A_PUBLIC_KEY };
    assert_eq!(stats(&bytes, &mut None, &mut |_| {}), Err(size));
}

#[test]
fn an_unknown_attribute_is_skipped() {
    let mut bytes = vec![0; GENL_HEADER];
    bytes.extend_from_slice(&[5, 0, 99, 0, 1, 0, 0, 0]); // attribute 99: one byte, padded
    bytes.extend_from_slice(&[6, 0, 6, 0, 0x6c, 0xca, 0, 0]); // LISTEN_PORT 51820
    let mut interface = empty();
    device(&bytes, &mut interface).unwrap();
    #[cfg(target_endian = "little")]
    assert_eq!(interface.listen_port, 51820);
}

#[test]
#[cfg(target_endian = "little")]
fn an_error_gives_its_number_and_its_words() {
    let mut bytes = vec![
        68, 0, 0, 0, 2, 0, 0, 3, 7, 0, 0, 0, 0, 0, 0,
        0, // NLMSG_ERROR, CAPPED|ACK_TLVS, number 7
        0xea, 0xff, 0xff, 0xff, // -22
    ];
    bytes.extend_from_slice(&[0; 16]); // the request's header
    bytes.extend_from_slice(&[16, 0, 1, 0]); // NLMSGERR_ATTR_MSG
    bytes.extend_from_slice(b"bad flower\0\0");
    bytes.extend_from_slice(&[16, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let message = Messages(&bytes).next().unwrap().unwrap();
    assert_eq!((message.kind, message.sequence), (super::super::abi::NLMSG_ERROR, 7));
    assert_eq!(acknowledgement(&message), Ok((22, "bad flower".to_owned())));
}

#[test]
fn a_cut_answer_is_an_error_at_every_length() {
    let bytes = answer(vec![WireguardAttribute::Peers(vec![whole(ALICE, vec![ip("fd00::", 64)])])]);
    for len in GENL_HEADER + 1..bytes.len() {
        assert!(device(&bytes[..len], &mut empty()).is_err(), "{len}");
    }
}

proptest! {
    #[test]
    fn any_bytes_give_a_value_or_an_error(bytes in vec(any::<u8>(), 0..512)) {
        let mut count = 0;
        for message in Messages(&bytes) {
            if let Ok(message) = message {
                let _ = acknowledgement(&message);
            }
            count += 1;
        }
        prop_assert!(count <= bytes.len());
        let _ = family(&bytes);
        let _ = device(&bytes, &mut empty());
        let _ = device_alone(&bytes, &mut empty());
        let _ = stats(&bytes, &mut None, &mut |_| {});
        let _ = each_peer(&bytes, &mut None, &mut |_| {});
    }

    #[test]
    fn a_damaged_answer_gives_a_value_or_an_error(at in 0..300_usize, byte in any::<u8>()) {
        let ips = vec![ip("10.0.0.1", 32), ip("fd00::", 64)];
        let mut bytes = answer(vec![
            WireguardAttribute::PublicKey(*BOB.as_bytes()),
            WireguardAttribute::Peers(vec![usual(ALICE, Some("192.0.2.1:9"), ips)]),
        ]);
        let at = at % bytes.len();
        bytes[at] = byte;
        let (mut interface, mut held, mut seen) = (empty(), None, Vec::new());
        let read = device(&bytes, &mut interface);
        let counted = stats(&bytes, &mut None, &mut |stats| seen.push(*stats));
        let shown = each_peer(&bytes, &mut held, &mut |_| {});
        let alone = device_alone(&bytes, &mut empty());
        // Each judges what it reads: the interface, its peers, or both. Statistics are read without
        // a look at allowed IPs.
        prop_assert_eq!(read.is_ok(), shown.is_ok() && alone.is_ok());
        if read.is_ok() {
            prop_assert!(counted.is_ok());
            let stats: Vec<_> = interface.peers.iter().map(|peer| peer.stats).collect();
            prop_assert_eq!(seen, stats);
        }
    }
}
