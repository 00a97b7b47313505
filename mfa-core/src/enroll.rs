//! An enrollment: a one-use token by which a person adds devices and sets up factors.

use core::time::Duration;

use crate::factor::totp::{TotpCode, TotpRefused, TotpSecret, TotpStep};
use crate::id::UserId;
use crate::time::Timestamp;
use crate::token::TokenDigest;

/// A person's permission to enroll.
///
/// ```text
///            redeem             confirm
///   issued ─────────▶ redeemed ─────────▶ confirmed
///      │                  │
///      └──── deadline ────┴──▶ expired
/// ```
///
/// The token is good once: who redeems it gets a session of its own (a cookie), and the token
/// means nothing from then on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Enrollment {
    user: UserId,
    token: TokenDigest,
    deadline: Timestamp,
    state: EnrollmentState,
}

/// Where an [`Enrollment`] stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EnrollmentState {
    /// The token waits for its owner.
    Issued,
    /// The owner is at work.
    Redeemed {
        /// Finds the session.
        session: TokenDigest,
    },
    /// Done.
    Confirmed {
        /// When.
        at: Timestamp,
    },
    /// Its deadline passed before it was done.
    Expired,
}

impl EnrollmentState {
    /// Returns the word for the store: `issued`, `redeemed`, `confirmed` or `expired`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Redeemed { .. } => "redeemed",
            Self::Confirmed { .. } => "confirmed",
            Self::Expired => "expired",
        }
    }
}

/// An [`Enrollment`] as it is stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EnrollmentParts {
    /// Whose.
    pub user: UserId,
    /// Finds it while it is issued.
    pub token: TokenDigest,
    /// When the current state is over.
    pub deadline: Timestamp,
    /// Where it stands.
    pub state: EnrollmentState,
}

impl Enrollment {
    /// How long a token waits: 24 h.
    pub const TOKEN_TTL: Duration = Duration::from_secs(24 * 3600);

    /// How long its owner may take, once redeemed: 30 min.
    pub const SESSION_TTL: Duration = Duration::from_secs(30 * 60);

    /// Issues an enrollment that waits for `ttl`.
    ///
    /// `token` is the digest of a fresh random [`Token`](crate::token::Token), whose text goes to
    /// the person.
    #[must_use]
    pub fn issue(user: UserId, token: TokenDigest, ttl: Duration, now: Timestamp) -> Self {
        Self { user, token, deadline: now.saturating_add(ttl), state: EnrollmentState::Issued }
    }

    /// Restores a stored enrollment.
    #[must_use]
    pub const fn from_parts(parts: EnrollmentParts) -> Self {
        let EnrollmentParts { user, token, deadline, state } = parts;
        Self { user, token, deadline, state }
    }

    /// Returns what to store.
    #[must_use]
    pub const fn to_parts(&self) -> EnrollmentParts {
        let Self { user, token, deadline, state } = *self;
        EnrollmentParts { user, token, deadline, state }
    }

    /// Returns whose it is.
    #[must_use]
    pub const fn user(&self) -> UserId {
        self.user
    }

    /// Returns when the current state is over; without meaning once it is confirmed.
    #[must_use]
    pub const fn deadline(&self) -> Timestamp {
        self.deadline
    }

    /// Returns where it stands, as far as it was told; time alone does not move it.
    #[must_use]
    pub const fn state(&self) -> EnrollmentState {
        self.state
    }

    /// Trades the token for a session, once. Its deadline is [`Self::SESSION_TTL`] from now.
    ///
    /// # Errors
    ///
    /// [`EnrollRefused::Used`] or [`EnrollRefused::Expired`].
    pub fn redeem(&mut self, session: TokenDigest, now: Timestamp) -> Result<(), EnrollRefused> {
        self.check_deadline(now)?;
        match self.state {
            EnrollmentState::Issued => {
                self.state = EnrollmentState::Redeemed { session };
                self.deadline = now.saturating_add(Self::SESSION_TTL);
                Ok(())
            }
            EnrollmentState::Redeemed { .. } | EnrollmentState::Confirmed { .. } => {
                Err(EnrollRefused::Used)
            }
            EnrollmentState::Expired => Err(EnrollRefused::Expired),
        }
    }

    /// Decides whether the session may go on: asked before each of its calls.
    ///
    /// # Errors
    ///
    /// [`EnrollRefused::NotRedeemed`] before the token was traded, [`EnrollRefused::Used`] once it
    /// is confirmed, [`EnrollRefused::Expired`] after the deadline.
    pub fn check_session(&mut self, now: Timestamp) -> Result<UserId, EnrollRefused> {
        self.check_deadline(now)?;
        match self.state {
            EnrollmentState::Redeemed { .. } => Ok(self.user),
            EnrollmentState::Issued => Err(EnrollRefused::NotRedeemed),
            EnrollmentState::Confirmed { .. } => Err(EnrollRefused::Used),
            EnrollmentState::Expired => Err(EnrollRefused::Expired),
        }
    }

    /// Ends the session, because everything is set up.
    ///
    /// # Errors
    ///
    /// As [`check_session`](Self::check_session).
    pub fn confirm(&mut self, now: Timestamp) -> Result<(), EnrollRefused> {
        self.check_session(now)?;
        self.state = EnrollmentState::Confirmed { at: now };
        Ok(())
    }

    fn check_deadline(&mut self, now: Timestamp) -> Result<(), EnrollRefused> {
        match self.state {
            EnrollmentState::Issued | EnrollmentState::Redeemed { .. } if now >= self.deadline => {
                self.state = EnrollmentState::Expired;
                Err(EnrollRefused::Expired)
            }
            EnrollmentState::Issued
            | EnrollmentState::Redeemed { .. }
            | EnrollmentState::Confirmed { .. }
            | EnrollmentState::Expired => Ok(()),
        }
    }
}

/// Confirms that an authenticator app has `secret`, by its first code.
///
/// The step returned is the user's last accepted step from now on: the confirming code is used up
/// too.
///
/// # Errors
///
/// [`TotpRefused::Wrong`] if the code is not of this time.
pub fn confirm_totp(
    secret: &TotpSecret,
    code: &TotpCode,
    now: Timestamp,
) -> Result<TotpStep, TotpRefused> {
    secret.verify(code, now, None)
}

/// Why an enrollment does not go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EnrollRefused {
    /// The token was used before.
    #[error("this enrollment token was used already; ask an administrator for a new one")]
    Used,
    /// The deadline passed.
    #[error("this enrollment has expired; ask an administrator for a new token")]
    Expired,
    /// The token has to be traded first.
    #[error("this enrollment has not begun; open its link first")]
    NotRedeemed,
}
