use core::num::NonZeroU16;

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_generic::GenlMessage;
use netlink_packet_wireguard::{
    WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAllowedIpFlags,
    WireguardAttribute, WireguardCmd, WireguardDeviceFlags, WireguardMessage, WireguardPeer,
    WireguardPeerAttribute, WireguardPeerFlags,
};
use wg_types::{PeerConfig, PresharedKey, PrivateKey, PublicKey};

use super::super::batch::Packer;
use super::*;

const ALICE: PublicKey = PublicKey::from_bytes([0xa1; 32]);
const BOB: PublicKey = PublicKey::from_bytes([0xb0; 32]);

fn wg0() -> Target {
    Target { family: 0x1c, name: "wg0".to_owned() }
}

fn packed(updates: &[PeerUpdate]) -> Vec<u8> {
    let mut out = Vec::new();
    let target = wg0();
    let mut packer = Packer::new(&target, updates);
    assert_eq!(packer.pack(&mut out, 7), Some(0..updates.len()));
    assert_eq!(packer.pack(&mut out, 8), None);
    out
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// Reads the hexadecimal digits before each line's comment.
fn bytes(annotated: &str) -> Vec<u8> {
    let digits: Vec<char> = annotated
        .lines()
        .filter_map(|line| line.split('#').next())
        .flat_map(str::chars)
        .filter(char::is_ascii_hexdigit)
        .collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap())
        .collect()
}

#[test]
#[cfg(target_endian = "little")]
fn a_psk_update_is_these_bytes() {
    let update = PeerUpdate::set_psk(ALICE, PresharedKey::from_bytes([0x5e; 32]));
    let expected = bytes(
        "74000000 1c00 0500 07000000 00000000   # 116 bytes, family 0x1c, REQUEST|ACK, number 7
         01 01 0000                             # WG_CMD_SET_DEVICE, version 1
         0800 0200 77673000                     # IFNAME 'wg0'
         5800 0880                              #   PEERS, nested, 88 bytes
         5400 0080                              #     a peer, nested, 84 bytes
         2400 0100 a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1 # key
         0800 0300 04000000                     #       UPDATE_ONLY
         2400 0200 5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e # psk",
    );
    assert_eq!(packed(&[update]), expected);
}

#[test]
#[cfg(target_endian = "little")]
fn a_lock_is_a_replacement_by_nothing() {
    let expected = bytes(
        "50000000 1c00 0500 07000000 00000000   # 80 bytes
         01 01 0000
         0800 0200 77673000                     # IFNAME 'wg0'
         3400 0880                              #   PEERS
         3000 0080                              #     a peer
         2400 0100 a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1
         0800 0300 06000000                     #       REPLACE_ALLOWEDIPS|UPDATE_ONLY",
    );
    assert_eq!(packed(&[PeerUpdate::lock(ALICE)]), expected);
}

#[test]
#[cfg(target_endian = "little")]
fn a_whole_peer_is_these_bytes() {
    let update = PeerUpdate::Put(PeerConfig {
        endpoint: Some("192.0.2.1:51820".parse().unwrap()),
        persistent_keepalive: NonZeroU16::new(25),
        allowed_ips: vec![net("10.0.0.1/32")],
        ..PeerConfig::new(ALICE)
    });
    let expected = bytes(
        "b0000000 1c00 0500 07000000 00000000
         01 01 0000
         0800 0200 77673000
         9400 0880
         9000 0080
         2400 0100 a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1
         0800 0300 02000000                     # REPLACE_ALLOWEDIPS
         2400 0200 0000000000000000000000000000000000000000000000000000000000000000 # no psk
         1400 0400 0200 ca6c c0000201 0000000000000000 # endpoint: AF_INET, port 51820, address
         0600 0500 1900 0000                    # keepalive 25 s, padded
         2000 0980                              # ALLOWEDIPS, nested
         1c00 0080                              #   one, nested
         0600 0100 0200 0000                    #     AF_INET
         0800 0200 0a000001                     #     10.0.0.1
         0500 0300 20 000000                    #     /32",
    );
    assert_eq!(packed(&[update]), expected);
}

#[test]
fn a_psk_is_absent_zero_or_itself() {
    let update = |psk| PeerUpdate::Update {
        public_key: ALICE,
        psk,
        allowed_ips: AllowedIpsChange::Keep,
        endpoint: None,
        persistent_keepalive: None,
    };
    assert_eq!(packed(&[update(PskChange::Keep)]).len(), 16 + 4 + 8 + 4 + 4 + 36 + 8);
    assert!(packed(&[update(PskChange::Clear)]).ends_with(&[0; 32]));
    let set = packed(&[update(PskChange::Set(PresharedKey::from_bytes([0x5e; 32])))]);
    assert!(set.ends_with(&[0x5e; 32]));
}

#[test]
fn only_zero_seconds_turn_keepalives_off() {
    assert_eq!(keepalive_seconds(Duration::ZERO), 0);
    assert_eq!(keepalive_seconds(Duration::from_millis(1)), 1);
    assert_eq!(keepalive_seconds(Duration::from_secs(25)), 25);
    assert_eq!(keepalive_seconds(Duration::MAX), u16::MAX);
}

/// What netlink-packet-wireguard writes for the same request.
fn oracle(attributes: Vec<WireguardAttribute>) -> Vec<u8> {
    let message = WireguardMessage { cmd: WireguardCmd::SetDevice, attributes };
    let mut generic = GenlMessage::from_payload(message);
    generic.set_resolved_family_id(0x1c);
    let mut netlink = NetlinkMessage::from(generic);
    netlink.header.flags = NLM_F_REQUEST | NLM_F_ACK;
    netlink.header.sequence_number = 7;
    netlink.finalize();
    let mut bytes = vec![0; netlink.buffer_len()];
    netlink.serialize(&mut bytes);
    bytes
}

fn name() -> WireguardAttribute {
    WireguardAttribute::IfName("wg0".to_owned())
}

fn ip(family: WireguardAddressFamily, net: &IpNet, is_removal: bool) -> WireguardAllowedIp {
    let mut attributes = vec![
        WireguardAllowedIpAttr::Family(family),
        WireguardAllowedIpAttr::IpAddr(net.addr()),
        WireguardAllowedIpAttr::Cidr(net.prefix_len()),
    ];
    if is_removal {
        attributes.push(WireguardAllowedIpAttr::Flags(WireguardAllowedIpFlags::RemoveMe));
    }
    WireguardAllowedIp(attributes)
}

#[test]
fn another_encoder_writes_the_same_peers() {
    let (v4, v6) = (net("10.0.0.0/24"), net("2001:db8::/32"));
    let at = "[2001:db8::7]:9".parse().unwrap();
    let updates = [
        PeerUpdate::Put(PeerConfig {
            preshared_key: Some(PresharedKey::from_bytes([9; 32])),
            endpoint: Some(at),
            persistent_keepalive: NonZeroU16::new(300),
            allowed_ips: vec![v4, v6],
            ..PeerConfig::new(ALICE)
        }),
        PeerUpdate::Remove(BOB),
        PeerUpdate::Update {
            public_key: ALICE,
            psk: PskChange::Keep,
            allowed_ips: AllowedIpsChange::Remove(vec![v4]),
            endpoint: Some("192.0.2.9:1".parse().unwrap()),
            persistent_keepalive: Some(Duration::ZERO),
        },
    ];
    let peers = vec![
        WireguardPeer(vec![
            WireguardPeerAttribute::PublicKey(*ALICE.as_bytes()),
            WireguardPeerAttribute::Flags(WireguardPeerFlags::ReplaceAllowedIps),
            WireguardPeerAttribute::PresharedKey([9; 32]),
            WireguardPeerAttribute::Endpoint(at),
            WireguardPeerAttribute::PersistentKeepalive(300),
            WireguardPeerAttribute::AllowedIps(vec![
                ip(WireguardAddressFamily::Ipv4, &v4, false),
                ip(WireguardAddressFamily::Ipv6, &v6, false),
            ]),
        ]),
        WireguardPeer(vec![
            WireguardPeerAttribute::PublicKey(*BOB.as_bytes()),
            WireguardPeerAttribute::Flags(WireguardPeerFlags::RemoveMe),
        ]),
        WireguardPeer(vec![
            WireguardPeerAttribute::PublicKey(*ALICE.as_bytes()),
            WireguardPeerAttribute::Flags(WireguardPeerFlags::UpdateOnly),
            WireguardPeerAttribute::Endpoint("192.0.2.9:1".parse().unwrap()),
            WireguardPeerAttribute::PersistentKeepalive(0),
            WireguardPeerAttribute::AllowedIps(vec![ip(WireguardAddressFamily::Ipv4, &v4, true)]),
        ]),
    ];
    assert_eq!(packed(&updates), oracle(vec![name(), WireguardAttribute::Peers(peers)]));
}

#[test]
fn another_encoder_writes_the_same_interface() {
    let key = PrivateKey::from_bytes([0x42; 32]);
    let secret = *key.expose_secret();
    let config =
        InterfaceConfig { private_key: Some(key), listen_port: Some(51820), fwmark: Some(0xca6c) };
    let mut out = vec![1, 2, 3];
    set_device(&mut out, &wg0(), 7, &config);
    let expected = oracle(vec![
        name(),
        WireguardAttribute::PrivateKey(secret),
        WireguardAttribute::ListenPort(51820),
        WireguardAttribute::Fwmark(0xca6c),
    ]);
    assert_eq!(out, expected);
}

#[test]
fn another_encoder_removes_all_peers_with_the_same_bytes() {
    let mut out = vec![1, 2, 3];
    remove_all_peers(&mut out, &wg0(), 7);
    let flags = WireguardAttribute::Flags(WireguardDeviceFlags::ReplacePeers);
    assert_eq!(out, oracle(vec![name(), flags]));
}

#[test]
fn another_decoder_reads_a_message_back() {
    let message = packed(&[PeerUpdate::Remove(ALICE)]);
    let read = NetlinkMessage::<GenlMessage<WireguardMessage>>::deserialize(&message).unwrap();
    let NetlinkPayload::InnerMessage(read) = read.payload else { panic!("no message") };
    assert_eq!(read.payload.cmd, WireguardCmd::SetDevice);
    assert_eq!(read.payload.attributes[0], name());
}
