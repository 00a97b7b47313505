//! The simulator's model of the store against the store: the same random operations on both, and
//! after each of them the same answer, the same rows and as many audit entries.
//!
//! A run prints its seed when it fails; `WGMFA_STORE_SEED` repeats it.

#![expect(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    clippy::unit_arg,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test"
)]

#[path = "../../mfa-store/tests/store/support/postgres.rs"]
#[expect(dead_code, reason = "the store's own tests use the rest of it")]
mod postgres;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use core_bin::flows::connect::records::{Records, View};
use mfa_core::budget::{GuessKey, Lane};
use mfa_core::challenge::{Challenge, ChallengeParts, ChallengeState, Question, Subject};
use mfa_core::connect::{EndReason, Session, SessionParts, SessionState};
use mfa_core::factor::CodeDigest;
use mfa_core::factor::totp::{TotpSecret, TotpStep};
use mfa_core::id::{DeviceId, LocationId, SessionId, UserId};
use mfa_core::method::Method;
use mfa_core::policy::LocationPolicy;
use mfa_core::rotate::PskGeneration;
use mfa_core::time::Timestamp;
use mfa_core::token::{Token, TokenDigest};
use mfa_store::{
    Activity, Actor, By, LocationSettings, MasterKey, NewDevice, PendingEmail, Scope, SessionInfo,
    Snapshot, Store, StoreError, Touched, Tx, UserDetails,
};
use serde_json::json;
use sim::db::{self, Db};
use sim::rng::{Rng, bytes};
use sim::{LOCATIONS, USERS};
use wg_types::{PresharedKey, PrivateKey, PublicKey};

const BEGIN: u64 = 1_800_000_000_000;
const LANES: [Lane; 2] = [Lane::Proven, Lane::Stranger];

/// What is done. Devices and sessions are named by their numbers in the model.
#[derive(Clone, Debug)]
enum Op {
    Start { user: i64, device: i64, location: i64, lane: Lane, email: bool, token: u64 },
    Change { token: u64, tries: u8, state: ChallengeState },
    Guess { key: GuessKey, right: bool },
    Mail { user: i64, lane: Lane },
    Step { user: i64, step: u64 },
    Recovery { user: i64, code: u64 },
    Begin { user: i64, device: i64, location: i64, method: Method, psk: u64 },
    Renew { session: i64, method: Method },
    End { scope: Scope, reason: EndReason },
    EndQuiet { session: i64, last: Timestamp },
    Note { session: i64, at: Timestamp, rx: u64, tx: u64 },
    CanRotate { session: i64 },
    Stage { session: i64, psk: u64 },
    Say { session: i64, set: u32, proven: u32 },
    Promote { sessions: Vec<i64> },
    Active { user: i64, on: bool },
    MayUse { user: i64, location: usize, on: bool },
    AddDevice { user: i64, key: u64 },
    RemoveDevice { device: i64 },
    Rebind { user: i64, secret: u64, step: u64, reset: bool },
    Unlock { user: i64 },
    Sweep { back: Duration },
}

impl Op {
    /// Entries that the store writes beyond the model's: what the model does as one, it does in
    /// parts.
    const fn more_audit(&self) -> u64 {
        match self {
            Self::Rebind { .. } => 2,
            _ => 0,
        }
    }
}

/// What came of an operation; `made` is the number of a new row.
#[derive(Debug, Default)]
struct Came {
    answer: String,
    made: Option<i64>,
}

impl Came {
    fn of(answer: impl std::fmt::Debug) -> Self {
        Self { answer: format!("{answer:?}"), made: None }
    }
}

/// The store's numbers by the model's.
#[derive(Clone, Debug, Default)]
struct Names {
    devices: BTreeMap<i64, i64>,
    sessions: BTreeMap<i64, i64>,
}

impl Names {
    fn device(&self, model: i64) -> i64 {
        self.devices.get(&model).copied().unwrap_or(1_000_000_000)
    }

    fn session(&self, model: i64) -> i64 {
        self.sessions.get(&model).copied().unwrap_or(1_000_000_000)
    }

    fn back(map: &BTreeMap<i64, i64>, real: i64) -> i64 {
        map.iter().find(|(_, other)| **other == real).map_or(-1, |(model, _)| *model)
    }

    fn scope(&self, scope: Scope) -> Scope {
        match scope {
            Scope::Session(id) => Scope::Session(SessionId::new(self.session(id.get()))),
            Scope::Device(id) => Scope::Device(DeviceId::new(self.device(id.get()))),
            Scope::DeviceAt(id, at) => Scope::DeviceAt(DeviceId::new(self.device(id.get())), at),
            other => other,
        }
    }
}

fn token(n: u64) -> TokenDigest {
    Token::from_random(bytes(0x11, n)).digest()
}

fn key(n: u64) -> PublicKey {
    PublicKey::from_bytes(bytes(0xd0, n))
}

fn secret(n: u64) -> [u8; 20] {
    bytes(0x70, n)[..20].try_into().unwrap()
}

fn codes(n: u64) -> [[u8; 32]; 2] {
    [bytes(0x71, n), bytes(0x72, n)]
}

fn subject(user: i64, device: i64, location: i64) -> Subject {
    Subject {
        user: UserId::new(user),
        device: DeviceId::new(device),
        location: LocationId::new(location),
    }
}

/// What both do by the same code, with the numbers of their own.
fn common<R: Records>(records: &mut R, op: &Op, names: &Names, by: By) -> Result<Came, StoreError> {
    Ok(match op {
        Op::Start { user, device, location, lane, email, token: n } => {
            let subject = subject(*user, names.device(*device), *location);
            let question = match email {
                true => Question::Email(CodeDigest::from_bytes(bytes(0x22, *n))),
                false => Question::Totp,
            };
            let parts = ChallengeParts {
                token: token(*n),
                subject,
                lane: *lane,
                question,
                started: by.now,
                expires: by.now.saturating_add(Duration::from_secs(120)),
                tries: 0,
                state: ChallengeState::Pending,
            };
            Came::of(records.add_challenge(by, &Challenge::from_parts(parts))?)
        }
        Op::Change { token: n, tries, state } => {
            let Some(challenge) = records.challenge(&token(*n))? else {
                return Ok(Came::of("none"));
            };
            let parts = ChallengeParts { tries: *tries, state: *state, ..challenge.to_parts() };
            Came::of(records.save_challenge(&Challenge::from_parts(parts))?)
        }
        Op::Guess { key, right } => {
            let mut budget = records.guess_budget(*key)?;
            let charge = budget.charge(by.now);
            if let (Ok(charge), true) = (&charge, right) {
                budget.success(*charge);
            }
            records.save_guess_budget(&budget)?;
            Came::of(charge)
        }
        Op::Mail { user, lane } => {
            let mut budget = records.mail_budget(UserId::new(*user), *lane)?;
            let charged = budget.charge(by.now);
            records.save_mail_budget(UserId::new(*user), &budget)?;
            Came::of(charged)
        }
        Op::Step { user, step } => {
            Came::of(records.use_totp_step(UserId::new(*user), TotpStep::new(*step))?)
        }
        Op::Recovery { user, code } => {
            let code = CodeDigest::from_bytes(codes(*code / 2)[usize::from(code % 2 == 1)]);
            Came::of(records.use_recovery_code(by, UserId::new(*user), &code)?)
        }
        Op::Begin { user, device, location, method, psk } => {
            let session = Session::from_parts(SessionParts {
                subject: subject(*user, names.device(*device), *location),
                method: *method,
                authorized: by.now,
                lifetime_ends: by.now.saturating_add(Duration::from_secs(900)),
                generation: PskGeneration::FIRST,
                state: SessionState::Authorized {
                    psk: PresharedKey::from_bytes(bytes(0x99, *psk)),
                },
            });
            let made = records.begin_session(by, &session)?;
            Came { answer: "begun".to_owned(), made: Some(made.get()) }
        }
        Op::Renew { session, method } => {
            let ends = by.now.saturating_add(Duration::from_secs(900));
            let id = SessionId::new(names.session(*session));
            Came::of(records.renew_session(by, id, *method, ends)?)
        }
        Op::Unlock { user } => {
            for (method, lane) in Method::ALL.into_iter().flat_map(|m| LANES.map(|l| (m, l))) {
                let key = GuessKey { user: UserId::new(*user), method, lane };
                let mut budget = records.guess_budget(key)?;
                budget.clear();
                records.save_guess_budget(&budget)?;
            }
            Came::of(records.audit(by, "user.unlock", format_args!("user:{user}"), &json!({}))?)
        }
        other => panic!("{other:?} is done by each in its own way"),
    })
}

fn on_model(db: &mut Db, op: &Op, names: &Names, by: By) -> Result<Came, StoreError> {
    let full = StoreError::Exists { what: "address" };
    Ok(match op {
        Op::End { scope, reason } => Came::of(db.end_sessions(by, *scope, *reason).len()),
        Op::EndQuiet { session, last } => Came::of(db.end_quiet(by, *session, *last)),
        Op::Note { session, at, rx, tx } => {
            let session = SessionId::new(*session);
            let seen = Activity { session, last_activity: *at, rx_added: *rx, tx_added: *tx };
            Came::of(db.note_activity(&[seen]))
        }
        Op::CanRotate { session } => Came::of(db.can_rotate(*session)),
        Op::Stage { session, psk } => {
            Came::of(usize::from(db.stage_rotation(*session, bytes(0x99, *psk), by.now)))
        }
        Op::Say { session, set, proven } => {
            let [set, proven] = [*set, *proven].map(PskGeneration::new);
            Came::of(usize::from(db.note_rotation(*session, set, proven)))
        }
        Op::Promote { sessions } => {
            let ids: Vec<_> = sessions.iter().copied().map(SessionId::new).collect();
            Came::of(db.promote_rotations(&ids))
        }
        Op::Active { user, on } => Came::of(db.set_active(by, *user, *on)),
        Op::MayUse { user, location, on } => {
            if !db.set_may_use(by, *user, *location, *on) {
                return Err(full);
            }
            Came::of(())
        }
        Op::AddDevice { user, key: n } => {
            let made = db.add_device(by, *user, key(*n)).ok_or(full)?;
            Came { answer: "added".to_owned(), made: Some(made) }
        }
        Op::RemoveDevice { device } => Came::of(db.remove_device(by, *device)),
        Op::Rebind { user, secret: n, step, reset } => {
            if *reset {
                db.reset_totp(by, *user);
            }
            if !db.confirm_totp(by, *user, secret(*n), *step) {
                return Err(full);
            }
            db.users[usize::try_from(*user - 1).unwrap()].recovery = codes(*n).map(Some);
            Came::of(true)
        }
        Op::Sweep { back } => {
            let before = by.now.saturating_sub(*back);
            Came::of(db.sweep(before, before))
        }
        _ => common(&mut db::Tx { db, before: None, silent: false }, op, names, by)?,
    })
}

fn on_store(tx: &mut Tx, op: &Op, names: &Names, by: By) -> Result<Came, StoreError> {
    let session = |model: i64| SessionId::new(names.session(model));
    Ok(match op {
        Op::End { scope, reason } => {
            Came::of(tx.end_sessions(by, names.scope(*scope), *reason)?.len())
        }
        Op::EndQuiet { session: id, last } => {
            Came::of(tx.end_quiet_session(by, session(*id), *last)?)
        }
        Op::Note { session: id, at, rx, tx: sent } => {
            let session = session(*id);
            let seen = Activity { session, last_activity: *at, rx_added: *rx, tx_added: *sent };
            Came::of(tx.note_activity(&[seen])?)
        }
        Op::CanRotate { session: id } => Came::of(tx.can_rotate(session(*id))?),
        Op::Stage { session: id, psk } => {
            let psk = PresharedKey::from_bytes(bytes(0x99, *psk));
            Came::of(tx.stage_rotations(&[(session(*id), psk)], by.now)?)
        }
        Op::Say { session: id, set, proven } => {
            let [set, proven] = [*set, *proven].map(PskGeneration::new);
            Came::of(tx.note_rotations(&[(session(*id), set, proven)], by.now)?)
        }
        Op::Promote { sessions } => {
            let ids: Vec<_> = sessions.iter().map(|id| session(*id)).collect();
            Came::of(tx.promote_rotations(&ids)?)
        }
        Op::Active { user, on: true } => Came::of(tx.enable_user(by, UserId::new(*user))?),
        Op::Active { user, on: false } => Came::of(tx.disable_user(by, UserId::new(*user))?),
        Op::MayUse { user, location, on } => {
            let user = UserId::new(*user);
            let mut groups = tx.groups_of_user(user)?;
            let name = group(*location);
            groups.retain(|one| *one != name);
            if *on {
                groups.push(name);
            }
            let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
            Came::of(tx.set_user_groups(by, user, &groups)?)
        }
        Op::AddDevice { user, key: n } => {
            let new = NewDevice {
                user: UserId::new(*user),
                name: "laptop".to_owned(),
                public_key: key(*n),
                polling_token: token(1_000_000 + *n),
                source: None,
            };
            let made = tx.add_device(by, &new)?.id.get();
            Came { answer: "added".to_owned(), made: Some(made) }
        }
        Op::RemoveDevice { device } => {
            Came::of(tx.remove_device(by, DeviceId::new(names.device(*device)))?)
        }
        Op::Rebind { user, secret: n, step, reset } => {
            let user = UserId::new(*user);
            if *reset {
                tx.reset_method(by, user, Method::Totp)?;
            }
            tx.stage_totp(by, user, &TotpSecret::from_bytes(secret(*n)))?;
            if !tx.confirm_totp(by, user, TotpStep::new(*step))? {
                return Err(StoreError::Exists { what: "step" });
            }
            tx.replace_recovery_codes(by, user, &codes(*n).map(CodeDigest::from_bytes))?;
            Came::of(true)
        }
        Op::Sweep { back } => {
            let before = by.now.saturating_sub(*back);
            tx.forget_challenges(before)?;
            tx.forget_ended_sessions(before)?;
            Came::of(())
        }
        _ => common(tx, op, names, by)?,
    })
}

fn group(location: usize) -> String {
    format!("group {location}")
}

/// What is looked at after an operation, besides what there always is.
#[derive(Clone, Debug)]
struct Looked {
    devices: Vec<i64>,
    sessions: Vec<i64>,
    tokens: Vec<u64>,
    since: [i64; LOCATIONS],
    now: Timestamp,
    /// By the store's numbers; of the model's own, to themselves.
    names: Names,
}

/// What can be seen by what a login reads.
fn seen<V: View>(view: &mut V, looked: &Looked) -> Result<Vec<String>, StoreError> {
    let mut lines = Vec::new();
    let names = &looked.names;
    for user in (1..=USERS).map(|n| UserId::new(i64::try_from(n).unwrap())) {
        let active = view.user(user)?.map(|user| user.active);
        let methods = view.enabled_methods(user)?;
        let mut line = format!("user {user}: {active:?} {methods:?}");
        if let Some(totp) = view.totp(user)? {
            write!(line, " {:?} {:?}", totp.secret.expose_secret(), totp.last_step).unwrap();
        }
        for location in places() {
            write!(line, " {}", view.may_use(user, location)?).unwrap();
        }
        for code in view.recovery_codes(user)? {
            write!(line, " {:?}", code.as_bytes()).unwrap();
        }
        for lane in LANES {
            write!(line, " {:?}", view.mail_budget(user, lane)?.recent()).unwrap();
            for method in Method::ALL {
                let budget = view.guess_budget(GuessKey { user, method, lane })?;
                write!(line, " {budget:?}").unwrap();
            }
        }
        lines.push(line);
    }
    for n in &looked.tokens {
        let parts = view.challenge(&token(*n))?.map(|one| one.to_parts());
        let parts = parts.map(|parts| {
            let device = Names::back(&names.devices, parts.subject.device.get());
            (device, parts.lane, parts.started, parts.expires, parts.tries, parts.state)
        });
        lines.push(format!("challenge {n}: {parts:?}"));
    }
    for device in &looked.devices {
        let real = DeviceId::new(names.device(*device));
        let row = view.device(real)?.map(|row| (row.user, row.public_key));
        let mut line = format!("device {device}: {row:?}");
        for lane in LANES {
            let pending = view.pending_challenges(real, lane)?;
            let tokens: Vec<_> = pending.iter().map(|one| *one.token().as_bytes()).collect();
            write!(line, " {tokens:?}").unwrap();
        }
        lines.push(line);
    }
    for session in &looked.sessions {
        let real = SessionId::new(names.session(*session));
        let info = view.session(real)?.map(|info| SessionInfo {
            id: SessionId::new(*session),
            subject: Subject {
                device: DeviceId::new(Names::back(&names.devices, info.subject.device.get())),
                ..info.subject
            },
            ..info
        });
        let psk = view.session_psk(real)?.map(|psk| *psk.expose_secret());
        lines.push(format!("session {session}: {info:?} {psk:?}"));
    }
    for location in places() {
        lines.push(format!("revision {:?}", view.revision(location)?));
    }
    Ok(lines)
}

fn places() -> impl Iterator<Item = LocationId> {
    (1..=LOCATIONS).map(|n| LocationId::new(i64::try_from(n).unwrap()))
}

fn model_rows(db: &mut Db, looked: &Looked) -> Vec<String> {
    let tx = &mut db::Tx { db, before: None, silent: true };
    let mut lines = seen(tx, looked).unwrap();
    for (at, since) in looked.since.iter().enumerate() {
        let mut peers: Vec<_> = db
            .desired(at)
            .map(|(row, device, host)| {
                let (generation, psk) = row.given();
                let ip = format!("10.{at}.0.{host}/32");
                (device.key, ip, row.id, generation, psk, row.previous)
            })
            .collect();
        peers.sort_unstable();
        lines.push(format!("{peers:?}"));
        let touched = db.changes_since(at, *since);
        lines.push(touched.map_or_else(String::new, |touched| format!("{touched:?}")));
        let due = db.due_for_rotation(at, looked.now.saturating_sub(Duration::from_secs(300)));
        let mut due: Vec<_> = due.iter().map(|id| id.get()).collect();
        due.sort_unstable();
        lines.push(format!("{due:?}"));
    }
    for row in db.sessions.iter().filter(|row| looked.sessions.contains(&row.id)) {
        if let Some(next) = row.next {
            let info = row.rotation().unwrap();
            lines
                .push(format!("{} {:?} {:?} {:?}", row.id, info.rotation, info.revision, next.psk));
        }
    }
    let mut overdue = db.overdue(looked.now);
    overdue.sort_unstable();
    lines.push(format!("overdue {overdue:?}"));
    let live = db.sessions.iter().filter(|row| row.ended.is_none());
    lines.push(format!("live {:?}", live.map(|row| row.id).collect::<Vec<_>>()));
    lines
}

fn store_rows(view: &mut Snapshot, looked: &Looked) -> Result<Vec<String>, StoreError> {
    let names = &looked.names;
    let back = |id: SessionId| Names::back(&names.sessions, id.get());
    let mut lines = seen(view, looked)?;
    for (at, location) in places().enumerate() {
        let desired = view.desired_peers(location, None)?;
        let mut peers: Vec<_> = desired
            .iter()
            .map(|peer| {
                let session = peer.session.as_ref().expect("both locations ask for a factor");
                let psk = Some(*session.psk.expose_secret());
                let ip = peer.allowed_ips[0].to_string();
                let previous = session.previous_psk_digest;
                (peer.public_key, ip, back(session.id), session.generation, psk, previous)
            })
            .collect();
        peers.sort_unstable();
        lines.push(format!("{peers:?}"));
        lines.push(match view.changes_since(location, looked.since[at])?.touched {
            Touched::Everything => "everything".to_owned(),
            Touched::Peers(touched) => format!("{touched:?}"),
        });
        let since = looked.now.saturating_sub(Duration::from_secs(300));
        let due = view.due_for_rotation(location, since, 1_000)?;
        let mut due: Vec<_> = due.into_iter().map(back).collect();
        due.sort_unstable();
        lines.push(format!("{due:?}"));
    }
    for info in view.rotations()? {
        let psk = *view.next_psk(info.session)?.unwrap().expose_secret();
        let id = back(info.session);
        if looked.sessions.contains(&id) {
            lines.push(format!("{id} {:?} {:?} {psk:?}", info.rotation, info.revision));
        }
    }
    let overdue = view.overdue_sessions(looked.now)?;
    let mut overdue: Vec<_> = overdue.into_iter().map(back).collect();
    overdue.sort_unstable();
    lines.push(format!("overdue {overdue:?}"));
    let live = view.live_sessions(Scope::All)?;
    lines.push(format!("live {:?}", live.iter().map(|one| back(one.id)).collect::<Vec<_>>()));
    Ok(lines)
}

fn last_audit(view: &mut Snapshot) -> Result<u64, StoreError> {
    let last = view.audit_entries(None, 1)?.first().map_or(0, |entry| entry.seq);
    Ok(u64::try_from(last).unwrap())
}

/// Both of them.
struct Pair {
    db: Db,
    store: Store,
    names: Names,
    /// To each number of the model's itself.
    own: Names,
    now: Timestamp,
    audit: u64,
    made: u64,
    tokens: Vec<u64>,
}

impl Pair {
    async fn new(url: &str) -> Self {
        let store = Store::open(url, &MasterKey::from_bytes([7; 32])).expect("the store opens");
        let policies = [LocationPolicy::recommended(); LOCATIONS];
        let now = Timestamp::from_unix_millis(BEGIN);
        let by = By::new(Actor::Cli, now);
        store
            .write(move |tx| {
                for (at, policy) in policies.into_iter().enumerate() {
                    let settings = LocationSettings {
                        name: format!("place {at}"),
                        endpoint: "vpn.example.org:51820".to_owned(),
                        listen_port: 51820,
                        addresses: vec![format!("10.{at}.0.1/29").parse().unwrap()],
                        allowed_ips: vec!["10.0.0.0/8".parse().unwrap()],
                        dns: Vec::new(),
                        keepalive: None,
                        mtu: None,
                        policy,
                    };
                    let n = u64::try_from(at).unwrap();
                    let private = PrivateKey::from_bytes(bytes(0xee, n));
                    let location = tx.add_location(by, &settings, &private)?;
                    tx.set_location_groups(by, location.id, &[&group(at)])?;
                }
                let all: Vec<String> = (0..LOCATIONS).map(group).collect();
                let all: Vec<&str> = all.iter().map(String::as_str).collect();
                for n in 0..USERS {
                    let login = format!("user{n}");
                    let email = format!("{login}@example.org");
                    let details = UserDetails { login, email, ..UserDetails::default() };
                    let user = tx.add_user(by, &details)?;
                    tx.set_user_groups(by, user, &all)?;
                    let pending =
                        PendingEmail { code: CodeDigest::from_bytes([1; 32]), until: now };
                    tx.stage_email(by, user, &pending)?;
                    tx.confirm_email(by, user)?;
                }
                Ok::<_, StoreError>(())
            })
            .await
            .expect("the store is prepared");
        let mut db = Db::new(policies);
        let locations = store
            .read(|view| places().map(|at| view.revision(at)).collect::<Result<Vec<_>, _>>())
            .await
            .expect("two locations");
        for (at, revision) in locations.into_iter().enumerate() {
            db.revisions[at] = revision.expect("a location");
            db.pruned[at] = db.revisions[at];
        }
        let audit = store.read(last_audit).await.expect("a log");
        let (names, own) = (Names::default(), Names::default());
        let mut pair = Self { db, store, names, own, now, audit, made: 0, tokens: Vec::new() };
        for user in 1..=i64::try_from(USERS).unwrap() {
            let secret = pair.next();
            pair.act(Op::Rebind { user, secret, step: 1, reset: false }, true).await;
            let key = pair.next();
            pair.act(Op::AddDevice { user, key }, true).await;
        }
        pair
    }

    const fn next(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    /// Does one thing on both and compares.
    async fn act(&mut self, op: Op, commit: bool) {
        let by = By::new(Actor::Cli, self.now);
        let before = self.db.clone();
        self.db.begin();
        let model = on_model(&mut self.db, &op, &self.own, by);
        if model.is_err() || !commit {
            self.db = before.clone();
        }
        let (work, names) = (op.clone(), self.names.clone());
        let real = self
            .store
            .write(move |tx| {
                let came = on_store(tx, &work, &names, by)?;
                // What an aborted transaction did is undone; what it answered is not.
                if commit { Ok(came) } else { Err(Undone::OnPurpose(came.answer)) }
            })
            .await;
        let real = match real {
            Ok(came) => Ok(came),
            Err(Undone::OnPurpose(answer)) => Ok(Came { answer, made: None }),
            Err(Undone::Store(error)) => Err(error),
        };
        match (&model, &real) {
            (Ok(model), Ok(real)) => {
                assert_eq!(model.answer, real.answer, "the answers to {op:?}");
                if let (Some(one), Some(other), true) = (model.made, real.made, commit) {
                    let added = matches!(op, Op::AddDevice { .. });
                    let pick = |names: &mut Names, other| {
                        let map = if added { &mut names.devices } else { &mut names.sessions };
                        map.insert(one, other);
                    };
                    pick(&mut self.names, other);
                    pick(&mut self.own, one);
                }
            }
            (Err(_), Err(_)) => {}
            _ => panic!("{op:?}: the model says {model:?}, the store {real:?}"),
        }
        let audit = self.store.read(last_audit).await.expect("a log");
        let done = model.is_ok() && commit;
        let more = if done { op.more_audit() } else { 0 };
        let written = self.db.audit - before.audit + more;
        assert_eq!(audit - self.audit, written, "audit entries of {op:?}");
        self.audit = audit;
    }

    /// Compares all that can be seen.
    async fn compare(&mut self, rng: &mut Rng, op: &str) {
        let mut since = self.db.revisions;
        for revision in &mut since {
            *revision -= i64::try_from(rng.below(8)).unwrap();
        }
        let last = |map: &BTreeMap<i64, i64>, n| map.keys().rev().take(n).copied().collect();
        let looked = Looked {
            devices: last(&self.names.devices, 6),
            sessions: last(&self.names.sessions, 8),
            tokens: self.tokens.iter().rev().take(8).copied().collect(),
            since,
            now: self.now,
            names: self.names.clone(),
        };
        let own = Looked { names: self.own.clone(), ..looked.clone() };
        let model = model_rows(&mut self.db, &own);
        let real = self.store.read(move |view| store_rows(view, &looked)).await.expect("a read");
        assert_eq!(model.len(), real.len(), "after {op}:\n{model:#?}\n{real:#?}");
        for (model, real) in model.iter().zip(&real) {
            // The model remembers fewer changes.
            assert!(model == real || model.is_empty(), "after {op}:\n{model}\n{real}");
        }
    }

    fn choose(&mut self, rng: &mut Rng) -> Op {
        let user = 1 + i64::try_from(rng.below(USERS)).unwrap();
        let location = rng.below(LOCATIONS);
        let place = 1 + i64::try_from(location).unwrap();
        let device = one_of(rng, &self.names.devices);
        let session = one_of(rng, &self.names.sessions);
        let owner = self.db.device_row(device).map_or(user, |row| row.user);
        let (lane, method) = (rng.pick(&LANES), rng.pick(&Method::ALL));
        let on = rng.one_in(2);
        let near = |rng: &mut Rng, n: u64| n.saturating_sub(u64::try_from(rng.below(4)).unwrap());
        match rng.below(24) {
            0 | 1 => {
                let n = self.next();
                self.tokens.push(n);
                let at = (owner, device, place);
                let (user, device, location) = at;
                // A challenge for a device that is gone is not made: start reads it first.
                if self.db.device_row(device).is_none() {
                    return Op::Unlock { user };
                }
                Op::Start { user, device, location, lane, email: on, token: n }
            }
            2 | 3 => {
                let token = self.tokens.get(self.tokens.len().saturating_sub(1 + rng.below(6)));
                let state = rng.pick(&[
                    ChallengeState::Pending,
                    ChallengeState::Pending,
                    ChallengeState::Verified,
                    ChallengeState::Expired,
                ]);
                let tries = u8::try_from(rng.below(6)).unwrap();
                Op::Change { token: token.copied().unwrap_or(0), tries, state }
            }
            4 => Op::Guess { key: GuessKey { user: UserId::new(user), method, lane }, right: on },
            5 => Op::Mail { user, lane },
            6 => {
                let last = self.db.users[usize::try_from(user - 1).unwrap()].last_step.unwrap_or(0);
                Op::Step { user, step: (last + 2).saturating_sub(near(rng, 3)) }
            }
            7 => Op::Recovery { user, code: near(rng, 2 * self.made + 1) },
            8..=10 => {
                let psk = self.next();
                Op::Begin { user: owner, device, location: place, method, psk }
            }
            11 => Op::Renew { session, method },
            12 => {
                let (user, at) = (UserId::new(user), LocationId::new(place));
                let (device, id) = (DeviceId::new(device), SessionId::new(session));
                let scope = rng.pick(&[
                    Scope::Session(id),
                    Scope::Device(device),
                    Scope::DeviceAt(device, at),
                    Scope::User(user),
                    Scope::UserAt(user, at),
                    Scope::UserMethod(user, method),
                    Scope::Location(at),
                    Scope::Method(at, method),
                    Scope::All,
                ]);
                Op::End { scope, reason: rng.pick(&[EndReason::Idle, EndReason::Administrator]) }
            }
            13 => {
                let back = Duration::from_secs(u64::try_from(rng.below(200)).unwrap());
                Op::EndQuiet { session, last: self.now.saturating_sub(back) }
            }
            14 => {
                let back = Duration::from_secs(u64::try_from(rng.below(200)).unwrap());
                let rx = u64::try_from(rng.below(1000)).unwrap();
                Op::Note { session, at: self.now.saturating_sub(back), rx, tx: rx / 2 }
            }
            15 => Op::CanRotate { session },
            16 => Op::Stage { session, psk: self.next() },
            17 => {
                let row = self.db.sessions.iter().find(|row| row.id == session);
                let generation = row.map_or(1, |row| row.generation.get());
                let mut word = |more: usize| generation + u32::try_from(rng.below(more)).unwrap();
                Op::Say { session, set: word(3), proven: word(2) }
            }
            18 => Op::Promote { sessions: self.names.sessions.keys().copied().collect() },
            19 => Op::Active { user, on: on || rng.one_in(2) },
            20 => Op::MayUse { user, location, on: on || rng.one_in(2) },
            21 => {
                if self.db.devices.len() < 4 || rng.one_in(6) {
                    Op::AddDevice { user, key: self.next() }
                } else {
                    Op::RemoveDevice { device }
                }
            }
            22 => {
                let row = &self.db.users[usize::try_from(user - 1).unwrap()];
                let step = (row.last_step.unwrap_or(0) + 2).saturating_sub(near(rng, 3));
                Op::Rebind { user, secret: self.next(), step, reset: on }
            }
            _ if on => Op::Unlock { user },
            _ => Op::Sweep { back: Duration::from_secs(rng.pick(&[60, 600, 7200])) },
        }
    }
}

/// Why a transaction is undone.
#[derive(Debug)]
enum Undone {
    OnPurpose(String),
    Store(StoreError),
}

impl From<StoreError> for Undone {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// One of the newest.
fn one_of(rng: &mut Rng, map: &BTreeMap<i64, i64>) -> i64 {
    let newest: Vec<i64> = map.keys().rev().take(6).copied().collect();
    if newest.is_empty() { 0 } else { rng.pick(&newest) }
}

async fn run(url: &str, seed: u64, steps: u64) {
    println!("seed {seed}: WGMFA_STORE_SEED={seed} repeats it");
    let mut rng = Rng::new(seed);
    let mut pair = Pair::new(url).await;
    for _ in 0..steps {
        let pause = match rng.below(40) {
            0 => 8_000_000,
            1..4 => rng.below(600_000),
            _ => rng.below(20_000),
        };
        let pause = Duration::from_millis(u64::try_from(pause).unwrap());
        pair.now = pair.now.saturating_add(pause);
        let op = pair.choose(&mut rng);
        let said = format!("{op:?}");
        let commit = !rng.one_in(12);
        pair.act(op, commit).await;
        // The rows show later, too, what an operation did; looking costs more than doing.
        if !commit || rng.one_in(3) {
            pair.compare(&mut rng, &said).await;
        }
    }
    pair.store
        .read(|view| view.verify_audit(&MasterKey::from_bytes([7; 32])))
        .await
        .expect("whole");
}

fn seeds() -> Vec<u64> {
    let given = std::env::var("WGMFA_STORE_SEED").ok().and_then(|text| text.parse().ok());
    given.map_or_else(|| vec![1, 2, sim::rng::fresh()], |seed| vec![seed])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_does_what_the_store_does_on_sqlite() {
    for seed in seeds() {
        run("sqlite::memory:", seed, 2_000).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_does_what_the_store_does_on_postgres() {
    for seed in seeds() {
        run(&postgres::fresh_database().await, seed, 300).await;
    }
}
