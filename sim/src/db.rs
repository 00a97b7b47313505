//! A model of the store, small enough to be copied for each transaction.
//!
//! Its functions do what those of `mfa_store::Tx` of the same names do. A transaction that must be undone is undone by putting
//! the copy back.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use core_bin::drivers::idle::Found;
use core_bin::flows::connect::records::{Records, View};
use mfa_core::budget::{GuessBudget, GuessKey, GuessParts, Lane, MailBudget};
use mfa_core::challenge::{Challenge, ChallengeState, Subject};
use mfa_core::connect::{EndReason, Session};
use mfa_core::factor::CodeDigest;
use mfa_core::factor::totp::{TotpSecret, TotpStep};
use mfa_core::id::{DeviceId, LocationId, SessionId, UserId};
use mfa_core::method::{Method, MethodSet};
use mfa_core::policy::LocationPolicy;
use mfa_core::rotate::{PskGeneration, Rotation, RotationState};
use mfa_core::time::Timestamp;
use mfa_core::token::TokenDigest;
use mfa_store::{
    ADDRESS_REST, Activity, By, Device, Location, LocationSettings, Quiet, RotationInfo, Scope,
    SessionInfo, StoreError, Totp, User, UserDetails,
};
use mutant::Mutant;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use wg_types::{PresharedKey, PublicKey};

use crate::{GATEWAYS, LOCATIONS, USERS};

/// Addresses that a location has for devices: so few that they are used again.
pub const ADDRESSES: u8 = 5;
/// Changes that are on record.
const CHANGES_KEPT: usize = 40;

/// What is known of a person.
#[derive(Clone, Copy, Debug)]
pub struct UserRow {
    /// Whether the person may do anything.
    pub active: bool,
    /// Which locations the person may use.
    pub may_use: [bool; LOCATIONS],
    /// The secret of the app; `None`: none is set up.
    pub totp: Option<[u8; 20]>,
    /// The last accepted step.
    pub last_step: Option<u64>,
    /// Whether a mailbox is confirmed.
    pub email: bool,
    /// Unused recovery codes.
    pub recovery: [Option<[u8; 32]>; 2],
}

/// A device.
#[derive(Clone, Copy, Debug)]
pub struct DeviceRow {
    /// Its number.
    pub id: i64,
    /// Whose.
    pub user: i64,
    /// Its key.
    pub key: PublicKey,
}

/// A session.
#[derive(Clone, Copy, Debug)]
pub struct SessionRow {
    /// All but the PSK; `authorized` and so on.
    pub id: i64,
    /// Whose, with what, where to.
    pub subject: Subject,
    /// How it was proved.
    pub method: Method,
    /// When it began.
    pub authorized: Timestamp,
    /// When it ends at the latest.
    pub lifetime_ends: Timestamp,
    /// When it was first heard.
    pub connected: Option<Timestamp>,
    /// When it was last heard.
    pub active_at: Timestamp,
    /// When it ended, and why.
    pub ended: Option<(Timestamp, EndReason)>,
    /// Which PSK it has, or had.
    pub generation: PskGeneration,
    /// Its PSK, while it lives.
    pub psk: Option<[u8; 32]>,
    /// Since when it has that one; `None`: its client cannot take another.
    pub psk_since: Option<Timestamp>,
    /// The PSK beside it, while it is rotated.
    pub next: Option<Next>,
    /// SHA-256 of the PSK before.
    pub previous: Option<[u8; 32]>,
    /// Bytes from the peer.
    pub rx_bytes: u64,
    /// Bytes to the peer.
    pub tx_bytes: u64,
}

/// The next PSK of a session.
#[derive(Clone, Copy, Debug)]
pub struct Next {
    /// It.
    pub psk: [u8; 32],
    /// When it was put there.
    pub staged: Timestamp,
    /// How far it is.
    pub state: RotationState,
    /// The revision that gives it to gateways.
    pub revision: Option<i64>,
}

impl SessionRow {
    /// The PSK that gateways are given, and which it is.
    #[must_use]
    pub fn given(&self) -> (PskGeneration, Option<[u8; 32]>) {
        let early = mutant::on(Mutant::StagedIsGiven);
        match self.next.filter(|next| next.state >= RotationState::Set || early) {
            Some(next) => (self.generation.next(), Some(next.psk)),
            None => (self.generation, self.psk),
        }
    }

    /// How its rotation stands.
    #[must_use]
    pub fn rotation(&self) -> Option<RotationInfo> {
        let next = self.next?;
        Some(RotationInfo {
            session: SessionId::new(self.id),
            location: self.subject.location,
            rotation: Rotation::from_parts(self.generation.next(), next.staged, next.state),
            revision: next.revision,
        })
    }

    /// As the store shows it.
    #[must_use]
    pub const fn info(&self) -> SessionInfo {
        SessionInfo {
            id: SessionId::new(self.id),
            subject: self.subject,
            method: self.method,
            generation: self.generation,
            authorized: self.authorized,
            lifetime_ends: self.lifetime_ends,
            connected: self.connected,
            last_activity: self.active_at,
            last_heard: None,
            ended: self.ended,
            rx_bytes: self.rx_bytes,
            tx_bytes: self.tx_bytes,
        }
    }
}

/// A tunnel address that is taken, or rests.
#[derive(Clone, Copy, Debug)]
pub struct AddressRow {
    /// Where.
    pub location: i64,
    /// Whose; `None`: it rests.
    pub device: Option<i64>,
    /// The last byte of the address.
    pub host: u8,
    /// Until when it rests.
    pub rest_until: Timestamp,
}

#[derive(Clone, Copy, Debug, Default)]
struct Guesses {
    recent: [u64; 10],
    len: usize,
    charged: u64,
    cleared: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mails {
    recent: [u64; 20],
    len: usize,
}

/// The database.
#[derive(Clone, Debug)]
pub struct Db {
    /// People; number n is at n - 1.
    pub users: [UserRow; USERS],
    /// Devices that there are.
    pub devices: Vec<DeviceRow>,
    /// Challenges, oldest first.
    pub challenges: Vec<Challenge>,
    /// Sessions, oldest first; those that ended are forgotten after a time.
    pub sessions: Vec<SessionRow>,
    /// Addresses.
    pub addresses: Vec<AddressRow>,
    /// What each location asks.
    pub policies: [LocationPolicy; LOCATIONS],
    /// Each location's revision.
    pub revisions: [i64; LOCATIONS],
    /// When each gateway was last heard, and what it had applied, as cores noted.
    pub heard: [Option<(Timestamp, i64)>; GATEWAYS],
    /// Which revision touched whom.
    pub changes: [Vec<(i64, PublicKey)>; LOCATIONS],
    /// Up to which revision changes are forgotten.
    pub pruned: [i64; LOCATIONS],
    /// Rows in the audit log.
    pub audit: u64,
    /// How many state changes there were, as counted by the oracle's side of the model.
    pub audited_changes: u64,
    guesses: [[[Guesses; 2]; 2]; USERS],
    mails: [[Mails; 2]; USERS],
    next_device: i64,
    next_session: i64,
    touched: [bool; LOCATIONS],
}

const fn index(id: i64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::as_conversions,
        reason = "small numbers"
    )]
    let index = (id - 1) as usize;
    index
}

/// The number of the n-th row of its kind.
#[must_use]
pub fn id(index: usize) -> i64 {
    i64::try_from(index).unwrap_or(0) + 1
}

const fn lane_index(lane: Lane) -> usize {
    match lane {
        Lane::Proven => 0,
        Lane::Stranger => 1,
    }
}

const fn method_index(method: Method) -> usize {
    match method {
        Method::Totp => 0,
        Method::Email => 1,
    }
}

impl Db {
    /// A new database with its people and no device.
    #[must_use]
    pub fn new(policies: [LocationPolicy; LOCATIONS]) -> Self {
        let user = UserRow {
            active: true,
            may_use: [true; LOCATIONS],
            totp: None,
            last_step: None,
            email: true,
            recovery: [None; 2],
        };
        Self {
            users: [user; USERS],
            devices: Vec::new(),
            challenges: Vec::new(),
            sessions: Vec::new(),
            addresses: Vec::new(),
            policies,
            revisions: [1; LOCATIONS],
            heard: [None; GATEWAYS],
            changes: Default::default(),
            pruned: [1; LOCATIONS],
            audit: 0,
            audited_changes: 0,
            guesses: Default::default(),
            mails: Default::default(),
            next_device: 1,
            next_session: 1,
            touched: [false; LOCATIONS],
        }
    }

    /// Begins a transaction: the next touch raises a revision.
    pub const fn begin(&mut self) {
        self.touched = [false; LOCATIONS];
    }

    /// Writes an audit row.
    pub const fn note(&mut self) {
        self.audit += 1;
    }

    /// The revision of a location rises, once in a transaction, and this peer is why.
    pub fn touch(&mut self, location: usize, key: PublicKey) {
        if !core::mem::replace(&mut self.touched[location], true) {
            self.revisions[location] += 1;
        }
        let changes = &mut self.changes[location];
        changes.push((self.revisions[location], key));
        if changes.len() > CHANGES_KEPT {
            let through = changes[changes.len() - CHANGES_KEPT / 2].0;
            changes.retain(|(revision, _)| *revision > through);
            self.pruned[location] = through;
        }
    }

    /// The peers touched since; `None`: everything may have changed.
    #[must_use]
    pub fn changes_since(&self, location: usize, since: i64) -> Option<BTreeSet<PublicKey>> {
        if since < self.pruned[location] || since > self.revisions[location] {
            return None;
        }
        let changes = self.changes[location].iter();
        Some(changes.filter(|(at, _)| *at > since).map(|(_, key)| *key).collect())
    }

    /// The device of this number.
    #[must_use]
    pub fn device_row(&self, id: i64) -> Option<&DeviceRow> {
        self.devices.iter().find(|device| device.id == id)
    }

    /// The address of a device.
    #[must_use]
    pub fn address(&self, device: i64, location: usize) -> Option<u8> {
        let location = id(location);
        let mine = |row: &&AddressRow| row.device == Some(device) && row.location == location;
        self.addresses.iter().find(mine).map(|row| row.host)
    }

    /// The live sessions of a location with their peers as gateways should have them.
    pub fn desired(&self, location: usize) -> impl Iterator<Item = (&SessionRow, &DeviceRow, u8)> {
        self.sessions.iter().filter_map(move |session| {
            if session.ended.is_some() || session.subject.location.get() != id(location) {
                return None;
            }
            let user = &self.users[index(session.subject.user.get())];
            if !user.active || !user.may_use[location] {
                return None;
            }
            let device = self.device_row(session.subject.device.get())?;
            Some((session, device, self.address(device.id, location)?))
        })
    }

    /// Adds a device; `None` if a location is full.
    pub fn add_device(&mut self, by: By, user: i64, key: PublicKey) -> Option<i64> {
        let device = self.next_device;
        for location in 0..LOCATIONS {
            if self.users[index(user)].may_use[location] {
                self.give_address(by, device, location)?;
            }
        }
        self.next_device += 1;
        self.devices.push(DeviceRow { id: device, user, key });
        self.note();
        Some(device)
    }

    /// Removes a device: its sessions end, its addresses rest.
    pub fn remove_device(&mut self, by: By, device: i64) -> bool {
        if self.device_row(device).is_none() {
            return false;
        }
        self.end_sessions(by, Scope::Device(DeviceId::new(device)), EndReason::DeviceRemoved);
        let at_once = mutant::on(Mutant::AddressReuse);
        let rest = if at_once { Duration::ZERO } else { ADDRESS_REST };
        for row in self.addresses.iter_mut().filter(|row| row.device == Some(device)) {
            (row.device, row.rest_until) = (None, by.now.saturating_add(rest));
        }
        self.devices.retain(|row| row.id != device);
        // The rows that belong to it go with it.
        self.sessions.retain(|session| session.subject.device.get() != device);
        self.challenges.retain(|one| one.subject().device.get() != device);
        self.note();
        true
    }

    fn give_address(&mut self, by: By, device: i64, location: usize) -> Option<()> {
        if self.address(device, location).is_some() {
            return Some(());
        }
        let at = id(location);
        let here = |row: &&AddressRow| row.location == at;
        let highest = self.addresses.iter().filter(here).map(|row| row.host).max();
        // The first host is the gateway's own.
        let next = highest.map_or(2, |host| host + 1);
        let host = if next <= ADDRESSES + 1 {
            next
        } else {
            self.addresses.retain(|row| {
                row.location != at || row.device.is_some() || row.rest_until > by.now
            });
            (2..=ADDRESSES + 1).find(|host| {
                !self.addresses.iter().any(|row| row.location == at && row.host == *host)
            })?
        };
        let rest_until = Timestamp::UNIX_EPOCH;
        self.addresses.push(AddressRow { location: at, device: Some(device), host, rest_until });
        Some(())
    }

    /// Ends live sessions; returns which.
    pub fn end_sessions(&mut self, by: By, scope: Scope, reason: EndReason) -> Vec<i64> {
        let mut ended = Vec::new();
        for place in 0..self.sessions.len() {
            let session = self.sessions[place];
            if session.ended.is_some() || !within(&session, scope) {
                continue;
            }
            self.sessions[place].ended = Some((by.now, reason));
            self.sessions[place].psk = None;
            if !mutant::on(Mutant::KeyOutlives) {
                self.sessions[place].next = None;
            }
            self.sessions[place].previous = None;
            let Subject { device, location, .. } = session.subject;
            if let Some(row) = self.device_row(device.get()).copied()
                && !mutant::on(Mutant::EndUntold)
            {
                self.touch(index(location.get()), row.key);
            }
            self.note();
            ended.push(session.id);
        }
        ended
    }

    /// Enables or disables a user; tells whether that was new.
    pub fn set_active(&mut self, by: By, user: i64, active: bool) -> bool {
        if core::mem::replace(&mut self.users[index(user)].active, active) == active {
            return false;
        }
        if !active && !mutant::on(Mutant::DisabledLives) {
            self.end_sessions(by, Scope::User(UserId::new(user)), EndReason::UserDisabled);
        }
        self.note();
        true
    }

    /// Lets a user use a location or not, as a change of groups does; `false`: a location is full, and
    /// all must be undone.
    pub fn set_may_use(&mut self, by: By, user: i64, location: usize, may: bool) -> bool {
        let before = core::mem::replace(&mut self.users[index(user)].may_use[location], may);
        self.note();
        if before && !may {
            let at = LocationId::new(id(location));
            self.end_sessions(by, Scope::UserAt(UserId::new(user), at), EndReason::AccessRemoved);
        }
        let devices: Vec<DeviceRow> =
            self.devices.iter().filter(|device| device.user == user).copied().collect();
        for device in devices {
            for at in 0..LOCATIONS {
                let given = self.users[index(user)].may_use[at];
                if given && self.give_address(by, device.id, at).is_none() {
                    return false;
                }
            }
            if before != may {
                self.touch(location, device.key);
            }
        }
        true
    }

    /// Takes the authenticator app away.
    pub fn reset_totp(&mut self, by: By, user: i64) {
        let row = &mut self.users[index(user)];
        (row.totp, row.recovery) = (None, [None; 2]);
        let scope = Scope::UserMethod(UserId::new(user), Method::Totp);
        self.end_sessions(by, scope, EndReason::MethodReset);
        self.note();
    }

    /// Sets an authenticator app up, confirmed by a code of `step`.
    pub fn confirm_totp(&mut self, by: By, user: i64, secret: [u8; 20], step: u64) -> bool {
        if !mutant::on(Mutant::ConfirmUnburned) && !self.burn(user, step) {
            return false;
        }
        self.users[index(user)].totp = Some(secret);
        let scope = Scope::UserMethod(UserId::new(user), Method::Totp);
        self.end_sessions(by, scope, EndReason::MethodReset);
        self.note();
        true
    }

    fn burn(&mut self, user: i64, step: u64) -> bool {
        let row = &mut self.users[index(user)];
        if row.last_step.is_some_and(|last| last >= step) {
            return false;
        }
        row.last_step = Some(step);
        true
    }

    /// Notes what gateways saw.
    pub fn note_activity(&mut self, seen: &[Activity]) {
        for one in seen {
            let live = |row: &&mut SessionRow| row.id == one.session.get() && row.ended.is_none();
            if let Some(row) = self.sessions.iter_mut().find(live) {
                row.active_at = row.active_at.max(one.last_activity);
                row.connected = row.connected.or(Some(one.last_activity));
                row.rx_bytes += one.rx_added;
                row.tx_bytes += one.tx_added;
            }
        }
    }

    /// Ends a session unless somebody has heard of it since.
    pub fn end_quiet(&mut self, by: By, session: i64, last_activity: Timestamp) -> Quiet {
        let live = self.sessions.iter().find(|row| row.id == session && row.ended.is_none());
        let Some(row) = live else { return Quiet::Over };
        if row.active_at > last_activity {
            return Quiet::HeardSince(row.active_at);
        }
        self.end_sessions(by, Scope::Session(SessionId::new(session)), EndReason::Idle);
        Quiet::Ended
    }

    /// Notes that a client can take another PSK; tells whether that is new.
    pub fn can_rotate(&mut self, session: i64) -> bool {
        let new = |row: &&mut SessionRow| {
            row.id == session && row.ended.is_none() && row.psk_since.is_none()
        };
        let row = self.sessions.iter_mut().find(new);
        row.map(|row| row.psk_since = Some(row.authorized)).is_some()
    }

    /// The live sessions of a location whose PSK is due to be replaced, the oldest first.
    #[must_use]
    pub fn due_for_rotation(&self, location: usize, since: Timestamp) -> Vec<SessionId> {
        let due = self.sessions.iter().filter(|row| {
            row.ended.is_none()
                && row.next.is_none()
                && row.subject.location.get() == id(location)
                && row.psk_since.is_some_and(|at| at <= since)
        });
        let mut due: Vec<&SessionRow> = due.collect();
        due.sort_by_key(|row| row.psk_since);
        due.iter().map(|row| SessionId::new(row.id)).collect()
    }

    /// Puts the next PSK beside the one in force; tells whether that could be.
    pub fn stage_rotation(&mut self, session: i64, psk: [u8; 32], now: Timestamp) -> bool {
        let Some(row) = self.sessions.iter_mut().find(|row| row.id == session) else {
            return false;
        };
        if row.next.is_some() || row.ended.is_some() {
            return false;
        }
        if mutant::on(Mutant::PreviousEarly) {
            row.previous = row.psk.map(|psk| Sha256::digest(psk).into());
        }
        let state = RotationState::Staged;
        row.next = Some(Next { psk, staged: now, state, revision: None });
        true
    }

    /// Notes what a client says; tells whether it is new.
    pub fn note_rotation(
        &mut self,
        session: i64,
        set: PskGeneration,
        proven: PskGeneration,
    ) -> bool {
        let Some(place) = self.sessions.iter().position(|row| row.id == session) else {
            return false;
        };
        let row = self.sessions[place];
        let (Some(info), Some(mut next)) = (row.rotation(), row.next) else { return false };
        let mut rotation = info.rotation;
        if !rotation.handle_client(set, proven) {
            return false;
        }
        if next.revision.is_none()
            && let Some(device) = self.device_row(row.subject.device.get()).copied()
        {
            let location = index(row.subject.location.get());
            self.touch(location, device.key);
            next.revision = Some(self.revisions[location]);
            self.sessions[place].previous = row.psk.map(|psk| Sha256::digest(psk).into());
        }
        next.state = rotation.state();
        self.sessions[place].next = Some(next);
        true
    }

    /// Makes the next PSK of these sessions their own, where it is proven; returns how many.
    pub fn promote_rotations(&mut self, sessions: &[SessionId]) -> usize {
        let mut promoted = 0;
        for row in &mut self.sessions {
            let careless = mutant::on(Mutant::PromotedUnproven);
            let proven = |next: &Next| next.state == RotationState::Proven || careless;
            if !sessions.contains(&SessionId::new(row.id)) {
                continue;
            }
            if let Some(next) = row.next.take_if(|next| proven(next)) {
                row.psk = Some(next.psk);
                row.psk_since = Some(next.staged);
                row.generation = row.generation.next();
                promoted += 1;
            }
        }
        promoted
    }

    /// The live sessions whose lifetime is over.
    #[must_use]
    pub fn overdue(&self, now: Timestamp) -> Vec<i64> {
        let over = |row: &&SessionRow| row.ended.is_none() && row.lifetime_ends <= now;
        self.sessions.iter().filter(over).map(|row| row.id).collect()
    }

    /// What the follower of sessions asks for.
    #[must_use]
    pub fn found(&self, known: &[SessionId]) -> Found {
        let live: Vec<&SessionRow> =
            self.sessions.iter().filter(|row| row.ended.is_none()).collect();
        let new = live.iter().filter(|row| !known.contains(&SessionId::new(row.id)));
        let new = new.filter_map(|row| {
            let device = self.device_row(row.subject.device.get())?;
            Some((row.info(), device.key))
        });
        let policies = self.policies.iter().enumerate();
        Found {
            live: live.iter().map(|row| (SessionId::new(row.id), row.active_at)).collect(),
            new: new.collect(),
            revisions: (0..LOCATIONS)
                .map(|at| (LocationId::new(id(at)), self.revisions[at]))
                .collect(),
            policies: policies
                .map(|(at, policy)| (LocationId::new(id(at)), policy.idle()))
                .collect::<BTreeMap<_, _>>(),
            elsewhere: BTreeMap::new(),
        }
    }

    /// A location as the store shows it.
    #[must_use]
    pub fn location(&self, at: usize) -> Location {
        let settings = LocationSettings {
            name: String::new(),
            endpoint: String::new(),
            listen_port: 51820,
            addresses: Vec::new(),
            allowed_ips: Vec::new(),
            dns: Vec::new(),
            keepalive: None,
            mtu: None,
            policy: self.policies[at],
        };
        Location {
            id: LocationId::new(id(at)),
            settings,
            public_key: PublicKey::from_bytes([1; 32]),
            revision: self.revisions[at],
            config_version: 1,
            created: Timestamp::UNIX_EPOCH,
        }
    }

    /// Forgets challenges that are long over, and ended sessions.
    pub fn sweep(&mut self, challenges: Timestamp, sessions: Timestamp) {
        self.challenges.retain(|one| one.expires() >= challenges);
        self.sessions.retain(|row| row.ended.is_none_or(|(at, _)| at >= sessions));
    }
}

fn within(row: &SessionRow, scope: Scope) -> bool {
    let Subject { user, device, location } = row.subject;
    match scope {
        Scope::Session(id) => row.id == id.get(),
        Scope::Device(id) => device == id,
        Scope::DeviceAt(id, at) => device == id && location == at,
        Scope::User(id) => user == id,
        Scope::UserAt(id, at) => user == id && location == at,
        Scope::UserMethod(id, method) => user == id && row.method == method,
        Scope::Location(at) => location == at,
        Scope::Method(at, method) => location == at && row.method == method,
        Scope::All => true,
    }
}

/// A transaction of a login, and what bugs would read instead.
#[derive(Debug)]
pub struct Tx<'a> {
    /// The database.
    pub db: &'a mut Db,
    /// The database as it was when the request came.
    pub before: Option<&'a Db>,
    /// Whether audit rows are left out.
    pub silent: bool,
}

impl Tx<'_> {
    /// What to read users, devices and locations from.
    fn people(&self) -> &Db {
        match self.before {
            Some(before) if mutant::on(Mutant::UserSnapshot) => before,
            _ => self.db,
        }
    }

    fn note(&mut self) {
        if !self.silent {
            self.db.note();
        }
    }
}

impl View for Tx<'_> {
    fn challenge(&mut self, token: &TokenDigest) -> Result<Option<Challenge>, StoreError> {
        let from = match self.before {
            Some(before) if mutant::on(Mutant::ChallengeReuse) => before,
            _ => &*self.db,
        };
        Ok(from.challenges.iter().find(|one| one.token() == *token).cloned())
    }

    fn pending_challenges(
        &mut self,
        device: DeviceId,
        lane: Lane,
    ) -> Result<Vec<Challenge>, StoreError> {
        let open = self.db.challenges.iter().filter(|one| {
            one.subject().device == device
                && one.lane() == lane
                && one.state() == ChallengeState::Pending
        });
        Ok(open.cloned().collect())
    }

    fn guess_budget(&mut self, key: GuessKey) -> Result<GuessBudget, StoreError> {
        let row =
            &self.db.guesses[index(key.user.get())][method_index(key.method)][lane_index(key.lane)];
        let recent = row.recent[..row.len].iter().copied();
        let parts = GuessParts {
            recent: recent.map(Timestamp::from_unix_millis).collect(),
            charged: row.charged,
            cleared: row.cleared,
        };
        Ok(GuessBudget::from_parts(key, parts))
    }

    fn mail_budget(&mut self, user: UserId, lane: Lane) -> Result<MailBudget, StoreError> {
        let row = &self.db.mails[index(user.get())][lane_index(lane)];
        let recent = row.recent[..row.len].iter().copied();
        Ok(MailBudget::from_parts(lane, recent.map(Timestamp::from_unix_millis).collect()))
    }

    fn user(&mut self, user: UserId) -> Result<Option<User>, StoreError> {
        let row = &self.people().users[index(user.get())];
        let details = UserDetails { email: "a@b".into(), ..UserDetails::default() };
        let created = Timestamp::UNIX_EPOCH;
        Ok(Some(User { id: user, details, active: row.active, has_password: false, created }))
    }

    fn device(&mut self, device: DeviceId) -> Result<Option<Device>, StoreError> {
        let row = self.people().device_row(device.get());
        Ok(row.map(|row| Device {
            id: device,
            user: UserId::new(row.user),
            name: String::new(),
            public_key: row.key,
            last_poll: None,
            created: Timestamp::UNIX_EPOCH,
        }))
    }

    fn location(&mut self, location: LocationId) -> Result<Option<Location>, StoreError> {
        Ok(Some(self.people().location(index(location.get()))))
    }

    fn may_use(&mut self, user: UserId, location: LocationId) -> Result<bool, StoreError> {
        Ok(self.people().users[index(user.get())].may_use[index(location.get())])
    }

    fn enabled_methods(&mut self, user: UserId) -> Result<MethodSet, StoreError> {
        let row = &self.people().users[index(user.get())];
        let mut methods = MethodSet::EMPTY;
        if row.totp.is_some() {
            methods = methods.with(Method::Totp);
        }
        if row.email {
            methods = methods.with(Method::Email);
        }
        Ok(methods)
    }

    fn totp(&mut self, user: UserId) -> Result<Option<Totp>, StoreError> {
        let row = self.db.users[index(user.get())];
        let last = match self.before {
            Some(before) if mutant::on(Mutant::NoCas) => before.users[index(user.get())].last_step,
            _ => row.last_step,
        };
        Ok(row.totp.map(|secret| Totp {
            secret: TotpSecret::from_bytes(secret),
            last_step: last.map(TotpStep::new),
        }))
    }

    fn recovery_codes(&mut self, user: UserId) -> Result<Vec<CodeDigest>, StoreError> {
        let codes = self.db.users[index(user.get())].recovery;
        Ok(codes.into_iter().flatten().map(CodeDigest::from_bytes).collect())
    }

    fn session(&mut self, id: SessionId) -> Result<Option<SessionInfo>, StoreError> {
        Ok(self.db.sessions.iter().find(|row| row.id == id.get()).map(SessionRow::info))
    }

    fn session_psk(&mut self, id: SessionId) -> Result<Option<PresharedKey>, StoreError> {
        let row = self.db.sessions.iter().find(|row| row.id == id.get());
        Ok(row.and_then(|row| row.psk).map(PresharedKey::from_bytes))
    }

    fn revision(&mut self, location: LocationId) -> Result<Option<i64>, StoreError> {
        Ok(Some(self.db.revisions[index(location.get())]))
    }
}

impl Records for Tx<'_> {
    fn add_challenge(&mut self, _by: By, new: &Challenge) -> Result<(), StoreError> {
        self.db.challenges.push(new.clone());
        self.note();
        Ok(())
    }

    fn save_challenge(&mut self, changed: &Challenge) -> Result<bool, StoreError> {
        let careless = mutant::on(Mutant::ChallengeReuse);
        let stored = self.db.challenges.iter_mut().find(|one| {
            one.token() == changed.token() && (one.state() == ChallengeState::Pending || careless)
        });
        Ok(stored.map(|stored| *stored = changed.clone()).is_some())
    }

    fn save_guess_budget(&mut self, budget: &GuessBudget) -> Result<(), StoreError> {
        let (key, parts) = (budget.key(), budget.to_parts());
        let row = &mut self.db.guesses[index(key.user.get())][method_index(key.method)]
            [lane_index(key.lane)];
        let mut new = Guesses { charged: parts.charged, cleared: parts.cleared, ..*row };
        new.len = parts.recent.len().min(new.recent.len());
        for (place, at) in new.recent.iter_mut().zip(&parts.recent) {
            *place = at.as_unix_millis();
        }
        *row = new;
        Ok(())
    }

    fn save_mail_budget(&mut self, user: UserId, budget: &MailBudget) -> Result<(), StoreError> {
        let row = &mut self.db.mails[index(user.get())][lane_index(budget.lane())];
        row.len = budget.recent().len().min(row.recent.len());
        for (place, at) in row.recent.iter_mut().zip(budget.recent()) {
            *place = at.as_unix_millis();
        }
        Ok(())
    }

    fn use_totp_step(&mut self, user: UserId, step: TotpStep) -> Result<bool, StoreError> {
        if mutant::on(Mutant::NoCas) {
            self.db.users[index(user.get())].last_step = Some(step.get());
            return Ok(true);
        }
        Ok(self.db.burn(user.get(), step.get()))
    }

    fn use_recovery_code(
        &mut self,
        _by: By,
        user: UserId,
        code: &CodeDigest,
    ) -> Result<bool, StoreError> {
        let codes = &mut self.db.users[index(user.get())].recovery;
        if mutant::on(Mutant::RecoveryAgain) {
            self.note();
            return Ok(true);
        }
        let place = codes.iter_mut().find(|stored| stored.as_ref() == Some(code.as_bytes()));
        let unused = place.map(|place| *place = None).is_some();
        if unused {
            self.note();
        }
        Ok(unused)
    }

    fn begin_session(&mut self, by: By, new: &Session) -> Result<SessionId, StoreError> {
        let subject = new.subject();
        let psk = new.psk().ok_or(StoreError::Missing { what: "live session" })?;
        let device = self.db.device_row(subject.device.get()).copied();
        // With the bug that reads before the transaction, the row that is gone goes on to exist.
        let device = device.or_else(|| {
            let before = self.before.filter(|_| mutant::on(Mutant::UserSnapshot))?;
            before.device_row(subject.device.get()).copied()
        });
        let device = device.ok_or(StoreError::Missing { what: "device" })?;
        if !mutant::on(Mutant::NotReplaced) {
            let scope = Scope::DeviceAt(subject.device, subject.location);
            self.db.end_sessions(by, scope, EndReason::Replaced);
        }
        let number = self.db.next_session;
        self.db.next_session += 1;
        self.db.sessions.push(SessionRow {
            id: number,
            subject,
            method: new.method(),
            authorized: new.authorized(),
            lifetime_ends: new.lifetime_ends(),
            connected: None,
            active_at: new.authorized(),
            ended: None,
            generation: new.generation(),
            psk: Some(*psk.expose_secret()),
            psk_since: None,
            next: None,
            previous: None,
            rx_bytes: 0,
            tx_bytes: 0,
        });
        self.db.touch(index(subject.location.get()), device.key);
        self.note();
        Ok(SessionId::new(number))
    }

    fn renew_session(
        &mut self,
        _by: By,
        id: SessionId,
        method: Method,
        ends: Timestamp,
    ) -> Result<bool, StoreError> {
        let live = |row: &&mut SessionRow| row.id == id.get() && row.ended.is_none();
        let row = self.db.sessions.iter_mut().find(live);
        let renewed = row.map(|row| (row.method, row.lifetime_ends) = (method, ends)).is_some();
        if renewed {
            self.note();
        }
        Ok(renewed)
    }

    fn audit(
        &mut self,
        _by: By,
        _action: &str,
        _subject: core::fmt::Arguments<'_>,
        _detail: &Value,
    ) -> Result<(), StoreError> {
        self.note();
        Ok(())
    }
}

/// Forgets the wrong codes of a user, as an administrator can.
///
/// # Errors
///
/// None: the model always can.
pub fn unlock(tx: &mut Tx<'_>, user: i64) -> Result<(), StoreError> {
    for method in Method::ALL {
        for lane in [Lane::Proven, Lane::Stranger] {
            let key = GuessKey { user: UserId::new(user), method, lane };
            let mut budget = tx.guess_budget(key)?;
            budget.clear();
            tx.save_guess_budget(&budget)?;
        }
    }
    tx.note();
    Ok(())
}
