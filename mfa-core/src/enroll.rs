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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_waits_for_a_day() {
        assert_eq!(issued().deadline(), at(86_400));
    }

    #[test]
    fn a_token_is_redeemed_once() {
        let mut enrollment = issued();
        assert_eq!(enrollment.redeem(SESSION, at(10)), Ok(()));
        assert_eq!(enrollment.state(), EnrollmentState::Redeemed { session: SESSION });
        assert_eq!(enrollment.deadline(), at(10 + 30 * 60));

        let other = TokenDigest::from_bytes([3; 32]);
        assert_eq!(enrollment.redeem(other, at(11)), Err(EnrollRefused::Used));
        assert_eq!(enrollment.state(), EnrollmentState::Redeemed { session: SESSION });
    }

    #[test]
    fn a_session_works_until_its_deadline_or_its_end() {
        let mut enrollment = issued();
        assert_eq!(enrollment.check_session(at(0)), Err(EnrollRefused::NotRedeemed));
        enrollment.redeem(SESSION, at(10)).unwrap();
        let last = enrollment.deadline().saturating_sub(Duration::from_millis(1));
        assert_eq!(enrollment.check_session(last), Ok(UserId::new(1)));
        assert_eq!(enrollment.confirm(last), Ok(()));
        assert_eq!(enrollment.state(), EnrollmentState::Confirmed { at: last });
        assert_eq!(enrollment.check_session(at(1_000_000)), Err(EnrollRefused::Used));
    }

    /// Every state with every call, before and at the deadline.
    #[test]
    fn the_transition_table_is_complete() {
        use EnrollRefused::{Expired as TooLate, NotRedeemed, Used};
        use EnrollmentState::{Confirmed, Expired, Issued, Redeemed};

        let redeemed = Redeemed { session: SESSION };
        let confirmed = Confirmed { at: at(50) };
        let table = [
            // state, at the deadline; redeem → state, says; confirm → state, says
            (Issued, false, (redeemed, Ok(())), (Issued, Err(NotRedeemed))),
            (Issued, true, (Expired, Err(TooLate)), (Expired, Err(TooLate))),
            (redeemed, false, (redeemed, Err(Used)), (confirmed, Ok(()))),
            (redeemed, true, (Expired, Err(TooLate)), (Expired, Err(TooLate))),
            (confirmed, false, (confirmed, Err(Used)), (confirmed, Err(Used))),
            (confirmed, true, (confirmed, Err(Used)), (confirmed, Err(Used))),
            (Expired, false, (Expired, Err(TooLate)), (Expired, Err(TooLate))),
            (Expired, true, (Expired, Err(TooLate)), (Expired, Err(TooLate))),
        ];
        for (state, late, redeem, confirm) in table {
            let before = Enrollment::from_parts(EnrollmentParts { state, ..issued().to_parts() });
            let now = if late { before.deadline() } else { at(50) };

            let mut enrollment = before.clone();
            let said = enrollment.redeem(SESSION, now);
            assert_eq!((enrollment.state(), said), redeem, "redeem {state:?} {late}");

            let mut enrollment = before.clone();
            let said = enrollment.confirm(now);
            assert_eq!((enrollment.state(), said), confirm, "confirm {state:?} {late}");
        }
    }

    #[test]
    fn the_confirming_code_is_used_up() {
        let secret = TotpSecret::from_bytes([7; 20]);
        let code = secret.code_at(at(0));
        let step = confirm_totp(&secret, &code, at(0)).unwrap();
        assert_eq!(step, TotpStep::at(at(0)));
        assert_eq!(secret.verify(&code, at(0), Some(step)), Err(TotpRefused::Replayed));

        let wrong = TotpSecret::from_bytes([8; 20]).code_at(at(0));
        assert_eq!(confirm_totp(&secret, &wrong, at(0)), Err(TotpRefused::Wrong));
    }

    #[test]
    fn a_stored_enrollment_is_the_same_enrollment() {
        let mut enrollment = issued();
        enrollment.redeem(SESSION, at(5)).unwrap();
        assert_eq!(Enrollment::from_parts(enrollment.to_parts()), enrollment);
        assert_eq!(enrollment.user(), UserId::new(1));
    }

    #[test]
    fn states_have_words_of_their_own() {
        let states = [
            EnrollmentState::Issued,
            EnrollmentState::Redeemed { session: SESSION },
            EnrollmentState::Confirmed { at: at(0) },
            EnrollmentState::Expired,
        ];
        let words = states.map(|state| state.code());
        assert_eq!(words, ["issued", "redeemed", "confirmed", "expired"]);
    }

    const SESSION: TokenDigest = TokenDigest::from_bytes([2; 32]);

    fn issued() -> Enrollment {
        let token = TokenDigest::from_bytes([1; 32]);
        Enrollment::issue(UserId::new(1), token, Enrollment::TOKEN_TTL, at(0))
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_unix_millis(1_700_000_000_000 + secs * 1000)
    }
}
