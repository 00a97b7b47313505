//! From what is there to what must be, in the fewest updates. Pure.
//!
//! | the kernel has | core wants | updates |
//! |---|---|---|
//! | a peer | no such peer | remove |
//! | no such peer | a peer | put |
//! | a peer with this pre-shared key | the same | none, or the allowed IPs and keepalive that differ |
//! | a peer with an earlier key of this session | the same session | its pre-shared key, in place |
//! | a peer with any other pre-shared key | a peer | remove, then put |
//!
//! The last row is why sessions are told apart: a pre-shared key changed in place leaves the
//! session keys of before alive for up to 180 s, which a rotation wants and a new login must not.
//! A kernel knows no sessions, so [`Known`] remembers what was put there; where it remembers
//! nothing, as in a process that has just started, equal pre-shared keys are the same session, and so
//! is the one before, of which core tells the digest.

use core::num::NonZeroU16;
use core::slice;
use std::collections::{BTreeMap, BTreeSet};

use mutant::Mutant;
use sha2::{Digest as _, Sha256};
use wg_netlink::diff::diff;
use wg_types::{AllowedIpsChange, Peer, PeerConfig, PeerUpdate, PresharedKey, PublicKey};

use crate::desired::{Desired, DesiredPeer, SessionMark};

/// With more peers to remove than this all are locked first: taking away allowed IPs is ten times
/// as quick as removing a peer, and cuts as well.
const LOCK_FIRST_ABOVE: usize = 64;

/// What the process remembers of what it put into the kernel.
///
/// It is a hint: a memory that is wrong or missing costs a peer its session keys, never more.
#[derive(Debug, Default)]
pub struct Known {
    peers: BTreeMap<PublicKey, Memory>,
}

#[derive(Clone, Copy, Debug)]
struct Memory {
    mark: SessionMark,
    psk: Fingerprint,
    /// Of everything but the pre-shared key.
    rest: Fingerprint,
}

/// The first half of a SHA-256: what is remembered is a hint, and there are many peers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Fingerprint([u8; 16]);

impl Fingerprint {
    fn of(digest: &[u8; 32]) -> Self {
        Self(core::array::from_fn(|place| digest.get(place).copied().unwrap_or_default()))
    }
}

/// What to do, in this order.
#[derive(Debug, Default)]
pub struct Plan {
    /// The updates for the kernel.
    pub updates: Vec<PeerUpdate>,
    /// How many peers leave that core does not want and this process did not put there.
    pub strangers: u32,
    /// How many peers are put, put back or set right.
    pub changed: u32,
}

impl Known {
    /// Remembers that the kernel has of these peers what core wants.
    pub fn remember(&mut self, desired: &Desired, touched: &BTreeSet<PublicKey>) {
        for key in touched {
            match desired.peers().get(key) {
                Some(peer) => self.keep(peer),
                None => drop(self.peers.remove(key)),
            }
        }
    }

    /// Remembers that the kernel has exactly what core wants.
    pub fn remember_all(&mut self, desired: &Desired) {
        self.peers.retain(|key, _| desired.peers().contains_key(key));
        for (key, peer) in desired.peers() {
            // A mark names one pre-shared key, so a known mark needs no new fingerprint.
            if self.mark(key) != Some(peer.mark) {
                self.keep(peer);
            }
        }
    }

    /// How many peers it remembers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Tells whether it remembers none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    fn keep(&mut self, peer: &DesiredPeer) {
        let psk = Fingerprint::of(&psk_digest(peer.config.preshared_key.as_ref()));
        let memory = Memory { mark: peer.mark, psk, rest: rest(&peer.config) };
        self.peers.insert(peer.config.public_key, memory);
    }

    /// Tells whether this process has put a peer there.
    #[must_use]
    pub fn has(&self, key: &PublicKey) -> bool {
        self.peers.contains_key(key)
    }

    /// Tells whether the kernel had a pre-shared key of the session that `peer` belongs to.
    fn same_session(&self, peer: &DesiredPeer, in_kernel: Option<&PresharedKey>) -> bool {
        if mutant::on(Mutant::RotatedAnew) {
            return false;
        }
        let in_kernel_digest = psk_digest(in_kernel);
        let knows = in_kernel.is_some() && !mutant::on(Mutant::NoPrevious);
        let is_previous = knows && peer.previous == Some(in_kernel_digest);
        is_previous
            || self.peers.get(&peer.config.public_key).is_some_and(|memory| {
                memory.mark.session == peer.mark.session
                    && memory.psk == Fingerprint::of(&in_kernel_digest)
            })
    }

    /// Tells whether nothing but the pre-shared key may differ from what was put there.
    fn same_but_for_psk(&self, peer: &DesiredPeer) -> bool {
        self.peers.get(&peer.config.public_key).is_some_and(|memory| {
            memory.mark.session == peer.mark.session && memory.rest == rest(&peer.config)
        })
    }

    /// The session that a peer was put for; `None`: it is not known, or there is none.
    #[must_use]
    pub fn session(&self, key: &PublicKey) -> Option<i64> {
        self.mark(key).map(|mark| mark.session).filter(|session| *session != 0)
    }

    fn mark(&self, key: &PublicKey) -> Option<SessionMark> {
        self.peers.get(key).map(|memory| memory.mark)
    }
}

/// Compares all of the kernel's peers with all that core wants.
#[must_use]
pub fn reconcile(desired: &Desired, found: &[Peer], known: &Known) -> Plan {
    let mut cuts = Vec::new();
    let mut rest = Vec::new();
    let mut plan = Plan::default();
    let mut present = 0;
    for peer in found {
        let key = peer.config.public_key;
        let Some(wanted) = desired.peers().get(&key) else {
            if mutant::on(Mutant::StrangersStay) && !known.has(&key) {
                continue;
            }
            cuts.push(key);
            plan.strangers += u32::from(!known.has(&key));
            continue;
        };
        present += 1;
        match compare(wanted, peer, known) {
            Difference::Nothing => continue,
            Difference::InPlace(update) => rest.push(update),
            Difference::Session => {
                cuts.push(key);
                rest.push(PeerUpdate::Put(wanted.config.clone()));
            }
        }
        plan.changed += 1;
    }
    if present < desired.peers().len() {
        let found: BTreeSet<_> = found.iter().map(|peer| peer.config.public_key).collect();
        let missing = desired.peers().iter().filter(|(key, _)| !found.contains(*key));
        for (_, wanted) in missing {
            rest.push(PeerUpdate::Put(wanted.config.clone()));
            plan.changed += 1;
        }
    }
    plan.updates = in_order(&cuts, rest);
    plan
}

/// What is right for these peers without a look at the kernel, as far as it is what this process
/// made it. The look comes afterwards.
#[must_use]
pub fn without_looking(
    desired: &Desired,
    touched: &BTreeSet<PublicKey>,
    known: &Known,
) -> Vec<PeerUpdate> {
    let mut cuts = Vec::new();
    let mut rest = Vec::new();
    for key in touched {
        let Some(wanted) = desired.peers().get(key) else {
            cuts.push(*key);
            continue;
        };
        let another = known.mark(key).is_none_or(|mark| mark.session != wanted.mark.session);
        let anew = mutant::on(Mutant::RotatedAnew);
        if (another && !mutant::on(Mutant::PskInPlace)) || anew {
            cuts.push(*key);
        }
        rest.push(match &wanted.config.preshared_key {
            // A rotation. To set the allowed IPs anew, equal as they are, would lose the packets of
            // the moment in which the kernel has none.
            Some(psk) if known.same_but_for_psk(wanted) => PeerUpdate::set_psk(*key, psk.clone()),
            Some(_) | None => PeerUpdate::Put(wanted.config.clone()),
        });
    }
    in_order(&cuts, rest)
}

/// Whether an update takes a peer out, or all its traffic.
#[must_use]
pub fn is_cut(update: &PeerUpdate) -> bool {
    match update {
        PeerUpdate::Remove(_) => true,
        PeerUpdate::Put(_) => false,
        PeerUpdate::Update { allowed_ips, .. } => {
            matches!(allowed_ips, AllowedIpsChange::Replace(nets) if nets.is_empty())
        }
    }
}

/// How one peer in the kernel differs from the one that is wanted.
enum Difference {
    Nothing,
    InPlace(PeerUpdate),
    Session,
}

fn compare(wanted: &DesiredPeer, found: &Peer, known: &Known) -> Difference {
    let (want, have) = (&wanted.config, &found.config);
    let same_psk = match (&want.preshared_key, &have.preshared_key) {
        (Some(want), Some(have)) => want.same_as(have),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    let in_place = mutant::on(Mutant::PskInPlace);
    if !same_psk && !in_place && !known.same_session(wanted, have.preshared_key.as_ref()) {
        return Difference::Session;
    }
    let equal = same_psk
        && want.allowed_ips == have.allowed_ips
        && want.persistent_keepalive == have.persistent_keepalive;
    if equal {
        // What nearly all are, without a comparison of sets.
        return Difference::Nothing;
    }
    let updates = diff(slice::from_ref(found), slice::from_ref(want));
    updates.into_iter().next().map_or(Difference::Nothing, Difference::InPlace)
}

/// Removals first, so that what they give up is free for the others.
fn in_order(cuts: &[PublicKey], rest: Vec<PeerUpdate>) -> Vec<PeerUpdate> {
    let locks = if cuts.len() > LOCK_FIRST_ABOVE { cuts } else { &[] };
    let locks = locks.iter().copied().map(PeerUpdate::lock);
    locks.chain(cuts.iter().copied().map(PeerUpdate::Remove)).chain(rest).collect()
}

fn rest(config: &PeerConfig) -> Fingerprint {
    let mut digest = Sha256::new();
    digest.update(config.persistent_keepalive.map_or(0, NonZeroU16::get).to_be_bytes());
    for net in &config.allowed_ips {
        digest.update(net.to_string());
        digest.update(b" ");
    }
    Fingerprint::of(&digest.finalize().into())
}

/// Pre-shared keys are 256 random bits, so a digest tells nothing of one.
fn psk_digest(psk: Option<&PresharedKey>) -> [u8; 32] {
    let none = [0; 32];
    Sha256::digest(psk.map_or(&none, PresharedKey::expose_secret)).into()
}

#[cfg(test)]
mod tests {
    use wg_netlink::WireGuard as _;
    use wg_netlink::fake::{FakeInterface, FakeKernel};
    use wg_types::PskChange;

    use super::*;
    use crate::testing::{change, key, peer, psk, snapshot};

    /// An interface with these peers, as a process that knows them has left it.
    fn settled(peers: impl IntoIterator<Item = mfa_wire::gateway::Peer>) -> Scene {
        let desired = Desired::from_snapshot(snapshot(1, peers)).unwrap();
        let mut scene =
            Scene { wg0: FakeKernel::new().interface("wg0"), desired, known: Known::default() };
        scene.settle();
        scene
    }

    struct Scene {
        wg0: FakeInterface,
        desired: Desired,
        known: Known,
    }

    impl Scene {
        fn plan(&self) -> Plan {
            reconcile(&self.desired, &self.wg0.interface().unwrap().peers, &self.known)
        }

        fn settle(&mut self) -> Plan {
            let plan = self.plan();
            self.wg0.apply(&plan.updates).unwrap();
            self.known.remember_all(&self.desired);
            plan
        }

        fn change(&mut self, peers: Vec<mfa_wire::gateway::Peer>, removed: &[u8]) {
            let change = change(self.desired.revision(), peers, removed);
            self.desired.change(change).unwrap();
        }
    }

    #[test]
    fn what_is_equal_is_not_touched() {
        let scene = settled([peer(1, 1, 1), peer(2, 2, 1)]);
        assert!(scene.plan().updates.is_empty());
    }

    #[test]
    fn a_process_that_knows_nothing_adopts_what_has_the_right_psk() {
        let mut scene = settled([peer(1, 1, 1), peer(2, 2, 1)]);
        scene.known = Known::default();
        assert!(scene.plan().updates.is_empty());
    }

    #[test]
    fn a_process_that_knows_nothing_replaces_a_peer_with_another_psk() {
        let mut scene = settled([peer(1, 1, 1)]);
        scene.known = Known::default();
        for other in [peer(1, 2, 1), peer(1, 2, 2), peer(1, 1, 3)] {
            scene.change(vec![other], &[]);
            assert!(matches!(
                scene.plan().updates.as_slice(),
                [PeerUpdate::Remove(_), PeerUpdate::Put(_)]
            ));
        }
    }

    #[test]
    fn a_process_that_knows_nothing_rotates_in_place_what_has_the_key_before() {
        let mut scene = settled([peer(1, 1, 1)]);
        scene.wg0.hear(&key(1), 1000, 1000);
        scene.known = Known::default();
        scene.change(vec![peer(1, 1, 2)], &[]);

        let plan = scene.settle();

        let set = |update: &PeerUpdate| {
            matches!(update, PeerUpdate::Update { psk: PskChange::Set(_), .. })
        };
        assert!(plan.updates.len() == 1 && plan.updates.iter().all(set), "{:?}", plan.updates);
        assert_eq!(scene.wg0.peer(&key(1)).unwrap().stats.rx_bytes, 1000);
    }

    #[test]
    fn a_rotation_without_looking_touches_the_key_alone() {
        let mut scene = settled([peer(1, 1, 1)]);
        scene.change(vec![peer(1, 1, 2)], &[]);
        let touched = BTreeSet::from([key(1)]);
        assert!(matches!(
            without_looking(&scene.desired, &touched, &scene.known).as_slice(),
            [PeerUpdate::Update {
                psk: PskChange::Set(_),
                allowed_ips: AllowedIpsChange::Keep,
                persistent_keepalive: None,
                ..
            }]
        ));

        let mut moved = peer(1, 1, 3);
        moved.allowed_ips = vec!["10.1.0.77/32".into()];
        scene.change(vec![moved], &[]);
        assert!(matches!(
            without_looking(&scene.desired, &touched, &scene.known).as_slice(),
            [PeerUpdate::Put(_)]
        ));
    }

    #[test]
    fn a_new_generation_is_set_in_place() {
        let mut scene = settled([peer(1, 1, 1)]);
        scene.wg0.hear(&key(1), 1000, 1000);
        scene.change(vec![peer(1, 1, 2)], &[]);

        let plan = scene.settle();

        assert!(matches!(
            plan.updates.as_slice(),
            [PeerUpdate::Update {
                psk: PskChange::Set(_),
                allowed_ips: AllowedIpsChange::Keep,
                persistent_keepalive: None,
                ..
            }]
        ));
        assert_eq!(scene.wg0.psk(&key(1)).unwrap().expose_secret(), &psk(1, 2));
        assert_eq!(scene.wg0.peer(&key(1)).unwrap().stats.rx_bytes, 1000);
    }

    #[test]
    fn a_new_session_removes_the_peer_before_it_is_put() {
        let mut scene = settled([peer(1, 1, 1)]);
        scene.wg0.hear(&key(1), 1000, 1000);
        scene.change(vec![peer(1, 2, 1)], &[]);

        let plan = scene.settle();

        assert!(matches!(plan.updates.as_slice(), [PeerUpdate::Remove(_), PeerUpdate::Put(_)]));
        assert_eq!(scene.wg0.peer(&key(1)).unwrap().stats.rx_bytes, 0);
    }

    #[test]
    fn a_psk_that_someone_else_set_costs_the_peer_its_session_keys() {
        let scene = settled([peer(1, 1, 1)]);
        let foreign = PresharedKey::from_bytes([9; 32]);
        scene.wg0.apply(&[PeerUpdate::set_psk(key(1), foreign)]).unwrap();
        assert!(matches!(
            scene.plan().updates.as_slice(),
            [PeerUpdate::Remove(_), PeerUpdate::Put(_)]
        ));
    }

    #[test]
    fn a_stranger_is_removed_and_counted() {
        let scene = settled([peer(1, 1, 1)]);
        scene.wg0.apply(&[PeerUpdate::Put(PeerConfig::new(key(9)))]).unwrap();

        let plan = scene.plan();

        assert!(matches!(plan.updates.as_slice(), [PeerUpdate::Remove(who)] if *who == key(9)));
        assert_eq!((plan.strangers, plan.changed), (1, 0));
    }

    #[test]
    fn an_ended_session_is_no_stranger() {
        let mut scene = settled([peer(1, 1, 1)]);
        scene.change(vec![], &[1]);
        let plan = scene.plan();
        assert_eq!((plan.updates.len(), plan.strangers), (1, 0));
    }

    #[test]
    fn allowed_ips_are_compared_as_a_set() {
        let mut two = peer(1, 1, 1);
        two.allowed_ips.push("10.1.0.200/32".into());
        let scene = settled([two]);
        let mut nets = scene.wg0.peer(&key(1)).unwrap().config.allowed_ips;
        nets.reverse();
        scene.wg0.apply(&[PeerUpdate::unlock(key(1), nets)]).unwrap();
        assert!(scene.plan().updates.is_empty());

        scene.wg0.apply(&[PeerUpdate::lock(key(1))]).unwrap();
        assert!(matches!(
            scene.plan().updates.as_slice(),
            [PeerUpdate::Update {
                psk: PskChange::Keep,
                allowed_ips: AllowedIpsChange::Add(_),
                ..
            }]
        ));
    }

    #[test]
    fn two_peers_can_swap_their_addresses() {
        let mut scene = settled([peer(1, 1, 1), peer(2, 2, 1)]);
        let (mut one, mut two) = (peer(1, 1, 1), peer(2, 2, 1));
        core::mem::swap(&mut one.allowed_ips, &mut two.allowed_ips);
        scene.change(vec![one, two], &[]);

        scene.settle();

        assert_eq!(scene.wg0.peer_for("10.1.0.1".parse().unwrap()), Some(key(2)));
        assert_eq!(scene.wg0.peer_for("10.1.0.2".parse().unwrap()), Some(key(1)));
        assert!(scene.plan().updates.is_empty());
    }

    #[test]
    fn when_many_leave_all_are_locked_before_the_first_is_removed() {
        let mut scene = settled((1..=100).map(|n| peer(n, i64::from(n), 1)));
        scene.change(vec![], &(1..=100).collect::<Vec<_>>());

        let plan = scene.plan();

        let (locks, removals) = plan.updates.split_at(100);
        assert!(locks.iter().all(|update| matches!(update, PeerUpdate::Update { .. })));
        assert!(removals.iter().all(|update| matches!(update, PeerUpdate::Remove(_))));
    }
}
