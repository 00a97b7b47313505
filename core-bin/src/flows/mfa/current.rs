//! A code of a factor that is there already allows a change.

use std::sync::Arc;

use mfa_core::budget::{Charge, GuessKey, Lane};
use mfa_core::challenge::Answer;
use mfa_core::factor::CodeDigest;
use mfa_core::factor::totp::TotpRefused;
use mfa_core::method::Method;
use mfa_core::time::Timestamp;
use mfa_core::token::TokenDigest;
use mfa_store::{Tx, User};
use mfa_wire::http::Code;
use serde_json::json;

use super::{Holder, MailedFor, MfaError, by};
use crate::app::App;
use crate::flows::code_digits;

/// A counted try.
#[derive(Clone, Copy, Debug)]
pub(in crate::flows) struct Counted {
    key: GuessKey,
    charge: Charge,
}

impl Counted {
    /// Gives the charge back, because the code was right.
    pub(in crate::flows) fn give_back(self, tx: &mut Tx) -> Result<(), MfaError> {
        let mut budget = tx.guess_budget(self.key)?;
        budget.success(self.charge);
        tx.save_guess_budget(&budget)?;
        Ok(())
    }
}

/// Counts a try of a code of `method`, and commits that.
pub(in crate::flows) async fn count(
    app: &Arc<App>,
    holder: Holder,
    method: Method,
    now: Timestamp,
) -> Result<Counted, MfaError> {
    app.store
        .write(move |tx| {
            let user = holder.user(tx, now)?;
            let key = GuessKey { user: user.id, method, lane: Lane::Proven };
            let mut budget = tx.guess_budget(key)?;
            let charge = budget.charge(now)?;
            tx.save_guess_budget(&budget)?;
            Ok(Counted { key, charge })
        })
        .await
}

/// Reads a code as it was typed.
///
/// # Errors
///
/// [`MfaError::Malformed`].
pub(in crate::flows) fn parse(method: Method, code: &Code) -> Result<Answer, MfaError> {
    Ok(Answer::parse(method, &code.expose_padded(code_digits(method)))?)
}

/// Looks at a code of a factor that is set up, and uses it up.
///
/// `mailed` is what a mailed code is bound to, and its digest, for a sign-in; `None`: the code that
/// was mailed to allow a change.
///
/// `Ok(Err(_))`: it is not right, which is written down and must be committed.
pub(in crate::flows) fn verify(
    app: &App,
    tx: &mut Tx,
    user: &User,
    (method, code): (Method, &Code),
    mailed: Option<(TokenDigest, CodeDigest)>,
    now: Timestamp,
) -> Result<Result<(), MfaError>, MfaError> {
    if !app.usable(tx, user)?.contains(method) {
        return Err(MfaError::CurrentNotSetUp { method: method.name() });
    }
    let by = by(user.id, now);
    let refused = match parse(method, code)? {
        Answer::Totp(code) => {
            let totp = tx.totp(user.id)?;
            let verdict = totp.map(|totp| totp.secret.verify(&code, now, totp.last_step));
            match verdict {
                Some(Ok(step)) if tx.use_totp_step(user.id, step)? => None,
                Some(Ok(_) | Err(TotpRefused::Replayed)) => Some(MfaError::Used),
                Some(Err(TotpRefused::Wrong)) | None => Some(MfaError::Wrong),
            }
        }
        Answer::Recovery(code) => {
            let digest = code.digest(&app.keys.codes, user.id);
            let spent = tx.use_recovery_code(by, user.id, &digest)?;
            (!spent).then_some(MfaError::Wrong)
        }
        Answer::Email(code) => {
            if let Some((bound, sent)) = mailed {
                // Used up with the sign-in that it finishes.
                if sent.same_as(&code.digest(&app.keys.codes, &bound)) {
                    return Ok(Ok(()));
                }
            }
            let bound = MailedFor::ChangeFactors.bind(user);
            let given = code.digest(&app.keys.codes, &bound);
            let right = tx
                .pending_email(user.id)?
                .is_some_and(|pending| now < pending.until && pending.code.same_as(&given));
            // The code is used up by the confirmation of an address that is confirmed already.
            let spent = right && tx.confirm_email(by, user.id)?;
            (!spent).then_some(MfaError::Wrong)
        }
    };
    let Some(refused) = refused else { return Ok(Ok(())) };
    let detail = json!({ "method": method.code(), "why": refused.to_string() });
    tx.audit(by, "mfa.refuse", format_args!("user:{}", user.id), &detail)?;
    Ok(Err(refused))
}
