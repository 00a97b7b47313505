//! What must always be true, judged from outside by the truth of the simulated world.
//!
//! The numbers I1 to I15 are those of docs/simulation.md.

use std::collections::BTreeMap;

use core_bin::drivers::idle::REPORTS_WITHIN;
use mfa_core::budget::Lane;
use mfa_core::challenge::{ChallengeState, MAX_OPEN, MAX_TRIES, Subject};
use mfa_core::connect::EndReason;
use mfa_core::method::Method;
use mfa_core::rotate::RotationState;
use mfa_core::token::TokenDigest;
use wg_types::PublicKey;

use crate::db::{Db, id};
use crate::kernel::millis;
use crate::{LOCATIONS, USERS};

/// The window of guesses, in ms.
const WINDOW: u64 = 15 * 60 * 1000;
/// Between a try's count and the look at it, in ms.
const DELAY: u64 = 10_000;
/// Serials from here on are of pre-shared keys that others set.
pub const FOREIGN: u64 = 1 << 60;

/// What must not be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// Which invariant.
    pub invariant: &'static str,
    /// What happened.
    pub what: String,
}

/// A challenge as the world knows it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its token.
    pub token: TokenDigest,
    /// For whom.
    pub subject: Subject,
    /// By which method.
    pub method: Method,
    /// From which side.
    pub lane: Lane,
    /// The mailed code.
    pub mailed: Option<String>,
    /// The true time of its end, by a right clock.
    pub expires: u64,
    /// How many codes were looked at.
    pub looks: u32,
    /// What it bought.
    pub session: Option<i64>,
}

/// A session as the world knows it.
#[derive(Clone, Copy, Debug)]
pub struct Truth {
    /// Whose.
    pub subject: Subject,
    /// The key of its device.
    pub key: PublicKey,
    /// The serial of its pre-shared key.
    pub psk: u64,
    /// When it ended.
    pub ended: Option<u64>,
    /// Which revision of its location had the beginning.
    pub begin_revision: i64,
    /// Which revision of its location had the end.
    pub end_revision: i64,
    /// When it ends at the latest, by the clock of the core that made it.
    pub lifetime_ends: u64,
    /// The last sign of life that a core was told.
    pub credit: u64,
    /// The newest pre-shared key that its client ever had in its interface.
    pub client_has: u32,
    /// The newest one with which there was a handshake.
    pub shaken: u32,
    /// The newest one that gateways are given.
    pub given: u32,
}

/// What one budget has seen.
#[derive(Clone, Debug, Default)]
struct Looks {
    /// When codes were looked at, and whether each was right.
    codes: Vec<(u64, bool)>,
    /// When tries were counted.
    counts: Vec<u64>,
    /// Wrong ones in a row.
    row: u64,
}

/// The judge.
#[derive(Clone, Debug)]
pub struct Oracle {
    /// What is wrong, if something is.
    pub violation: Option<Violation>,
    /// How far two clocks of cores were apart at most, in ms.
    pub skew: u64,
    /// All challenges.
    pub asked: Vec<Asked>,
    /// All sessions that were ever committed.
    pub sessions: BTreeMap<i64, Truth>,
    /// Which session each pre-shared key belongs to, and the how many-th it is there.
    pub psks: Vec<Option<(i64, u32)>>,
    live: Vec<i64>,
    last_step: [Option<u64>; USERS],
    looks: BTreeMap<(i64, Method, Lane), Looks>,
    unlocked_at: [Option<u64>; USERS],
    recovery_used: Vec<[u8; 32]>,
    mails: BTreeMap<(i64, Lane), Vec<u64>>,
    /// Until when a core that has just started hears gateways out.
    listening_until: u64,
    /// Rows of the audit log that there must be.
    pub audit: u64,
}

impl Oracle {
    /// Begins with nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            violation: None,
            skew: 0,
            asked: Vec::new(),
            sessions: BTreeMap::new(),
            psks: Vec::new(),
            live: Vec::new(),
            last_step: [None; USERS],
            looks: BTreeMap::new(),
            unlocked_at: [None; USERS],
            recovery_used: Vec::new(),
            mails: BTreeMap::new(),
            listening_until: 0,
            audit: 0,
        }
    }

    /// Notes that something is wrong; the first thing stays.
    pub fn fail(&mut self, invariant: &'static str, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { invariant, what: what() });
        }
    }

    /// The live sessions.
    #[must_use]
    pub fn live(&self) -> &[i64] {
        &self.live
    }

    /// A try was counted, in a commit.
    pub fn counted(&mut self, key: (i64, Method, Lane), now: u64) {
        let window = WINDOW + self.skew + DELAY;
        let looks = self.looks.entry(key).or_default();
        looks.counts.retain(|at| now.saturating_sub(*at) <= window);
        looks.counts.push(now);
    }

    /// A try was not counted, since there are no guesses left.
    pub fn out_of_guesses(&mut self, key: (i64, Method, Lane), now: u64) {
        let window = WINDOW + self.skew + DELAY;
        let looks = self.looks.entry(key).or_default();
        let recent = looks.counts.iter().filter(|at| now.saturating_sub(**at) <= window).count();
        let limit = key.2.guess_limits().per_window;
        if recent < limit {
            self.fail("R7", || format!("{key:?} is refused after {recent} tries of its own"));
        }
    }

    /// A challenge was opened; `other` is how many of the device's other lane were open before.
    pub fn opened(&mut self, db: &Db, subject: Subject, lane: Lane, other: usize, now: u64) {
        let mailed = self.asked.last().is_some_and(|asked| asked.mailed.is_some());
        let (mine, others) = pending(db, subject, lane);
        if mine > MAX_OPEN {
            self.fail("R11", || format!("{subject:?} has {mine} open challenges"));
        } else if others != other {
            self.fail("R11", || format!("a challenge of {lane:?} took {subject:?} another's"));
        } else if mailed {
            let limits = lane.mail_limits();
            // The clocks of two cores may each be wrong.
            let hour = 3_600_000 - self.skew;
            let mails = self.mails.entry((subject.user.get(), lane)).or_default();
            mails.push(now);
            mails.retain(|at| now.saturating_sub(*at) < hour);
            let count = mails.len();
            if count > limits.per_hour {
                self.fail("R15", || format!("{count} mails in an hour to {subject:?}"));
            }
        }
    }

    /// A code was looked at, of a request that `came` then.
    pub fn looked(&mut self, challenge: usize, came: u64, now: u64, right: bool) {
        let asked = &mut self.asked[challenge];
        asked.looks += 1;
        if asked.looks > u32::from(MAX_TRIES) {
            let looks = asked.looks;
            self.fail("I3", || format!("a challenge looked at {looks} codes"));
            return;
        }
        let key = (asked.subject.user.get(), asked.method, asked.lane);
        // Its count was forgiven with the others.
        let forgiven = self.unlocked_at[usize::try_from(key.0 - 1).unwrap_or(0)];
        if forgiven.is_some_and(|at| came <= at) {
            return;
        }
        let window = WINDOW - self.skew - DELAY;
        let seen = self.looks.entry(key).or_default();
        seen.codes.retain(|(at, _)| now.saturating_sub(*at) < window);
        seen.codes.push((now, right));
        seen.row = if right { 0 } else { seen.row + 1 };
        let (all, rights) = (seen.codes.len(), seen.codes.iter().filter(|(_, r)| *r).count());
        let (limits, row) = (key.2.guess_limits(), seen.row);
        if all > limits.per_window + rights || limits.consecutive.is_some_and(|most| row > most) {
            self.fail("I3", || {
                format!("{key:?}: {all} codes in 15 min, {rights} right, {row} wrong in a row")
            });
        }
    }

    /// An administrator forgets wrong codes.
    pub fn unlocked(&mut self, user: i64, now: u64) {
        self.unlocked_at[usize::try_from(user - 1).unwrap_or(0)] = Some(now);
        self.looks.retain(|(whose, _, _), _| *whose != user);
    }

    /// A TOTP step was accepted; `core_step` is the present one by the core's clock.
    pub fn accepted(&mut self, user: usize, step: u64, core_step: u64) {
        if step.abs_diff(core_step) > 1 {
            self.fail("R3", || format!("step {step} is taken at {core_step}"));
        }
        if self.last_step[user].is_some_and(|last| step <= last) {
            let last = self.last_step[user];
            self.fail("I1", || format!("user {user}: step {step} is taken after {last:?}"));
        }
        self.last_step[user] = Some(step);
    }

    /// A recovery code was accepted.
    pub fn recovered(&mut self, digest: [u8; 32]) {
        if self.recovery_used.contains(&digest) {
            self.fail("I1", || "a recovery code is taken twice".to_owned());
        }
        self.recovery_used.push(digest);
    }

    /// A challenge bought a session; called after the commit.
    pub fn began(&mut self, db: &Db, challenge: usize, session: i64, psk: u64, now: u64) {
        let Some(row) = db.sessions.iter().find(|row| row.id == session).copied() else {
            return self.fail("I5", || format!("session {session} has no row"));
        };
        let asked = &mut self.asked[challenge];
        if let Some(other) = asked.session.replace(session) {
            self.fail("I2", || format!("one challenge bought sessions {other} and {session}"));
            return;
        }
        if asked.subject != row.subject || asked.method != row.method {
            self.fail("I2", || format!("session {session} is not what was asked for"));
            return;
        }
        if now > asked.expires + self.skew + DELAY {
            self.fail("I2", || format!("session {session} by a challenge that had expired"));
            return;
        }
        let Subject { user, device, location } = row.subject;
        let index = |n: i64| usize::try_from(n - 1).unwrap_or(0);
        let person = &db.users[index(user.get())];
        let key = db.device_row(device.get()).filter(|d| d.user == user.get()).map(|d| d.key);
        let enabled = match row.method {
            Method::Totp => person.totp.is_some(),
            Method::Email => person.email,
        };
        let allowed = person.active && person.may_use[index(location.get())] && enabled;
        let Some(key) = key.filter(|_| allowed) else {
            return self.fail("I13", || format!("session {session} of {:?}", row.subject));
        };
        if !self.drew(psk, session, 1) {
            return;
        }
        let lifetime_ends = row.lifetime_ends.as_unix_millis();
        let truth = Truth {
            subject: row.subject,
            key,
            psk,
            ended: None,
            begin_revision: db.revisions[index(location.get())],
            end_revision: 0,
            lifetime_ends,
            credit: now,
            client_has: 1,
            shaken: 0,
            given: 1,
        };
        self.sessions.insert(session, truth);
        self.live.push(session);
    }

    /// A pre-shared key was made for a session; tells whether it is the only one that has it.
    pub fn drew(&mut self, psk: u64, session: i64, generation: u32) -> bool {
        let place = usize::try_from(psk).unwrap_or(0);
        if self.psks.len() <= place {
            self.psks.resize(place + 1, None);
        }
        let other = self.psks[place].replace((session, generation));
        if let Some((other, _)) = other {
            self.fail("I7", || format!("sessions {other} and {session} share a key"));
        }
        other.is_none()
    }

    /// A challenge extended a session; called after the commit. `most` is how long it may live from
    /// now on, in ms.
    pub fn renewed(&mut self, db: &Db, challenge: usize, session: i64, now: u64, most: u64) {
        let asked = &mut self.asked[challenge];
        let subject = asked.subject;
        if let Some(other) = asked.session.replace(session) {
            return self.fail("I2", || {
                format!("one challenge bought session {other} and time for session {session}")
            });
        }
        if now > asked.expires + self.skew + DELAY {
            return self.fail("I2", || "a challenge that had expired bought time".to_owned());
        }
        let row = db.sessions.iter().find(|row| row.id == session);
        let (Some(row), Some(truth)) = (row, self.sessions.get_mut(&session)) else {
            return self.fail("I5", || format!("session {session} is extended and not there"));
        };
        if subject != row.subject || asked.method != row.method {
            return self.fail("I2", || {
                format!("session {session} is extended by a proof for {subject:?}")
            });
        }
        if truth.ended.is_some() {
            return self.fail("I9", || format!("session {session} is extended after its end"));
        }
        truth.lifetime_ends = row.lifetime_ends.as_unix_millis();
        let person = &db.users[usize::try_from(row.subject.user.get() - 1).unwrap_or(0)];
        let location = usize::try_from(row.subject.location.get() - 1).unwrap_or(0);
        if !person.active || !person.may_use[location] {
            return self.fail("I13", || format!("session {session} of {:?}", row.subject));
        }
        if truth.lifetime_ends > most + self.skew + DELAY {
            self.fail("I10", || format!("session {session} is extended by more than a lifetime"));
        }
    }

    /// Looks at the rotations after a commit.
    fn rotated(&mut self, db: &Db) {
        for row in db.sessions.iter().filter(|row| row.ended.is_none()) {
            let Some(truth) = self.sessions.get_mut(&row.id) else { continue };
            let (session, generation) = (row.id, row.generation.get());
            let told = row.next.filter(|next| next.state >= RotationState::Set);
            let given = told.map_or(generation, |_| generation + 1);
            let before = core::mem::replace(&mut truth.given, given);
            let (shaken, first) = (truth.shaken, generation == 1);
            if given < before {
                self.fail("I15", || format!("session {session} goes from key {before} to {given}"));
            } else if !first && shaken < generation {
                self.fail("I15", || {
                    format!(
                        "key {generation} of session {session} is promoted, and no handshake had it"
                    )
                });
            }
        }
    }

    /// Compares the database with what is known after each commit.
    pub fn committed(&mut self, db: &Db, now: u64) {
        let mut place = 0;
        while let Some(session) = self.live.get(place).copied() {
            let row = db.sessions.iter().find(|row| row.id == session);
            if row.is_some_and(|row| row.ended.is_none()) {
                place += 1;
                continue;
            }
            self.live.remove(place);
            self.audit += 1;
            if let Some(truth) = self.sessions.get_mut(&session) {
                let location = usize::try_from(truth.subject.location.get() - 1).unwrap_or(0);
                truth.ended = Some(now);
                truth.end_revision = db.revisions[location];
                let given_up = row.is_some_and(|row| {
                    row.ended.is_some_and(|(_, why)| why == EndReason::RotationFailed)
                        && truth.given > row.generation.get()
                });
                if given_up {
                    self.fail("I15", || {
                        format!("session {session} is given up, which has its key")
                    });
                }
                if row.is_some_and(|row| row.psk.is_some() || row.next.is_some()) {
                    self.fail("R22", || format!("session {session} has ended and has a key"));
                }
            }
        }
        let live = || db.sessions.iter().filter(|row| row.ended.is_none());
        for row in live() {
            if !self.live.contains(&row.id) {
                self.fail("I9", || format!("session {} lives again", row.id));
            }
            let Subject { user, device, location } = row.subject;
            let twins = live().filter(|other| {
                other.subject.device == device && other.subject.location == location
            });
            if twins.count() > 1 {
                self.fail("I6", || format!("{:?} has two sessions", row.subject));
            }
            let at = |n: i64| usize::try_from(n - 1).unwrap_or(0);
            let person = &db.users[at(user.get())];
            if !person.active || !person.may_use[at(location.get())] {
                self.fail("I9", || format!("{:?} may not, and has a session", row.subject));
            }
        }
        self.rotated(db);
        if db.audit != self.audit {
            let (is, must) = (db.audit, self.audit);
            self.fail("I11", || format!("{is} audit rows for {must} changes"));
        }
    }

    /// A core was told that this session carried something. Once its time is over that is too late, but
    /// a core that has just started hears gateways out.
    pub fn credit(&mut self, session: i64, now: u64, threshold: u64) {
        let skew = self.skew;
        if let Some(truth) = self.sessions.get_mut(&session)
            && now <= (truth.credit + threshold).max(self.listening_until) + skew
        {
            truth.credit = now;
        }
    }

    /// Whether sessions ended in time; since when some core could have seen to it, since when the last of
    /// them could, and `thresholds` the idle thresholds in ms.
    pub fn in_time(
        &mut self,
        wall: u64,
        now: u64,
        (sound, latest): (u64, u64),
        thresholds: [u64; LOCATIONS],
    ) {
        // A core that has just started looks within a minute, and then hears gateways out.
        let hears_out = 60_000 + millis(REPORTS_WITHIN);
        self.listening_until = latest + hears_out;
        let sweep = 60_000 + self.skew + 5_000;
        for session in 0..self.live.len() {
            let session = self.live[session];
            let Some(truth) = self.sessions.get(&session) else { continue };
            let place = (0..LOCATIONS).find(|at| id(*at) == truth.subject.location.get());
            let threshold = thresholds[place.unwrap_or(0)];
            let idle = (truth.credit + threshold).max(sound + hears_out);
            let due = [(truth.lifetime_ends.saturating_sub(wall), "lifetime"), (idle, "silence")];
            for (due, why) in due {
                if now > due.max(sound) + sweep {
                    self.fail("I10", || {
                        format!("session {session} lives {} ms after its {why}", now - due)
                    });
                }
            }
        }
    }
}

/// A device's open challenges: of this lane, and of the other.
#[must_use]
pub fn pending(db: &Db, subject: Subject, lane: Lane) -> (usize, usize) {
    let open = db.challenges.iter().filter(|one| {
        one.subject().device == subject.device && one.state() == ChallengeState::Pending
    });
    let (mine, others): (Vec<_>, Vec<_>) = open.partition(|one| one.lane() == lane);
    (mine.len(), others.len())
}

impl Default for Oracle {
    fn default() -> Self {
        Self::new()
    }
}
