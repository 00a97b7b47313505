//! A device extends its live session by a fresh factor, without touching the tunnel.
//!
//! The challenge is the one of a connect, and so are its two transactions; what a right code buys is
//! time for the session that is there. Its PSK stays, so that gateways have nothing to learn.

use std::sync::Arc;

use mfa_core::challenge::Attempt;
use mfa_core::connect::{RenewRefused, Session, SessionParts, SessionState};
use mfa_core::id::SessionId;
use mfa_core::time::Timestamp;
use mfa_core::token::{Token, TokenDigest};
use mfa_store::{Location, SessionInfo, Tx};
use mfa_wire::http::Code;
use wg_types::PublicKey;

use super::finish::{FinishError, count};
use super::login::{self, Proven};
use crate::app::{App, Caller};

/// Why a session was not extended.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// The code was not accepted.
    #[error(transparent)]
    Finish(#[from] FinishError),
    /// The session is over, or not this device's. The code was not used up.
    #[error("this session is over; connect again")]
    NoSession,
}

/// Extends the session `id` of the device that `caller` proved to be. Returns it with its location.
///
/// # Errors
///
/// [`RenewError`]; the session is then as it was.
pub async fn renew(
    app: &Arc<App>,
    token: &str,
    code: Code,
    id: SessionId,
    caller: Caller,
) -> Result<(SessionInfo, Location), RenewError> {
    let now = app.clock.now();
    let device = caller.proven.ok_or(RenewError::NoSession)?;
    let token = Token::parse(token).ok_or(FinishError::Unknown)?.digest();
    let work = Arc::clone(app);
    let counted = app.store.write(move |tx| count(&work, tx, token, &code, caller, now)).await?;
    let attempt = counted?;
    let work = Arc::clone(app);
    let renewed = app.store.write(move |tx| extend(&work, tx, &attempt, token, (id, device), now));
    renewed.await?
}

type Renewed = Result<(SessionInfo, Location), RenewError>;

/// The second transaction. Its inner result does not undo it; its outer one does.
fn extend(
    app: &App,
    tx: &mut Tx,
    attempt: &Attempt,
    token: TokenDigest,
    (id, device): (SessionId, PublicKey),
    now: Timestamp,
) -> Result<Renewed, RenewError> {
    let proven = login::prove(tx, app.terms(), attempt, token, now).map_err(FinishError::from)?;
    let Proven { by, location, verified } = match proven {
        Ok(proven) => proven,
        Err(refused) => return Ok(Err(FinishError::from(refused).into())),
    };
    let owner = tx.device(verified.subject().device).map_err(FinishError::from)?;
    let info = tx.session(id).map_err(FinishError::from)?;
    let psk = tx.session_psk(id).map_err(FinishError::from)?;
    let (Some(owner), Some(info), Some(psk)) = (owner, info, psk) else {
        return Err(RenewError::NoSession);
    };
    if owner.public_key != device {
        return Err(RenewError::NoSession);
    }
    let mut session = Session::from_parts(SessionParts {
        subject: info.subject,
        method: info.method,
        authorized: info.authorized,
        lifetime_ends: info.lifetime_ends,
        generation: info.generation,
        state: SessionState::Authorized { psk },
    });
    let renewed = session.renew(verified, &location.settings.policy, now);
    renewed.map_err(|_refused: RenewRefused| RenewError::NoSession)?;
    let ends = session.lifetime_ends();
    let live = tx.renew_session(by, id, session.method(), ends).map_err(FinishError::from)?;
    if !live {
        return Err(RenewError::NoSession);
    }
    let info = tx.session(id).map_err(FinishError::from)?.ok_or(RenewError::NoSession)?;
    Ok(Ok((info, location)))
}

impl From<mfa_store::StoreError> for RenewError {
    fn from(error: mfa_store::StoreError) -> Self {
        Self::Finish(error.into())
    }
}
