//! A device answers its challenge.
//!
//! Two transactions, after what is not vouched for was slowed down and looked at. The first counts the try
//! and is committed whatever comes after, so neither a crash nor a rolled-back second one gives a guess
//! back. The second reads everything anew and makes the session in one piece. Then the gateways are woken
//! and waited for, but not for ever.

use core::time::Duration;
use std::sync::Arc;

use mfa_core::budget::{GuessRefused, Lane};
use mfa_core::challenge::{Answer, Attempt, Refused, TryRefused};
use mfa_core::factor::MalformedCode;
use mfa_core::time::Timestamp;
use mfa_core::token::{Token, TokenDigest};
use mfa_store::{SessionInfo, Snapshot, StoreError, Tx};
use mfa_wire::http::Code;
use wg_types::PresharedKey;

use super::login::{self, Bought, LoginError};
use crate::app::{App, Caller};
use crate::flows::code_digits;
use crate::http::throttle::Throttled;
use crate::link::Applied;

/// How long the answer waits for gateways. Clients give a request five seconds.
const WAIT: Duration = Duration::from_secs(4);

/// A session.
#[derive(Debug)]
pub struct Finished {
    /// Its PSK, for this one answer.
    pub psk: PresharedKey,
    /// The session.
    pub session: SessionInfo,
    /// The location's threshold of inactivity.
    pub idle_threshold: Duration,
    /// How far the gateways are.
    pub applied: Applied,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    /// No such challenge.
    #[error("this login is unknown or has expired; start to connect again")]
    Unknown,
    /// The text cannot be a code of the method; nothing was counted.
    #[error(transparent)]
    Malformed(#[from] MalformedCode),
    /// Not even counted: the challenge is over, or the user has no guesses left.
    #[error(transparent)]
    Try(#[from] TryRefused),
    /// Counted, and it buys nothing.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Another request with the same token won.
    #[error("this login was completed by another request; start to connect again")]
    Spent,
    /// Too many requests of strangers from one source.
    #[error("too many requests; try again in a moment")]
    Throttled {
        /// For how long to wait.
        retry_after: Duration,
    },
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl FinishError {
    /// Returns for how long to wait before another try, if waiting helps.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after }
            | Self::Try(TryRefused::Guess(GuessRefused::Exhausted { retry_after })) => {
                Some(*retry_after)
            }
            _ => None,
        }
    }
}

/// Answers the challenge `token` with `code`; a right one buys a session.
///
/// # Errors
///
/// [`FinishError`].
pub async fn finish(
    app: &Arc<App>,
    token: &str,
    code: Code,
    caller: Caller,
) -> Result<Finished, FinishError> {
    let now = app.clock.now();
    let token = admit(app, token, &code, caller, now).await?;
    let counted = app.store.write(move |tx| count(tx, token, &code, now)).await?;
    let attempt = counted?;

    let psk = PresharedKey::from_bytes(*app.rng.bytes());
    let (work, key) = (Arc::clone(app), psk.clone());
    let bought =
        app.store.write(move |tx| login::verify(tx, work.terms(), &attempt, token, &key, now));
    let bought = bought.await??;

    // Committed: from here on nothing can fail any more.
    let location = bought.session.subject.location;
    app.registry.wake(location);
    let applied = app.registry.wait_applied(location, bought.revision, WAIT).await;
    if !applied.is_complete() {
        tracing::warn!(%location, ?applied, "answered before every gateway had the peer");
    }
    let Bought { session, idle_threshold, .. } = bought;
    Ok(Finished { psk, session, idle_threshold, applied })
}

/// Lets an answer into the queue of the writer, in which right codes wait for their commit.
///
/// One with the token of a device that had proved itself goes on. Whatever else comes from an address is
/// slowed down first, before the database hears of it; a flood of wrong codes ends here. Then a look
/// that costs no write turns away most of those who cannot succeed.
pub(super) async fn admit(
    app: &Arc<App>,
    token: &str,
    code: &Code,
    caller: Caller,
    now: Timestamp,
) -> Result<TokenDigest, FinishError> {
    let token = Token::parse(token);
    let lane = token.as_ref().and_then(|token| app.keys.challenges.lane(token));
    if lane != Some(Lane::Proven) {
        let limit = app.limits.strangers.charge(caller.source.into(), now);
        limit.map_err(|Throttled { retry_after }| FinishError::Throttled { retry_after })?;
    }
    let digest = token.ok_or(FinishError::Unknown)?.digest();
    if lane != Some(Lane::Proven) {
        let asked = code.clone();
        app.store.read(move |view| foresee(view, digest, &asked, now)).await?;
    }
    Ok(digest)
}

/// Refuses what would not even be counted. It spends nothing and decides nothing else: what it saw
/// may have changed when the try is counted.
fn foresee(
    view: &mut Snapshot,
    token: TokenDigest,
    code: &Code,
    now: Timestamp,
) -> Result<(), FinishError> {
    let mut challenge = view.challenge(&token)?.ok_or(FinishError::Unknown)?;
    let method = challenge.method();
    let answer = Answer::parse(method, &code.expose_padded(code_digits(method)))?;
    let mut budget = view.guess_budget(challenge.guess_key())?;
    challenge.count_try(answer, &mut budget, now)?;
    Ok(())
}

/// The first transaction. Its inner result does not undo it.
pub(super) fn count(
    tx: &mut Tx,
    token: TokenDigest,
    code: &Code,
    now: Timestamp,
) -> Result<Result<Attempt, FinishError>, FinishError> {
    let challenge = tx.challenge(&token)?.ok_or(FinishError::Unknown)?;
    let method = challenge.method();
    let answer = Answer::parse(method, &code.expose_padded(code_digits(method)))?;
    Ok(login::count(tx, challenge, answer, now)?.map_err(FinishError::from))
}

impl From<LoginError> for FinishError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Unknown => Self::Unknown,
            LoginError::Try(refused) => Self::Try(refused),
            LoginError::Refused(refused) => Self::Refused(refused),
            LoginError::Spent => Self::Spent,
            LoginError::Store(error) => Self::Store(error),
        }
    }
}
