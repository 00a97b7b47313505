//! Takes the next pre-shared key of a session without losing a packet.
//!
//! Sans-IO: the caller brings what core says and what the interface saw, makes the calls that are
//! [due](Rotate::due), and sets the keys that it is given.
//!
//! ```text
//! settled ──core offers──▶ fetching ──key, a good moment──▶ set ──handshake──▶ proven, settled
//!                                                            │  ▲
//!                       no handshake by 132 s, with packets  └──┘ the other key, for 12 s
//! ```
//!
//! WireGuard uses a new key in the next handshake only, which is due 120 s after the last one; the
//! keys of the last one serve for 180 s. So a key is set well before a handshake is due, and gateways
//! are given it in the seconds after that. If they were not, or if they were and this client does not
//! know it, the handshake fails and is retried every 5 s; then the key before and the new one take
//! turns until one of them is answered. That needs nobody's help, core's least of all.

use core::fmt;
use core::time::Duration;
use std::time::SystemTime;

use mfa_wire::http::{NextKey, RotateRequest, SessionInfo};
use mutant::Mutant;
use wg_types::PresharedKey;
use wg_types::timers::{REJECT_AFTER_TIME, REKEY_AFTER_TIME};

use crate::life::age;
use crate::tunnel::Link;

/// A key is not set later than this after a handshake, so that both ends have it before the next.
const QUIET_BEFORE: Duration = Duration::from_secs(REKEY_AFTER_TIME.as_secs() - 20);

/// A handshake that was due this long ago was tried three times.
const OVERDUE: Duration = Duration::from_secs(REKEY_AFTER_TIME.as_secs() + 12);

/// How long each key is tried: two or three handshakes.
const TURN: Duration = Duration::from_secs(12);

/// Pause after a call that failed.
const PAUSE: Duration = Duration::from_secs(5);

/// One session's keys.
pub struct Rotate {
    location: i64,
    session: i64,
    /// In the interface.
    held: Key,
    /// The one before it, or after it: what takes turns with it.
    other: Option<Key>,
    /// Fetched, and waits for a good moment.
    waiting: Option<Key>,
    /// The highest generation that was ever in the interface.
    set: u32,
    /// The highest generation with which a handshake was seen.
    proven: u32,
    /// The highest generation that core spoke of.
    offered: u32,
    /// What core last took note of.
    told: Option<(u32, u32)>,
    /// Since when the interface has `held`, and what it had sent by then.
    since: SystemTime,
    sent: u64,
    not_before: Option<SystemTime>,
}

struct Key {
    generation: u32,
    psk: PresharedKey,
}

impl Rotate {
    /// Begins with the key that the connect bought.
    #[must_use]
    pub const fn new(
        location: i64,
        session: &SessionInfo,
        psk: PresharedKey,
        now: SystemTime,
    ) -> Self {
        let generation = session.generation;
        Self {
            location,
            session: session.id,
            held: Key { generation, psk },
            other: None,
            waiting: None,
            set: generation,
            proven: generation,
            offered: generation,
            told: None,
            since: now,
            sent: 0,
            not_before: None,
        }
    }

    /// Takes what core says of the session.
    pub fn handle_status(&mut self, session: &SessionInfo) {
        if session.id == self.session {
            self.offered = self.offered.max(session.next_generation.unwrap_or_default());
        }
    }

    /// Returns the call that is to be made now; `None`: none. One at a time.
    #[must_use]
    pub fn due(&self, now: SystemTime) -> Option<RotateRequest> {
        if self.not_before.is_some_and(|then| now < then && age(then, now) <= PAUSE) {
            return None;
        }
        let wants = self.offered > self.set && self.waiting.is_none();
        (wants || self.told != Some((self.set, self.proven))).then_some(RotateRequest {
            location_id: self.location,
            session_id: self.session,
            set: self.set,
            proven: self.proven,
        })
    }

    /// Takes core's answer to a call.
    ///
    /// A key that cannot be read, or is not the next one, is left alone: core offers it again.
    pub fn handle_answer(&mut self, said: &RotateRequest, next: Option<&NextKey>) {
        self.told = Some((said.set, said.proven));
        self.not_before = None;
        match next {
            None => self.offered = self.set,
            Some(next) if next.generation == self.set.saturating_add(1) => {
                if let Ok(psk) = PresharedKey::from_base64(next.preshared_key.expose_secret()) {
                    self.waiting = Some(Key { generation: next.generation, psk });
                }
            }
            Some(_) => {}
        }
    }

    /// A call had no answer. It is made again after a pause.
    pub fn handle_failure(&mut self, now: SystemTime) {
        self.not_before = Some(now + PAUSE);
    }

    /// Takes a look at the interface. Returns the key that is to be set now; `None`: it stays.
    /// [`handle_set`](Self::handle_set) is to follow.
    #[must_use]
    pub fn handle_link(&mut self, now: SystemTime, link: &Link) -> Option<PresharedKey> {
        let last = link.last_handshake?;
        if last > self.since {
            self.proven = self.proven.max(self.held.generation);
        }
        let passed = age(now, last);
        let is_good = passed < QUIET_BEFORE || passed > REJECT_AFTER_TIME;
        if is_good && let Some(next) = self.waiting.take() {
            self.set = next.generation;
            if mutant::on(Mutant::ProvenBySetting) {
                self.proven = self.set;
            }
            let before = core::mem::replace(&mut self.held, next);
            // Where keys take turns the older one may be in the interface; gateways have the newer.
            let other = self.other.take().filter(|_| !mutant::on(Mutant::ForgetsNewer));
            let both = [Some(before), other].into_iter().flatten();
            self.other = both.max_by_key(|key| key.generation);
            if mutant::on(Mutant::ClientForgets) {
                self.other = None;
            }
            return Some(self.held.psk.clone());
        }
        let tried = passed > OVERDUE && age(now, self.since) > TURN && link.tx_bytes > self.sent;
        if tried && let Some(other) = self.other.take() {
            self.other = Some(core::mem::replace(&mut self.held, other));
            return Some(self.held.psk.clone());
        }
        None
    }

    /// The interface has the key now.
    pub const fn handle_set(&mut self, now: SystemTime, link: &Link) {
        self.since = now;
        self.sent = link.tx_bytes;
    }

    /// Whether the client has the key of this generation: in the interface, or beside it.
    #[must_use]
    pub fn has(&self, generation: u32) -> bool {
        let keys = [Some(&self.held), self.other.as_ref()];
        keys.into_iter().flatten().any(|key| key.generation == generation)
    }

    /// Returns the generation in the interface.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.held.generation
    }
}

impl fmt::Debug for Rotate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rotate(generation {}, ..)", self.held.generation)
    }
}

#[cfg(test)]
mod tests;
