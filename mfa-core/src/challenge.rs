//! One request to prove a factor, and the only maker of [`Verified`].
//!
//! A code is looked at in two transactions. The first [counts the try](Challenge::count_try) against
//! the challenge and the user's guess budget and is committed, whatever comes after. The second reads
//! everything anew and [verifies](Challenge::verify); it takes the [`Attempt`] that the first one
//! gave and refuses it if its try is not in the challenge that was read, so a rolled-back count buys
//! no guess.

mod answer;
mod refused;
mod standing;

pub use answer::{Answer, Evidence, Proof, Question, TotpEvidence};
pub use refused::{NotOpen, Refused, TryRefused};
pub use standing::{Access, NotAdmitted, Standing, Subject};

use mutant::Mutant;

use crate::budget::{Charge, GuessBudget, GuessKey, Lane};
use crate::factor::totp::TotpRefused;
use crate::method::Method;
use crate::time::Timestamp;
use crate::token::TokenDigest;

/// Codes that one challenge looks at.
pub const MAX_TRIES: u8 = 5;

/// Challenges that one device may have open in one lane; another start expires the oldest.
pub const MAX_OPEN: usize = 3;

/// One request to prove a factor.
///
/// ```text
///             verify: right code
///   pending ──────────────────────▶ verified
///      │ ╲
///      │  ╲ fifth wrong code
///      │   ╲───────────────────────▶ exhausted
///      │ its time is over, or a newer one pushed it out
///      └───────────────────────────▶ expired
/// ```
///
/// Each end is final. It is found by the digest of its token, and holds only for its subject and
/// method.
///
/// ```
/// use mfa_core::budget::{GuessBudget, Lane};
/// use mfa_core::challenge::{
///     Access, Answer, Challenge, Evidence, Question, Standing, Subject, TotpEvidence,
/// };
/// use mfa_core::factor::{CodeKey, totp::TotpSecret};
/// use mfa_core::id::{DeviceId, LocationId, UserId};
/// use mfa_core::method::{Method, MethodSet};
/// use mfa_core::{policy::LocationPolicy, time::Timestamp, token::Token};
///
/// # let secret = TotpSecret::from_bytes([7; 20]);
/// # let key = CodeKey::from_bytes([8; 32]);
/// # let now = Timestamp::from_unix_millis(1_700_000_000_000);
/// # let typed = secret.code_at(now).expose_text();
/// let policy = LocationPolicy::recommended();
/// let subject =
///     Subject { user: UserId::new(1), device: DeviceId::new(2), location: LocationId::new(3) };
/// let standing = Standing { access: Access::Granted, policy: &policy, enabled: MethodSet::ALL };
/// let token = Token::from_random([9; 32]); // from a CSPRNG in earnest
///
/// let mut challenge =
///     Challenge::start(token.digest(), subject, Lane::Proven, Question::Totp, &standing, now)?;
/// let mut budget = GuessBudget::new(challenge.guess_key());
/// let answer = Answer::parse(Method::Totp, &typed)?;
/// let attempt = challenge.count_try(answer, &mut budget, now)?; // commit both, read again
///
/// let totp = Some(TotpEvidence { secret: &secret, last_step: None });
/// let evidence = Evidence { key: &key, totp, recovery: &[] };
/// let verified = challenge.verify(&attempt, &subject, &evidence, &standing, now)?;
/// assert_eq!(verified.subject(), subject);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Challenge {
    token: TokenDigest,
    subject: Subject,
    lane: Lane,
    question: Question,
    started: Timestamp,
    expires: Timestamp,
    tries: u8,
    state: ChallengeState,
}

/// Where a [`Challenge`] stands.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ChallengeState {
    /// Waits for a code.
    Pending,
    /// A right code came.
    Verified,
    /// [`MAX_TRIES`] codes were wrong.
    Exhausted,
    /// No right code came in time.
    Expired,
}

impl ChallengeState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Verified, Self::Exhausted, Self::Expired];

    /// Returns the word for the store.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Verified => "verified",
            Self::Exhausted => "exhausted",
            Self::Expired => "expired",
        }
    }

    /// Reads a word of the store.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }
}

/// A [`Challenge`] as it is stored.
#[derive(Clone, Copy, Debug)]
pub struct ChallengeParts {
    /// Finds it.
    pub token: TokenDigest,
    /// For whom it holds.
    pub subject: Subject,
    /// From which side it was started.
    pub lane: Lane,
    /// What is asked.
    pub question: Question,
    /// When it was started.
    pub started: Timestamp,
    /// When it is over.
    pub expires: Timestamp,
    /// Codes counted so far.
    pub tries: u8,
    /// Where it stands.
    pub state: ChallengeState,
}

impl Challenge {
    /// Starts a challenge.
    ///
    /// `token` is the digest of a fresh random [`Token`](crate::token::Token), whose text goes to
    /// the client.
    ///
    /// # Errors
    ///
    /// [`NotAdmitted`] if the subject may not use the location, or the method not be used there.
    pub fn start(
        token: TokenDigest,
        subject: Subject,
        lane: Lane,
        question: Question,
        standing: &Standing<'_>,
        now: Timestamp,
    ) -> Result<Self, NotAdmitted> {
        let method = question.method();
        standing.admit(method)?;
        Ok(Self {
            token,
            subject,
            lane,
            question,
            started: now,
            expires: now.saturating_add(method.challenge_ttl()),
            tries: 0,
            state: ChallengeState::Pending,
        })
    }

    /// Restores a stored challenge.
    #[must_use]
    pub const fn from_parts(parts: ChallengeParts) -> Self {
        let ChallengeParts { token, subject, lane, question, started, expires, tries, state } =
            parts;
        Self { token, subject, lane, question, started, expires, tries, state }
    }

    /// Returns what to store.
    #[must_use]
    pub const fn to_parts(&self) -> ChallengeParts {
        let Self { token, subject, lane, question, started, expires, tries, state } = *self;
        ChallengeParts { token, subject, lane, question, started, expires, tries, state }
    }

    /// Returns what finds the challenge.
    #[must_use]
    pub const fn token(&self) -> TokenDigest {
        self.token
    }

    /// Returns for whom it holds.
    #[must_use]
    pub const fn subject(&self) -> Subject {
        self.subject
    }

    /// Returns the method that is asked for.
    #[must_use]
    pub const fn method(&self) -> Method {
        self.question.method()
    }

    /// Returns from which side it was started.
    #[must_use]
    pub const fn lane(&self) -> Lane {
        self.lane
    }

    /// Returns when it is over.
    #[must_use]
    pub const fn expires(&self) -> Timestamp {
        self.expires
    }

    /// Returns where it stands, as far as it was told; time alone does not move it.
    #[must_use]
    pub const fn state(&self) -> ChallengeState {
        self.state
    }

    /// Returns how many more codes it looks at.
    #[must_use]
    pub const fn tries_left(&self) -> u8 {
        MAX_TRIES.saturating_sub(self.tries)
    }

    /// Returns whose guesses its tries are.
    #[must_use]
    pub fn guess_key(&self) -> GuessKey {
        let lane = if mutant::on(Mutant::SharedLane) { Lane::Stranger } else { self.lane };
        GuessKey { user: self.subject.user, method: self.question.method(), lane }
    }

    /// Ends a pending challenge before its time, because a newer one takes its place.
    pub const fn expire(&mut self) {
        match self.state {
            ChallengeState::Pending => self.state = ChallengeState::Expired,
            ChallengeState::Verified | ChallengeState::Exhausted | ChallengeState::Expired => {}
        }
    }

    /// Counts a try with `answer` against the challenge and the user's `budget`, without looking at
    /// the answer.
    ///
    /// Store both, whatever the result, and commit; then read again and
    /// [`verify`](Self::verify).
    ///
    /// # Errors
    ///
    /// [`TryRefused`]; nothing is counted then, though a challenge whose time is over becomes
    /// [expired](ChallengeState::Expired).
    pub fn count_try(
        &mut self,
        answer: Answer,
        budget: &mut GuessBudget,
        now: Timestamp,
    ) -> Result<Attempt, TryRefused> {
        self.check_open(now)?;
        if self.tries >= MAX_TRIES && !mutant::on(Mutant::EndlessTries) {
            self.state = ChallengeState::Exhausted;
            return Err(NotOpen::Exhausted.into());
        }
        if budget.key() != self.guess_key() {
            return Err(TryRefused::ForeignBudget);
        }
        let charge = budget.charge(now)?;
        self.tries = self.tries.saturating_add(1);
        Ok(Attempt { token: self.token, number: self.tries, answer, charge })
    }

    /// Looks at a counted answer: the one door to [`Verified`].
    ///
    /// `subject` is who the request says it is, `standing` and `evidence` are read in this very
    /// transaction; one that the database asks to repeat looks at the same answer again. On success
    /// the caller stores the challenge, marks the [`Proof`] as used by compare-and-set and gives the
    /// [charge](Verified::charge) back, all in that transaction; if one of these finds its row
    /// changed, it rolls back and there is no session.
    ///
    /// # Errors
    ///
    /// [`Refused`]; store the challenge then too, since its state may have changed.
    pub fn verify(
        &mut self,
        attempt: &Attempt,
        subject: &Subject,
        evidence: &Evidence<'_>,
        standing: &Standing<'_>,
        now: Timestamp,
    ) -> Result<Verified, Refused> {
        self.check_open(now)?;
        if attempt.token != self.token || attempt.number > self.tries {
            return Err(Refused::NotCounted);
        }
        if *subject != self.subject {
            return Err(Refused::ForeignSubject);
        }
        standing.admit(self.method())?;
        match self.look(&attempt.answer, evidence, now) {
            Ok(proof) => {
                self.state = ChallengeState::Verified;
                let (method, charge) = (self.method(), attempt.charge);
                Ok(Verified { subject: *subject, method, proof, at: now, charge })
            }
            Err(why) => {
                if self.tries >= MAX_TRIES && !mutant::on(Mutant::EndlessTries) {
                    self.state = ChallengeState::Exhausted;
                }
                Err(why)
            }
        }
    }

    fn look(
        &self,
        answer: &Answer,
        evidence: &Evidence<'_>,
        now: Timestamp,
    ) -> Result<Proof, Refused> {
        let wrong = Refused::Wrong { tries_left: self.tries_left() };
        match (&self.question, answer) {
            (Question::Totp, Answer::Totp(code)) => {
                let totp = evidence.totp.ok_or(wrong)?;
                match totp.secret.verify(code, now, totp.last_step) {
                    Ok(step) => Ok(Proof::TotpStep(step)),
                    Err(TotpRefused::Replayed) => Err(Refused::Replayed),
                    Err(TotpRefused::Wrong) => Err(wrong),
                }
            }
            (Question::Totp, Answer::Recovery(code)) => {
                let given = code.digest(evidence.key, self.subject.user);
                // Every digest is compared, so the time taken does not tell which one it was.
                let found = evidence.recovery.iter().fold(None, |found, stored| {
                    if stored.same_as(&given) { Some(*stored) } else { found }
                });
                found.map(Proof::RecoveryCode).ok_or(wrong)
            }
            (Question::Email(stored), Answer::Email(code)) => {
                let given = code.digest(evidence.key, &self.token);
                if stored.same_as(&given) { Ok(Proof::EmailCode) } else { Err(wrong) }
            }
            (Question::Totp, Answer::Email(_))
            | (Question::Email(_), Answer::Totp(_) | Answer::Recovery(_)) => Err(wrong),
        }
    }

    fn check_open(&mut self, now: Timestamp) -> Result<(), NotOpen> {
        match self.state {
            ChallengeState::Pending if now >= self.expires && !mutant::on(Mutant::NoExpiry) => {
                self.state = ChallengeState::Expired;
                Err(NotOpen::Expired)
            }
            ChallengeState::Pending => Ok(()),
            ChallengeState::Verified => Err(NotOpen::Used),
            ChallengeState::Exhausted => Err(NotOpen::Exhausted),
            ChallengeState::Expired => Err(NotOpen::Expired),
        }
    }
}

/// An answer whose try is counted: [`Challenge::verify`] looks at no other, and
/// [`count_try`](Challenge::count_try) alone makes one.
///
/// ```compile_fail,E0451
/// use mfa_core::challenge::{Answer, Attempt};
///
/// fn swap(counted: Attempt, answer: Answer) -> Attempt {
///     Attempt { answer, ..counted }
/// }
/// ```
#[derive(Debug)]
pub struct Attempt {
    token: TokenDigest,
    number: u8,
    answer: Answer,
    charge: Charge,
}

impl Attempt {
    /// Tells whether the answer is to be compared with the user's recovery codes.
    #[must_use]
    pub const fn is_recovery_code(&self) -> bool {
        matches!(self.answer, Answer::Recovery(_))
    }
}

/// A proven second factor: what [`Session::authorize`](crate::connect::Session::authorize) takes.
///
/// Nobody else can make one, and it is used up by the one session that it buys:
///
/// ```compile_fail,E0451
/// use mfa_core::challenge::Verified;
///
/// fn forge(real: Verified) -> Verified {
///     Verified { subject: real.subject(), ..real }
/// }
/// ```
#[derive(Debug)]
pub struct Verified {
    subject: Subject,
    method: Method,
    proof: Proof,
    at: Timestamp,
    charge: Charge,
}

impl Verified {
    /// Uses the proof up, for a session of this subject by this method.
    pub(crate) fn spend(self) -> (Subject, Method) {
        let Self { subject, method, .. } = self;
        (subject, method)
    }

    /// Returns who proved it, with what device, and where to.
    #[must_use]
    pub const fn subject(&self) -> Subject {
        self.subject
    }

    /// Returns how it was proved.
    #[must_use]
    pub const fn method(&self) -> Method {
        self.method
    }

    /// Returns what must now be marked as used.
    #[must_use]
    pub const fn proof(&self) -> &Proof {
        &self.proof
    }

    /// Returns when it was proved.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        self.at
    }

    /// Returns the receipt with which the budget takes the [guess back](GuessBudget::success).
    #[must_use]
    pub const fn charge(&self) -> Charge {
        self.charge
    }
}

#[cfg(test)]
mod tests;
