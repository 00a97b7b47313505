//! Sessions that outlive core's absence, where core has said that they may.
//!
//! While core is away nobody else can end them, so this judges each by what core has said before: its
//! lifetime, and how long it may be idle. Pure: the caller brings what the kernel counts, and the time.
//!
//! What was judged over stays out until core has had the time to judge as well. It is never judged while
//! core's word is fresh.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use tokio::time::Instant;
use wg_types::traffic::{Counters, Window};
use wg_types::{Peer, PublicKey};

use crate::desired::Desired;

/// How long core's word must have been fresh before what was judged over here is core's to judge: it looks
/// each minute by default, and needs a report before.
const CORE_JUDGES_WITHIN: Duration = Duration::from_secs(300);

/// How a location's sessions outlive core's absence.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Terms {
    /// How long after core's last word traffic may pass.
    pub limit: Duration,
    /// How long a session may show no sign of life.
    pub threshold: Duration,
    /// A sign of life is a completed handshake, rather than user data.
    pub by_handshake: bool,
}

/// What is known of the sessions of a location with a hold.
#[derive(Debug, Default)]
pub struct Hold {
    followed: BTreeMap<PublicKey, Followed>,
    /// Sessions that were judged over here.
    over: BTreeSet<i64>,
    /// Since when core's word has been fresh without a break.
    fresh_since: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Followed {
    session: i64,
    /// When its lifetime is over; `None`: core has not said.
    ends: Option<Instant>,
    /// The last sign of life; that it was put here counts as one.
    active: Instant,
    /// What the kernel last counted, and when.
    seen: Option<(Counters, Instant)>,
}

impl Hold {
    /// Takes over what core has just said, which is `whole` or a change. Takes out of it again what was
    /// judged over.
    pub fn learn(&mut self, desired: &mut Desired, whole: bool, now: Instant) {
        if desired.interface().hold.is_none() {
            *self = Self::default();
            return;
        }
        let lifetimes: BTreeMap<_, _> = desired.take_lifetimes().into_iter().collect();
        let mut sessions = BTreeSet::new();
        let mut out = Vec::new();
        for (key, peer) in desired.peers() {
            let session = peer.mark.session;
            sessions.insert(session);
            if self.over.contains(&session) {
                out.push(*key);
                continue;
            }
            let new = Followed { session, ends: None, active: now, seen: None };
            let followed = self.followed.entry(*key).or_insert(new);
            if followed.session != session {
                *followed = new;
            }
            if let Some(left) = lifetimes.get(key) {
                followed.ends = now.checked_add(*left);
            }
        }
        for key in out {
            desired.hold_out(&key);
        }
        self.followed.retain(|key, _| desired.peers().contains_key(key));
        if whole {
            self.over.retain(|session| sessions.contains(session));
        }
    }

    /// Takes what the kernel counts.
    pub fn look(&mut self, found: &[Peer], terms: Terms, now: Instant, wall: SystemTime) {
        for Peer { config, stats } in found {
            let Some(followed) = self.followed.get_mut(&config.public_key) else { continue };
            let counters = Counters { rx_bytes: stats.rx_bytes, tx_bytes: stats.tx_bytes };
            let age = stats.last_handshake.map(|at| wall.duration_since(at).unwrap_or_default());
            let before = followed.seen.replace((counters, now));
            let active = if terms.by_handshake {
                age.and_then(|age| now.checked_sub(age))
            } else {
                before.and_then(|(before, since)| {
                    let window = Window {
                        added: counters.since(before),
                        length: now.saturating_duration_since(since),
                        handshake_age: age,
                        gateway_keepalive: None,
                    };
                    window.carries_data().then_some(now)
                })
            };
            followed.active = followed.active.max(active.unwrap_or(followed.active));
        }
    }

    /// For how long a peer has shown no sign of life; `None`: it is not followed.
    #[must_use]
    pub fn quiet(&self, key: &PublicKey, now: Instant) -> Option<Duration> {
        self.followed.get(key).map(|followed| now.saturating_duration_since(followed.active))
    }

    /// Judges the sessions while core is away; returns the peers of those that are over.
    pub fn judge(&mut self, terms: Terms, now: Instant) -> Vec<PublicKey> {
        self.fresh_since = None;
        let is_over = |followed: &Followed| {
            followed.ends.is_some_and(|ends| now >= ends)
                || now.saturating_duration_since(followed.active) >= terms.threshold
        };
        let followed = self.followed.iter().filter(|(_, followed)| is_over(followed));
        let over: Vec<_> = followed.map(|(key, followed)| (*key, followed.session)).collect();
        for (key, session) in &over {
            self.followed.remove(key);
            self.over.insert(*session);
        }
        over.into_iter().map(|(key, _)| key).collect()
    }

    /// Notes that core's word is fresh. Returns whether core must now say again whom it wants: it has had
    /// the time to judge what was judged over here.
    pub fn trust(&mut self, now: Instant) -> bool {
        let since = *self.fresh_since.get_or_insert(now);
        let due =
            !self.over.is_empty() && now.saturating_duration_since(since) >= CORE_JUDGES_WITHIN;
        if due {
            self.over.clear();
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use mfa_wire::gateway as wire;
    use wg_types::{PeerConfig, PeerStats};

    use super::*;
    use crate::clock;
    use crate::testing::{change, key, peer, snapshot};

    const TERMS: Terms = Terms {
        limit: Duration::from_secs(4 * 3600),
        threshold: Duration::from_secs(300),
        by_handshake: false,
    };

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn living(n: u8, session: i64, left: u64) -> wire::Peer {
        wire::Peer { lifetime_left_millis: Some(left * 1000), ..peer(n, session, 1) }
    }

    fn held(revision: u64, peers: impl IntoIterator<Item = wire::Peer>) -> Desired {
        let mut snapshot = snapshot(revision, peers);
        let interface = snapshot.interface.as_mut().unwrap();
        interface.outage_hold_millis = 4 * 3_600_000;
        interface.idle_threshold_millis = 300_000;
        Desired::from_snapshot(snapshot).unwrap()
    }

    fn counted(n: u8, rx_bytes: u64, tx_bytes: u64) -> Peer {
        let stats = PeerStats {
            public_key: key(n),
            endpoint: None,
            last_handshake: None,
            rx_bytes,
            tx_bytes,
        };
        Peer { config: PeerConfig::new(key(n)), stats }
    }

    #[test]
    fn a_session_is_over_at_its_lifetime_and_not_before() {
        let start = clock::now();
        let mut hold = Hold::default();
        hold.learn(&mut held(1, [living(1, 1, 200), living(2, 2, 100)]), true, start);
        assert_eq!(hold.judge(TERMS, start + secs(99)), []);
        assert_eq!(hold.judge(TERMS, start + secs(100)), [key(2)]);
        assert_eq!(hold.judge(TERMS, start + secs(200)), [key(1)]);
    }

    #[test]
    fn keepalives_are_idle_and_data_is_not() {
        let start = clock::now();
        let mut hold = Hold::default();
        hold.learn(&mut held(1, [living(1, 1, 9999), living(2, 2, 9999)]), true, start);
        for n in 0..=10 {
            let found = [counted(1, 32 * n, 0), counted(2, 1000 * n, 1000 * n)];
            hold.look(&found, TERMS, start + secs(30 * n), SystemTime::UNIX_EPOCH);
        }
        assert_eq!(hold.quiet(&key(2), start + secs(310)), Some(secs(10)));
        assert_eq!(hold.judge(TERMS, start + secs(300)), [key(1)]);
    }

    #[test]
    fn by_handshake_a_handshake_is_a_sign_of_life() {
        let start = clock::now();
        let terms = Terms { by_handshake: true, ..TERMS };
        let mut hold = Hold::default();
        hold.learn(&mut held(1, [living(1, 1, 9999)]), true, start);
        let wall = SystemTime::UNIX_EPOCH + secs(1000);
        let mut peer = counted(1, 148, 92);
        peer.stats.last_handshake = Some(wall - secs(20));
        hold.look(&[peer], terms, start + secs(200), wall);
        assert_eq!(hold.judge(terms, start + secs(479)), []);
        assert_eq!(hold.judge(terms, start + secs(480)), [key(1)]);
    }

    #[test]
    fn what_was_judged_over_stays_out_until_core_had_time_to_judge() {
        let start = clock::now();
        let mut hold = Hold::default();
        hold.learn(&mut held(1, [living(1, 1, 100), living(2, 2, 999)]), true, start);
        assert_eq!(hold.judge(TERMS, start + secs(100)), [key(1)]);

        let mut again = held(2, [living(1, 1, 100), living(2, 2, 999)]);
        hold.learn(&mut again, true, start + secs(110));
        assert!(!again.peers().contains_key(&key(1)) && again.peers().contains_key(&key(2)));

        assert!(!hold.trust(start + secs(110)));
        assert!(!hold.trust(start + secs(409)));
        assert!(hold.trust(start + secs(410)));
        let mut again = held(2, [living(1, 1, 100), living(2, 2, 999)]);
        hold.learn(&mut again, true, start + secs(411));
        assert!(again.peers().contains_key(&key(1)));
    }

    #[test]
    fn a_new_session_of_the_same_device_is_another_one() {
        let start = clock::now();
        let mut hold = Hold::default();
        let mut desired = held(1, [living(1, 1, 100)]);
        hold.learn(&mut desired, true, start);
        assert_eq!(hold.judge(TERMS, start + secs(100)), [key(1)]);
        desired.hold_out(&key(1));
        desired.change(change(1, vec![living(1, 2, 100)], &[])).unwrap();
        hold.learn(&mut desired, false, start + secs(150));
        assert!(desired.peers().contains_key(&key(1)));
        assert_eq!(hold.judge(TERMS, start + secs(249)), []);
        assert_eq!(hold.judge(TERMS, start + secs(250)), [key(1)]);
    }

    #[test]
    fn a_renewed_session_has_its_new_end() {
        let start = clock::now();
        let mut hold = Hold::default();
        let mut desired = held(1, [living(1, 1, 100)]);
        hold.learn(&mut desired, true, start);
        desired.change(change(1, vec![living(1, 1, 250)], &[])).unwrap();
        hold.learn(&mut desired, false, start + secs(50));
        assert_eq!(hold.judge(TERMS, start + secs(299)), []);
        assert_eq!(hold.judge(TERMS, start + secs(300)), [key(1)]);
    }

    #[test]
    fn without_a_hold_nothing_is_followed() {
        let start = clock::now();
        let mut hold = Hold::default();
        let mut desired = Desired::from_snapshot(snapshot(1, [living(1, 1, 1)])).unwrap();
        hold.learn(&mut desired, true, start);
        assert_eq!(hold.quiet(&key(1), start), None);
        assert_eq!(hold.judge(TERMS, start + secs(9999)), []);
    }
}
