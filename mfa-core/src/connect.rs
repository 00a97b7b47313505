//! A session: what a proven challenge buys, and how it ends.

use core::fmt;

use mutant::Mutant;
use wg_types::PresharedKey;

use crate::challenge::{Subject, Verified};
use crate::method::Method;
use crate::policy::LocationPolicy;
use crate::rotate::PskGeneration;
use crate::time::Timestamp;

/// A session of one device in one location.
///
/// ```text
///                  first traffic            end(reason)
///   authorized ──────────────────▶ connected ──────────▶ ended(reason)
///        │                                                    ▲
///        └────────────────────── end(reason) ─────────────────┘
/// ```
///
/// It begins only with a [`Verified`], and its end is final: the first reason stays. While it
/// lives it owns the PSK, which is wiped when it ends.
///
/// ```
/// use mfa_core::connect::{EndReason, Session};
/// use mfa_core::{challenge::Verified, policy::LocationPolicy, time::Timestamp};
/// use wg_types::PresharedKey;
///
/// fn connect(verified: Verified, psk: PresharedKey, now: Timestamp) -> Session {
///     Session::authorize(verified, &LocationPolicy::recommended(), psk, now)
/// }
///
/// assert_eq!(EndReason::from_code("idle"), Some(EndReason::Idle));
/// ```
#[derive(Debug)]
pub struct Session {
    subject: Subject,
    method: Method,
    authorized: Timestamp,
    lifetime_ends: Timestamp,
    generation: PskGeneration,
    state: SessionState,
}

/// Where a [`Session`] stands.
#[derive(Debug)]
pub enum SessionState {
    /// The peer is on its way to the gateways, and nothing was heard of it yet.
    Authorized {
        /// The key of the current generation.
        psk: PresharedKey,
    },
    /// A gateway has heard the peer.
    Connected {
        /// The key of the current generation.
        psk: PresharedKey,
        /// Since when.
        since: Timestamp,
    },
    /// Over. The key is gone.
    Ended {
        /// Since when.
        at: Timestamp,
        /// Why.
        reason: EndReason,
    },
}

impl SessionState {
    /// Returns the word for the store: `authorized`, `connected` or `ended`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Authorized { .. } => "authorized",
            Self::Connected { .. } => "connected",
            Self::Ended { .. } => "ended",
        }
    }
}

/// A [`Session`] as it is stored.
#[derive(Debug)]
pub struct SessionParts {
    /// Whose, with what device, and where to.
    pub subject: Subject,
    /// How it was proved.
    pub method: Method,
    /// When it began.
    pub authorized: Timestamp,
    /// When it ends at the latest.
    pub lifetime_ends: Timestamp,
    /// Which PSK it has.
    pub generation: PskGeneration,
    /// Where it stands.
    pub state: SessionState,
}

impl Session {
    /// Begins a session, using up the proof.
    ///
    /// `policy` is the location's, `psk` 32 bytes of a cryptographically secure generator that were
    /// never used before.
    #[must_use]
    pub fn authorize(
        verified: Verified,
        policy: &LocationPolicy,
        psk: PresharedKey,
        now: Timestamp,
    ) -> Self {
        let (subject, method) = verified.spend();
        Self {
            subject,
            method,
            authorized: now,
            lifetime_ends: policy.session_ends(now),
            generation: PskGeneration::FIRST,
            state: SessionState::Authorized { psk },
        }
    }

    /// Restores a stored session.
    #[must_use]
    pub fn from_parts(parts: SessionParts) -> Self {
        let SessionParts { subject, method, authorized, lifetime_ends, generation, state } = parts;
        Self { subject, method, authorized, lifetime_ends, generation, state }
    }

    /// Returns what to store.
    #[must_use]
    pub fn into_parts(self) -> SessionParts {
        let Self { subject, method, authorized, lifetime_ends, generation, state } = self;
        SessionParts { subject, method, authorized, lifetime_ends, generation, state }
    }

    /// Returns whose it is, with what device, and where to.
    #[must_use]
    pub const fn subject(&self) -> Subject {
        self.subject
    }

    /// Returns how it was proved.
    #[must_use]
    pub const fn method(&self) -> Method {
        self.method
    }

    /// Returns when it began.
    #[must_use]
    pub const fn authorized(&self) -> Timestamp {
        self.authorized
    }

    /// Returns when it ends at the latest, whatever its traffic.
    #[must_use]
    pub const fn lifetime_ends(&self) -> Timestamp {
        self.lifetime_ends
    }

    /// Returns which PSK it has.
    #[must_use]
    pub const fn generation(&self) -> PskGeneration {
        self.generation
    }

    /// Returns where it stands.
    #[must_use]
    pub const fn state(&self) -> &SessionState {
        &self.state
    }

    /// Lends the PSK; `None` once the session has ended.
    #[must_use]
    pub const fn psk(&self) -> Option<&PresharedKey> {
        match &self.state {
            SessionState::Authorized { psk } | SessionState::Connected { psk, .. } => Some(psk),
            SessionState::Ended { .. } => None,
        }
    }

    /// Tells whether the session has not ended.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        self.psk().is_some()
    }

    /// A gateway has heard the peer. Only the first word counts, and none after the end.
    pub fn connect(&mut self, now: Timestamp) {
        self.state = match self.take_state() {
            SessionState::Authorized { psk } => SessionState::Connected { psk, since: now },
            state @ (SessionState::Connected { .. } | SessionState::Ended { .. }) => state,
        };
    }

    /// Extends the session by a fresh proof, as one that begins at `now`. The PSK stays, so that the
    /// tunnel does not notice.
    ///
    /// # Errors
    ///
    /// [`RenewRefused`]: the proof is used up all the same, and the session is as it was.
    pub fn renew(
        &mut self,
        verified: Verified,
        policy: &LocationPolicy,
        now: Timestamp,
    ) -> Result<(), RenewRefused> {
        let (subject, method) = verified.spend();
        if subject != self.subject {
            return Err(RenewRefused::Foreign);
        }
        if !self.is_live() || now >= self.lifetime_ends {
            return Err(RenewRefused::Ended);
        }
        self.method = method;
        let from = if mutant::on(Mutant::RenewalAdds) { self.lifetime_ends } else { now };
        self.lifetime_ends = policy.session_ends(from);
        Ok(())
    }

    /// Puts the PSK of a [promoted](crate::rotate::Rotation) generation in the place of the old one.
    ///
    /// # Errors
    ///
    /// [`RotateRefused`]: `psk` is wiped, and the session is as it was.
    pub fn rotate(
        &mut self,
        generation: PskGeneration,
        psk: PresharedKey,
    ) -> Result<(), RotateRefused> {
        if generation <= self.generation {
            return Err(RotateRefused::Stale { current: self.generation, given: generation });
        }
        let current = match &mut self.state {
            SessionState::Authorized { psk } | SessionState::Connected { psk, .. } => psk,
            SessionState::Ended { .. } => return Err(RotateRefused::Ended),
        };
        *current = psk;
        self.generation = generation;
        Ok(())
    }

    /// Ends the session and wipes its PSK.
    ///
    /// # Errors
    ///
    /// [`AlreadyEnded`]: the first reason stays.
    pub fn end(&mut self, reason: EndReason, now: Timestamp) -> Result<(), AlreadyEnded> {
        match self.state {
            SessionState::Ended { at, reason } => Err(AlreadyEnded { at, reason }),
            SessionState::Authorized { .. } | SessionState::Connected { .. } => {
                self.state = SessionState::Ended { at: now, reason };
                Ok(())
            }
        }
    }

    /// Ends the session if its lifetime is over; tells whether it was this call that did.
    pub fn handle_timeout(&mut self, now: Timestamp) -> bool {
        now >= self.lifetime_ends && self.end(EndReason::Lifetime, now).is_ok()
    }

    /// Takes the state out for the moment in which its successor is made.
    fn take_state(&mut self) -> SessionState {
        let gone =
            SessionState::Ended { at: Timestamp::UNIX_EPOCH, reason: EndReason::Administrator };
        core::mem::replace(&mut self.state, gone)
    }
}

/// A session that has ended cannot end again.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("this session has ended already: {reason}")]
pub struct AlreadyEnded {
    /// When it did.
    pub at: Timestamp,
    /// Why.
    pub reason: EndReason,
}

/// Why a session was not extended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RenewRefused {
    /// The session is over.
    #[error("the session has ended")]
    Ended,
    /// The proof is of another user, device or location.
    #[error("the proof is not for this session")]
    Foreign,
}

/// Why a PSK was not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RotateRefused {
    /// The session is over.
    #[error("the session has ended")]
    Ended,
    /// The session has this PSK or a newer one.
    #[error("generation {} is not newer than {}", given.get(), current.get())]
    Stale {
        /// The session's.
        current: PskGeneration,
        /// The refused one.
        given: PskGeneration,
    },
}

macro_rules! end_reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $sentence:literal;)+) => {
        /// Why a session ended.
        ///
        /// Displays as the [sentence](Self::sentence).
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum EndReason {
            $($(#[$doc])* $name,)+
        }

        impl EndReason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Returns the stable word for the store, the API and scripts.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// Returns what to tell the person: what happened, and what to do next.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)+ }
            }
        }
    };
}

end_reasons! {
    /// No sign of life for the location's threshold.
    Idle = "idle",
        "Disconnected because the tunnel was idle. Connect again to go on.";
    /// The location's lifetime is over.
    Lifetime = "lifetime",
        "Disconnected because the session reached its maximum duration. Connect again to go on.";
    /// The person disconnected.
    Disconnected = "disconnected",
        "Disconnected. Connect again when you need the tunnel.";
    /// An administrator's click.
    Administrator = "administrator",
        "Disconnected by an administrator. Connect again, or ask them why.";
    /// The account was disabled or removed.
    UserDisabled = "user_disabled",
        "Disconnected because the account was disabled. Ask an administrator.";
    /// The device was disabled, removed, or got another key.
    DeviceRemoved = "device_removed",
        "Disconnected because this device was removed. Enroll it again, or ask an administrator.";
    /// The user's groups do not give the location any more.
    AccessRemoved = "access_removed",
        "Disconnected because the account may not use this location any more. Ask an administrator.";
    /// The same device logged in again.
    Replaced = "replaced",
        "Ended because this device connected again.";
    /// The location's MFA settings changed.
    PolicyChanged = "policy_changed",
        "Disconnected because the location's settings changed. Update the instance, then connect \
         again.";
    /// The factor that bought the session was reset or removed.
    MethodReset = "method_reset",
        "Disconnected because the sign-in method was changed. Connect again with the new one.";
    /// The location was removed.
    LocationRemoved = "location_removed",
        "Disconnected because the location was removed. Update the instance.";
    /// No gateway spoke for the session for too long.
    LinkLost = "link_lost",
        "Disconnected because the gateway was out of reach. Connect again to go on.";
    /// The client did not take new keys for too long.
    RotationFailed = "rotation_failed",
        "Disconnected because the keys could not be renewed. Connect again to go on.";
}

impl EndReason {
    /// Reads a word of the store.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.code() == code)
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

#[cfg(test)]
mod tests;
