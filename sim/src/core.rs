//! A core: its requests, its gateways' streams, its judgement of idleness. The process ends with all
//! of it; what is left is in the database.

use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};

use core_bin::drivers::idle::{Follower, REPORTS_WITHIN};
use core_bin::drivers::rotate::{Connected, Here, Rotations, find};
use core_bin::flows::connect::extend::{self, ExtendError, Whose};
use core_bin::flows::connect::login::{self, LoginError, OpenError, Terms, standings};
use core_bin::flows::connect::records::View as _;
use core_bin::link::StatsReport;
use core_bin::link::feed::{Due, Feed};
use core_bin::link::reports::Reports;
use mfa_core::budget::{GuessRefused, Lane};
use mfa_core::challenge::{
    Answer, Attempt, Challenge, NotOpen, Question, Refused, Standing, Subject, TryRefused,
};
use mfa_core::connect::EndReason;
use mfa_core::factor::email_code::EmailCode;
use mfa_core::factor::recovery::RecoveryCode;
use mfa_core::factor::totp::TotpSecret;
use mfa_core::id::{DeviceId, GatewayId, LocationId, SessionId, UserId};
use mfa_core::method::Method;
use mfa_core::time::Timestamp;
use mfa_core::token::Token;
use mfa_store::{
    Actor, By, Gateway, Location, Quiet, RotationInfo, Scope, SessionInfo, StoreError,
};
use mfa_wire::gateway as wire;
use mutant::Mutant;
use wg_types::{PresharedKey, PublicKey};

use crate::action::{Commit, Typed};
use crate::coverage::Cover;
use crate::db::{Db, Tx, id};
use crate::gateway::{Down, Up};
use crate::oracle::{Asked, Truth};
use crate::rng::bytes;
use crate::world::{WALL, World};
use crate::{CORES, DEVICES, GATEWAYS, LOCATIONS, OWNERS, SERVES};

/// Between two checks of sessions, in ms.
const CHECK: u64 = 60_000;
/// How long a request may take, in ms; then it is dropped.
const PATIENCE: u64 = 10_000;
/// Requests at once.
const REQUESTS: usize = 6;

/// One core.
#[derive(Debug)]
pub struct Core {
    /// Whether the process runs.
    pub up: bool,
    /// Whether it can reach the database.
    pub database: bool,
    /// By how many seconds its clock is off.
    pub offset: i64,
    /// The answers that are being looked at.
    pub requests: Vec<Request>,
    /// Its gateways.
    pub seats: [Option<Seat>; GATEWAYS],
    follower: Follower,
    /// Whether it has looked at the store since its process began.
    looked: bool,
    /// When it next looks for what others wrote.
    pub look_at: Option<u64>,
    idle_at: u64,
    news_at: Option<u64>,
    /// Since when it serves.
    pub sound_since: Option<u64>,
    /// With one bug: what it read some time ago.
    stale: Option<Box<Db>>,
}

impl Default for Core {
    fn default() -> Self {
        Self {
            up: true,
            database: true,
            offset: 0,
            requests: Vec::new(),
            seats: Default::default(),
            follower: Follower::new(),
            looked: false,
            look_at: None,
            idle_at: 0,
            news_at: None,
            sound_since: None,
            stale: None,
        }
    }
}

impl Core {
    /// Whether it can do anything.
    #[must_use]
    pub const fn serves(&self) -> bool {
        self.up && self.database
    }

    /// When something is due.
    #[must_use]
    pub fn poll_timeout(&self) -> u64 {
        if !self.up {
            return u64::MAX;
        }
        let look = self.look_at.unwrap_or(u64::MAX);
        self.idle_at.min(look).min(self.news_at.unwrap_or(u64::MAX))
    }
}

/// One gateway's stream, core's end.
#[derive(Debug)]
pub struct Seat {
    /// Which stream.
    pub stream: u64,
    feed: Feed,
    reports: Reports,
    known: BTreeSet<PublicKey>,
    /// What it has said to have, and when it was last heard.
    applied: Option<i64>,
    heard: Timestamp,
    began: u64,
    beats: VecDeque<u64>,
    /// When it is given up.
    pub dead_at: Option<u64>,
    snapshot_sent: bool,
}

/// An answer on its way through core.
#[derive(Debug)]
pub struct Request {
    challenge: usize,
    device: usize,
    /// The true time when it came.
    at: u64,
    /// Core's time when it came.
    now: Timestamp,
    text: String,
    /// Which session it is to extend; `None`: it begins one.
    renew: Option<i64>,
    before: Option<Box<Db>>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Count,
    Verify(Option<Attempt>),
    LateCount,
    Reply { session: i64, psk: u64 },
}

impl World {
    /// What a core's clock shows.
    #[must_use]
    pub fn core_time(&self, core: usize) -> Timestamp {
        let millis = WALL + self.now;
        Timestamp::from_unix_millis(millis.saturating_add_signed(self.cores[core].offset * 1000))
    }

    /// Starts or kills a core.
    pub fn set_core(&mut self, core: usize, up: bool) {
        if self.cores[core].up == up {
            return;
        }
        if up {
            let (database, offset) = (self.cores[core].database, self.cores[core].offset);
            let look_at = Some(self.now + 1000);
            self.cores[core] =
                Core { database, offset, look_at, idle_at: self.now, ..Core::default() };
            return;
        }
        if !self.cores[core].requests.is_empty() {
            self.coverage.hit(Cover::RequestDied);
        }
        self.cores[core].up = false;
        self.cores[core].requests.clear();
        self.cores[core].seats = Default::default();
        for gateway in 0..GATEWAYS {
            let this = &self.gateways[gateway];
            if this.stream.is_some_and(|(_, at)| at == core) && !this.cut_down {
                self.hang_up(gateway, false);
            }
        }
    }

    /// Something is due at a core.
    pub fn core_timeout(&mut self, core: usize) {
        let now = self.now;
        if self.cores[core].look_at.is_some_and(|at| at <= now) {
            self.cores[core].look_at = None;
            for gateway in 0..GATEWAYS {
                let seat = &mut self.cores[core].seats[gateway];
                if seat.as_ref().and_then(|seat| seat.dead_at).is_some_and(|at| at <= now) {
                    *seat = None;
                }
            }
            self.wake(Some(core));
        }
        if self.cores[core].news_at.is_some_and(|at| at <= now) {
            self.cores[core].news_at = None;
            self.write_down(core);
        }
        if self.cores[core].idle_at <= now {
            self.cores[core].idle_at = now + CHECK;
            if self.cores[core].serves() {
                self.check_sessions(core);
            }
        }
    }

    fn write_down(&mut self, core: usize) {
        if !self.cores[core].serves() {
            self.cores[core].news_at = Some(self.now + 5_000);
            return;
        }
        let news = self.cores[core].follower.news();
        let told: Vec<SessionId> = news.iter().map(|one| one.session).collect();
        self.db.note_activity(&news);
        self.cores[core].follower.written_down(&told);
    }

    fn learn(&mut self, core: usize) {
        let known = self.cores[core].follower.known();
        let mut found = self.db.found(&known);
        for (gateway, place) in SERVES.into_iter().enumerate() {
            if !self.is_elsewhere(core, gateway) {
                continue;
            }
            let there = found.elsewhere.entry(LocationId::new(id(place))).or_default();
            there.insert(GatewayId::new(id(gateway)));
            self.gateways[gateway].seen_elsewhere[core] = Some(self.db.revisions[place]);
        }
        if mutant::on(Mutant::PurgedIsActive) {
            found.new.retain(|(session, _)| session.connected.is_some());
        }
        if known.is_empty() && !found.new.is_empty() {
            self.coverage.hit(Cover::TookOver);
        }
        let until = self.core_time(core).saturating_add(REPORTS_WITHIN);
        let this = &mut self.cores[core];
        this.follower.learn(found);
        if !core::mem::replace(&mut this.looked, true) {
            this.follower.spare(until);
        }
    }

    /// Whether a gateway is connected to another core.
    fn is_elsewhere(&self, core: usize, gateway: usize) -> bool {
        let mut others = self.cores.iter().enumerate().filter(|(at, _)| *at != core);
        others.any(|(_, other)| other.up && other.seats[gateway].is_some())
    }

    /// As `core_bin::drivers::idle` does each period.
    fn check_sessions(&mut self, core: usize) {
        let now = self.core_time(core);
        if mutant::on(Mutant::StaleCore) && core == 1 {
            self.cores[core].stale = Some(Box::new(self.db.clone()));
        }
        self.learn(core);
        self.cores[core].follower.handle_timeout(now);
        self.write_down(core);
        let quiet = self.cores[core].follower.quiet().clone();
        let overdue =
            if mutant::on(Mutant::NoLifetime) { Vec::new() } else { self.db.overdue(now) };
        let by = By::new(Actor::System, now);
        let (mut ended, mut heard) = (Vec::new(), Vec::new());
        if !quiet.is_empty() || !overdue.is_empty() {
            self.transact(Some(core), Commit::Done, |db, _| {
                for (session, last) in &quiet {
                    match db.end_quiet(by, session.get(), *last) {
                        Quiet::Ended => ended.push(*session),
                        Quiet::HeardSince(at) => heard.push((*session, at)),
                        Quiet::Over => {}
                    }
                }
                for session in overdue {
                    let session = SessionId::new(session);
                    let over = EndReason::Lifetime;
                    if !db.end_sessions(by, Scope::Session(session), over).is_empty() {
                        ended.push(session);
                    }
                }
            });
        }
        self.cores[core].follower.judged(&heard);
        for session in ended {
            self.cores[core].follower.ended(session);
        }
    }

    /// A challenge is asked for.
    pub fn start(
        &mut self,
        device: usize,
        location: usize,
        core: usize,
        email: bool,
        stranger: bool,
        commit: Commit,
    ) {
        let Some(number) = self.devices[device].id else { return };
        let connected =
            (0..GATEWAYS).any(|g| SERVES[g] == location && self.cores[core].seats[g].is_some());
        if !self.cores[core].serves() || !connected {
            return;
        }
        let now = self.core_time(core);
        let subject = Subject {
            user: UserId::new(id(OWNERS[device])),
            device: DeviceId::new(number),
            location: LocationId::new(id(location)),
        };
        let lane = if stranger { Lane::Stranger } else { Lane::Proven };
        let serial = self.next_serial();
        let token = Token::from_random(bytes(0x11, serial)).digest();
        let mailed = EmailCode::from_random(bytes(0x22, serial));
        let method = if email { Method::Email } else { Method::Totp };
        let question = match method {
            Method::Totp => Question::Totp,
            Method::Email => Question::Email(mailed.digest(&self.codes, &token)),
        };
        let before = self.db.clone();
        let (_, others) = crate::oracle::pending(&before, subject, lane);
        self.db.begin();
        let terms = Terms { codes: &self.codes, mail: true };
        let mut tx = Tx { db: &mut self.db, before: None, silent: false };
        let done = (|| {
            let standing = standings(&mut tx, subject).ok()?;
            let user = standing.user?;
            let enabled = terms.usable(&mut tx, &user).ok()?;
            let policy = standing.location?.settings.policy;
            let standing = Standing { access: standing.access, policy: &policy, enabled };
            let challenge =
                Challenge::start(token, subject, lane, question, &standing, now).ok()?;
            Some(login::open(&mut tx, &challenge, now).map(|()| challenge))
        })();
        match done {
            Some(Ok(_)) if commit == Commit::Aborted => self.db = before,
            Some(Ok(challenge)) => {
                self.oracle.audit += 1;
                self.coverage.hit(match lane {
                    Lane::Proven => Cover::StartedProven,
                    Lane::Stranger => Cover::StartedStranger,
                });
                if email {
                    self.coverage.hit(Cover::Mailed);
                }
                let place = self.oracle.asked.len();
                let ttl = challenge.method().challenge_ttl();
                self.oracle.asked.push(Asked {
                    token,
                    subject,
                    method,
                    lane,
                    mailed: email.then(|| mailed.expose_text().to_string()),
                    expires: self.now + crate::kernel::millis(ttl),
                    looks: 0,
                    session: None,
                });
                self.oracle.opened(&self.db, subject, lane, others, self.now);
                if commit == Commit::Done {
                    let open = &mut self.devices[device].challenges;
                    open.push(place);
                    if open.len() > 4 {
                        open.remove(0);
                    }
                }
                self.after_commit(None);
            }
            refused => {
                self.db = before;
                match refused {
                    Some(Err(OpenError::Guess(_))) => self.coverage.hit(Cover::StartOutOfGuesses),
                    Some(Err(OpenError::Mail(_))) => self.coverage.hit(Cover::StartOutOfMails),
                    _ => {}
                }
            }
        }
    }

    /// An answer arrives at a core.
    pub fn finish(&mut self, device: usize, back: usize, core: usize, typed: Typed, renew: u8) {
        let open = &self.devices[device].challenges;
        let Some(challenge) = open.iter().rev().nth(back % open.len().max(1)).copied() else {
            return;
        };
        if !self.cores[core].up || self.cores[core].requests.len() >= REQUESTS {
            return;
        }
        let asked = &self.oracle.asked[challenge];
        let user = OWNERS[device];
        let text = match typed {
            Typed::Wrong if asked.mailed.is_some() => format!("{:08}", self.serial % 100_000_000),
            Typed::Wrong => format!("{:06}", self.serial % 1_000_000),
            Typed::Recovery(n) => {
                let sheet = &self.sheets[user];
                sheet.get(usize::from(n)).cloned().unwrap_or_else(|| "aaaaaaaaaaaaaaaa".to_owned())
            }
            Typed::Repeated => self.typed[user].clone().unwrap_or_default(),
            Typed::Code(steps) => match (&asked.mailed, self.db.users[user].totp) {
                (Some(mail), _) => mail.clone(),
                (None, Some(secret)) => {
                    let at = WALL + self.now;
                    let at = at.saturating_add_signed(i64::from(steps) * 30_000);
                    let app = TotpSecret::from_bytes(secret);
                    app.code_at(Timestamp::from_unix_millis(at)).expose_text().to_string()
                }
                (None, None) => return,
            },
        };
        let at = usize::try_from(asked.subject.location.get() - 1).unwrap_or(0);
        let session = |device: usize, at: usize| {
            self.devices[device].held[at % LOCATIONS].as_ref().map(|held| held.session)
        };
        let renew = match renew {
            0 => None,
            1 => session(device, at),
            2 => session(device, at + 1),
            _ => session((device + 1) % DEVICES, at),
        };
        self.typed[user] = Some(text.clone());
        let now = self.core_time(core);
        let (at, stage) = (self.now, Stage::Count);
        self.cores[core].requests.push(Request {
            challenge,
            device,
            at,
            now,
            text,
            renew,
            before: None,
            stage,
        });
    }

    /// A request goes on.
    pub fn go(&mut self, core: usize, request: usize, commit: Commit) {
        let requests = &mut self.cores[core].requests;
        if requests.is_empty() || !self.cores[core].up {
            return;
        }
        let request = requests.swap_remove(request % requests.len());
        if self.now > request.at + PATIENCE {
            return;
        }
        if let Stage::Reply { session, psk } = request.stage {
            return self.reply(&request, session, psk);
        }
        if !self.cores[core].database {
            return;
        }
        let next = match request.stage {
            Stage::Count => self.count(request, commit),
            Stage::Verify(_) => self.verify(request, core, commit),
            Stage::LateCount => {
                self.count(Request { stage: Stage::Count, ..request }, commit);
                None
            }
            Stage::Reply { .. } => None,
        };
        if let Some(next) = next {
            self.cores[core].requests.push(next);
        }
    }

    fn reply(&mut self, request: &Request, session: i64, psk: u64) {
        let truth = self.oracle.sessions.get(&session);
        if truth.is_none_or(|truth| truth.psk != psk) {
            self.oracle.fail("I5", || format!("session {session} is answered and not there"));
            return;
        }
        self.coverage.hit(Cover::Answered);
        let asked = &self.oracle.asked[request.challenge];
        let (device, location) = (asked.subject.device.get(), asked.subject.location.get());
        let place = usize::try_from(location - 1).unwrap_or(0);
        if self.devices[request.device].id == Some(device) {
            self.hold(request.device, place, session, psk);
        }
    }

    fn key_of(&self, challenge: usize) -> (i64, Method, Lane) {
        let asked = &self.oracle.asked[challenge];
        (asked.subject.user.get(), asked.method, asked.lane)
    }

    fn count(&mut self, mut request: Request, commit: Commit) -> Option<Request> {
        if mutant::on(Mutant::CountedAfter) || mutant::on(Mutant::RolledBackCounter) {
            let uncounted = request.before.is_none();
            request.before = Some(Box::new(self.db.clone()));
            if uncounted {
                return Some(Request { stage: Stage::Verify(None), ..request });
            }
        }
        let token = self.oracle.asked[request.challenge].token;
        let method = self.oracle.asked[request.challenge].method;
        let answer = Answer::parse(method, &request.text).ok()?;
        let before = (commit == Commit::Aborted).then(|| self.db.clone());
        self.db.begin();
        let mut tx = Tx { db: &mut self.db, before: None, silent: false };
        let challenge = tx.challenge(&token).ok()??;
        let counted = login::count(&mut tx, challenge, answer, request.now).ok()?;
        if let Some(before) = before {
            self.db = before;
            self.coverage.hit(Cover::CountAborted);
            return None;
        }
        let key = self.key_of(request.challenge);
        match counted {
            Ok(attempt) => {
                self.coverage.hit(Cover::Counted);
                self.oracle.counted(key, self.now);
                if commit == Commit::Unknown {
                    return None;
                }
                let stale = [Mutant::NoCas, Mutant::ChallengeReuse, Mutant::UserSnapshot];
                if stale.into_iter().any(mutant::on) {
                    request.before = Some(Box::new(self.db.clone()));
                }
                Some(Request { stage: Stage::Verify(Some(attempt)), ..request })
            }
            Err(LoginError::Try(refused)) => {
                self.coverage.hit(match refused {
                    TryRefused::NotOpen(NotOpen::Expired) => Cover::TryExpired,
                    TryRefused::NotOpen(NotOpen::Exhausted) => Cover::TryExhausted,
                    TryRefused::NotOpen(NotOpen::Used) => Cover::TryUsed,
                    TryRefused::Guess(_) | TryRefused::ForeignBudget => Cover::TryOutOfGuesses,
                });
                if let TryRefused::Guess(GuessRefused::Exhausted { .. }) = refused {
                    self.oracle.out_of_guesses(key, self.now);
                }
                None
            }
            Err(_) => None,
        }
    }

    fn verify(&mut self, request: Request, core: usize, commit: Commit) -> Option<Request> {
        let Request { challenge, now, .. } = request;
        let token = self.oracle.asked[challenge].token;
        self.psk_serial += 1;
        let same = mutant::on(Mutant::SamePsk);
        let device = u64::try_from(request.device).unwrap_or(0);
        let serial = if same { device } else { self.psk_serial };
        let psk = PresharedKey::from_bytes(bytes(0x99, serial));
        let before = self.db.clone();
        let terms_codes = self.codes.clone();
        let terms = Terms { codes: &terms_codes, mail: true };
        self.db.begin();
        let Stage::Verify(attempt) = &request.stage else { return None };
        let mut late = None;
        let attempt = if let Some(attempt) = attempt {
            attempt
        } else {
            let method = self.oracle.asked[challenge].method;
            let answer = Answer::parse(method, &request.text).ok()?;
            let mut tx = Tx { db: &mut self.db, before: None, silent: false };
            let stored = tx.challenge(&token).ok()??;
            late.insert(login::count(&mut tx, stored, answer, now).ok()?.ok()?)
        };
        let counted = matches!(request.stage, Stage::Verify(Some(_)));
        let stale = request.before.as_deref().filter(|_| counted);
        let silent = mutant::on(Mutant::AuditApart);
        let mut tx = Tx { db: &mut self.db, before: stale, silent };
        if let Some(session) = request.renew {
            let device = self.devices[request.device].key;
            let whose = Whose { session: SessionId::new(session), device: device? };
            let extended = extend::extend(&mut tx, terms, attempt, token, whose, now);
            return self.extended(request, core, commit, before, extended);
        }
        let verdict = login::verify(&mut tx, terms, attempt, token, &psk, now);
        match verdict {
            Ok(Ok(bought)) => {
                let session = bought.session.id.get();
                let answered = mutant::on(Mutant::AnsweredBeforeCommit);
                if commit == Commit::Aborted {
                    self.told_too_early();
                    self.db = before;
                    self.coverage.hit(Cover::LoginAborted);
                    self.oracle.looked(challenge, request.at, self.now, false);
                    if answered {
                        self.reply(&request, session, serial);
                    }
                    return None;
                }
                self.bought(&request, session, serial);
                if self.oracle.violation.is_some() {
                    return None;
                }
                self.after_commit((commit == Commit::Done).then_some(core));
                if commit == Commit::Unknown {
                    self.coverage.hit(Cover::LoginUnknown);
                    return None;
                }
                Some(Request { stage: Stage::Reply { session, psk: serial }, ..request })
            }
            Ok(Err(LoginError::Refused(refused))) => {
                self.refused(challenge, request.at, refused);
                let uncounted = matches!(request.stage, Stage::Verify(None));
                if commit == Commit::Aborted || uncounted {
                    self.db = before;
                } else {
                    self.oracle.audit += u64::from(!silent);
                    self.after_commit(None);
                }
                let counts_late = uncounted && mutant::on(Mutant::CountedAfter);
                counts_late.then_some(Request { stage: Stage::LateCount, ..request })
            }
            Ok(Err(_)) => None,
            Err(error) => {
                self.db = before;
                match error {
                    LoginError::Spent => self.coverage.hit(Cover::Spent),
                    LoginError::Refused(refused) => self.refused(challenge, request.at, refused),
                    _ => {}
                }
                None
            }
        }
    }

    fn extended(
        &mut self,
        request: Request,
        core: usize,
        commit: Commit,
        before: Db,
        extended: Result<Result<(SessionInfo, Location), LoginError>, ExtendError>,
    ) -> Option<Request> {
        let (challenge, uncounted) =
            (request.challenge, matches!(request.stage, Stage::Verify(None)));
        let silent = mutant::on(Mutant::AuditApart);
        match extended {
            Ok(Ok(_)) if commit == Commit::Aborted => {
                self.db = before;
                self.oracle.looked(challenge, request.at, self.now, false);
            }
            Ok(Ok((info, location))) => {
                self.coverage.hit(Cover::Renewed);
                self.proven(&request);
                let lifetime = location.settings.policy.lifetime().get();
                let most = WALL + self.now + crate::kernel::millis(lifetime);
                self.oracle.renewed(&self.db, challenge, info.id.get(), self.now, most);
                if self.oracle.violation.is_none() {
                    self.after_commit((commit == Commit::Done).then_some(core));
                }
            }
            Ok(Err(LoginError::Refused(refused))) => {
                self.refused(challenge, request.at, refused);
                if commit == Commit::Aborted || uncounted {
                    self.db = before;
                } else {
                    self.oracle.audit += u64::from(!silent);
                    self.after_commit(None);
                }
                if uncounted && mutant::on(Mutant::CountedAfter) {
                    return Some(Request { stage: Stage::LateCount, ..request });
                }
            }
            Ok(Err(_)) => {}
            Err(error) => {
                self.db = before;
                match error {
                    ExtendError::NoSession => {
                        self.coverage.hit(Cover::RenewRefused);
                        self.oracle.looked(challenge, request.at, self.now, false);
                    }
                    ExtendError::Login(LoginError::Spent) => self.coverage.hit(Cover::Spent),
                    ExtendError::Login(LoginError::Refused(refused)) => {
                        self.refused(challenge, request.at, refused);
                    }
                    ExtendError::Login(_) => {}
                }
            }
        }
        None
    }

    fn refused(&mut self, challenge: usize, came: u64, refused: Refused) {
        let (cover, looked) = match refused {
            Refused::Wrong { .. } => (Cover::Wrong, true),
            Refused::Replayed => (Cover::Replayed, true),
            Refused::NotAdmitted(_) => (Cover::NotAdmitted, false),
            Refused::NotOpen(NotOpen::Exhausted) => (Cover::TryExhausted, false),
            Refused::NotOpen(_) | Refused::NotCounted | Refused::ForeignSubject => {
                (Cover::TryExpired, false)
            }
        };
        self.coverage.hit(cover);
        if looked {
            self.oracle.looked(challenge, came, self.now, false);
        }
    }

    fn bought(&mut self, request: &Request, session: i64, psk: u64) {
        self.proven(request);
        self.oracle.began(&self.db, request.challenge, session, psk, self.now);
    }

    /// A right code was accepted, in a commit.
    fn proven(&mut self, request: &Request) {
        let challenge = request.challenge;
        let user = usize::try_from(self.oracle.asked[challenge].subject.user.get() - 1);
        let user = user.unwrap_or(0);
        self.oracle.looked(challenge, request.at, self.now, true);
        self.oracle.audit += 1;
        match self.oracle.asked[challenge].method {
            Method::Email => self.coverage.hit(Cover::LoginEmail),
            Method::Totp if request.text.len() == 6 => {
                self.coverage.hit(Cover::LoginTotp);
                let step = self.db.users[user].last_step.unwrap_or(0);
                self.oracle.accepted(user, step, request.now.as_unix_secs() / 30);
            }
            Method::Totp => {
                self.coverage.hit(Cover::LoginRecovery);
                self.oracle.audit += 1;
                if let Ok(code) = RecoveryCode::parse(&request.text) {
                    let digest = code.digest(&self.codes, UserId::new(id(user)));
                    self.oracle.recovered(*digest.as_bytes());
                }
            }
        }
    }

    /// A core looks which keys are to be rotated, as `core_bin::drivers::rotate` does each 5 s.
    pub fn rotate(&mut self, core: usize, commit: Commit) {
        if !self.cores[core].serves() {
            return;
        }
        // All cores have just noted what they hear.
        for other in self.cores.iter().filter(|other| other.serves()) {
            for (gateway, seat) in other.seats.iter().enumerate() {
                let Some(seat) = seat else { continue };
                self.db.heard[gateway] = Some((seat.heard, seat.applied.unwrap_or(0)));
            }
        }
        let now = self.core_time(core);
        let seats = &self.cores[core].seats;
        let connected = |location: LocationId| {
            let served = || (0..GATEWAYS).filter(move |at| id(SERVES[*at]) == location.get());
            let here = served().filter_map(|at| {
                let applied = seats[at].as_ref()?.applied;
                Some(Here { gateway: GatewayId::new(id(at)), applied, in_place: true })
            });
            let elsewhere = served().filter_map(|at| {
                let others = self.cores.iter().enumerate().filter(|(other, _)| *other != core);
                let mut seats = others.filter_map(|(_, other)| other.seats[at].as_ref());
                Some((GatewayId::new(id(at)), seats.next()?.applied))
            });
            Connected { here: here.collect(), elsewhere: elsewhere.collect() }
        };
        let Ok(found) = find(&mut View(&self.db), connected, now) else { return };
        let serial = self.psk_serial;
        let due = found.due.iter().zip(serial + 1..);
        let due: Vec<(i64, u64)> = due.map(|(id, serial)| (id.get(), serial)).collect();
        self.psk_serial += u64::try_from(due.len()).unwrap_or(0);
        if !due.is_empty() {
            let mut staged = Vec::new();
            self.transact(None, commit, |db, _| {
                for (session, serial) in due {
                    if db.stage_rotation(session, bytes(0x99, serial), now) {
                        staged.push((session, serial));
                    }
                }
            });
            for (session, serial) in staged.into_iter().filter(|_| commit != Commit::Aborted) {
                let row = self.db.sessions.iter().find(|row| row.id == session);
                let generation = row.map_or(0, |row| row.generation.next().get());
                self.oracle.drew(serial, session, generation);
                self.coverage.hit(Cover::KeyStaged);
            }
        }
        if !found.ready.is_empty() {
            let mut promoted = 0;
            self.transact(None, commit, |db, _| promoted = db.promote_rotations(&found.ready));
            (0..promoted).for_each(|_| self.coverage.hit(Cover::KeyPromoted));
            if commit != Commit::Aborted {
                found.ready.iter().for_each(|session| self.has_promoted(session.get()));
            }
        }
        if !found.late.is_empty() {
            let by = By::new(Actor::System, now);
            self.transact(Some(core), commit, |db, _| {
                for (session, _) in found.late {
                    db.end_sessions(by, Scope::Session(session), EndReason::RotationFailed);
                }
            });
        }
    }

    /// Looks whether every connected gateway has a key that was promoted.
    fn has_promoted(&mut self, session: i64) {
        let Some(row) = self.db.sessions.iter().find(|row| row.id == session) else { return };
        let (at, key) = (row.subject.location.get(), row.generation.get());
        for gateway in (0..GATEWAYS).filter(|gateway| id(SERVES[*gateway]) == at) {
            let Some((stream, core)) = self.gateways[gateway].stream else { continue };
            let seat = self.cores[core].seats[gateway].as_ref();
            if !self.cores[core].up || seat.is_none_or(|seat| seat.stream != stream) {
                continue;
            }
            let Some(truth) = self.oracle.sessions.get(&session) else { continue };
            let state = self.gateways[gateway].kernel.state();
            let psk = state.peer(&truth.key).and_then(|peer| peer.psk);
            drop(state);
            let place = psk.and_then(|psk| usize::try_from(psk).ok());
            let known = place.and_then(|place| self.oracle.psks.get(place).copied().flatten());
            if let Some((of, has)) = known
                && of == session
                && has < key
            {
                self.oracle.fail("I15", || {
                    format!(
                        "key {key} of session {session} is promoted; gateway {gateway} has {has}"
                    )
                });
            }
        }
    }

    /// Wakes the streams of one core, or of all.
    pub fn wake(&mut self, core: Option<usize>) {
        for place in 0..CORES {
            if core.is_some_and(|core| core != place) || !self.cores[place].up {
                continue;
            }
            for gateway in 0..GATEWAYS {
                if let Some(seat) = &mut self.cores[place].seats[gateway] {
                    seat.feed.wake();
                    self.pump(place, gateway);
                }
            }
        }
    }

    /// Sits a gateway down at a core.
    pub fn sit(&mut self, core: usize, gateway: usize, stream: u64) {
        let seat = Seat {
            stream,
            feed: Feed::new(),
            reports: Reports::new(),
            known: BTreeSet::new(),
            applied: None,
            heard: self.core_time(core),
            began: self.now,
            beats: VecDeque::new(),
            dead_at: None,
            snapshot_sent: false,
        };
        self.cores[core].seats[gateway] = Some(seat);
        self.pump(core, gateway);
    }

    /// Says what there is to say, as `core_bin::link::session` does.
    pub fn pump(&mut self, core: usize, gateway: usize) {
        let now = self.now;
        let this = &mut self.cores[core];
        let Some(seat) = &mut this.seats[gateway] else { return };
        let link = &mut self.gateways[gateway];
        let current = link.stream == Some((seat.stream, core));
        let at = Duration::from_millis(now - seat.began);
        let db = match &this.stale {
            Some(stale) if mutant::on(Mutant::StaleCore) => stale,
            _ => &self.db,
        };
        let location = SERVES[gateway];
        for _ in 0..8 {
            if link.down_queue.len() >= 4 {
                break;
            }
            let blind = mutant::on(Mutant::BlindHeartbeat);
            let message = if !seat.beats.is_empty() && (blind || seat.feed.is_current()) {
                seat.beats.pop_front().map(Down::Heartbeat)
            } else {
                let due = seat.feed.due(at);
                if due == Due::Nothing {
                    break;
                }
                if !this.database {
                    seat.feed.put_off(at + Duration::from_secs(1));
                    break;
                }
                match due {
                    Due::Nothing => None,
                    Due::Snapshot => {
                        let revision = db.revisions[location];
                        let peers: Vec<wire::Peer> = peers(db, location, |_| true);
                        seat.known = peers.iter().filter_map(key_of).collect();
                        seat.feed.sent_snapshot(revision);
                        seat.snapshot_sent = true;
                        Some(Down::Snapshot(snapshot(revision, peers)))
                    }
                    Due::Changes { since } => match db.changes_since(location, since) {
                        None => {
                            seat.feed.changes_lost();
                            None
                        }
                        Some(_) if db.revisions[location] == since => {
                            seat.feed.sent_up_to(since);
                            None
                        }
                        Some(touched) => {
                            let revision = db.revisions[location];
                            let peers = peers(db, location, |key| touched.contains(key));
                            let there: BTreeSet<_> = peers.iter().filter_map(key_of).collect();
                            let gone = touched.difference(&there);
                            let removed = gone.map(|key| key.as_bytes().to_vec()).collect();
                            seat.known.extend(there.iter().copied());
                            seat.feed.sent_up_to(revision);
                            Some(Down::Change(wire::Change {
                                base_revision: unsigned(since),
                                revision: unsigned(revision),
                                peers,
                                removed,
                            }))
                        }
                    },
                }
            };
            if let Some(message) = message.filter(|_| current) {
                link.down_queue.push_back(message);
            }
        }
        if !seat.feed.is_current() || !seat.beats.is_empty() || seat.dead_at.is_some() {
            let again = now + if this.database { 1000 } else { 5000 };
            this.look_at = Some(this.look_at.unwrap_or(again).min(again));
        }
    }

    /// Core hears a gateway.
    pub fn hear(&mut self, core: usize, gateway: usize, message: Up) {
        let now = self.now;
        let received_at = self.core_time(core);
        let db_revision = self.db.revisions[SERVES[gateway]];
        let Some(seat) = &mut self.cores[core].seats[gateway] else { return };
        seat.heard = received_at;
        let at = Duration::from_millis(now - seat.began);
        match message {
            Up::Heartbeat(number) => {
                if seat.beats.len() >= 16 {
                    seat.beats.pop_front();
                }
                seat.beats.push_back(number);
                seat.feed.wake();
            }
            Up::Ack { error: true, .. } => {
                self.coverage.hit(Cover::AckedError);
                seat.feed.trouble(at);
            }
            Up::Ack { revision, error: false } => {
                let revision = i64::try_from(revision).unwrap_or(i64::MAX);
                if seat.feed.acknowledged(revision).is_err() {
                    self.hang_up(gateway, true);
                    return;
                }
                seat.applied = Some(revision);
                self.coverage.hit(Cover::Acknowledged);
                let late = mutant::on(Mutant::SubscribedLate);
                if core::mem::take(&mut seat.snapshot_sent) && late {
                    seat.feed.sent_up_to(db_revision);
                }
            }
            Up::Resync => seat.feed.trouble(at),
            Up::Stats { stats, carried, had, forged } => {
                let Ok(checked) = seat.reports.check(&stats, &seat.known, at) else { return };
                let location = SERVES[gateway];
                let report = StatsReport {
                    gateway: GatewayId::new(id(gateway)),
                    location: LocationId::new(id(location)),
                    received_at,
                    period: checked.period,
                    peers: checked.peers,
                };
                self.heard_report(core, gateway, &report, (&carried, had), forged);
            }
        }
        self.pump(core, gateway);
    }

    fn heard_report(
        &mut self,
        core: usize,
        gateway: usize,
        report: &StatsReport,
        (carried, had): (&[(PublicKey, u64)], i64),
        forged: bool,
    ) {
        if !self.cores[core].database {
            return;
        }
        let revision = self.db.revisions[SERVES[gateway]];
        if !self.cores[core].follower.knows(report.location, Some(revision)) {
            self.learn(core);
        }
        self.cores[core].follower.handle_report(report);
        let soon = self.now + 2000;
        let this = &mut self.cores[core];
        this.news_at = Some(this.news_at.unwrap_or(soon).min(soon));
        if forged {
            self.coverage.hit(Cover::ReportForged);
        }
        let again = &mut self.gateways[gateway].counts_again;
        let anew = core::mem::replace(again, forged.then_some(-1));
        for peer in &report.peers {
            let key = peer.public_key;
            let count = carried.iter().find(|(whose, _)| *whose == key).map_or(0, |(_, n)| *n);
            let known = self.gateways[gateway].credited(&key);
            // What it told the other core, or before a lie, and what it counted for the session before.
            let here =
                |truth: &Truth| truth.key == key && truth.subject.location == report.location;
            let behind = |truth: &Truth| {
                let unseen = anew.is_some_and(|seen| count > 0 && truth.begin_revision > seen);
                here(truth) && (unseen || truth.begin_revision > had)
            };
            let live = self.oracle.live().iter().filter_map(|id| self.oracle.sessions.get(id));
            let again = live.into_iter().any(behind);
            if !forged && !again && count <= known {
                continue;
            }
            self.gateways[gateway].set_credited(&key, count.max(known));
            let live = self.oracle.live().to_vec();
            for session in live {
                let truth = self.oracle.sessions.get(&session);
                if truth.is_some_and(|truth| {
                    truth.key == key && truth.subject.location == report.location
                }) {
                    self.coverage.hit(Cover::ReportActive);
                    let threshold = self.settings.thresholds()[SERVES[gateway]];
                    self.oracle.credit(session, self.now, threshold);
                }
            }
        }
    }
}

/// What the look for rotations reads.
struct View<'a>(&'a Db);

impl Rotations for View<'_> {
    fn gateways(&mut self) -> Result<Vec<Gateway>, StoreError> {
        let rows = self.0.heard.iter().enumerate();
        let rows = rows.map(|(at, heard)| Gateway {
            id: GatewayId::new(id(at)),
            location: LocationId::new(id(SERVES[at])),
            name: String::new(),
            cert_serial: None,
            previous_cert_serial: None,
            legacy_token: None,
            enrolled: None,
            heard: heard.map(|(at, _)| at),
            applied_revision: heard.map_or(0, |(_, applied)| applied),
            version: String::new(),
            backend: "kernel".to_owned(),
            hostname: String::new(),
            revoked: None,
        });
        Ok(rows.collect())
    }

    fn locations(&mut self) -> Result<Vec<Location>, StoreError> {
        Ok((0..LOCATIONS).map(|at| self.0.location(at)).collect())
    }

    fn due_for_rotation(
        &mut self,
        location: LocationId,
        since: Timestamp,
        _limit: i64,
    ) -> Result<Vec<SessionId>, StoreError> {
        let at = (0..LOCATIONS).find(|at| id(*at) == location.get());
        Ok(at.map_or_else(Vec::new, |at| self.0.due_for_rotation(at, since)))
    }

    fn rotations(&mut self) -> Result<Vec<RotationInfo>, StoreError> {
        Ok(self.0.sessions.iter().filter_map(crate::db::SessionRow::rotation).collect())
    }
}

fn unsigned(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or(0)
}

fn key_of(peer: &wire::Peer) -> Option<PublicKey> {
    peer.public_key.as_slice().try_into().ok().map(PublicKey::from_bytes)
}

fn peers(db: &Db, location: usize, of: impl Fn(&PublicKey) -> bool) -> Vec<wire::Peer> {
    db.desired(location)
        .filter(|(_, device, _)| of(&device.key))
        .map(|(session, device, host)| wire::Peer {
            public_key: device.key.as_bytes().to_vec(),
            allowed_ips: vec![format!("10.{location}.0.{host}/32")],
            preshared_key: session.given().1.map(|psk| psk.to_vec()),
            persistent_keepalive: 0,
            session_id: session.id,
            generation: session.given().0.get(),
            previous_psk_sha256: session.previous.map(|digest| digest.to_vec()),
            lifetime_left_millis: None,
        })
        .collect()
}

fn snapshot(revision: i64, peers: Vec<wire::Peer>) -> wire::Snapshot {
    wire::Snapshot {
        revision: unsigned(revision),
        interface: Some(wire::InterfaceConfig {
            location_name: "Office".into(),
            private_key: vec![0xee; 32],
            listen_port: 51820,
            addresses: vec!["10.0.0.1/24".into(), "10.1.0.1/24".into()],
            mtu: 0,
            mfa_required: true,
            ..wire::InterfaceConfig::default()
        }),
        peers,
        part: 0,
        last: true,
    }
}

const _: () = assert!(LOCATIONS == 2, "addresses are of two locations");
