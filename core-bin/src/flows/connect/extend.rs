//! The second transaction of a renewal, whatever keeps the [`Records`].

use mfa_core::challenge::Attempt;
use mfa_core::connect::{RenewRefused, Session, SessionParts, SessionState};
use mfa_core::id::SessionId;
use mfa_core::time::Timestamp;
use mfa_core::token::TokenDigest;
use mfa_store::{Location, SessionInfo, StoreError};
use mutant::Mutant;
use wg_types::PublicKey;

use super::login::{self, LoginError, Proven, Terms};
use super::records::Records;

/// Why a session is not extended.
#[derive(Debug, thiserror::Error)]
pub enum ExtendError {
    /// The code was not accepted.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// The session is over, or not this device's.
    #[error("this session is over; connect again")]
    NoSession,
}

impl From<StoreError> for ExtendError {
    fn from(error: StoreError) -> Self {
        Self::Login(error.into())
    }
}

/// Which session is to be extended.
#[derive(Clone, Copy, Debug)]
pub struct Whose {
    /// The session.
    pub session: SessionId,
    /// The device that proved to be itself.
    pub device: PublicKey,
}

/// Looks at a counted answer, and gives a live session more time if it is right. Its inner result
/// must not undo the transaction, its outer one must.
///
/// # Errors
///
/// [`ExtendError`].
pub fn extend(
    records: &mut impl Records,
    terms: Terms<'_>,
    attempt: &Attempt,
    token: TokenDigest,
    whose: Whose,
    now: Timestamp,
) -> Result<Result<(SessionInfo, Location), LoginError>, ExtendError> {
    let Proven { by, location, verified } = match login::prove(records, terms, attempt, token, now)?
    {
        Ok(proven) => proven,
        Err(refused) => return Ok(Err(refused)),
    };
    let id = whose.session;
    let owner = records.device(verified.subject().device)?;
    let info = records.session(id)?;
    let psk = records.session_psk(id)?;
    let (Some(owner), Some(info), Some(psk)) = (owner, info, psk) else {
        return Err(ExtendError::NoSession);
    };
    if owner.public_key != whose.device {
        return Err(ExtendError::NoSession);
    }
    let foreign = mutant::on(Mutant::ForeignRenewal);
    let mut session = Session::from_parts(SessionParts {
        subject: if foreign { verified.subject() } else { info.subject },
        method: info.method,
        authorized: info.authorized,
        lifetime_ends: info.lifetime_ends,
        generation: info.generation,
        state: SessionState::Authorized { psk },
    });
    let renewed = session.renew(verified, &location.settings.policy, now);
    renewed.map_err(|_refused: RenewRefused| ExtendError::NoSession)?;
    if !records.renew_session(by, id, session.method(), session.lifetime_ends())? {
        return Err(ExtendError::NoSession);
    }
    let info = records.session(id)?.ok_or(ExtendError::NoSession)?;
    Ok(Ok((info, location)))
}
