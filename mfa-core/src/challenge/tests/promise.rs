//! The whole transition table, and operations in any order.

use core::time::Duration;

use proptest::prelude::*;

use super::world::{ALICE, World, wrong};
use super::*;
use crate::id::DeviceId;

/// What comes in, for the table.
#[derive(Clone, Copy, Debug)]
enum Input {
    Right,
    Wrong,
    Pushed,
    Late,
}

/// Every state with every input: where it leads, and what is said.
#[test]
fn the_transition_table_is_complete() {
    use ChallengeState::{Exhausted, Expired, Pending, Verified};
    use Input::{Late, Pushed, Right, Wrong};

    let over = |why: NotOpen| Some(Said::Try(why.into()));
    let table = [
        // tries before, state, input → state, what is said (None: verified, or nothing to say)
        (0, Pending, Right, Verified, None),
        (0, Pending, Wrong, Pending, Some(Said::Look(wrong(4)))),
        (0, Pending, Pushed, Expired, None),
        (0, Pending, Late, Expired, over(NotOpen::Expired)),
        (4, Pending, Right, Verified, None),
        (4, Pending, Wrong, Exhausted, Some(Said::Look(wrong(0)))),
        (4, Pending, Pushed, Expired, None),
        (4, Pending, Late, Expired, over(NotOpen::Expired)),
        (5, Pending, Right, Exhausted, over(NotOpen::Exhausted)),
        (5, Pending, Wrong, Exhausted, over(NotOpen::Exhausted)),
        (5, Pending, Pushed, Expired, None),
        (5, Pending, Late, Expired, over(NotOpen::Expired)),
        (1, Verified, Right, Verified, over(NotOpen::Used)),
        (1, Verified, Wrong, Verified, over(NotOpen::Used)),
        (1, Verified, Pushed, Verified, None),
        (1, Verified, Late, Verified, over(NotOpen::Used)),
        (5, Exhausted, Right, Exhausted, over(NotOpen::Exhausted)),
        (5, Exhausted, Wrong, Exhausted, over(NotOpen::Exhausted)),
        (5, Exhausted, Pushed, Exhausted, None),
        (5, Exhausted, Late, Exhausted, over(NotOpen::Exhausted)),
        (2, Expired, Right, Expired, over(NotOpen::Expired)),
        (2, Expired, Wrong, Expired, over(NotOpen::Expired)),
        (2, Expired, Pushed, Expired, None),
        (2, Expired, Late, Expired, over(NotOpen::Expired)),
    ];
    for method in Method::ALL {
        for (tries, state, input, next, said) in table {
            let mut world = World::new(method);
            let parts = world.challenge.to_parts();
            world.challenge = Challenge::from_parts(ChallengeParts { tries, state, ..parts });

            let heard = match input {
                Right => world.answer(world.right()).err(),
                Wrong => world.answer(world.wrong()).err(),
                Late => {
                    world.now = world.challenge.expires();
                    world.answer(world.right()).err()
                }
                Pushed => {
                    world.challenge.expire();
                    None
                }
            };

            let heard_as = said.map(Refused::from);
            assert_eq!(heard, heard_as, "{method} {tries} {state:?} {input:?}");
            assert_eq!(world.challenge.state(), next, "{method} {tries} {state:?} {input:?}");
        }
    }
}

/// Which of the two steps said it.
#[derive(Clone, Copy, Debug)]
enum Said {
    Try(TryRefused),
    Look(Refused),
}

impl From<Said> for Refused {
    fn from(said: Said) -> Self {
        match said {
            Said::Try(TryRefused::NotOpen(why)) => why.into(),
            Said::Try(why) => panic!("not in the table: {why}"),
            Said::Look(why) => why,
        }
    }
}

/// One thing that can happen to a challenge.
#[derive(Clone, Copy, Debug)]
enum Op {
    /// A code is counted and committed; its look comes later.
    Count { right: bool },
    /// A code is counted, but the commit fails and its flow goes on all the same.
    CountAndRollBack { right: bool },
    /// One of the counted answers is looked at, perhaps not for the first time.
    Look { which: usize },
    /// The same in the name of another device.
    LookAsOther { which: usize },
    /// Time passes.
    Wait { secs: u64 },
    /// A newer challenge pushes this one out.
    Push,
    /// The store writes it and reads it again.
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => any::<bool>().prop_map(|right| Op::Count { right }),
        2 => any::<bool>().prop_map(|right| Op::CountAndRollBack { right }),
        8 => (0_usize..12).prop_map(|which| Op::Look { which }),
        2 => (0_usize..12).prop_map(|which| Op::LookAsOther { which }),
        2 => (0_u64..40).prop_map(|secs| Op::Wait { secs }),
        1 => Just(Op::Push),
        1 => Just(Op::Restart),
    ]
}

proptest! {
    /// Whatever happens in whatever order: at most five answers are counted and none is looked at
    /// beyond them; at most one is verified, in time, and a right one; an end is final.
    #[test]
    fn the_promise_holds_whatever_happens(
        email: bool,
        ops in prop::collection::vec(op(), 1..60),
    ) {
        let mut world = World::new(if email { Method::Email } else { Method::Totp });
        let mut attempts: Vec<(Attempt, bool)> = Vec::new();
        let (mut counted, mut verified) = (0, 0);
        let mut over = None;
        for op in ops {
            match op {
                Op::Count { right } => {
                    let answer = if right { world.right() } else { world.wrong() };
                    if let Ok(attempt) = world.count(answer) {
                        attempts.push((attempt, right));
                        counted += 1;
                    }
                }
                Op::CountAndRollBack { right } => {
                    let answer = if right { world.right() } else { world.wrong() };
                    let (challenge, budget) = (world.challenge.clone(), world.budget.clone());
                    if let Ok(attempt) = world.count(answer) {
                        world.challenge = challenge;
                        world.budget = budget;
                        prop_assert_eq!(world.verify(&attempt).err(), Some(Refused::NotCounted));
                    }
                }
                Op::Look { which } => {
                    if let Some((attempt, right)) = attempts.get(which) {
                        let result = world.verify(attempt);
                        if result.is_ok() {
                            verified += 1;
                            prop_assert!(*right && world.now < world.challenge.expires());
                        }
                        // A code of an app ages while it waits; a mailed one does not.
                        if email && matches!(result, Err(Refused::Wrong { .. })) {
                            prop_assert!(!*right);
                        }
                    }
                }
                Op::LookAsOther { which } => {
                    if let Some((attempt, _)) = attempts.get(which) {
                        world.subject = Subject { device: DeviceId::new(11), ..ALICE };
                        prop_assert!(world.verify(attempt).is_err());
                        world.subject = ALICE;
                    }
                }
                Op::Wait { secs } => {
                    world.now = world.now.saturating_add(Duration::from_secs(secs));
                }
                Op::Push => world.challenge.expire(),
                Op::Restart => {
                    world.challenge = Challenge::from_parts(world.challenge.to_parts());
                }
            }
            prop_assert!(counted <= u64::from(MAX_TRIES));
            prop_assert_eq!(world.budget.consecutive(), counted);
            prop_assert!(verified <= 1);
            let state = world.challenge.state();
            prop_assert_eq!(verified == 1, state == ChallengeState::Verified);
            prop_assert!(over.is_none_or(|over| over == state), "{:?} became {:?}", over, state);
            if state != ChallengeState::Pending {
                over = Some(state);
            }
        }
    }
}
