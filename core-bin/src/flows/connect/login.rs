//! The transactions of a login, whatever keeps the [`Records`].

use core::time::Duration;

use mfa_core::budget::{GuessRefused, Lane, MailRefused};
use mfa_core::challenge::{
    Access, Answer, Attempt, Challenge, Evidence, MAX_OPEN, NotAdmitted, NotOpen, Proof, Refused,
    Standing, Subject, TotpEvidence, TryRefused, Verified,
};
use mfa_core::connect::Session;
use mfa_core::factor::CodeKey;
use mfa_core::method::{Method, MethodSet};
use mfa_core::time::Timestamp;
use mfa_core::token::TokenDigest;
use mfa_store::{Actor, By, Device, Location, SessionInfo, StoreError, User};
use mutant::Mutant;
use serde_json::json;
use wg_types::PresharedKey;

use super::records::{Records, View};
use crate::mail;

/// What the installation brings to a login.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// Digests codes.
    pub codes: &'a CodeKey,
    /// Whether mail can be sent.
    pub mail: bool,
}

impl Terms<'_> {
    /// Says why a method is not offered here, or not to this user; `None`: it is.
    #[must_use]
    pub const fn unavailable(&self, method: Method, user: &User) -> Option<&'static str> {
        match method {
            Method::Email if !self.mail => Some(mail::NOT_SET_UP),
            Method::Email if user.details.email.is_empty() => {
                Some("the account has no e-mail address; an administrator can add one")
            }
            Method::Totp | Method::Email => None,
        }
    }

    /// Returns the methods that a user has set up and that can be used now.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn usable(&self, view: &mut impl View, user: &User) -> Result<MethodSet, StoreError> {
        let enabled = view.enabled_methods(user.id)?;
        Ok(enabled.iter().filter(|method| self.unavailable(*method, user).is_none()).collect())
    }
}

/// What the store says of a subject now.
#[derive(Clone, Debug)]
pub struct Standings {
    /// Whether it may use its location.
    pub access: Access,
    /// Its user.
    pub user: Option<User>,
    /// Its device, if it is that user's.
    pub device: Option<Device>,
    /// Its location.
    pub location: Option<Location>,
}

/// Reads anew whether a subject may use its location.
///
/// # Errors
///
/// What the database reports.
pub fn standings(view: &mut impl View, subject: Subject) -> Result<Standings, StoreError> {
    let user = view.user(subject.user)?;
    let device = view.device(subject.device)?.filter(|device| device.user == subject.user);
    let location = view.location(subject.location)?;
    let access = access(view, user.as_ref(), device.as_ref(), location.as_ref())?;
    Ok(Standings { access, user, device, location })
}

/// Says whether a user may use a location with one of the user's devices, all of them read from this
/// very `view`; `None`: there is no such one any more.
///
/// # Errors
///
/// What the database reports.
pub fn access(
    view: &mut impl View,
    user: Option<&User>,
    device: Option<&Device>,
    location: Option<&Location>,
) -> Result<Access, StoreError> {
    let Some(user) = user.filter(|user| user.active) else { return Ok(Access::UserDisabled) };
    if device.is_none() {
        return Ok(Access::DeviceRemoved);
    }
    let Some(location) = location else { return Ok(Access::NotPermitted) };
    let may = view.may_use(user.id, location.id)?;
    Ok(if may { Access::Granted } else { Access::NotPermitted })
}

/// Why a challenge was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The user has no guesses left.
    #[error(transparent)]
    Guess(#[from] GuessRefused),
    /// Too many mails to the user.
    #[error(transparent)]
    Mail(#[from] MailRefused),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Stores a new challenge, the last part of the transaction that starts it. Its oldest siblings make
/// room for it.
///
/// # Errors
///
/// [`OpenError`].
pub fn open(
    records: &mut impl Records,
    challenge: &Challenge,
    now: Timestamp,
) -> Result<(), OpenError> {
    let Subject { user, device, .. } = challenge.subject();
    let lane = challenge.lane();
    // Who has no guess left is told now, not after a code was typed.
    let mut guesses = records.guess_budget(challenge.guess_key())?;
    if mutant::on(Mutant::PerChallengeOnly) {
        guesses.clear();
        records.save_guess_budget(&guesses)?;
    }
    guesses.charge(now)?;
    if challenge.method() == Method::Email {
        let mut budget = records.mail_budget(user, lane)?;
        budget.charge(now)?;
        if !mutant::on(Mutant::EndlessMails) {
            records.save_mail_budget(user, &budget)?;
        }
    }
    let mut open = records.pending_challenges(device, lane)?;
    if mutant::on(Mutant::StrangerEvicts) && lane == Lane::Stranger {
        open.splice(0..0, records.pending_challenges(device, Lane::Proven)?);
    }
    let room = if mutant::on(Mutant::EndlessChallenges) { usize::MAX } else { MAX_OPEN };
    let excess = open.len().saturating_add(1).saturating_sub(room);
    for mut old in open.into_iter().take(excess) {
        old.expire();
        records.save_challenge(&old)?;
    }
    Ok(records.add_challenge(By::new(Actor::Device(device), now), challenge)?)
}

/// Why a login gives nothing.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// No such challenge.
    #[error("this login is unknown or has expired; start to connect again")]
    Unknown,
    /// Not even counted: the challenge is over, or the user has no guesses left.
    #[error(transparent)]
    Try(#[from] TryRefused),
    /// Counted, and it buys nothing.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Another request with the same token won.
    #[error("this login was completed by another request; start to connect again")]
    Spent,
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Counts a try: the first transaction of an answer. Its inner result must not undo it.
///
/// # Errors
///
/// What the database reports.
pub fn count(
    records: &mut impl Records,
    mut challenge: Challenge,
    answer: Answer,
    now: Timestamp,
) -> Result<Result<Attempt, LoginError>, StoreError> {
    let mut budget = records.guess_budget(challenge.guess_key())?;
    let attempt = challenge.count_try(answer, &mut budget, now);
    records.save_challenge(&challenge)?;
    if attempt.is_ok() {
        records.save_guess_budget(&budget)?;
    }
    Ok(attempt.map_err(LoginError::from))
}

/// What a right code bought.
#[derive(Debug)]
pub struct Bought {
    /// The session.
    pub session: SessionInfo,
    /// Its location's threshold of inactivity.
    pub idle_threshold: Duration,
    /// The location's revision that has its peer.
    pub revision: i64,
}

/// Looks at a counted answer, and begins a session if it is right: the second transaction. Its inner
/// result must not undo it, its outer one must.
///
/// # Errors
///
/// [`LoginError`].
pub fn verify(
    records: &mut impl Records,
    terms: Terms<'_>,
    attempt: &Attempt,
    token: TokenDigest,
    psk: &PresharedKey,
    now: Timestamp,
) -> Result<Result<Bought, LoginError>, LoginError> {
    let Proven { by, location, verified } = match prove(records, terms, attempt, token, now)? {
        Ok(proven) => proven,
        Err(refused) => return Ok(Err(refused)),
    };
    let policy = &location.settings.policy;
    let session = Session::authorize(verified, policy, psk.clone(), now);
    let id = records.begin_session(by, &session)?;
    let session = SessionInfo::begun(id, &session);
    let revision = records.revision(location.id)?.unwrap_or_default();
    Ok(Ok(Bought { session, idle_threshold: policy.idle().threshold(), revision }))
}

/// What a right code proves, before it buys anything.
#[derive(Debug)]
pub struct Proven {
    /// Who did it.
    pub by: By,
    /// Where to.
    pub location: Location,
    /// The proof, for one use.
    pub verified: Verified,
}

/// The part of the second transaction that is the same whatever the proof is for: looks at a counted
/// answer, and spends the challenge and the code. Its inner result must not undo the transaction, its
/// outer one must.
///
/// # Errors
///
/// [`LoginError`].
pub fn prove(
    records: &mut impl Records,
    terms: Terms<'_>,
    attempt: &Attempt,
    token: TokenDigest,
    now: Timestamp,
) -> Result<Result<Proven, LoginError>, LoginError> {
    let mut challenge = records.challenge(&token)?.ok_or(LoginError::Unknown)?;
    let subject = challenge.subject();
    let now_standing = standings(records, subject)?;
    let (Some(user), Some(device), Some(location)) =
        (now_standing.user, now_standing.device, now_standing.location)
    else {
        return Err(Refused::NotAdmitted(gone(now_standing.access)).into());
    };
    let by = By::new(Actor::Device(device.id), now);
    let totp = records.totp(user.id)?;
    // Read only to be compared with.
    let recovery =
        if attempt.is_recovery_code() { records.recovery_codes(user.id)? } else { Vec::new() };
    let evidence = Evidence {
        key: terms.codes,
        totp: totp
            .as_ref()
            .map(|totp| TotpEvidence { secret: &totp.secret, last_step: totp.last_step }),
        recovery: &recovery,
    };
    let policy = &location.settings.policy;
    let enabled = terms.usable(records, &user)?;
    let standing = Standing { access: now_standing.access, policy, enabled };

    let verified = match challenge.verify(attempt, &subject, &evidence, &standing, now) {
        Ok(verified) => verified,
        Err(Refused::NotOpen(NotOpen::Used)) => return Err(LoginError::Spent),
        Err(refused) => {
            records.save_challenge(&challenge)?;
            let detail = json!({
                "method": challenge.method().code(),
                "lane": challenge.lane().code(),
                "device": device.id.get(),
                "location": location.id.get(),
                "why": refused.to_string(),
            });
            records.audit(by, "challenge.refuse", format_args!("user:{}", user.id), &detail)?;
            return Ok(Err(refused.into()));
        }
    };
    // Each of these is a compare-and-set: who finds it done already has lost, and undoes the rest.
    if !records.save_challenge(&challenge)? {
        return Err(LoginError::Spent);
    }
    let unused = match verified.proof() {
        Proof::TotpStep(step) => records.use_totp_step(user.id, *step)?,
        Proof::RecoveryCode(code) => records.use_recovery_code(by, user.id, code)?,
        Proof::EmailCode => true,
    };
    if !unused {
        return Err(Refused::Replayed.into());
    }
    let mut budget = records.guess_budget(challenge.guess_key())?;
    budget.success(verified.charge());
    records.save_guess_budget(&budget)?;
    Ok(Ok(Proven { by, location, verified }))
}

const fn gone(access: Access) -> NotAdmitted {
    match access {
        Access::UserDisabled => NotAdmitted::UserDisabled,
        Access::DeviceRemoved => NotAdmitted::DeviceRemoved,
        Access::NotPermitted | Access::Granted => NotAdmitted::NotPermitted,
    }
}
