//! Runs of a seed: forward, again, and shrunk.

use mutant::Mutant;

use crate::action::{Action, Weights, choose};
use crate::coverage::Coverage;
use crate::oracle::Violation;
use crate::rng::Rng;
use crate::world::{Settings, World};

/// How many steps one seed has; then the next one begins.
pub const STEPS: u64 = 20_000;

/// What came of a seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How many steps were done.
    pub steps: u64,
    /// What was wrong, at the last of them.
    pub violation: Option<Violation>,
    /// What was reached.
    pub coverage: Coverage,
}

/// Runs a seed for so many steps at most. All must be right at the end, without faults, too.
#[must_use]
pub fn run(seed: u64, most: u64) -> Outcome {
    play(seed, most, |_| {})
}

fn play(seed: u64, most: u64, mut note: impl FnMut(Action)) -> Outcome {
    let mut rng = Rng::new(seed);
    let mut world = World::new(Settings::draw(&mut rng));
    let weights = Weights::draw(&mut rng);
    let mut steps = 0;
    while steps < most && world.oracle.violation.is_none() {
        steps += 1;
        let action = if steps == most { Action::Heal } else { choose(&world, &weights, &mut rng) };
        note(action);
        world.step(&action);
    }
    Outcome { steps, violation: world.oracle.violation, coverage: world.coverage }
}

/// A list of actions that makes a violation.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The seed that found it.
    pub seed: u64,
    /// What happens.
    pub actions: Vec<Action>,
    /// What is wrong then.
    pub violation: Violation,
}

/// Runs a failing seed again and keeps what happens; `None` if it does not fail.
#[must_use]
pub fn record(seed: u64, most: u64) -> Option<Trace> {
    let mut actions = Vec::new();
    let violation = play(seed, most, |action| actions.push(action)).violation?;
    Some(Trace { seed, actions, violation })
}

/// Runs a list of actions in a seed's world.
#[must_use]
pub fn replay(seed: u64, actions: &[Action]) -> Option<Violation> {
    let mut rng = Rng::new(seed);
    let mut world = World::new(Settings::draw(&mut rng));
    for action in actions {
        world.step(action);
        if world.oracle.violation.is_some() {
            break;
        }
    }
    world.oracle.violation
}

/// Leaves out whatever is not needed for the same invariant to be broken (delta debugging: halves,
/// quarters … down to single actions).
#[must_use]
pub fn shrink(trace: Trace) -> Trace {
    let Trace { seed, mut actions, mut violation } = trace;
    let mut size = actions.len().div_ceil(2);
    while size > 0 {
        let mut from = 0;
        let mut smaller = false;
        while from < actions.len() {
            let to = (from + size).min(actions.len());
            let rest = [&actions[..from], &actions[to..]].concat();
            match replay(seed, &rest) {
                Some(same) if same.invariant == violation.invariant => {
                    (actions, violation, smaller) = (rest, same, true);
                }
                _ => from = to,
            }
        }
        if size == 1 && !smaller {
            break;
        }
        if size > 1 {
            size = size.div_ceil(2);
        }
    }
    Trace { seed, actions, violation }
}

/// What a mutant took.
#[derive(Clone, Debug)]
pub struct Kill {
    /// Which.
    pub mutant: Mutant,
    /// Steps over all seeds until it was noticed; `None`: it was not.
    pub steps: Option<u64>,
    /// By what it was noticed.
    pub violation: Option<Violation>,
    /// The seed that noticed it.
    pub seed: u64,
}

/// The n-th seed of a series.
#[must_use]
pub fn nth(series: u64, n: u64) -> u64 {
    let mut rng = Rng::new(series ^ n.wrapping_mul(0xd6e8_feb8_6659_fd93));
    rng.next()
}
