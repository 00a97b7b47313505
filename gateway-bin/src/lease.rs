//! Traffic of peers with sessions passes only while core's word is fresh.
//!
//! The lease is counted from when a heartbeat was *sent* whose answer came: so much was core's word
//! certain to be worth. It is not this process that shuts the gate but the kernel, when the time
//! that was last granted is over: also if this process was killed, stopped or cut off. A location
//! without MFA has no gate.
//!
//! Times are of a clock that goes on while the host is suspended; the kernel's own timers stand still then,
//! so [`Lease::enforce`] is called after it.

use core::fmt;
use core::time::Duration;

use mutant::Mutant;
use tokio::time::Instant;
use wg_netlink::gate::GateError;

/// What holds traffic back; see [`wg_netlink::gate::Gate`], which is the real one.
pub trait Gate: Send + fmt::Debug {
    /// Builds it, or repairs it. A time that runs goes on running.
    ///
    /// # Errors
    ///
    /// [`GateError`] of the kernel.
    fn ensure(&mut self) -> Result<(), GateError>;

    /// Opens it for so long from now.
    ///
    /// # Errors
    ///
    /// [`GateError::Gone`] if there is none.
    fn renew(&mut self, lease: Duration) -> Result<(), GateError>;

    /// Shuts it at once.
    ///
    /// # Errors
    ///
    /// [`GateError::Gone`] if there is none.
    fn shut(&mut self) -> Result<(), GateError>;

    /// How long it stays open; `None`: it is shut.
    ///
    /// # Errors
    ///
    /// [`GateError::Gone`] if there is none.
    fn remaining(&mut self) -> Result<Option<Duration>, GateError>;

    /// Whether all of it is there.
    ///
    /// # Errors
    ///
    /// [`GateError`] of the kernel.
    fn is_whole(&mut self) -> Result<bool, GateError>;

    /// Takes it away.
    ///
    /// # Errors
    ///
    /// [`GateError`] of the kernel.
    fn remove(&mut self) -> Result<(), GateError>;
}

/// Whether a gateway may serve a location with MFA where the kernel cannot hold the lease.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Without {
    /// It may; the status says so.
    #[default]
    Serve,
    /// It may not: no peer enters.
    Refuse,
}

/// The lease on one interface.
#[derive(Debug)]
pub struct Lease {
    gate: Option<Box<dyn Gate>>,
    length: Duration,
    without: Without,
    /// When the youngest heartbeat was sent that core has answered.
    confirmed: Option<Instant>,
    /// How long after that traffic may pass where core wants sessions to outlive its absence.
    hold: Option<Duration>,
    /// Why the kernel cannot hold it.
    unavailable: Option<String>,
    /// This process has built it.
    built: bool,
    /// This process has taken it away.
    released: bool,
    rebuilt: u32,
}

/// How the lease stands, for who asks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Standing {
    /// Traffic passes for so long.
    Open(Duration),
    /// Nothing passes.
    Shut,
    /// The kernel holds nothing back, and why.
    Unheld(String),
}

impl Lease {
    /// A lease of this length, held by `gate`. Without one the kernel holds nothing back.
    #[must_use]
    pub fn new(gate: Option<Box<dyn Gate>>, length: Duration, without: Without) -> Self {
        let unavailable = gate.is_none().then(|| "no gate was set up".to_owned());
        Self {
            gate,
            length,
            without,
            confirmed: None,
            hold: None,
            unavailable,
            built: false,
            released: false,
            rebuilt: 0,
        }
    }

    /// Notes that core has answered the heartbeat that was sent then.
    pub fn confirm(&mut self, sent_at: Instant) {
        self.confirmed = self.confirmed.max(Some(sent_at));
    }

    /// Says how long after core's last word traffic may pass, if that is longer than the lease. The kernel
    /// is never granted more than the lease at once: should this process fail, that is all.
    pub const fn set_hold(&mut self, hold: Option<Duration>) {
        self.hold = hold;
    }

    /// How long traffic may still pass after core's last word where sessions outlive its absence; `None`:
    /// they do not, it was not heard since this process started, or the time is over.
    #[must_use]
    pub fn hold_left(&self, now: Instant) -> Option<Duration> {
        self.hold?.checked_sub(self.age(now)?).filter(|left| !left.is_zero())
    }

    /// How long the kernel holds the gate open by itself.
    #[must_use]
    pub const fn length(&self) -> Duration {
        self.length
    }

    /// Whether core was heard within the lease.
    #[must_use]
    pub fn is_fresh(&self, now: Instant) -> bool {
        self.age(now).is_some_and(|age| age < self.length)
    }

    /// Forgets that core was ever heard: it was, and does not want this gateway.
    pub const fn distrust(&mut self) {
        self.confirmed = None;
    }

    /// Makes the kernel's time the true one, after it has stood still while the host was suspended.
    ///
    /// # Errors
    ///
    /// [`GateError`] of the kernel.
    pub fn enforce(&mut self, now: Instant) -> Result<(), GateError> {
        let left = self.left(now);
        match (self.held(), left) {
            (Some(gate), Some(left)) => gate.renew(left),
            (Some(gate), None) => match gate.shut() {
                Err(GateError::Gone) => Ok(()),
                done => done,
            },
            (None, _) => Ok(()),
        }
    }

    /// Sees to it that there is a whole gate before a peer enters.
    ///
    /// # Errors
    ///
    /// [`GateError`]: no peer may enter.
    pub fn prepare(&mut self, now: Instant) -> Result<(), GateError> {
        let Some(gate) = &mut self.gate else {
            return match self.without {
                Without::Serve => Ok(()),
                Without::Refuse => Err(GateError::NoNftables),
            };
        };
        self.released = false;
        if self.built && gate.is_whole()? {
            return Ok(());
        }
        match gate.ensure() {
            Ok(()) => self.unavailable = None,
            Err(error @ GateError::NoNftables) if self.without == Without::Serve => {
                if self.unavailable.is_none() {
                    tracing::warn!("{error}. Should core and this process fail, peers stay open");
                }
                self.unavailable = Some(error.to_string());
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        if !self.built {
            self.built = true;
            return Ok(());
        }
        tracing::warn!("the gate had been changed by others and was set right");
        self.rebuilt = self.rebuilt.saturating_add(1);
        self.renew(now)
    }

    /// Opens the gate for what is left of the lease.
    ///
    /// # Errors
    ///
    /// [`GateError`]; the gate shuts when the time is over that was last granted. If it is
    /// [`GateError::Gone`], [`prepare`](Self::prepare) builds it anew.
    pub fn renew(&mut self, now: Instant) -> Result<(), GateError> {
        match (self.left(now), self.held()) {
            (Some(left), Some(gate)) => gate.renew(left),
            _ => Ok(()),
        }
    }

    /// Shuts the gate at once. Until the next heartbeat is answered it stays so.
    ///
    /// # Errors
    ///
    /// [`GateError`] of the kernel.
    pub fn shut(&mut self) -> Result<(), GateError> {
        self.confirmed = None;
        self.close()
    }

    /// Shuts the gate at once, until it is next renewed.
    ///
    /// # Errors
    ///
    /// [`GateError`] of the kernel.
    pub fn close(&mut self) -> Result<(), GateError> {
        match self.held().map(|gate| gate.shut()) {
            None | Some(Ok(()) | Err(GateError::Gone)) => Ok(()),
            Some(Err(error)) => Err(error),
        }
    }

    /// Takes the gate away: this location needs none.
    ///
    /// # Errors
    ///
    /// [`GateError`]: traffic may be held back that should not be.
    pub fn release(&mut self) -> Result<(), GateError> {
        if core::mem::replace(&mut self.released, true) {
            return Ok(());
        }
        self.built = false;
        match self.gate.as_mut().map(|gate| gate.remove()) {
            None | Some(Ok(()) | Err(GateError::NoNftables | GateError::Gone)) => Ok(()),
            Some(Err(error)) => Err(error),
        }
    }

    /// How the lease stands in the kernel.
    #[must_use]
    pub fn standing(&mut self) -> Standing {
        if let Some(why) = &self.unavailable {
            return Standing::Unheld(why.clone());
        }
        match self.gate.as_mut().map(|gate| gate.remaining()) {
            Some(Ok(Some(left))) => Standing::Open(left),
            Some(Ok(None)) => Standing::Shut,
            Some(Err(error)) => Standing::Unheld(error.to_string()),
            None => Standing::Unheld("no gate was set up".to_owned()),
        }
    }

    /// How often others took the gate away or changed it.
    #[must_use]
    pub const fn rebuilt(&self) -> u32 {
        self.rebuilt
    }

    /// The gate, if the kernel can have one.
    fn held(&mut self) -> Option<&mut Box<dyn Gate>> {
        self.gate.as_mut().filter(|_| self.unavailable.is_none())
    }

    /// What is left of the lease; `None`: nothing.
    fn left(&self, now: Instant) -> Option<Duration> {
        if mutant::on(Mutant::WholeLease) {
            return self.confirmed.map(|_| self.length);
        }
        let age = self.age(now)?;
        let limit = self.hold.unwrap_or_default().max(self.length);
        let left = limit.checked_sub(age).filter(|left| !left.is_zero())?;
        Some(if age < self.length {
            self.length.saturating_sub(age)
        } else {
            left.min(self.length)
        })
    }

    fn age(&self, now: Instant) -> Option<Duration> {
        Some(now.saturating_duration_since(self.confirmed?))
    }
}

impl Gate for wg_netlink::gate::Gate {
    fn ensure(&mut self) -> Result<(), GateError> {
        Self::ensure(self)
    }

    fn renew(&mut self, lease: Duration) -> Result<(), GateError> {
        Self::renew(self, lease)
    }

    fn shut(&mut self) -> Result<(), GateError> {
        Self::shut(self)
    }

    fn remaining(&mut self) -> Result<Option<Duration>, GateError> {
        Self::remaining(self)
    }

    fn is_whole(&mut self) -> Result<bool, GateError> {
        Self::is_whole(self)
    }

    fn remove(&mut self) -> Result<(), GateError> {
        Self::remove(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::testing::FakeGate;

    const LENGTH: Duration = Duration::from_secs(90);

    fn lease(gate: &FakeGate) -> Lease {
        Lease::new(Some(Box::new(gate.clone())), LENGTH, Without::Serve)
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn the_lease_is_counted_from_when_the_heartbeat_was_sent() {
        let gate = FakeGate::default();
        let mut lease = lease(&gate);
        let sent = clock::now();
        lease.prepare(clock::now()).unwrap();
        assert_eq!(lease.standing(), Standing::Shut);

        lease.confirm(sent);
        lease.renew(sent + secs(7)).unwrap();
        assert_eq!(lease.standing(), Standing::Open(secs(83)));
    }

    #[test]
    fn an_answer_that_comes_after_the_lease_opens_nothing() {
        let gate = FakeGate::default();
        let mut lease = lease(&gate);
        let sent = clock::now();
        lease.prepare(clock::now()).unwrap();
        lease.confirm(sent);
        lease.renew(sent + LENGTH).unwrap();
        assert_eq!(lease.standing(), Standing::Shut);
    }

    #[test]
    fn an_older_answer_does_not_shorten_the_lease() {
        let gate = FakeGate::default();
        let mut lease = lease(&gate);
        let sent = clock::now();
        lease.prepare(clock::now()).unwrap();
        lease.confirm(sent + secs(10));
        lease.confirm(sent);
        lease.renew(sent + secs(10)).unwrap();
        assert_eq!(lease.standing(), Standing::Open(LENGTH));
    }

    #[test]
    fn a_running_lease_outlives_a_new_process() {
        let gate = FakeGate::default();
        let mut first = lease(&gate);
        first.prepare(clock::now()).unwrap();
        first.confirm(clock::now());
        first.renew(clock::now()).unwrap();

        let mut second = lease(&gate);
        second.prepare(clock::now()).unwrap();

        assert!(matches!(second.standing(), Standing::Open(_)));
    }

    #[test]
    fn a_gate_that_others_took_away_is_built_anew_and_counted() {
        let gate = FakeGate::default();
        let mut lease = lease(&gate);
        let now = clock::now();
        lease.prepare(clock::now()).unwrap();
        lease.confirm(now);
        for take_away in [FakeGate::flush, FakeGate::damage] {
            take_away(&gate);
            lease.prepare(now).unwrap();
            assert_eq!(lease.standing(), Standing::Open(LENGTH));
        }
        assert_eq!(lease.rebuilt(), 2);
    }

    #[test]
    fn what_was_shut_stays_shut_until_the_next_answer() {
        let gate = FakeGate::default();
        let mut lease = lease(&gate);
        let now = clock::now();
        lease.prepare(clock::now()).unwrap();
        lease.confirm(now);
        lease.renew(now).unwrap();
        lease.shut().unwrap();
        lease.renew(now).unwrap();
        assert_eq!(lease.standing(), Standing::Shut);
        lease.confirm(now);
        lease.renew(now).unwrap();
        assert_eq!(lease.standing(), Standing::Open(LENGTH));
    }

    #[test]
    fn in_a_hold_the_kernel_is_granted_a_lease_at_a_time_until_the_hold_is_over() {
        let gate = FakeGate::default();
        let mut lease = lease(&gate);
        let sent = clock::now();
        lease.prepare(sent).unwrap();
        lease.set_hold(Some(secs(3600)));
        lease.confirm(sent);
        for (age, left) in [(0, 90), (80, 10), (89, 1), (90, 90), (3000, 90), (3520, 80), (3599, 1)]
        {
            lease.renew(sent + secs(age)).unwrap();
            assert_eq!(lease.standing(), Standing::Open(secs(left)), "after {age} s");
            assert_eq!(lease.is_fresh(sent + secs(age)), age < 90);
        }
        assert_eq!(lease.hold_left(sent + secs(3599)), Some(secs(1)));
        gate.shut_by_time();
        assert_eq!(lease.hold_left(sent + secs(3600)), None);
        lease.renew(sent + secs(3600)).unwrap();
        assert_eq!(lease.standing(), Standing::Shut);
    }

    #[test]
    fn who_is_not_wanted_any_more_holds_nothing() {
        let gate = FakeGate::default();
        let mut lease = lease(&gate);
        let now = clock::now();
        lease.prepare(now).unwrap();
        lease.set_hold(Some(secs(3600)));
        lease.confirm(now);
        lease.distrust();
        lease.renew(now + secs(1)).unwrap();
        assert_eq!(lease.standing(), Standing::Shut);
    }

    #[test]
    fn what_the_kernel_did_not_count_in_a_suspend_is_taken_off() {
        let gate = FakeGate::default();
        let mut lease = lease(&gate);
        let sent = clock::now();
        lease.prepare(sent).unwrap();
        lease.confirm(sent);
        lease.renew(sent).unwrap();
        lease.enforce(sent + secs(60)).unwrap();
        assert_eq!(lease.standing(), Standing::Open(secs(30)));
        lease.enforce(sent + secs(8 * 3600)).unwrap();
        assert_eq!(lease.standing(), Standing::Shut);
    }

    #[test]
    fn without_nftables_it_is_said_or_refused() {
        let gate = FakeGate::default();
        gate.take_nftables_away();
        let mut serving = lease(&gate);
        serving.prepare(clock::now()).unwrap();
        assert!(matches!(serving.standing(), Standing::Unheld(_)));
        serving.confirm(clock::now());
        serving.renew(clock::now()).unwrap();

        let mut strict = Lease::new(Some(Box::new(gate)), LENGTH, Without::Refuse);
        assert!(matches!(strict.prepare(clock::now()), Err(GateError::NoNftables)));
    }
}
