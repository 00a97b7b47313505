use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use wg_types::{PeerConfig, PresharedKey, PublicKey};

use super::*;

fn key(number: u32) -> PublicKey {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    PublicKey::from_bytes(bytes)
}

fn wg0() -> Target {
    Target { family: 0x1c, name: "wg0".to_owned() }
}

fn nets(count: u32) -> Vec<IpNet> {
    (0..count).map(|host| IpNet::new(std::net::Ipv4Addr::from(host).into(), 32).unwrap()).collect()
}

fn pack(updates: &[PeerUpdate], limit: usize) -> Vec<(Range<usize>, Vec<u8>)> {
    let target = wg0();
    let mut packer = Packer::new(&target, updates).with_limit(limit);
    let mut messages = Vec::new();
    let mut out = Vec::new();
    while let Some(range) = packer.pack(&mut out, 1) {
        messages.push((range, out.clone()));
    }
    messages
}

#[test]
fn seven_hundred_psks_and_more_fit_a_message() {
    let updates: Vec<_> = (0..10_000)
        .map(|number| PeerUpdate::set_psk(key(number), PresharedKey::from_bytes([7; 32])))
        .collect();
    let messages = pack(&updates, MESSAGE_MAX);
    assert_eq!(messages.len(), 13);
    assert!(messages.iter().all(|(_, message)| message.len() <= MESSAGE_MAX));
}

#[test]
fn a_psk_alone_is_written_as_by_the_long_way() {
    let update = PeerUpdate::set_psk(key(1), PresharedKey::from_bytes([7; 32]));
    let (mut short, mut long) = (Vec::new(), Vec::new());
    let (public_key, psk) = encode::psk_alone(&update).unwrap();
    encode::peer_psk(&mut short, public_key, psk);
    assert_eq!(encode::peer(&mut long, &update, &[], 0, MESSAGE_MAX), None);
    assert_eq!(short, long);
    assert_eq!(short.len(), encode::PSK_LEN);
}

#[test]
fn psks_among_others_are_each_in_one_message() {
    let psk = |number| PeerUpdate::set_psk(key(number), PresharedKey::from_bytes([7; 32]));
    let updates = [psk(1), psk(2), PeerUpdate::Remove(key(3)), psk(4), psk(5)];
    for limit in 64..600 {
        let packed = pack(&updates, limit);
        let ranges: Vec<_> = packed.iter().map(|(range, _)| range.clone()).collect();
        assert_eq!(ranges.iter().flat_map(Clone::clone).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        let length = |range: &Range<usize>| {
            range.clone().map(|at| if at == 2 { 48 } else { 84 }).sum::<usize>()
        };
        for (range, message) in &packed {
            assert_eq!(message.len(), 32 + length(range));
            assert!(range.len() == 1 || message.len() <= limit);
        }
    }
}

#[test]
fn no_updates_are_no_message() {
    assert!(pack(&[], MESSAGE_MAX).is_empty());
}

#[test]
fn a_peer_that_is_too_big_for_a_message_is_cut() {
    let config = PeerConfig { allowed_ips: nets(5000), ..PeerConfig::new(key(1)) };
    let updates = [PeerUpdate::Put(config), PeerUpdate::Remove(key(2))];
    let ranges: Vec<_> = pack(&updates, MESSAGE_MAX).into_iter().map(|(range, _)| range).collect();
    assert_eq!(ranges, [0..1, 0..1, 0..2]);
}

proptest! {
    /// Every message keeps its limit, and together they hold every update once and in order.
    #[test]
    fn messages_hold_all_of_it(sizes in vec(0..40_u32, 0..40), limit in 400..3000_usize) {
        let updates: Vec<_> = sizes
            .iter()
            .zip(0..)
            .map(|(&size, number)| {
                PeerUpdate::Put(PeerConfig { allowed_ips: nets(size), ..PeerConfig::new(key(number)) })
            })
            .collect();
        let messages = pack(&updates, limit);
        let mut next = 0;
        for (range, message) in &messages {
            prop_assert!(message.len() <= limit);
            prop_assert!(range.start == next || range.start + 1 == next);
            next = range.end;
        }
        prop_assert_eq!(next, updates.len());
        // Each allowed IP is 28 bytes, and their nests' families say how many there are.
        let family = [6, 0, 1, 0, 2, 0, 0, 0];
        let written: usize = messages
            .iter()
            .map(|(_, message)| message.windows(8).filter(|window| *window == family).count())
            .sum();
        let wanted: u32 = sizes.iter().sum();
        prop_assert_eq!(u32::try_from(written).unwrap(), wanted);
    }
}
