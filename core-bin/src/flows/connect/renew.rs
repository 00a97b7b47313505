//! A device extends its live session by a fresh factor, without touching the tunnel.
//!
//! The challenge is the one of a connect, and so are its two transactions; what a right code buys is
//! time for the session that is there. Its PSK stays, so that gateways have nothing to learn.

use std::sync::Arc;

use mfa_core::id::SessionId;
use mfa_store::{Location, SessionInfo};
use mfa_wire::http::Code;

use super::extend::{self, ExtendError, Whose};
use super::finish::{FinishError, admit, count};
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
    let token = admit(app, token, &code, caller, now).await?;
    let counted = app.store.write(move |tx| count(tx, token, &code, now)).await?;
    let attempt = counted?;
    let work = Arc::clone(app);
    let whose = Whose { session: id, device };
    let renewed = app.store.write(move |tx| {
        let renewed = extend::extend(tx, work.terms(), &attempt, token, whose, now)?;
        Ok::<_, RenewError>(renewed.map_err(|refused| FinishError::from(refused).into()))
    });
    renewed.await?
}

impl From<ExtendError> for RenewError {
    fn from(error: ExtendError) -> Self {
        match error {
            ExtendError::Login(error) => Self::Finish(error.into()),
            ExtendError::NoSession => Self::NoSession,
        }
    }
}

impl From<mfa_store::StoreError> for RenewError {
    fn from(error: mfa_store::StoreError) -> Self {
        Self::Finish(error.into())
    }
}
