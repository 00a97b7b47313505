//! Whatever happens to peers, streams and gateways: once it stops, the gateway has what the store
//! holds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;

/// Peers by name; a version stands for everything that is set of one.
type Peers = BTreeMap<u8, u32>;

#[derive(Clone, Copy, Debug)]
enum Op {
    Put(u8),
    Remove(u8),
    /// Something that cannot be told peer by peer.
    ChangeAll,
    /// The store forgets which peers older revisions touched.
    Prune,
    /// Core's stream is woken.
    Wake,
    /// Core's stream can send; up to so many messages.
    Send(u8),
    /// The gateway reads up to so many messages.
    GatewayReads(u8),
    /// Core reads up to so many messages.
    CoreReads(u8),
    /// The gateway's kernel refuses the next thing that is tried.
    KernelRefuses,
    /// Somebody changes the gateway's kernel, and the gateway asks for a snapshot.
    Drift(u8),
    /// The stream breaks, with everything that is on it.
    Break,
    /// The gateway's process dies too, and forgets what it has applied; its kernel does not.
    Restart,
    Dial,
    Pass(u8),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..8_u8).prop_map(Op::Put),
        4 => (0..8_u8).prop_map(Op::Remove),
        1 => Just(Op::ChangeAll),
        1 => Just(Op::Prune),
        6 => Just(Op::Wake),
        8 => (1..4_u8).prop_map(Op::Send),
        8 => (1..4_u8).prop_map(Op::GatewayReads),
        8 => (1..4_u8).prop_map(Op::CoreReads),
        2 => Just(Op::KernelRefuses),
        2 => (0..8_u8).prop_map(Op::Drift),
        2 => Just(Op::Break),
        1 => Just(Op::Restart),
        4 => Just(Op::Dial),
        4 => (0..40_u8).prop_map(Op::Pass),
    ]
}

#[derive(Debug)]
enum ToGateway {
    Snapshot { revision: i64, peers: Peers },
    Change { base: i64, revision: i64, peers: Peers, removed: BTreeSet<u8> },
}

#[derive(Debug)]
enum ToCore {
    Ack { revision: i64, fine: bool },
    Resync,
}

#[derive(Debug, Default)]
struct Store {
    peers: Peers,
    revision: i64,
    pruned: i64,
    changes: Vec<(i64, Option<u8>)>,
    versions: u32,
}

impl Store {
    fn put(&mut self, name: u8) {
        self.versions += 1;
        self.peers.insert(name, self.versions);
        self.touch(Some(name));
    }

    fn touch(&mut self, name: Option<u8>) {
        self.revision += 1;
        self.changes.push((self.revision, name));
    }

    /// What the real store answers to `changes_since`: `None` is everything.
    fn since(&self, since: i64) -> Option<BTreeSet<u8>> {
        if since < self.pruned || since > self.revision {
            return None;
        }
        self.changes
            .iter()
            .filter(|(revision, _)| *revision > since)
            .map(|(_, name)| *name)
            .collect()
    }
}

#[derive(Debug, Default)]
struct Gateway {
    kernel: Peers,
    desired: Peers,
    /// As of which revision `desired` is; `None`: no snapshot has come on this stream.
    revision: Option<i64>,
    refuses: bool,
}

impl Gateway {
    fn read(&mut self, message: ToGateway) -> ToCore {
        let revision = match message {
            ToGateway::Snapshot { revision, peers } => {
                self.desired = peers;
                revision
            }
            ToGateway::Change { base, revision, peers, removed } => {
                if self.revision.is_none_or(|have| base > have) {
                    return ToCore::Resync;
                }
                self.desired.extend(peers);
                self.desired.retain(|name, _| !removed.contains(name));
                revision
            }
        };
        self.revision = Some(revision);
        if core::mem::take(&mut self.refuses) {
            // Half of it got done.
            self.kernel = self.desired.iter().take(1).map(|(k, v)| (*k, *v)).collect();
            return ToCore::Ack { revision, fine: false };
        }
        self.kernel.clone_from(&self.desired);
        ToCore::Ack { revision, fine: true }
    }
}

#[derive(Debug, Default)]
struct World {
    store: Store,
    gateway: Gateway,
    stream: Option<Stream>,
    now: u64,
}

#[derive(Debug)]
struct Stream {
    feed: Feed,
    began: u64,
    down: VecDeque<ToGateway>,
    up: VecDeque<ToCore>,
    acknowledged: Option<i64>,
}

impl World {
    fn dial(&mut self) {
        if self.stream.is_none() {
            self.gateway.revision = None;
            self.stream = Some(Stream {
                feed: Feed::new(),
                began: self.now,
                down: VecDeque::new(),
                up: VecDeque::new(),
                acknowledged: None,
            });
        }
    }

    fn send(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        let at = Duration::from_secs(self.now - stream.began);
        match stream.feed.due(at) {
            Due::Nothing => {}
            Due::Snapshot => {
                let (revision, peers) = (self.store.revision, self.store.peers.clone());
                stream.feed.sent_snapshot(revision);
                stream.down.push_back(ToGateway::Snapshot { revision, peers });
            }
            Due::Changes { since } => {
                let Some(touched) = self.store.since(since) else {
                    return stream.feed.changes_lost();
                };
                let revision = self.store.revision;
                stream.feed.sent_up_to(revision);
                if revision == since {
                    return;
                }
                let is = |name: &u8| self.store.peers.get(name).map(|version| (*name, *version));
                let peers: Peers = touched.iter().filter_map(is).collect();
                let removed = touched.iter().copied().filter(|n| !peers.contains_key(n)).collect();
                stream.down.push_back(ToGateway::Change { base: since, revision, peers, removed });
            }
        }
    }

    fn gateway_reads(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        if let Some(message) = stream.down.pop_front() {
            stream.up.push_back(self.gateway.read(message));
        }
    }

    fn core_reads(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        let at = Duration::from_secs(self.now - stream.began);
        match stream.up.pop_front() {
            None => {}
            Some(ToCore::Ack { revision, fine: true }) => {
                let revision = stream.feed.acknowledged(revision).unwrap();
                stream.acknowledged = stream.acknowledged.max(Some(revision));
            }
            Some(ToCore::Ack { fine: false, .. } | ToCore::Resync) => stream.feed.trouble(at),
        }
    }

    fn wake(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.feed.wake();
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Put(name) => self.store.put(name),
            Op::Remove(name) => {
                if self.store.peers.remove(&name).is_some() {
                    self.store.touch(Some(name));
                }
            }
            Op::ChangeAll => {
                for version in self.store.peers.values_mut() {
                    *version += 1_000_000;
                }
                self.store.touch(None);
            }
            Op::Prune => {
                self.store.pruned = self.store.revision;
                self.store.changes.clear();
            }
            Op::Wake => self.wake(),
            Op::Send(times) => (0..times).for_each(|_| self.send()),
            Op::GatewayReads(times) => (0..times).for_each(|_| self.gateway_reads()),
            Op::CoreReads(times) => (0..times).for_each(|_| self.core_reads()),
            Op::KernelRefuses => self.gateway.refuses = true,
            Op::Drift(name) => {
                self.gateway.kernel.insert(name, 0);
                if let Some(stream) = &mut self.stream {
                    stream.up.push_back(ToCore::Resync);
                }
            }
            Op::Break => self.stream = None,
            Op::Restart => {
                self.stream = None;
                let kernel = core::mem::take(&mut self.gateway.kernel);
                self.gateway = Gateway { kernel, ..Gateway::default() };
            }
            Op::Dial => self.dial(),
            Op::Pass(seconds) => self.now += u64::from(seconds),
        }
    }

    /// Nothing new happens, and everything that is under way gets done.
    fn settle(&mut self) {
        self.gateway.refuses = false;
        self.dial();
        for _ in 0..20 {
            self.wake();
            self.send();
            (0..20).for_each(|_| self.gateway_reads());
            (0..20).for_each(|_| self.core_reads());
            self.now += PAUSE_MAX.as_secs();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_gateway_ends_with_what_the_store_holds(ops in proptest::collection::vec(op(), 0..120)) {
        let mut world = World::default();
        for op in ops {
            world.run(op);
        }
        world.settle();
        prop_assert_eq!(&world.gateway.kernel, &world.store.peers);
        let acknowledged = world.stream.as_ref().and_then(|stream| stream.acknowledged);
        prop_assert_eq!(acknowledged, Some(world.store.revision));
    }

    /// What core believes is applied has been: at any time an acknowledged revision's peers were in
    /// the kernel, unless the kernel was changed behind everybody's back.
    #[test]
    fn an_acknowledgement_is_never_early(ops in proptest::collection::vec(op(), 0..120)) {
        let mut world = World::default();
        for op in ops {
            let quiet = !matches!(op, Op::Drift(_) | Op::Restart | Op::KernelRefuses);
            world.run(op);
            let Some(stream) = &world.stream else { continue };
            if quiet && stream.acknowledged == Some(world.store.revision)
                && world.gateway.revision == Some(world.store.revision)
                && stream.up.is_empty()
            {
                prop_assert_eq!(&world.gateway.desired, &world.store.peers);
            }
        }
    }
}
