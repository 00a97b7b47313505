//! A gateway: `gateway_bin::program::Program` on a modelled kernel, with a model of the two tasks around
//! it (`gateway_bin`'s control and kernel), and its link to core.

use std::collections::VecDeque;

use core::time::Duration;
use gateway_bin::desired::DesiredError;
use gateway_bin::lease::{Lease, Without};
use gateway_bin::program::{Drift, Program, Update};
use gateway_bin::stats;
use mfa_wire::gateway as wire;
use mutant::Mutant;
use wg_types::PublicKey;

use crate::coverage::Cover;
use crate::kernel::Kernel;
use crate::world::World;
use crate::{CORES, GATEWAYS};

/// Between heartbeats, in ms.
const BEAT: u64 = 10_000;
/// Between looks at the kernel, in ms.
const CHECK: u64 = 30_000;
/// Messages that wait for the link.
const OUTGOING: usize = 64;

/// What goes to core.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are named")]
pub enum Up {
    Heartbeat(u64),
    Ack {
        revision: u64,
        error: bool,
    },
    Resync,
    /// With the number of signs of life that each peer really gave, the revision that the kernel had, and
    /// whether it is a lie.
    Stats {
        stats: wire::Stats,
        carried: Vec<(PublicKey, u64)>,
        had: i64,
        forged: bool,
    },
}

/// What comes from core.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are named")]
pub enum Down {
    Heartbeat(u64),
    Snapshot(wire::Snapshot),
    Change(wire::Change),
}

/// A gateway's host and its link.
#[derive(Debug)]
pub struct Gateway {
    /// The host's kernel.
    pub kernel: Kernel,
    /// The process.
    pub process: Option<Process>,
    /// Whether the process stands still.
    pub paused: bool,
    /// Whether the link is cut towards core.
    pub cut_up: bool,
    /// Whether the link is cut towards the gateway.
    pub cut_down: bool,
    /// The stream, and the core at its other end.
    pub stream: Option<(u64, usize)>,
    /// On their way to core.
    pub up_queue: VecDeque<Up>,
    /// On their way to the gateway.
    pub down_queue: VecDeque<Down>,
    /// The highest revision that a process of this host has seen its kernel to have.
    pub verified: i64,
    lease: u64,
    next_core: usize,
    /// Which core it sat at before this one.
    sat_at: Option<usize>,
    /// The revision at which each core last saw it at another one, since it sat at that core itself.
    pub seen_elsewhere: [Option<i64>; CORES],
    /// Its next report counts although it tells nothing new, for sessions that began after this revision:
    /// the core had not seen it at another one since, or it has lied, and its counters seem to begin anew.
    pub counts_again: Option<i64>,
    streams: u64,
    carried: Vec<(PublicKey, u64)>,
    credited: Vec<(PublicKey, u64)>,
}

/// A gateway's process.
#[derive(Debug)]
pub struct Process {
    program: Program,
    begun: bool,
    unanswered: VecDeque<(u64, u64)>,
    beats: u64,
    beat_at: u64,
    check_at: u64,
    retry_at: Option<u64>,
    retry_wait: u64,
    failing: bool,
    reports: u64,
    heard_at: u64,
    dial_at: u64,
    dial_wait: u64,
    confirmed: Option<u64>,
}

impl Gateway {
    /// A host that has just booted, without a process.
    #[must_use]
    pub fn new(place: usize, lease: u64) -> Self {
        Self {
            kernel: Kernel::boot(0),
            process: None,
            paused: false,
            cut_up: false,
            cut_down: false,
            stream: None,
            up_queue: VecDeque::new(),
            down_queue: VecDeque::new(),
            verified: 0,
            lease,
            next_core: place % CORES,
            sat_at: None,
            seen_elsewhere: [None; CORES],
            counts_again: None,
            streams: 0,
            carried: Vec::new(),
            credited: Vec::new(),
        }
    }

    /// The host boots: its kernel begins anew.
    pub fn reboot(&mut self, now: u64) {
        self.kernel = Kernel::boot(now);
        self.paused = false;
    }

    /// Which session of a peer its process wants, and which pre-shared key of it.
    #[must_use]
    pub fn wants(&self, key: &PublicKey) -> Option<(i64, u32)> {
        let desired = self.process.as_ref()?.program.desired()?;
        let mark = desired.peers().get(key)?.mark;
        Some((mark.session, mark.generation))
    }

    /// A peer gave a sign of life here.
    pub fn count_data(&mut self, key: &PublicKey) {
        add(&mut self.carried, key);
    }

    /// Up to which sign of life a peer was believed.
    #[must_use]
    pub fn credited(&self, key: &PublicKey) -> u64 {
        self.credited.iter().find(|(whose, _)| whose == key).map_or(0, |(_, n)| *n)
    }

    /// Notes that it was believed up to this one.
    pub fn set_credited(&mut self, key: &PublicKey, count: u64) {
        match self.credited.iter_mut().find(|(whose, _)| whose == key) {
            Some((_, known)) => *known = count,
            None => self.credited.push((*key, count)),
        }
        if self.credited.len() > 32 {
            self.credited.remove(0);
        }
    }

    /// When something is due.
    #[must_use]
    pub fn poll_timeout(&self) -> u64 {
        match &self.process {
            Some(process) if !self.paused => {
                let dial = if self.stream.is_none() { process.dial_at } else { u64::MAX };
                let beat = if self.stream.is_some() { process.beat_at } else { u64::MAX };
                let retry = process.retry_at.unwrap_or(u64::MAX);
                beat.min(process.check_at).min(retry).min(dial)
            }
            _ => u64::MAX,
        }
    }
}

fn add(counts: &mut Vec<(PublicKey, u64)>, key: &PublicKey) {
    match counts.iter_mut().find(|(whose, _)| whose == key) {
        Some((_, count)) => *count += 1,
        None => counts.push((*key, 1)),
    }
    if counts.len() > 32 {
        counts.remove(0);
    }
}

impl World {
    /// A process starts; the kernel is as the last one left it.
    pub fn start_gateway(&mut self, gateway: usize) {
        let now = self.now;
        let this = &mut self.gateways[gateway];
        let length = Duration::from_millis(this.lease);
        let gate = (!mutant::on(Mutant::NoLease)).then(|| this.kernel.gate());
        let without = if mutant::on(Mutant::NoLease) { Without::Serve } else { Without::Refuse };
        let program = Program::new(this.kernel.handle(), Lease::new(gate, length, without));
        if !this.kernel.state().peers.is_empty() {
            self.coverage.hit(Cover::Adopted);
        }
        this.paused = false;
        this.process = Some(Process {
            program,
            begun: false,
            unanswered: VecDeque::new(),
            beats: 0,
            beat_at: now + BEAT,
            check_at: now + CHECK,
            retry_at: None,
            retry_wait: 250,
            failing: false,
            reports: 0,
            heard_at: now,
            dial_at: now,
            dial_wait: 500,
            confirmed: None,
        });
    }

    /// The process dies.
    pub fn kill_gateway(&mut self, gateway: usize) {
        self.hang_up(gateway, false);
        self.gateways[gateway].process = None;
        self.gateways[gateway].paused = false;
    }

    /// Opens a stream to the next core, if it can be reached.
    pub fn dial(&mut self, gateway: usize) {
        let now = self.now;
        let this = &mut self.gateways[gateway];
        let core = this.next_core;
        this.next_core = (core + 1) % CORES;
        let Some(process) = &mut this.process else { return };
        let reached = self.cores[core].serves() && !this.cut_up && !this.cut_down;
        if !reached {
            process.dial_at = now + process.dial_wait;
            process.dial_wait = (process.dial_wait * 2).min(30_000);
            return;
        }
        let moved = this.sat_at.replace(core) != Some(core);
        let seen = this.seen_elsewhere[core].take();
        if moved {
            this.counts_again = Some(seen.unwrap_or(-1));
        }
        this.streams += 1;
        let stream = this.streams;
        this.stream = Some((stream, core));
        this.up_queue.clear();
        this.down_queue.clear();
        process.begun = false;
        process.unanswered.clear();
        process.heard_at = now;
        process.beat_at = now;
        process.dial_wait = 500;
        self.sit(core, gateway, stream);
        if core != gateway % CORES {
            self.coverage.hit(Cover::DialledOther);
        }
    }

    /// The gateway's end of the stream closes. Core notices at once, or later.
    pub fn hang_up(&mut self, gateway: usize, core_notices: bool) {
        let now = self.now;
        let this = &mut self.gateways[gateway];
        let Some((stream, core)) = this.stream.take() else { return };
        this.up_queue.clear();
        this.down_queue.clear();
        if let Some(process) = &mut this.process {
            process.dial_at = now + process.dial_wait;
        }
        let notices = core_notices || !this.cut_up;
        let seat = &mut self.cores[core].seats[gateway];
        if let Some(sitting) = seat.as_mut().filter(|seat| seat.stream == stream) {
            sitting.dead_at = Some(now + 30_000);
            if notices {
                *seat = None;
            } else {
                let at = now + 30_000;
                let look = &mut self.cores[core].look_at;
                *look = Some(look.unwrap_or(at).min(at));
            }
        }
    }

    /// Carries one message to core.
    pub fn carry_up(&mut self, gateway: usize) -> bool {
        let this = &mut self.gateways[gateway];
        let Some((stream, core)) = this.stream.filter(|_| !this.cut_up) else { return false };
        let sits = self.cores[core].seats[gateway].as_ref().is_some_and(|s| s.stream == stream);
        let Some(message) = this.up_queue.pop_front() else { return false };
        if sits && self.cores[core].up {
            self.hear(core, gateway, message);
        }
        true
    }

    /// Carries one message to the gateway.
    pub fn carry_down(&mut self, gateway: usize) -> bool {
        let now = self.now;
        let this = &mut self.gateways[gateway];
        let Some((_, core)) = this.stream.filter(|_| !this.cut_down && !this.paused) else {
            return false;
        };
        let Some(process) = &mut this.process else { return false };
        let Some(message) = this.down_queue.pop_front() else { return false };
        process.heard_at = now;
        let update = match message {
            Down::Heartbeat(number) => {
                self.answered(gateway, number);
                None
            }
            Down::Snapshot(snapshot) => {
                self.coverage.hit(Cover::TookSnapshot);
                let fresh = !core::mem::replace(&mut process.begun, true);
                Some(Update::Snapshot { snapshot, fresh })
            }
            Down::Change(change) => {
                self.coverage.hit(Cover::TookChange);
                process.begun = true;
                Some(Update::Change(change))
            }
        };
        if let Some(update) = update {
            self.obey(gateway, update);
        }
        self.pump(core, gateway);
        true
    }

    fn answered(&mut self, gateway: usize, number: u64) {
        let (now, instant) = (self.now, self.instant());
        let Some(process) = &mut self.gateways[gateway].process else { return };
        let Some(at) = process.unanswered.iter().position(|(sent, _)| *sent == number) else {
            return;
        };
        let Some((_, sent_at)) = process.unanswered.drain(..=at).next_back() else { return };
        let sent_at = if mutant::on(Mutant::LeaseFromReceipt) { now } else { sent_at };
        process.confirmed = process.confirmed.max(Some(sent_at));
        let sent = instant - Duration::from_millis(now - sent_at);
        process.program.confirm(sent);
        self.sync(gateway, false);
        let Some(process) = &mut self.gateways[gateway].process else { return };
        if process.program.renew(instant).is_err() {
            process.failing = true;
            process.retry_at = Some(now + 250);
            self.coverage.hit(Cover::KernelFailed);
        } else {
            self.coverage.hit(Cover::Confirmed);
        }
    }

    fn obey(&mut self, gateway: usize, update: Update) {
        let revision = update.revision();
        let Some(process) = &mut self.gateways[gateway].process else { return };
        match process.program.take(update) {
            Ok(()) => self.sync(gateway, true),
            Err(DesiredError::Gap { .. }) => self.say(gateway, Up::Resync),
            Err(DesiredError::Interface(_) | DesiredError::Older { .. }) => {
                self.say(gateway, Up::Ack { revision, error: true });
            }
        }
    }

    fn sync(&mut self, gateway: usize, asked: bool) {
        let instant = self.instant();
        let Some(process) = &mut self.gateways[gateway].process else { return };
        let failed = process.program.is_behind() && process.program.sync(instant).is_err();
        self.done(gateway, failed, asked);
    }

    /// Tells core how it went, and tries again later what failed.
    fn done(&mut self, gateway: usize, failed: bool, asked: bool) {
        let now = self.now;
        let this = &mut self.gateways[gateway];
        let Some(process) = &mut this.process else { return };
        let before = this.verified;
        let verified = process.program.verified().unwrap_or(0);
        this.verified = before.max(i64::try_from(verified).unwrap_or(0));
        let changed = process.failing != failed || this.verified != before;
        process.failing = failed;
        if failed {
            process.retry_at = Some(now + process.retry_wait);
            process.retry_wait = (process.retry_wait * 2).min(10_000);
            self.coverage.hit(Cover::KernelFailed);
        } else {
            process.retry_at = None;
            process.retry_wait = 250;
        }
        if !asked && !changed {
            return;
        }
        if let Some(desired) = process.program.desired() {
            let (revision, error) = (desired.revision(), failed || desired.refusal().is_some());
            self.say(gateway, Up::Ack { revision, error });
        }
    }

    fn say(&mut self, gateway: usize, message: Up) {
        let this = &mut self.gateways[gateway];
        let begun = this.process.as_ref().is_some_and(|process| process.begun);
        if this.stream.is_none() || !(begun || matches!(message, Up::Heartbeat(_))) {
            return;
        }
        this.up_queue.push_back(message);
        if this.up_queue.len() > OUTGOING {
            self.hang_up(gateway, false);
        }
    }

    /// Something is due at a gateway.
    pub fn gateway_timeout(&mut self, gateway: usize) {
        let now = self.now;
        let lease = self.gateways[gateway].lease;
        let Some(process) = &mut self.gateways[gateway].process else { return };
        if process.retry_at.is_some_and(|at| at <= now) {
            process.retry_at = None;
            self.sync(gateway, false);
        } else if process.check_at <= now {
            process.check_at = now + CHECK;
            self.check(gateway);
        } else if self.gateways[gateway].stream.is_some() {
            if process.beat_at > now {
                return;
            }
            process.beat_at = now + BEAT;
            if now - process.heard_at > 3 * BEAT {
                self.hang_up(gateway, false);
                return;
            }
            process.beats += 1;
            let number = process.beats;
            process.unanswered.push_back((number, now));
            if process.unanswered.len() > 16 {
                process.unanswered.pop_front();
            }
            self.say(gateway, Up::Heartbeat(number));
        } else if process.dial_at <= now {
            self.dial(gateway);
        }
        if mutant::on(Mutant::ProcessLease) {
            self.shut_by_process(gateway, lease);
        }
    }

    fn shut_by_process(&mut self, gateway: usize, lease: u64) {
        let this = &self.gateways[gateway];
        if let Some(process) = &this.process
            && process.confirmed.is_none_or(|at| self.now >= at + lease)
        {
            this.kernel.state().open_until = 0;
        }
    }

    fn check(&mut self, gateway: usize) {
        let (instant, wall) = (self.instant(), self.system_time());
        let this = &mut self.gateways[gateway];
        let Some(process) = &mut this.process else { return };
        let Ok(check) = process.program.check(instant, wall) else {
            return self.done(gateway, true, false);
        };
        let Drift { strangers_removed, peers_healed, .. } = check.drift;
        if strangers_removed > 0 {
            self.coverage.hit(Cover::StrangerRemoved);
        }
        if peers_healed > 0 {
            self.coverage.hit(Cover::PeerHealed);
        }
        process.reports += 1;
        let number = process.reports;
        let (carried, had) = (this.carried.clone(), this.verified);
        let told = process.program.desired().is_some();
        let gate_shut = told && !this.kernel.state().is_open() && !check.peers.is_empty();
        if gate_shut {
            self.coverage.hit(Cover::GateShut);
        }
        self.done(gateway, false, false);
        if told {
            for stats in stats::report(check, number, Duration::from_millis(CHECK)) {
                self.say(
                    gateway,
                    Up::Stats { stats, carried: carried.clone(), had, forged: false },
                );
            }
        }
    }

    /// The gateway lies about a device.
    pub fn forge(&mut self, gateway: usize, device: usize, how: u8) {
        let Some(key) = self.devices[device].key else { return };
        let now = self.now;
        let Some(process) = &mut self.gateways[gateway].process else { return };
        process.reports += 1;
        let peer = wire::PeerStats {
            public_key: key.as_bytes().to_vec(),
            rx_bytes: 1_000_000 + now * 1000,
            tx_bytes: 1_000_000 + now * 1000,
            handshake_age_millis: match how {
                0 => Some(0),
                1 => Some(u64::MAX),
                _ => None,
            },
            endpoint: String::new(),
            quiet_millis: None,
            handshake_mark: if how == 0 { now } else { 0 },
        };
        let stats = wire::Stats {
            number: process.reports,
            peers: vec![peer],
            period_millis: 30_000,
            ..wire::Stats::default()
        };
        self.say(gateway, Up::Stats { stats, carried: Vec::new(), had: 0, forged: true });
    }

    /// Time passes, up to the next timer, which fires.
    pub fn advance(&mut self, ms: u64) {
        let mut next = self.now + ms;
        let mut whose = None;
        for core in 0..CORES {
            let at = self.cores[core].poll_timeout();
            if at <= next {
                (next, whose) = (at, Some(core));
            }
        }
        for gateway in 0..GATEWAYS {
            let at = self.gateways[gateway].poll_timeout();
            if at <= next {
                (next, whose) = (at, Some(CORES + gateway));
            }
        }
        self.now = self.now.max(next);
        for gateway in &self.gateways {
            let mut state = gateway.kernel.state();
            state.now = self.now;
            state.expire();
        }
        match whose {
            Some(core) if core < CORES => self.core_timeout(core),
            Some(place) => self.gateway_timeout(place - CORES),
            None => {}
        }
    }
}
