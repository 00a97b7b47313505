//! The whole: cores, gateways with their kernels, links, devices, people, time.

use core::time::Duration;
use std::time::SystemTime;

use mfa_core::connect::EndReason;
use mfa_core::factor::recovery::RecoveryCode;
use mfa_core::factor::totp::TotpSecret;
use mfa_core::factor::{CodeDigest, CodeKey};
use mfa_core::id::{DeviceId, LocationId, UserId};
use mfa_core::method::MethodSet;
use mfa_core::policy::{IdleMode, IdlePolicy, Lifetime, LocationPolicy, Mfa};
use mfa_core::rotate::{PskPolicy, RotationState};
use mfa_core::time::Timestamp;
use mfa_store::{Actor, By, Scope};
use mutant::Mutant;
use tokio::time::Instant;
use wg_types::{AllowedIpsChange, PeerConfig, PeerUpdate, PresharedKey, PskChange, PublicKey};

use crate::action::{Action, Commit, Typed};
use crate::client::Held;
use crate::core::Core;
use crate::coverage::{Cover, Coverage};
use crate::db::{self, Db, Tx, id};
use crate::gateway::Gateway;
use crate::kernel::millis;
use crate::oracle::{FOREIGN, Oracle};
use crate::rng::{Rng, bytes, serial};
use crate::{CORES, DEVICES, GATEWAYS, LOCATIONS, OWNERS, SERVES, USERS};

/// What a right wall clock shows at the beginning, in ms.
pub const WALL: u64 = 1_795_478_400_000;
/// How long all that is wrong may take to become right once faults stop, in ms: a backoff and a pause
/// of 30 s each, and three heartbeats.
const RECOVERY: u64 = 100_000;
/// How long a change may take without faults, in ms.
const SETTLED: u64 = 3_000;

/// A device and who holds it.
#[derive(Debug, Default)]
pub struct Device {
    /// Its row; `None`: it is removed.
    pub id: Option<i64>,
    /// Its key.
    pub key: Option<PublicKey>,
    /// Its challenges, oldest first.
    pub challenges: Vec<usize>,
    /// What it has of its sessions, by location.
    pub held: [Option<Held>; LOCATIONS],
    /// When it last began a handshake with each gateway.
    pub shook: [Option<(u64, u64)>; GATEWAYS],
}

/// What one run has of settings.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The lease, in ms.
    pub lease: u64,
    /// What the locations ask.
    pub policies: [LocationPolicy; LOCATIONS],
}

impl Settings {
    /// Draws them.
    #[must_use]
    pub fn draw(rng: &mut Rng) -> Self {
        let lease = rng.pick(&[30_000, 90_000]);
        let lifetime = rng.pick(&[240, 900, 7200]);
        let policy = |rng: &mut Rng, mode, thresholds: &[u64]| {
            let threshold = rng.pick(thresholds);
            let idle = IdlePolicy::new(mode, Duration::from_secs(threshold));
            LocationPolicy::new(
                Mfa::Required,
                MethodSet::ALL,
                idle.unwrap_or_default(),
                Lifetime::new(Duration::from_secs(lifetime)).unwrap_or_default(),
                PskPolicy::Fixed,
            )
            .unwrap_or_else(|_| LocationPolicy::recommended())
        };
        let transfer = policy(rng, IdleMode::Transfer, &[60, 120, 300]);
        let handshake = policy(rng, IdleMode::Handshake, &[180, 300]);
        // Drawn last, so that seeds of before have the settings of before.
        let mut rotating = |policy: LocationPolicy| {
            let psk = match rng.pick(&[0, 120, 120, 240]) {
                0 => PskPolicy::Fixed,
                period => PskPolicy::every(Duration::from_secs(period)).unwrap_or_default(),
            };
            let (idle, lifetime) = (policy.idle(), policy.lifetime());
            LocationPolicy::new(Mfa::Required, MethodSet::ALL, idle, lifetime, psk)
                .unwrap_or(policy)
        };
        Self { lease, policies: [rotating(transfer), rotating(handshake)] }
    }

    /// The idle thresholds, in ms.
    #[must_use]
    pub fn thresholds(&self) -> [u64; LOCATIONS] {
        self.policies.map(|policy| millis(policy.idle().threshold()))
    }
}

/// Everything.
#[derive(Debug)]
pub struct World {
    /// The true time, in ms since the beginning.
    pub now: u64,
    /// The database that the cores share.
    pub db: Db,
    /// The cores.
    pub cores: [Core; CORES],
    /// The gateways, each with its host and its link.
    pub gateways: [Gateway; GATEWAYS],
    /// The devices.
    pub devices: [Device; DEVICES],
    /// The judge.
    pub oracle: Oracle,
    /// What was reached.
    pub coverage: Coverage,
    /// What was drawn for this run.
    pub settings: Settings,
    /// Digests codes.
    pub codes: CodeKey,
    /// What was typed last for each user.
    pub typed: [Option<String>; USERS],
    /// The texts of each user's recovery codes.
    pub sheets: [Vec<String>; USERS],
    /// How many of each thing were made.
    pub serial: u64,
    /// Pre-shared keys made.
    pub psk_serial: u64,
    /// The most that clocks were slow and fast, in seconds.
    offsets: (i64, i64),
    epoch: Instant,
}

impl World {
    /// Begins: all is up, people have their apps, devices are enrolled, nobody is connected.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let mut world = Self {
            now: 0,
            db: Db::new(settings.policies),
            cores: Default::default(),
            gateways: core::array::from_fn(|place| Gateway::new(place, settings.lease)),
            devices: Default::default(),
            oracle: Oracle::new(),
            coverage: Coverage::default(),
            settings,
            codes: CodeKey::from_bytes([8; 32]),
            typed: Default::default(),
            sheets: Default::default(),
            serial: 0,
            psk_serial: 0,
            offsets: (0, 0),
            epoch: Instant::now(),
        };
        for user in 0..USERS {
            world.rebind(user, false);
        }
        for device in 0..DEVICES {
            world.enroll(device);
        }
        for gateway in 0..GATEWAYS {
            world.start_gateway(gateway);
            world.dial(gateway);
        }
        world
    }

    /// The time of a right clock.
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        Timestamp::from_unix_millis(WALL + self.now)
    }

    /// The time of a host that is no core.
    #[must_use]
    pub fn system_time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(WALL + self.now)
    }

    /// The monotonic time.
    #[must_use]
    pub fn instant(&self) -> Instant {
        self.epoch + Duration::from_millis(self.now)
    }

    /// The next number of anything.
    pub const fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Does one thing, and lets the oracle look.
    pub fn step(&mut self, action: &Action) {
        self.act(*action);
        self.look();
    }

    fn act(&mut self, action: Action) {
        let at = usize::from;
        match action {
            Action::Advance { ms } => self.advance(ms.into()),
            Action::Start { device, location, core, email, stranger, commit } => {
                self.start(at(device), at(location), at(core), email, stranger, commit);
            }
            Action::Finish { device, back, core, typed, renew } => {
                self.finish(at(device), at(back), at(core), typed, renew);
            }
            Action::Go { core, request, commit } => self.go(at(core), at(request), commit),
            Action::Disconnect { device, location, core, commit } => {
                let Some(number) = self.devices[at(device)].id else { return };
                let core = at(core);
                if !self.cores[core].serves() {
                    return;
                }
                let place = LocationId::new(id(at(location)));
                let scope = Scope::DeviceAt(DeviceId::new(number), place);
                let by = By::new(Actor::Device(DeviceId::new(number)), self.core_time(core));
                self.transact(Some(core), commit, |db, _| {
                    db.end_sessions(by, scope, EndReason::Disconnected);
                });
            }
            Action::Handshake { device, gateway } => self.handshake(at(device), at(gateway)),
            Action::Data { device, gateway, busy } => {
                self.packet(at(device), at(gateway), true, busy);
            }
            Action::Keepalive { device, gateway } => {
                self.packet(at(device), at(gateway), false, false);
            }
            Action::Up { gateway } => drop(self.carry_up(at(gateway))),
            Action::Down { gateway } => drop(self.carry_down(at(gateway))),
            Action::Active { user, on } => {
                let by = self.by_admin();
                self.transact(None, Commit::Done, |db, audit| {
                    *audit += u64::from(db.set_active(by, id(at(user)), on));
                });
            }
            Action::MayUse { user, location, on } => {
                let by = self.by_admin();
                let before = self.db.clone();
                self.db.begin();
                if self.db.set_may_use(by, id(at(user)), at(location), on) {
                    self.oracle.audit += 1;
                    self.after_commit(None);
                } else {
                    self.db = before;
                }
            }
            Action::Device { device, on: true } => self.enroll(at(device)),
            Action::Device { device, on: false } => {
                let Some(number) = self.devices[at(device)].id.take() else { return };
                let by = self.by_admin();
                self.transact(None, Commit::Done, |db, audit| {
                    *audit += u64::from(db.remove_device(by, number));
                });
            }
            Action::End { device } => {
                let Some(number) = self.devices[at(device)].id else { return };
                let by = self.by_admin();
                self.transact(None, Commit::Done, |db, _| {
                    let scope = Scope::Device(DeviceId::new(number));
                    db.end_sessions(by, scope, EndReason::Administrator);
                });
            }
            Action::Unlock { user } => {
                let number = id(at(user));
                self.transact(None, Commit::Done, |db, audit| {
                    let mut tx = Tx { db, before: None, silent: false };
                    *audit += u64::from(db::unlock(&mut tx, number).is_ok());
                });
                self.oracle.unlocked(number, self.now);
            }
            Action::Rebind { user } => self.rebind(at(user), true),
            Action::Core { core, up } => self.set_core(at(core), up),
            Action::Database { core, up } => {
                self.cores[at(core)].database = up;
                if !up {
                    self.coverage.hit(Cover::DatabaseAway);
                }
            }
            Action::Clock { core, seconds } => {
                let seconds = i64::from(seconds);
                self.cores[at(core)].offset = seconds;
                self.offsets.0 = self.offsets.0.min(seconds);
                self.offsets.1 = self.offsets.1.max(seconds);
                self.oracle.skew = self.offsets.0.abs_diff(self.offsets.1) * 1000;
            }
            Action::Gateway { gateway, up } => {
                let gateway = at(gateway);
                if up && self.gateways[gateway].process.is_none() {
                    self.start_gateway(gateway);
                } else if !up {
                    self.kill_gateway(gateway);
                }
            }
            Action::Pause { gateway, on } => self.gateways[at(gateway)].paused = on,
            Action::Reboot { gateway } => {
                let gateway = at(gateway);
                if !self.gateways[gateway].kernel.state().peers.is_empty() {
                    self.coverage.hit(Cover::Rebooted);
                }
                self.kill_gateway(gateway);
                self.gateways[gateway].reboot(self.now);
            }
            Action::Partition { gateway, to_core, on } => {
                let gateway = &mut self.gateways[at(gateway)];
                *if to_core { &mut gateway.cut_up } else { &mut gateway.cut_down } = on;
            }
            Action::Break { gateway } => self.hang_up(at(gateway), true),
            Action::Failing { gateway, calls } => {
                self.gateways[at(gateway)].kernel.state().failing = calls.into();
            }
            Action::Meddle { gateway, device, how } => self.meddle(at(gateway), at(device), how),
            Action::Forge { gateway, device, how } => self.forge(at(gateway), at(device), how),
            Action::Sweep { core } => {
                if self.cores[at(core)].serves() {
                    let now = self.core_time(at(core));
                    let hours = |n: u64| Duration::from_secs(n * 3600);
                    self.db
                        .sweep(now.saturating_sub(hours(24)), now.saturating_sub(hours(90 * 24)));
                }
            }
            Action::Look { device, location } => self.look_at_link(at(device), at(location)),
            Action::Ask { device, location, core, late, commit } => {
                self.ask(at(device), at(location), at(core), late, commit);
            }
            Action::Rotate { core, commit } => self.rotate(at(core), commit),
            Action::Heal => self.heal(),
        }
    }

    /// An administrator at the database, now.
    fn by_admin(&self) -> By {
        By::new(Actor::Cli, self.wall())
    }

    /// Runs a transaction that only ends or changes things.
    pub fn transact(
        &mut self,
        core: Option<usize>,
        commit: Commit,
        work: impl FnOnce(&mut Db, &mut u64),
    ) {
        let before = (commit == Commit::Aborted).then(|| self.db.clone());
        let mut audit = 0;
        self.db.begin();
        work(&mut self.db, &mut audit);
        if let Some(before) = before {
            self.told_too_early();
            self.db = before;
            return;
        }
        self.oracle.audit += audit;
        self.after_commit(core.filter(|_| commit == Commit::Done));
    }

    /// With one bug gateways hear of what is not committed yet.
    pub fn told_too_early(&mut self) {
        if mutant::on(Mutant::ToldBeforeCommit) {
            self.wake(None);
        }
    }

    /// After a commit: the core that did it wakes its streams at once, others look within a second.
    pub fn after_commit(&mut self, core: Option<usize>) {
        self.count_ends();
        self.oracle.committed(&self.db, self.now);
        let look_at = self.now + 1000;
        for (place, other) in self.cores.iter_mut().enumerate() {
            if Some(place) != core {
                other.look_at = Some(other.look_at.unwrap_or(look_at).min(look_at));
            }
        }
        if let Some(core) = core {
            self.wake(Some(core));
        }
    }

    fn count_ends(&mut self) {
        for session in self.oracle.live() {
            let Some(row) = self.db.sessions.iter().find(|row| row.id == *session) else {
                self.coverage.hit(Cover::EndedDeviceRemoved);
                continue;
            };
            let Some((_, why)) = row.ended else { continue };
            self.coverage.hit(match why {
                EndReason::Idle => Cover::EndedIdle,
                EndReason::Lifetime => Cover::EndedLifetime,
                EndReason::Disconnected => Cover::EndedDisconnected,
                EndReason::UserDisabled => Cover::EndedUserDisabled,
                EndReason::AccessRemoved => Cover::EndedAccess,
                EndReason::MethodReset => Cover::EndedMethodReset,
                EndReason::Replaced => Cover::LoginReplaced,
                EndReason::RotationFailed => Cover::EndedRotationFailed,
                _ => Cover::EndedByAdministrator,
            });
        }
    }

    fn enroll(&mut self, place: usize) {
        if self.devices[place].id.is_some() {
            return;
        }
        let serial = self.next_serial();
        let key = PublicKey::from_bytes(bytes(0xd0, serial));
        let by = self.by_admin();
        let before = self.db.clone();
        self.db.begin();
        let Some(number) = self.db.add_device(by, id(OWNERS[place]), key) else {
            self.db = before;
            return;
        };
        self.oracle.audit += 1;
        for location in 0..LOCATIONS {
            if let Some(host) = self.db.address(number, location)
                && number > 4
                && host <= db::ADDRESSES
            {
                self.coverage.hit(Cover::AddressGivenAgain);
            }
        }
        self.devices[place] = Device { id: Some(number), key: Some(key), ..Device::default() };
        self.after_commit(None);
    }

    /// Takes the app away and sets another up, confirmed by its present code.
    fn rebind(&mut self, user: usize, again: bool) {
        let serial = self.next_serial();
        let mut secret = [0; 20];
        secret.copy_from_slice(&bytes(0x70, serial)[..20]);
        let step = self.wall().as_unix_secs() / 30;
        let by = self.by_admin();
        let number = id(user);
        let codes: Vec<RecoveryCode> = (0..2)
            .filter_map(|_| {
                let serial = self.next_serial();
                let text: String = bytes(0x71, serial)[..16]
                    .iter()
                    .map(|byte| {
                        char::from(b"abcdefghijklmnopqrstuvwxyz234567"[usize::from(byte % 32)])
                    })
                    .collect();
                RecoveryCode::parse(&text).ok()
            })
            .collect();
        let digest = |code: &RecoveryCode| {
            let digest: CodeDigest = code.digest(&self.codes, UserId::new(number));
            *digest.as_bytes()
        };
        let digests: Vec<_> = codes.iter().map(digest).collect();
        self.db.begin();
        let before = self.db.clone();
        if again {
            self.db.reset_totp(by, number);
        }
        if !self.db.confirm_totp(by, number, secret, step) {
            // Its code of this step is used up; the whole is undone and tried another time.
            self.db = before;
            return;
        }
        for (place, digest) in self.db.users[user].recovery.iter_mut().zip(&digests) {
            *place = Some(*digest);
        }
        self.sheets[user] = codes.iter().map(|code| code.expose_text().to_string()).collect();
        self.oracle.audit += 1 + u64::from(again);
        self.oracle.accepted(user, step, step);
        let app = TotpSecret::from_bytes(secret);
        self.typed[user] = Some(app.code_at(self.wall()).expose_text().to_string());
        self.after_commit(None);
    }

    fn handshake(&mut self, device: usize, gateway: usize) {
        let location = SERVES[gateway];
        let (Some(key), Some(held)) =
            (self.devices[device].key, &self.devices[device].held[location])
        else {
            return;
        };
        let (psk, session, generation) = (held.psk, held.session, held.rotate.generation());
        // A client begins again after 120 s, or with another key.
        if self.devices[device].shook[gateway]
            .is_some_and(|(at, with)| with == psk && self.now < at + 120_000)
        {
            return;
        }
        let wall = self.system_time();
        if self.gateways[gateway].kernel.shake_hands(&key, psk, wall) {
            self.coverage.hit(Cover::Handshake);
            self.devices[device].shook[gateway] = Some((self.now, psk));
            if let Some(held) = &mut self.devices[device].held[location] {
                held.link.last_handshake = Some(wall);
            }
            if let Some(truth) = self.oracle.sessions.get_mut(&session) {
                truth.shaken = truth.shaken.max(generation);
            }
            if self.settings.policies[location].idle().mode() == IdleMode::Handshake {
                self.gateways[gateway].count_data(&key);
            }
        }
    }

    fn packet(&mut self, device: usize, gateway: usize, data: bool, busy: bool) {
        // People work for a while and rest for a while.
        let span = usize::try_from(self.now / 400_000).unwrap_or(0);
        let data = data && (busy || (span + device).is_multiple_of(2));
        let transfer = self.settings.policies[SERVES[gateway]].idle().mode() == IdleMode::Transfer;
        let Some(key) = self.devices[device].key else { return };
        if let Some(held) = &mut self.devices[device].held[SERVES[gateway]] {
            held.link.tx_bytes += 1424;
        }
        let gateway = &mut self.gateways[gateway];
        let state = gateway.kernel.state();
        let Some(peer) = state.peer(&key) else { return };
        if peer.keypairs.is_empty() {
            return;
        }
        let passes = state.is_open() && peer.address.is_some();
        drop(state);
        // The outer packet is counted even where the gate holds the inner one back.
        if data && passes {
            gateway.kernel.fake.hear(&key, 1424, 128);
            if transfer {
                gateway.count_data(&key);
            }
            self.coverage.hit(Cover::DataPassed);
        } else if data {
            gateway.kernel.fake.hear(&key, 1424, 0);
            if transfer {
                gateway.count_data(&key);
            }
            self.coverage.hit(Cover::DataHeld);
        } else {
            gateway.kernel.fake.hear(&key, 32, 0);
        }
    }

    fn meddle(&mut self, gateway: usize, device: usize, how: u8) {
        let serial = FOREIGN + self.next_serial();
        let psk = PresharedKey::from_bytes(bytes(0xff, serial));
        let key = self.devices[device].key.unwrap_or_else(|| PublicKey::from_bytes([0xfe; 32]));
        let update = match how {
            0 => PeerUpdate::Remove(key),
            1 => PeerUpdate::set_psk(key, psk),
            2 => PeerUpdate::lock(key),
            _ => {
                let mut stranger = PeerConfig::new(PublicKey::from_bytes(bytes(0xd1, serial)));
                stranger.preshared_key = Some(psk);
                stranger.allowed_ips =
                    vec![ipnet::Ipv4Net::from(std::net::Ipv4Addr::new(10, 9, 9, 9)).into()];
                PeerUpdate::Put(stranger)
            }
        };
        let there = self.gateways[gateway].kernel.state().peer(&key).is_some();
        let psk_change = matches!(
            &update,
            PeerUpdate::Update {
                psk: PskChange::Keep,
                allowed_ips: AllowedIpsChange::Replace(_),
                ..
            }
        );
        if there || how >= 3 || psk_change {
            self.gateways[gateway].kernel.meddle(&[update]);
        }
    }

    /// Stops all faults, lets time pass, and looks whether all is right.
    fn heal(&mut self) {
        for core in 0..CORES {
            self.cores[core].database = true;
            self.cores[core].offset = 0;
            self.set_core(core, true);
            self.cores[core].requests.clear();
        }
        for gateway in 0..GATEWAYS {
            let this = &mut self.gateways[gateway];
            (this.paused, this.cut_up, this.cut_down) = (false, false, false);
            this.kernel.state().failing = 0;
            if this.process.is_none() {
                self.start_gateway(gateway);
            }
        }
        let until = self.now + RECOVERY;
        let (mut changed, mut revisions) = (self.now, self.db.revisions);
        // What changed a moment ago may be on its way.
        let mut looked = 0;
        while self.now < until.max(changed + SETTLED) && self.oracle.violation.is_none() {
            self.advance(500);
            if self.now >= looked + 5_000 {
                looked = self.now;
                (0..CORES).for_each(|core| self.rotate(core, Commit::Done));
            }
            for gateway in 0..GATEWAYS {
                while self.carry_up(gateway) | self.carry_down(gateway) {}
            }
            self.look();
            if self.db.revisions != revisions {
                (changed, revisions) = (self.now, self.db.revisions);
            }
        }
        if self.oracle.violation.is_some() {
            return;
        }
        for gateway in 0..GATEWAYS {
            self.compare(gateway);
        }
        self.nobody_is_waited_for_any_more();
        self.coverage.hit(Cover::Converged);
        self.try_to_log_in();
    }

    /// Without faults a right code logs in.
    fn try_to_log_in(&mut self) {
        let Some(place) = (0..DEVICES).find(|place| {
            let user = &self.db.users[OWNERS[*place]];
            self.devices[*place].id.is_some() && user.active && user.may_use[0]
        }) else {
            return;
        };
        let user = OWNERS[place];
        let step = self.wall().as_unix_secs() / 30;
        let spent = self.db.users[user].last_step.is_some_and(|last| last >= step);
        if spent || self.db.users[user].totp.is_none() {
            return;
        }
        // A core lets nobody in of whom no gateway of its own would learn.
        let sits = |core: &usize| self.cores[*core].seats[0].is_some();
        let Some(core) = (0..CORES).find(sits) else {
            return self.oracle.fail("I12", || "no core has the first gateway".to_owned());
        };
        let before = self.coverage.0;
        self.start(place, 0, core, false, false, Commit::Done);
        let refused = at(Cover::StartOutOfGuesses);
        if self.coverage.0[refused] > before[refused] {
            return;
        }
        self.finish(place, 0, core, Typed::Code(0), 0);
        for _ in 0..3 {
            self.go(core, 0, Commit::Done);
        }
        if self.coverage.0[at(Cover::Answered)] == before[at(Cover::Answered)] {
            self.oracle.fail("I12", || "a right code does not log in".to_owned());
        }
    }

    /// A client that takes no key does not stay longer than patience lasts.
    fn nobody_is_waited_for_any_more(&mut self) {
        for row in self.db.sessions.iter().filter(|row| row.ended.is_none()) {
            let at = usize::try_from(row.subject.location.get() - 1).unwrap_or(0);
            let patience = self.settings.policies[at].psk().patience();
            let staged = row.next.filter(|next| next.state == RotationState::Staged);
            let (Some(next), Some(patience)) = (staged, patience) else { continue };
            // A core whose clock was wrong staged it.
            let skew = Duration::from_millis(self.oracle.skew + 10_000);
            let waited = self.wall().since(next.staged);
            if waited > patience + skew {
                let session = row.id;
                return self.oracle.fail("I15", || {
                    format!("session {session} has been offered a key for {waited:?}")
                });
            }
        }
    }

    /// The kernel of a gateway must be what the database says.
    fn compare(&mut self, gateway: usize) {
        let mut wanted: Vec<(PublicKey, u64)> = self
            .db
            .desired(SERVES[gateway])
            .filter_map(|(session, device, _)| Some((device.key, serial(&session.given().1?))))
            .collect();
        let state = self.gateways[gateway].kernel.state();
        let mut have: Vec<(PublicKey, u64)> = state
            .peers
            .iter()
            .map(|peer| (peer.key, peer.psk.filter(|_| peer.address.is_some()).unwrap_or(u64::MAX)))
            .collect();
        let open = state.is_open();
        drop(state);
        wanted.sort_unstable();
        have.sort_unstable();
        if wanted != have || !open {
            self.oracle.fail("I12", || {
                format!("gateway {gateway}: has {have:?}, must have {wanted:?}, open: {open}")
            });
        }
    }

    fn look(&mut self) {
        if self.oracle.violation.is_some() {
            return;
        }
        self.sound();
        let bound = self.settings.lease + 2000;
        for gateway in 0..GATEWAYS {
            let this = &self.gateways[gateway];
            let state = this.kernel.state();
            let open = state.is_open();
            for peer in &state.peers {
                let keys = peer.keypairs.iter().map(|pair| pair.psk).chain(peer.psk);
                for psk in keys.filter(|psk| *psk < FOREIGN) {
                    let place = usize::try_from(psk).unwrap_or(usize::MAX);
                    let Some(Some((session, generation))) = self.oracle.psks.get(place).copied()
                    else {
                        self.oracle.fail("I4", || {
                            format!("gateway {gateway} has key {psk}, which was never committed")
                        });
                        return;
                    };
                    let Some(truth) = self.oracle.sessions.get(&session) else { continue };
                    if generation > truth.client_has {
                        self.oracle.fail("I15", || {
                            format!("gateway {gateway} has key {generation} of session {session}, whose client has not")
                        });
                        return;
                    }
                    let Some(ended) = truth.ended else {
                        if open && peer.psk == Some(psk) && truth.client_has > generation {
                            let device = truth.subject.device.get();
                            let place = usize::try_from(truth.subject.location.get() - 1);
                            let holder = self.devices.iter().find(|one| one.id == Some(device));
                            let held = holder.and_then(|one| one.held[place.unwrap_or(0)].as_ref());
                            if held.is_some_and(|held| {
                                held.session == session && !held.rotate.has(generation)
                            }) {
                                self.oracle.fail("I15", || {
                                    format!("gateway {gateway} serves session {session} with key {generation}, which its client has no more")
                                });
                                return;
                            }
                        }
                        continue;
                    };
                    let passes = open && peer.address.is_some();
                    if passes && self.now > ended + bound {
                        let late = self.now - ended;
                        self.oracle.fail("I4", || {
                            format!("session {session} passes {late} ms after its end at gateway {gateway}")
                        });
                        return;
                    }
                    if this.verified >= truth.end_revision {
                        let (has, end) = (this.verified, truth.end_revision);
                        self.oracle.fail("I9", || {
                            format!("gateway {gateway} has seen to revision {has} and still has a key of session {session}, which ended at {end}")
                        });
                        return;
                    }
                }
            }
        }
        self.one_peer_an_address();
        self.rotations_interrupt_nothing();
    }

    /// A key of a live session that gives way to the next one takes no session keys with it.
    fn rotations_interrupt_nothing(&mut self) {
        for gateway in 0..GATEWAYS {
            let this = &self.gateways[gateway];
            let mut state = this.kernel.state();
            let removed = core::mem::take(&mut state.removed);
            let in_place = core::mem::take(&mut state.in_place);
            drop(state);
            (0..in_place).for_each(|_| self.coverage.hit(Cover::SetInPlace));
            for (key, psk) in removed {
                let place = usize::try_from(psk).unwrap_or(usize::MAX);
                let known = self.oracle.psks.get(place).copied().flatten();
                let Some((session, generation)) = known else { continue };
                let wanted = this.wants(&key);
                if wanted.is_some_and(|(of, now)| {
                    of == session && (generation..=generation + 1).contains(&now)
                }) {
                    self.oracle.fail("I15", || {
                        format!("gateway {gateway} removed session {session} to change its key {generation}")
                    });
                    return;
                }
            }
        }
    }

    /// One address is carried by one device, over all gateways of a location.
    fn one_peer_an_address(&mut self) {
        let (one, other) = (self.gateways[0].kernel.state(), self.gateways[1].kernel.state());
        if !one.is_open() || !other.is_open() {
            return;
        }
        for peer in &one.peers {
            let same = |twin: &&crate::kernel::Shadow| {
                twin.address.is_some() && twin.address == peer.address && twin.key != peer.key
            };
            if let Some(twin) = other.peers.iter().find(same)
                && peer.psk.is_some_and(|psk| psk < FOREIGN)
                && twin.psk.is_some_and(|psk| psk < FOREIGN)
            {
                let address = peer.address;
                drop((one, other));
                self.oracle.fail("I8", || format!("{address:?} is carried by two devices"));
                return;
            }
        }
    }

    /// What some core could have seen to.
    fn sound(&mut self) {
        let now = self.now;
        for core in &mut self.cores {
            let since = core.sound_since.unwrap_or(now);
            core.sound_since = core.serves().then_some(since);
        }
        let since = || self.cores.iter().filter_map(|core| core.sound_since);
        if let Some(since) = since().min().zip(since().max()) {
            self.oracle.in_time(WALL, now, since, self.settings.thresholds());
        }
    }
}

const fn at(cover: Cover) -> usize {
    #[expect(clippy::as_conversions, reason = "a place in an array of all")]
    let place = cover as usize;
    place
}
