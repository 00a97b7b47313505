//! Whatever came before and whatever fails in between: what is called done is done.

use std::collections::BTreeMap;

use proptest::prelude::*;
use wg_netlink::Error;
use wg_netlink::fake::{FakeInterface, FakeKernel};
use wg_types::{PeerConfig, PeerUpdate, PresharedKey};

use super::*;
use crate::clock;
use crate::testing::{change, key, no_lease, peer, psk, snapshot};

/// Something that core, a stranger or fate does.
#[derive(Clone, Debug)]
enum Op {
    Login(u8),
    Rotate(u8),
    End(u8),
    Snapshot,
    Restart,
    ForeignPut(u8, u8),
    ForeignRemove(u8),
    ForeignLock(u8),
    ForeignPsk(u8),
    Fault,
    Sync,
    Check,
}

fn op() -> impl Strategy<Value = Op> {
    let who = 1..8_u8;
    prop_oneof![
        3 => who.clone().prop_map(Op::Login),
        2 => who.clone().prop_map(Op::Rotate),
        2 => who.clone().prop_map(Op::End),
        1 => Just(Op::Snapshot),
        1 => Just(Op::Restart),
        1 => (1..12_u8, who.clone()).prop_map(|(who, net)| Op::ForeignPut(who, net)),
        1 => who.clone().prop_map(Op::ForeignRemove),
        1 => who.clone().prop_map(Op::ForeignLock),
        1 => who.prop_map(Op::ForeignPsk),
        1 => Just(Op::Fault),
        3 => Just(Op::Sync),
        2 => Just(Op::Check),
    ]
}

/// Core's truth beside the real thing.
struct World {
    wg0: FakeInterface,
    program: Program,
    sessions: BTreeMap<u8, (i64, u32)>,
    revision: u64,
    next_session: i64,
}

impl World {
    fn new() -> Self {
        let wg0 = FakeKernel::new().interface("wg0");
        let program = Program::new(Box::new(wg0.clone()), no_lease());
        let mut world =
            Self { wg0, program, sessions: BTreeMap::new(), revision: 1, next_session: 1 };
        world.snapshot();
        world
    }

    fn snapshot(&mut self) {
        let peers = self.sessions.iter().map(|(who, (session, n))| peer(*who, *session, *n));
        let snapshot = snapshot(self.revision, peers);
        self.program.take(Update::Snapshot { snapshot, fresh: true }).unwrap();
    }

    fn change(&mut self, who: u8) {
        let (peers, removed) = match self.sessions.get(&who) {
            Some((session, n)) => (vec![peer(who, *session, *n)], vec![]),
            None => (vec![], vec![who]),
        };
        let change = change(self.revision, peers, &removed);
        self.revision += 1;
        self.program.take(Update::Change(change)).unwrap();
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Login(who) => {
                self.sessions.insert(who, (self.next_session, 1));
                self.next_session += 1;
                self.change(who);
            }
            Op::Rotate(who) => {
                if let Some((_, generation)) = self.sessions.get_mut(&who) {
                    *generation += 1;
                    self.change(who);
                }
            }
            Op::End(who) => {
                self.sessions.remove(&who);
                self.change(who);
            }
            Op::Snapshot => self.snapshot(),
            Op::Restart => {
                self.program = Program::new(Box::new(self.wg0.clone()), no_lease());
                self.snapshot();
            }
            Op::ForeignPut(who, net) => {
                let allowed_ips = vec![format!("10.1.0.{net}/32").parse().unwrap()];
                let config = PeerConfig { allowed_ips, ..PeerConfig::new(key(who)) };
                self.foreign(PeerUpdate::Put(config));
            }
            Op::ForeignRemove(who) => self.foreign(PeerUpdate::Remove(key(who))),
            Op::ForeignLock(who) => self.foreign(PeerUpdate::lock(key(who))),
            Op::ForeignPsk(who) => {
                self.foreign(PeerUpdate::set_psk(key(who), PresharedKey::from_bytes([9; 32])));
            }
            Op::Fault => self.wg0.fail_next(Error::Busy),
            Op::Sync => {
                if self.program.sync(clock::now()).is_ok() {
                    assert_eq!(self.program.verified(), Some(self.revision));
                }
            }
            Op::Check => {
                if self.program.check(clock::now(), SystemTime::UNIX_EPOCH).is_ok() {
                    self.assert_equal();
                }
            }
        }
    }

    fn foreign(&self, update: PeerUpdate) {
        // A fault meant for the program may hit the stranger instead: he just fails.
        let _ = self.wg0.apply(&[update]);
    }

    fn assert_equal(&self) {
        let found = self.wg0.interface().unwrap();
        assert_eq!(found.peers.len(), self.sessions.len());
        for (who, (session, generation)) in &self.sessions {
            let peer = self.wg0.peer(&key(*who)).unwrap();
            let expected = PresharedKey::from_bytes(psk(*session, *generation));
            assert!(peer.config.preshared_key.unwrap().same_as(&expected));
            assert_eq!(peer.config.allowed_ips, [format!("10.1.0.{who}/32").parse().unwrap()]);
            assert_eq!(peer.config.persistent_keepalive.unwrap().get(), 25);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_verified_equals_what_core_wants(ops in prop::collection::vec(op(), 1..60)) {
        let mut world = World::new();
        for op in &ops {
            world.run(op);
        }
        // Faults end at some time, and retries go on until then.
        let ended = (0..ops.len() + 2).any(|_| world.program.check(clock::now(), SystemTime::UNIX_EPOCH).is_ok());
        prop_assert!(ended);
        world.assert_equal();
    }

    #[test]
    fn who_keeps_his_session_keeps_his_session_keys(
        before in prop::collection::btree_map(1..8_u8, 1..3_u32, 0..7),
        ops in prop::collection::vec(op(), 1..20),
    ) {
        let mut world = World::new();
        for (who, generation) in before {
            world.sessions.insert(who, (i64::from(who), generation));
        }
        world.next_session = 100;
        world.snapshot();
        world.program.sync(clock::now()).unwrap();
        // Counters fall to zero exactly when session keys are lost.
        let heard = world.sessions.clone();
        for who in heard.keys() {
            world.wg0.hear(&key(*who), 1000, 1000);
        }

        for op in ops.iter().filter(|op| {
            matches!(op, Op::Login(_) | Op::Rotate(_) | Op::End(_) | Op::Snapshot | Op::Sync | Op::Check)
        }) {
            world.run(op);
            world.program.sync(clock::now()).unwrap();
        }

        for (who, (session, _)) in &world.sessions {
            let kept = heard.get(who).is_some_and(|(before, _)| before == session);
            let rx = world.wg0.peer(&key(*who)).unwrap().stats.rx_bytes;
            prop_assert_eq!(rx, if kept { 1000 } else { 0 });
        }
    }

    #[test]
    fn who_is_not_concerned_is_not_touched(
        peers in prop::collection::btree_map(1..30_u8, 1..3_u32, 0..30),
        concerned in 1..30_u8,
    ) {
        let mut world = World::new();
        for (who, generation) in peers {
            world.sessions.insert(who, (i64::from(who), generation));
        }
        world.snapshot();
        world.program.sync(clock::now()).unwrap();
        for who in (1..30).filter(|who| *who != concerned) {
            world.wg0.refuse(key(who), Error::TooLong);
        }

        world.next_session = 100;
        world.run(&Op::Login(concerned));

        prop_assert_eq!(world.program.sync(clock::now()).unwrap(), Some(world.revision));
        world.assert_equal();
    }
}
