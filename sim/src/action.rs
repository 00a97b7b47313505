//! What can happen, and how a seed chooses.

use serde::{Deserialize, Serialize};

use crate::rng::Rng;
use crate::world::World;
use crate::{CORES, DEVICES, GATEWAYS, LOCATIONS, USERS};

/// What becomes of a commit.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Commit {
    /// It is durable, and core learns so.
    Done,
    /// Nothing happened, and core learns so.
    Aborted,
    /// It is durable, and core does not learn it.
    Unknown,
}

/// What somebody types.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Typed {
    /// The app's code, so many steps from the present one; or the mailed code.
    Code(i8),
    /// The code that was typed last for this user.
    Repeated,
    /// A recovery code.
    Recovery(u8),
    /// Something else.
    Wrong,
}

/// One event. What does not apply does nothing, so a part of a list of actions is one, too.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are named")]
pub enum Action {
    /// Time passes, up to so many ms, or until the next timer, which fires.
    Advance { ms: u32 },
    /// A device, or a stranger who knows its key, asks for a challenge.
    Start { device: u8, location: u8, core: u8, email: bool, stranger: bool, commit: Commit },
    /// Somebody answers a challenge; `back` counts from the newest one of the device.
    /// With `renew` it is for more time: 1: for the device's session there, 2: for its other one,
    /// 3: for somebody else's.
    Finish {
        device: u8,
        back: u8,
        core: u8,
        typed: Typed,
        #[serde(default)]
        renew: u8,
    },
    /// A request goes on by one step.
    Go { core: u8, request: u8, commit: Commit },
    /// The device ends its session.
    Disconnect { device: u8, location: u8, core: u8, commit: Commit },
    /// A device shakes hands with a gateway.
    Handshake { device: u8, gateway: u8 },
    /// User data passes; without `busy` only while its person works.
    Data {
        device: u8,
        gateway: u8,
        #[serde(default)]
        busy: bool,
    },
    /// A keepalive passes.
    Keepalive { device: u8, gateway: u8 },
    /// The link carries its next message to core.
    Up { gateway: u8 },
    /// The link carries its next message to the gateway.
    Down { gateway: u8 },
    /// An administrator, past any core: enable or disable.
    Active { user: u8, on: bool },
    /// An administrator: groups.
    MayUse { user: u8, location: u8, on: bool },
    /// An administrator: a device goes, or comes back as another one.
    Device { device: u8, on: bool },
    /// An administrator ends a device's sessions.
    End { device: u8 },
    /// An administrator forgets wrong codes.
    Unlock { user: u8 },
    /// The app is taken away, and another is set up and confirmed by its code.
    Rebind { user: u8 },
    /// Core's process.
    Core { core: u8, up: bool },
    /// Core's way to the database.
    Database { core: u8, up: bool },
    /// Core's clock is off by so many seconds.
    Clock { core: u8, seconds: i8 },
    /// The gateway's process.
    Gateway { gateway: u8, up: bool },
    /// The gateway's process stands still.
    Pause { gateway: u8, on: bool },
    /// The gateway's host boots.
    Reboot { gateway: u8 },
    /// The link in one direction.
    Partition { gateway: u8, to_core: bool, on: bool },
    /// The link breaks, and both ends notice.
    Break { gateway: u8 },
    /// So many of the next calls to the kernel fail.
    Failing { gateway: u8, calls: u8 },
    /// Somebody else on the host changes the interface.
    Meddle { gateway: u8, device: u8, how: u8 },
    /// The gateway lies about a device.
    Forge { gateway: u8, device: u8, how: u8 },
    /// Core forgets what is over.
    Sweep { core: u8 },
    /// A client looks at its interface.
    Look { device: u8, location: u8 },
    /// A client asks how its session stands.
    Ask { device: u8, location: u8, core: u8, late: bool, commit: Commit },
    /// A core looks which keys are to be rotated.
    Rotate { core: u8, commit: Commit },
    /// Faults stop, and all must become right.
    Heal,
}

/// How many kinds of actions there are.
pub const KINDS: usize = 32;

/// How much more often each kind comes than the rarest.
const USUAL: [u32; KINDS] = [
    120, 60, 70, 220, 6, 60, 60, 40, 160, 160, 2, 2, 4, 4, 2, 4, 3, 3, 3, 3, 2, 1, 6, 4, 4, 3, 6,
    1, 30, 60, 30, 1,
];

/// How often each kind comes in one run: some more, some less, some never.
#[derive(Clone, Debug)]
pub struct Weights {
    sums: [u32; KINDS],
    /// Sessions are left alone and in use: else none lives long enough for two rotations.
    calm: bool,
}

impl Weights {
    /// Draws them.
    #[must_use]
    pub fn draw(rng: &mut Rng) -> Self {
        let calm = rng.one_in(2);
        let mut sums = [0; KINDS];
        let mut sum = 0;
        for (kind, usual) in USUAL.iter().enumerate() {
            let factor = match kind {
                0..=3 | 8 | 9 => rng.pick(&[4, 8, 16]),
                // What keeps a session, and what ends it.
                5 | 6 | 28..=30 if calm => rng.pick(&[8, 16, 32]),
                4 | 10..=15 | 21 if calm => rng.pick(&[0, 0, 0, 1]),
                _ => rng.pick(&[0, 1, 4, 8, 16, 32]),
            };
            sum += usual * factor;
            sums[kind] = sum;
        }
        Self { sums, calm }
    }

    fn draw_kind(&self, rng: &mut Rng) -> usize {
        let all = usize::try_from(self.sums[KINDS - 1]).unwrap_or(1);
        let at = u32::try_from(rng.below(all)).unwrap_or(0);
        self.sums.iter().position(|sum| at < *sum).unwrap_or(0)
    }
}

/// Chooses the next action.
#[must_use]
pub fn choose(world: &World, weights: &Weights, rng: &mut Rng) -> Action {
    for _ in 0..4 {
        let kind = weights.draw_kind(rng);
        if let Some(action) = of_kind(kind, world, weights, rng) {
            return action;
        }
    }
    advance(rng)
}

fn advance(rng: &mut Rng) -> Action {
    let ms = match rng.below(100) {
        0..50 => 20 + rng.below(500),
        50..85 => 500 + rng.below(5_000),
        85..97 => 5_000 + rng.below(30_000),
        97..99 => 30_000 + rng.below(120_000),
        _ => 3_600_000,
    };
    Action::Advance { ms: u32::try_from(ms).unwrap_or(0) }
}

fn small(rng: &mut Rng, bound: usize) -> u8 {
    u8::try_from(rng.below(bound)).unwrap_or(0)
}

fn commit(rng: &mut Rng) -> Commit {
    match rng.below(24) {
        0 => Commit::Aborted,
        1 => Commit::Unknown,
        _ => Commit::Done,
    }
}

fn of_kind(kind: usize, world: &World, weights: &Weights, rng: &mut Rng) -> Option<Action> {
    let device = small(rng, DEVICES);
    let location = small(rng, LOCATIONS);
    let gateway = small(rng, GATEWAYS);
    let core = small(rng, CORES);
    let user = small(rng, USERS);
    let on = rng.one_in(2);
    Some(match kind {
        0 => advance(rng),
        1 => Action::Start {
            device,
            // Most traffic is where two gateways are.
            location: if rng.one_in(4) { location } else { 0 },
            core,
            email: rng.one_in(4),
            stranger: rng.one_in(5),
            commit: commit(rng),
        },
        2 => {
            if world.devices[usize::from(device)].challenges.is_empty() {
                return None;
            }
            let typed = match rng.below(20) {
                0..10 => Typed::Code(0),
                10 => Typed::Code(-1),
                11 => Typed::Code(1),
                12 => Typed::Code(rng.pick(&[-3, -2, 2, 3])),
                13 | 14 => Typed::Repeated,
                15 => Typed::Recovery(small(rng, 3)),
                _ => Typed::Wrong,
            };
            let back = if rng.one_in(3) { small(rng, 4) } else { 0 };
            let renew = if rng.one_in(4) { rng.pick(&[1, 1, 1, 2, 3]) } else { 0 };
            Action::Finish { device, back, core, typed, renew }
        }
        3 => {
            let core =
                if world.cores[usize::from(core)].requests.is_empty() { 1 - core } else { core };
            let waiting = world.cores[usize::from(core)].requests.len();
            if waiting == 0 {
                return None;
            }
            Action::Go { core, request: small(rng, waiting), commit: commit(rng) }
        }
        4 => Action::Disconnect { device, location, core, commit: commit(rng) },
        5 => Action::Handshake { device, gateway },
        6 => Action::Data { device, gateway, busy: weights.calm },
        7 => Action::Keepalive { device, gateway },
        8 => Action::Up { gateway: first(gateway, |at| !world.gateways[at].up_queue.is_empty())? },
        9 => Action::Down {
            gateway: first(gateway, |at| !world.gateways[at].down_queue.is_empty())?,
        },
        10 => Action::Active { user, on: !world.db.users[usize::from(user)].active || on },
        11 => Action::MayUse { user, location, on: !rng.one_in(3) },
        12 => Action::Device { device, on: world.devices[usize::from(device)].id.is_none() },
        13 => Action::End { device },
        14 => Action::Unlock { user },
        15 => Action::Rebind { user },
        16 => {
            let up = !world.cores[usize::from(core)].up;
            Action::Core { core, up }
        }
        17 => Action::Database { core, up: !world.cores[usize::from(core)].database },
        18 => Action::Clock { core, seconds: rng.pick(&[-20, -7, 0, 0, 1, 9, 20]) },
        19 => {
            Action::Gateway { gateway, up: world.gateways[usize::from(gateway)].process.is_none() }
        }
        20 => Action::Pause { gateway, on: !world.gateways[usize::from(gateway)].paused },
        21 => Action::Reboot { gateway },
        22 => {
            let link = &world.gateways[usize::from(gateway)];
            let to_core = rng.one_in(2);
            let cut = if to_core { link.cut_up } else { link.cut_down };
            Action::Partition { gateway, to_core, on: !cut }
        }
        23 => Action::Break { gateway },
        24 => Action::Failing { gateway, calls: rng.pick(&[1, 2, 3, 8, 40, 200]) },
        25 => Action::Meddle { gateway, device, how: small(rng, 4) },
        26 => Action::Forge { gateway, device, how: small(rng, 3) },
        27 => Action::Sweep { core },
        28 => Action::Look { device, location: rotating(rng, location) },
        29 => Action::Ask {
            device,
            location: rotating(rng, location),
            core,
            late: rng.one_in(8),
            commit: commit(rng),
        },
        30 => Action::Rotate { core, commit: commit(rng) },
        _ => Action::Heal,
    })
}

/// Most sessions are where two gateways are.
fn rotating(rng: &mut Rng, location: u8) -> u8 {
    if rng.one_in(4) { location } else { 0 }
}

fn first(from: u8, is: impl Fn(usize) -> bool) -> Option<u8> {
    let all = u8::try_from(GATEWAYS).unwrap_or(1);
    (0..all).map(|more| (from + more) % all).find(|at| is(usize::from(*at)))
}
