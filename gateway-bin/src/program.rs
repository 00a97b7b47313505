//! Makes the interface equal to the desired state, looks again, and only then calls it done.
//!
//! ```text
//!  take ──▶ behind ──sync: apply, dump, compare──▶ verified
//!              ▲  └──fails: stays behind, retried       │
//!              └───────────check finds drift────────────┘
//! ```
//!
//! A small change takes the short way: only its peers are applied, unseen, and the dump that
//! verifies them comes after. Anything else looks first. Calls block on the kernel and take no
//! timers: the driver in [`kernel`](crate::kernel) calls again.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use mfa_wire::gateway as wire;
use mutant::Mutant;
use tokio::time::Instant;
use wg_netlink::gate::GateError;
use wg_netlink::{ApplyError, Backend, WireGuard};
use wg_types::{Interface, InterfaceConfig, Peer, PeerUpdate, PublicKey};

use crate::desired::{Desired, DesiredError, DesiredInterface};
use crate::hold::Hold;
use crate::lease::{Lease, Standing};
use crate::reconcile::{Known, is_cut, reconcile, without_looking};
use crate::{clock, stats};

/// A change of more peers than this is compared with a dump before it is applied.
const SHORT_WAY_AT_MOST: usize = 256;

/// How often a sync looks and repairs before it gives up for now.
const ROUNDS: usize = 3;

/// One interface and what it must be.
#[derive(Debug)]
pub struct Program {
    wireguard: Box<dyn WireGuard>,
    lease: Lease,
    desired: Option<Desired>,
    known: Known,
    behind: Behind,
    verified: Option<u64>,
    routed: bool,
    drift: Drift,
    /// The interface is a new one, which had none of its peers.
    remade: bool,
    /// When the kernel took the newest revision, and when a dump showed it.
    applied_at: Option<Instant>,
    verified_at: Option<Instant>,
    cuts: Vec<wire::Cut>,
    hold: Hold,
    /// Whether core has said something that the hold has not learnt, and whether it was the whole.
    unlearnt: Option<bool>,
    /// Whether sessions are held open because core is away.
    holding: bool,
}

/// How far the kernel may be from the desired state.
#[derive(Debug)]
enum Behind {
    /// It was equal when last looked at.
    Nothing,
    /// These peers may differ.
    Peers(BTreeSet<PublicKey>),
    /// Anything may differ.
    Everything,
}

/// What core says.
#[derive(Debug)]
pub enum Update {
    /// All of it. With `fresh` it is the first of its stream, whose word counts even if its
    /// revision is lower: core may have been restored from a backup.
    Snapshot {
        /// The whole, put together.
        snapshot: wire::Snapshot,
        /// Whether it is the first message of its stream.
        fresh: bool,
    },
    /// What became of some peers.
    Change(wire::Change),
}

impl Update {
    /// The revision that it leads to.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        match self {
            Self::Snapshot { snapshot, .. } => snapshot.revision,
            Self::Change(change) => change.revision,
        }
    }
}

/// What was found in the kernel that core had not asked for, and was set right.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Drift {
    /// Peers removed that nobody had asked for.
    pub strangers_removed: u32,
    /// Peers put back or set right.
    pub peers_healed: u32,
    /// Times that the interface was gone and was made anew.
    pub interfaces_remade: u32,
}

/// How sessions outlive core's absence.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Held {
    /// How long after core's last word.
    pub limit: Duration,
    /// How much of that is left; `None`: nothing, or core was not heard since the process started.
    pub left: Option<Duration>,
    /// Whether core is away, so that they are held now and judged here.
    pub away: bool,
}

/// What one look at the kernel found.
#[derive(Debug, Default)]
pub struct Check {
    /// One entry for each peer that core wants and the kernel has.
    pub peers: Vec<wire::PeerStats>,
    /// What was set right since the last check, with this one.
    pub drift: Drift,
}

/// Why the kernel is not, or not known to be, what core wants.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The interface could not be read or set.
    #[error(transparent)]
    Interface(#[from] wg_netlink::Error),
    /// There is no gate, and so no peer may enter.
    #[error("no peer can enter: {0}")]
    Gate(#[from] GateError),
    /// Peers could not be set.
    #[error("{0}")]
    Peers(#[from] ApplyError),
    /// The kernel took everything and shows something else.
    #[error("the kernel took every update and still differs from what core wants")]
    Differs,
}

impl Program {
    /// Takes charge of an interface, and touches nothing yet.
    #[must_use]
    pub fn new(wireguard: Box<dyn WireGuard>, lease: Lease) -> Self {
        Self {
            wireguard,
            lease,
            desired: None,
            known: Known::default(),
            behind: Behind::Nothing,
            verified: None,
            routed: false,
            drift: Drift::default(),
            remade: false,
            applied_at: None,
            verified_at: None,
            cuts: Vec::new(),
            hold: Hold::default(),
            unlearnt: None,
            holding: false,
        }
    }

    /// Takes over another handle of the interface, after it was created anew.
    pub fn replace(&mut self, wireguard: Box<dyn WireGuard>) {
        self.wireguard = wireguard;
        self.drift.interfaces_remade += 1;
        self.remade = true;
        if self.desired.is_some() {
            self.behind = Behind::Everything;
        }
    }

    /// Takes over what core says; [`sync`](Self::sync) makes it so.
    ///
    /// # Errors
    ///
    /// [`DesiredError`] if the message does not fit what is known. Nothing has changed then.
    pub fn take(&mut self, update: Update) -> Result<(), DesiredError> {
        self.applied_at = None;
        match update {
            Update::Snapshot { snapshot, fresh } => {
                let desired = Desired::from_snapshot(snapshot)?;
                let have = self.revision();
                if desired.revision() < have && !fresh {
                    return Err(DesiredError::Older { given: desired.revision(), have });
                }
                self.desired = Some(desired);
                self.unlearnt = Some(true);
                self.behind = Behind::Everything;
            }
            Update::Change(change) => {
                let base = change.base_revision;
                let desired = self.desired.as_mut().ok_or(DesiredError::Gap { base, have: 0 })?;
                let touched = desired.change(change)?;
                self.unlearnt.get_or_insert(false);
                self.behind.add(touched);
            }
        }
        Ok(())
    }

    /// Makes the kernel what core wants, and looks whether it is. Returns the revision that it
    /// has then; `None`: core has said nothing yet, and nothing was touched.
    ///
    /// # Errors
    ///
    /// [`SyncError`]; whatever part was done stays done, and calling again is safe.
    pub fn sync(&mut self, now: Instant) -> Result<Option<u64>, SyncError> {
        self.learn(now);
        let Some(desired) = &self.desired else { return Ok(None) };
        // Until all went well the worst is assumed.
        match core::mem::replace(&mut self.behind, Behind::Everything) {
            Behind::Nothing => self.settled(Some(&BTreeSet::new())),
            Behind::Peers(touched) if touched.len() <= SHORT_WAY_AT_MOST => {
                let updates = without_looking(desired, &touched, &self.known);
                let cut: BTreeMap<_, _> = cuts_of(&updates, &self.known).collect();
                if !cut.is_empty() {
                    // Nothing of them passes from here on; then their last counters stand still.
                    let locks: Vec<_> = cut.keys().copied().map(PeerUpdate::lock).collect();
                    self.wireguard.apply(&locks)?;
                    let found = self.wireguard.interface()?;
                    self.cuts.extend(last_counters(&found.peers, &cut));
                }
                let applied = self.wireguard.apply(&updates);
                if mutant::on(Mutant::Cached) {
                    self.settled(Some(&touched));
                    return Ok(self.verified);
                }
                applied?;
                self.applied_at = Some(clock::now());
                // What differs now was not touched, so someone else changed it.
                self.drift.peers_healed += self.repair(None, Ok(()))?;
                self.settled(Some(&touched));
            }
            Behind::Peers(_) | Behind::Everything => {
                let gate = self.prepare(now);
                self.shut_if_all_leave();
                self.repair(None, gate)?;
                if core::mem::take(&mut self.remade) {
                    self.drift.peers_healed += self.put_back();
                }
                self.finish(now)?;
            }
        }
        Ok(self.verified)
    }

    /// Looks at the kernel: reads the statistics, and sets right what drifted.
    ///
    /// # Errors
    ///
    /// [`SyncError`] if the kernel cannot be read, or not be set right.
    pub fn check(&mut self, now: Instant, wall: SystemTime) -> Result<Check, SyncError> {
        self.learn(now);
        let found = self.wireguard.interface()?;
        let Some(desired) = &self.desired else { return Ok(Check::default()) };
        let mut peers = stats::of_peers(&found.peers, desired, wall);
        if let Some(terms) = desired.interface().hold {
            self.hold.look(&found.peers, terms, now, wall);
            stats::add_quiet(&mut peers, |key| self.hold.quiet(key, now));
        }
        if mutant::on(Mutant::Cached) || mutant::on(Mutant::NoHealing) {
            return Ok(Check { peers, drift: Drift::default() });
        }
        let drifted = !self.is_behind();
        self.behind = Behind::Everything;
        let gate = self.prepare(now);
        let changed = self.repair(Some(found), gate)?;
        if drifted {
            self.drift.peers_healed += changed;
        }
        self.finish(now)?;
        Ok(Check { peers, drift: core::mem::take(&mut self.drift) })
    }

    /// Notes core's answer to the heartbeat that was sent then.
    pub fn confirm(&mut self, sent_at: Instant) {
        self.lease.confirm(sent_at);
    }

    /// Lets traffic pass for what is left of the lease. Not before the kernel was seen to have what
    /// core wants, and not while a peer is in it that must leave.
    ///
    /// # Errors
    ///
    /// [`GateError`]; the gate shuts when the time is over that was last granted, and the next
    /// [`sync`](Self::sync) looks at everything.
    pub fn renew(&mut self, now: Instant) -> Result<(), GateError> {
        let overdue = !mutant::on(Mutant::RenewedBehind) && self.has_overdue_cut();
        if self.verified.is_none() || !self.is_gated() || overdue {
            return Ok(());
        }
        self.lease.renew(now).inspect_err(|_| self.behind = Behind::Everything)
    }

    /// How often [`endure`](Self::endure) is to be called; `None`: this location has no hold.
    #[must_use]
    pub fn endures(&self) -> Option<Duration> {
        self.desired.as_ref()?.interface().hold.map(|_| self.lease.length() / 6)
    }

    /// In a location whose sessions outlive core's absence: takes out those that are over, if core is away.
    /// Returns whether core must say again whom it wants. [`sync`](Self::sync) and
    /// [`renew`](Self::renew) make it so.
    pub fn endure(&mut self, now: Instant) -> bool {
        self.learn(now);
        let Some(desired) = &mut self.desired else { return false };
        let Some(terms) = desired.interface().hold else { return false };
        let is_fresh = self.lease.is_fresh(now);
        if self.verified.is_some() && core::mem::replace(&mut self.holding, !is_fresh) == is_fresh {
            if is_fresh {
                tracing::info!("core is back; it judges the sessions again");
            } else {
                let limit = terms.limit;
                tracing::warn!(?limit, "core is away; its sessions are held, and judged here");
            }
        }
        if is_fresh {
            return self.hold.trust(now);
        }
        let over: BTreeSet<_> = self.hold.judge(terms, now).into_iter().collect();
        if !over.is_empty() {
            tracing::info!(sessions = over.len(), "sessions were over while core was away");
            for key in &over {
                desired.hold_out(key);
            }
            self.behind.add(over);
        }
        false
    }

    /// Makes the kernel's time the true one after a suspend of the host, in which it stood still.
    ///
    /// # Errors
    ///
    /// [`GateError`] of the kernel.
    pub fn resumed(&mut self, now: Instant) -> Result<(), GateError> {
        if self.is_gated() { self.lease.enforce(now) } else { Ok(()) }
    }

    /// Core was heard, and does not know this gateway: its word of before is worth the lease that runs.
    pub const fn distrust(&mut self) {
        self.lease.distrust();
    }

    /// Lets the hold know what core has said.
    fn learn(&mut self, now: Instant) {
        if let Some(desired) = &mut self.desired
            && let Some(whole) = self.unlearnt.take()
        {
            self.hold.learn(desired, whole, now);
            self.lease.set_hold(desired.interface().hold.map(|terms| terms.limit));
        }
    }

    fn is_gated(&self) -> bool {
        self.desired.as_ref().is_some_and(|desired| desired.interface().mfa_required)
    }

    /// Whether the kernel has, or may have, a peer that must leave.
    fn has_overdue_cut(&self) -> bool {
        let Some(desired) = self.desired.as_ref().filter(|_| self.is_behind()) else {
            return false;
        };
        self.wireguard.interface().map_or(true, |found| {
            reconcile(desired, &found.peers, &self.known).updates.iter().any(is_cut)
        })
    }

    /// How the lease stands, and how often others took the gate away; `None`: no location with MFA.
    #[must_use]
    pub fn lease(&mut self) -> Option<(Standing, u32)> {
        self.is_gated().then(|| (self.lease.standing(), self.lease.rebuilt()))
    }

    /// How this location's sessions outlive core's absence; `None`: as long as the lease, or core has said
    /// nothing yet.
    #[must_use]
    pub fn held(&self, now: Instant) -> Option<Held> {
        let terms = self.desired.as_ref()?.interface().hold?;
        let (left, away) = (self.lease.hold_left(now), !self.lease.is_fresh(now));
        Some(Held { limit: terms.limit, left, away })
    }

    /// Forgets what core wants and leaves the kernel as it is: another process is in charge.
    pub fn stand_down(&mut self) {
        self.desired = None;
        self.known = Known::default();
        self.behind = Behind::Nothing;
        self.verified = None;
        self.hold = Hold::default();
        self.lease.set_hold(None);
    }

    /// Takes all peers of a location with MFA out: core has dismissed this gateway.
    /// [`sync`](Self::sync) makes it so. Nothing happens in a location without MFA, or before core
    /// has said which of the two it is.
    pub fn dismiss(&mut self) {
        if let Some(desired) = &mut self.desired
            && desired.interface().mfa_required
        {
            desired.clear();
            self.behind = Behind::Everything;
            if let Err(error) = self.lease.shut() {
                tracing::error!("the gate was not shut: {error}");
            }
        }
    }

    /// Reads the interface and touches nothing.
    ///
    /// # Errors
    ///
    /// As [`WireGuard::interface`].
    pub fn look(&self) -> Result<Interface, wg_netlink::Error> {
        self.wireguard.interface()
    }

    /// What core wants; `None`: it has said nothing yet.
    #[must_use]
    pub const fn desired(&self) -> Option<&Desired> {
        self.desired.as_ref()
    }

    /// The revision that core wants; zero: it has said nothing yet.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.desired.as_ref().map_or(0, Desired::revision)
    }

    /// The revision that the kernel was last seen to have.
    #[must_use]
    pub const fn verified(&self) -> Option<u64> {
        self.verified
    }

    /// When the kernel took what core wants; `None`: it has not yet.
    #[must_use]
    pub const fn applied_at(&self) -> Option<Instant> {
        self.applied_at
    }

    /// When a dump last showed that the kernel has what core wants.
    #[must_use]
    pub const fn verified_at(&self) -> Option<Instant> {
        self.verified_at
    }

    /// Takes what peers had transferred when they were cut, since the last call.
    pub fn take_cuts(&mut self) -> Vec<wire::Cut> {
        core::mem::take(&mut self.cuts)
    }

    /// Whether the kernel is not, or not known to be, what core wants.
    #[must_use]
    pub const fn is_behind(&self) -> bool {
        !matches!(self.behind, Behind::Nothing)
    }

    /// The interface's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.wireguard.name()
    }

    /// How WireGuard runs.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.wireguard.backend()
    }

    /// Compares with a dump and repairs, until a dump shows nothing to repair. Returns how many
    /// peers differed in the first one. Without a gate peers only leave.
    fn repair(
        &mut self,
        found: Option<Interface>,
        gate: Result<(), GateError>,
    ) -> Result<u32, SyncError> {
        let mut found = found;
        let mut first = None;
        for _ in 0..ROUNDS {
            let now = match found.take() {
                Some(found) => found,
                None => self.wireguard.interface()?,
            };
            let Some(desired) = &self.desired else { break };
            let config = differing(desired.interface(), &now);
            let mut plan = reconcile(desired, &now.peers, &self.known);
            let changed = *first.get_or_insert(plan.changed);
            if gate.is_err() {
                plan.updates.retain(is_cut);
                self.wireguard.apply(&plan.updates)?;
                break;
            }
            if config.is_none() && plan.updates.is_empty() {
                return Ok(changed);
            }
            let cut = cuts_of(&plan.updates, &self.known).collect();
            self.cuts.extend(last_counters(&now.peers, &cut));
            // A cut never waits for what else may fail.
            let configured = config.map_or(Ok(()), |config| self.wireguard.configure(&config));
            let applied = self.wireguard.apply(&plan.updates);
            if mutant::on(Mutant::Cached) {
                return Ok(changed);
            }
            applied?;
            self.applied_at = Some(clock::now());
            self.drift.strangers_removed += plan.strangers;
            configured?;
        }
        gate?;
        Err(SyncError::Differs)
    }

    /// Where all of many peers leave, nothing passes from here on: to lock them takes a while. Once they
    /// are out the gate opens again. A peer that stays would lose packets, so then each is locked.
    fn shut_if_all_leave(&mut self) {
        let all = self.desired.as_ref().is_some_and(|desired| desired.peers().is_empty());
        if all
            && self.is_gated()
            && self.known.len() > SHORT_WAY_AT_MOST
            && let Err(error) = self.lease.close()
        {
            tracing::error!("the gate was not shut for the peers that leave: {error}");
        }
    }

    /// Sees to it that there is a gate before a peer enters, where there has to be one.
    fn prepare(&mut self, now: Instant) -> Result<(), GateError> {
        if mutant::on(Mutant::NoGateAtStart) && self.verified.is_none() {
            return Ok(());
        }
        if self.is_gated() { self.lease.prepare(now) } else { self.lease.release() }
    }

    /// How many of the peers that core wants had been there before.
    fn put_back(&self) -> u32 {
        let wanted = self.desired.iter().flat_map(|desired| desired.peers().keys());
        let count = wanted.filter(|key| self.known.has(key)).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Notes that the kernel was seen to have all that core wants; only `touched` peers had changed,
    /// or, with `None`, any may have.
    fn settled(&mut self, touched: Option<&BTreeSet<PublicKey>>) {
        let Some(desired) = &self.desired else { return };
        match touched {
            Some(touched) => self.known.remember(desired, touched),
            None => self.known.remember_all(desired),
        }
        self.behind = Behind::Nothing;
        self.verified = Some(desired.revision());
        let now = clock::now();
        self.applied_at.get_or_insert(now);
        self.verified_at = Some(now);
    }

    /// Once all peers are right: joins the interface to the host, and opens the gate.
    fn finish(&mut self, now: Instant) -> Result<(), SyncError> {
        self.join()?;
        self.settled(None);
        Ok(self.renew(now)?)
    }

    /// Joins the interface to the host: addresses, up, routes. What is right already stays.
    fn join(&mut self) -> Result<(), SyncError> {
        let Some(desired) = &self.desired else { return Ok(()) };
        let wanted = desired.interface();
        self.wireguard.set_addresses(&wanted.addresses)?;
        self.wireguard.set_up(wanted.mtu)?;
        let routes = desired.routes();
        // Routes that someone else has set are left alone until core first asks for one.
        if self.routed || !routes.is_empty() {
            self.wireguard.set_routes(&routes)?;
            self.routed = true;
        }
        Ok(())
    }
}

impl Behind {
    fn add(&mut self, touched: BTreeSet<PublicKey>) {
        match self {
            Self::Nothing => *self = Self::Peers(touched),
            Self::Peers(before) => before.extend(touched),
            Self::Everything => {}
        }
    }
}

/// Which peers of sessions these updates remove, and whose they were as far as it is known.
fn cuts_of<'a>(
    updates: &'a [PeerUpdate],
    known: &'a Known,
) -> impl Iterator<Item = (PublicKey, i64)> + 'a {
    updates.iter().filter_map(|update| match update {
        PeerUpdate::Remove(key) => Some((*key, known.session(key)?)),
        PeerUpdate::Put(_) | PeerUpdate::Update { .. } => None,
    })
}

fn last_counters<'a>(
    found: &'a [Peer],
    cut: &'a BTreeMap<PublicKey, i64>,
) -> impl Iterator<Item = wire::Cut> + 'a {
    found.iter().filter_map(|peer| {
        let session_id = *cut.get(&peer.config.public_key)?;
        let (rx_bytes, tx_bytes) = (peer.stats.rx_bytes, peer.stats.tx_bytes);
        Some(wire::Cut { session_id, rx_bytes, tx_bytes })
    })
}

/// What of the interface itself must be set; `None`: nothing.
fn differing(wanted: &DesiredInterface, found: &Interface) -> Option<InterfaceConfig> {
    let key = found.public_key != Some(wanted.public_key);
    let port = found.listen_port != wanted.listen_port && wanted.listen_port != 0;
    (key || port).then(|| InterfaceConfig {
        private_key: key.then(|| wanted.private_key.clone()),
        listen_port: port.then_some(wanted.listen_port),
        fwmark: None,
    })
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
