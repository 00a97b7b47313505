//! From what is to what should be, in the fewest updates. Pure.

use std::collections::{BTreeMap, BTreeSet};

use core::time::Duration;

use ipnet::IpNet;
use wg_types::{
    AllowedIpsChange, Peer, PeerConfig, PeerUpdate, PresharedKey, PskChange, PublicKey,
};

/// Finds the updates that make the peers of an interface be exactly `desired`.
///
/// Peers that are not desired are removed; those are first, so that their allowed IPs are free.
/// A peer that is right is left alone. Of one that is not only that is changed which differs, so
/// that its session goes on. Pre-shared keys are compared by value. An endpoint that is not desired
/// (`None`) stays as the peer was last heard; one that is desired is set if the peer is elsewhere,
/// so leave it out for peers that roam.
///
/// If two desired peers want one allowed IP, the later one in `desired` has it.
///
/// ```
/// use wg_netlink::diff::diff;
/// use wg_types::{PeerConfig, PeerUpdate, PublicKey};
///
/// let alice = PeerConfig::new(PublicKey::from_bytes([1; 32]));
/// assert!(matches!(diff(&[], &[alice]).as_slice(), [PeerUpdate::Put(_)]));
/// assert!(diff(&[], &[]).is_empty());
/// ```
#[must_use]
pub fn diff(actual: &[Peer], desired: &[PeerConfig]) -> Vec<PeerUpdate> {
    let wanted: BTreeMap<&PublicKey, &PeerConfig> =
        desired.iter().map(|config| (&config.public_key, config)).collect();
    let found: BTreeMap<&PublicKey, &Peer> =
        actual.iter().map(|peer| (&peer.config.public_key, peer)).collect();
    let owners: BTreeMap<IpNet, &PublicKey> = desired
        .iter()
        .filter(|config| is_last(&wanted, config))
        .flat_map(|config| config.allowed_ips.iter().map(|net| (net.trunc(), &config.public_key)))
        .collect();
    let removals =
        found.keys().filter(|key| !wanted.contains_key(*key)).map(|key| PeerUpdate::Remove(**key));
    let changes = desired.iter().filter(|config| is_last(&wanted, config)).filter_map(|config| {
        let nets = config.allowed_ips.iter().map(IpNet::trunc);
        let own: BTreeSet<_> =
            nets.filter(|net| owners.get(net) == Some(&&config.public_key)).collect();
        match found.get(&config.public_key) {
            None => Some(put(config, &own)),
            Some(peer) => change(&peer.config, config, &own),
        }
    });
    removals.chain(changes).collect()
}

/// Whether two peers are configured alike: the order and host bits of allowed IPs do not count, and
/// a pre-shared key of zeros is none.
#[must_use]
pub fn is_same(one: &PeerConfig, other: &PeerConfig) -> bool {
    one.public_key == other.public_key
        && is_same_psk(one.preshared_key.as_ref(), other.preshared_key.as_ref())
        && one.endpoint == other.endpoint
        && one.persistent_keepalive == other.persistent_keepalive
        && nets(one) == nets(other)
}

/// A new peer, without the allowed IPs that a later one wants.
fn put(config: &PeerConfig, own: &BTreeSet<IpNet>) -> PeerUpdate {
    let mut config = config.clone();
    config.allowed_ips.retain(|net| own.contains(&net.trunc()));
    PeerUpdate::Put(config)
}

/// Whether this is the one that counts if a key is desired more than once.
fn is_last(wanted: &BTreeMap<&PublicKey, &PeerConfig>, config: &PeerConfig) -> bool {
    wanted.get(&config.public_key).is_some_and(|last| core::ptr::eq(*last, config))
}

fn change(actual: &PeerConfig, desired: &PeerConfig, own: &BTreeSet<IpNet>) -> Option<PeerUpdate> {
    let psk = match &desired.preshared_key {
        desired if is_same_psk(actual.preshared_key.as_ref(), desired.as_ref()) => PskChange::Keep,
        Some(psk) => PskChange::Set(psk.clone()),
        None => PskChange::Clear,
    };
    let held = nets(actual);
    let allowed_ips = if held == *own {
        AllowedIpsChange::Keep
    } else if held.is_subset(own) {
        AllowedIpsChange::Add(own.difference(&held).copied().collect())
    } else {
        AllowedIpsChange::Replace(own.iter().copied().collect())
    };
    let endpoint = desired.endpoint.filter(|endpoint| actual.endpoint != Some(*endpoint));
    let persistent_keepalive = (actual.persistent_keepalive != desired.persistent_keepalive)
        .then(|| seconds(desired.persistent_keepalive));
    let is_right = matches!(psk, PskChange::Keep)
        && allowed_ips == AllowedIpsChange::Keep
        && endpoint.is_none()
        && persistent_keepalive.is_none();
    (!is_right).then_some(PeerUpdate::Update {
        public_key: desired.public_key,
        psk,
        allowed_ips,
        endpoint,
        persistent_keepalive,
    })
}

fn seconds(keepalive: Option<core::num::NonZeroU16>) -> Duration {
    keepalive.map_or(Duration::ZERO, |seconds| Duration::from_secs(u64::from(seconds.get())))
}

fn nets(config: &PeerConfig) -> BTreeSet<IpNet> {
    config.allowed_ips.iter().map(IpNet::trunc).collect()
}

fn is_same_psk(one: Option<&PresharedKey>, other: Option<&PresharedKey>) -> bool {
    let zero = PresharedKey::from_bytes([0; 32]);
    one.unwrap_or(&zero).same_as(other.unwrap_or(&zero))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::WireGuard as _;
    use crate::fake::FakeKernel;

    const ALICE: PublicKey = PublicKey::from_bytes([1; 32]);
    const BOB: PublicKey = PublicKey::from_bytes([2; 32]);

    fn peer(key: PublicKey, allowed_ips: &[&str], psk: u8) -> PeerConfig {
        PeerConfig {
            preshared_key: (psk > 0).then(|| PresharedKey::from_bytes([psk; 32])),
            allowed_ips: allowed_ips.iter().map(|text| text.parse().unwrap()).collect(),
            ..PeerConfig::new(key)
        }
    }

    fn found(configs: &[PeerConfig]) -> Vec<Peer> {
        let wg0 = FakeKernel::new().interface("wg0");
        wg0.apply(&configs.iter().cloned().map(PeerUpdate::Put).collect::<Vec<_>>()).unwrap();
        wg0.interface().unwrap().peers
    }

    #[test]
    fn what_is_right_is_left_alone() {
        let alice = peer(ALICE, &["10.0.0.1/32", "fd00::/64"], 7);
        let same = peer(ALICE, &["fd00::1/64", "10.0.0.1/32"], 7);
        assert!(diff(&found(&[alice]), &[same]).is_empty());
    }

    #[test]
    fn a_new_psk_changes_nothing_else() {
        let updates =
            diff(&found(&[peer(ALICE, &["10.0.0.1/32"], 7)]), &[peer(ALICE, &["10.0.0.1/32"], 8)]);
        let [PeerUpdate::Update { psk: PskChange::Set(psk), allowed_ips, endpoint, .. }] =
            updates.as_slice()
        else {
            panic!("{updates:?}");
        };
        assert!(psk.same_as(&PresharedKey::from_bytes([8; 32])));
        assert_eq!((allowed_ips, endpoint), (&AllowedIpsChange::Keep, &None));
    }

    #[test]
    fn a_stranger_is_removed_first() {
        let updates =
            diff(&found(&[peer(BOB, &["10.0.0.1/32"], 0)]), &[peer(ALICE, &["10.0.0.1/32"], 0)]);
        assert!(
            matches!(updates.as_slice(), [PeerUpdate::Remove(BOB), PeerUpdate::Put(alice)] if alice.public_key == ALICE),
            "{updates:?}"
        );
    }

    #[test]
    fn a_roaming_peer_is_not_called_back() {
        let mut actual = found(&[peer(ALICE, &[], 0)]);
        actual[0].config.endpoint = Some("192.0.2.7:1".parse().unwrap());
        assert!(diff(&actual, &[peer(ALICE, &[], 0)]).is_empty());
    }

    fn configs() -> impl Strategy<Value = Vec<PeerConfig>> {
        let one = (0..6_u8, 0..3_u8, vec((0..6_u8, 30..=32_u8), 0..4), 0..3_u16, any::<bool>());
        vec(one, 0..8).prop_map(|peers| {
            peers
                .into_iter()
                .map(|(key, psk, nets, keepalive, is_fixed)| PeerConfig {
                    public_key: PublicKey::from_bytes([key + 1; 32]),
                    preshared_key: (psk > 0).then(|| PresharedKey::from_bytes([psk - 1; 32])),
                    endpoint: is_fixed.then(|| "192.0.2.1:51820".parse().unwrap()),
                    persistent_keepalive: core::num::NonZeroU16::new(keepalive),
                    allowed_ips: nets
                        .into_iter()
                        .map(|(host, prefix)| IpNet::new([10, 0, 0, host].into(), prefix).unwrap())
                        .collect(),
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn the_updates_lead_to_what_is_desired_and_then_there_are_none(
            before in configs(),
            desired in configs(),
        ) {
            let wg0 = FakeKernel::new().interface("wg0");
            wg0.apply(&before.into_iter().map(PeerUpdate::Put).collect::<Vec<_>>()).unwrap();

            let updates = diff(&wg0.interface().unwrap().peers, &desired);
            wg0.apply(&updates).unwrap();

            let peers = wg0.interface().unwrap().peers;
            prop_assert!(diff(&peers, &desired).is_empty());
            let keys: BTreeSet<_> = desired.iter().map(|config| config.public_key).collect();
            prop_assert_eq!(peers.len(), keys.len());
            for peer in peers {
                let last = desired.iter().rfind(|config| config.public_key == peer.config.public_key);
                prop_assert!(is_same_psk(
                    peer.config.preshared_key.as_ref(),
                    last.unwrap().preshared_key.as_ref(),
                ));
            }
        }
    }
}
