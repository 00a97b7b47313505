//! A first code confirms a factor.

use std::sync::Arc;

use mfa_core::enroll::confirm_totp;
use mfa_core::factor::email_code::EmailCode;
use mfa_core::factor::recovery::RecoveryCode;
use mfa_core::factor::totp::TotpCode;
use mfa_core::method::Method;
use mfa_core::time::Timestamp;
use mfa_store::{Tx, User};
use mfa_wire::http::Code;
use serde_json::json;
use zeroize::Zeroizing;

use super::{Holder, MailedFor, MfaError, by, current};
use crate::app::App;
use crate::flows::code_digits;
use crate::mail;

/// Bytes of which a sheet of recovery codes is made.
pub(super) type SheetBytes = Zeroizing<[u8; 100]>;

/// Confirms `method` with its first code. Returns a new sheet of recovery codes for TOTP, and none
/// for e-mail, whose user can ask for another code.
///
/// # Errors
///
/// [`MfaError`].
pub async fn finish(
    app: &Arc<App>,
    holder: Holder,
    method: Method,
    code: Code,
) -> Result<Vec<Zeroizing<String>>, MfaError> {
    let now = app.clock.now();
    // A text that cannot be a code is not counted.
    let text = code.expose_padded(code_digits(method));
    let given = match method {
        Method::Totp => Given::Totp(TotpCode::parse(&text)?),
        Method::Email => Given::Email(EmailCode::parse(&text)?),
    };
    let counted = current::count(app, holder, method, now).await?;
    let random: SheetBytes = app.rng.bytes();
    let work = Arc::clone(app);
    let confirmed = app
        .store
        .write(move |tx| {
            let user = holder.user(tx, now)?;
            if let Err(refused) = confirm(&work, tx, &user, &given, now)? {
                let detail = json!({ "method": method.code(), "why": refused.to_string() });
                let subject = format!("user:{}", user.id);
                tx.audit(by(user.id, now), "mfa.refuse", subject, &detail)?;
                return Ok(Err(refused));
            }
            counted.give_back(tx)?;
            let sheet = match method {
                Method::Totp => new_sheet(&work, tx, &user, &random, now)?,
                Method::Email => Vec::new(),
            };
            Ok::<_, MfaError>(Ok((user, sheet)))
        })
        .await?;
    let (user, sheet) = confirmed?;
    app.registry.wake_all();
    notify(app, &user, method, now);
    Ok(sheet)
}

enum Given {
    Totp(TotpCode),
    Email(EmailCode),
}

fn confirm(
    app: &App,
    tx: &mut Tx,
    user: &User,
    given: &Given,
    now: Timestamp,
) -> Result<Result<(), MfaError>, MfaError> {
    match given {
        Given::Totp(code) => {
            let secret = tx.pending_totp(user.id)?.ok_or(MfaError::NothingPending)?;
            let Ok(step) = confirm_totp(&secret, code, now) else {
                return Ok(Err(MfaError::Wrong));
            };
            let confirmed = tx.confirm_totp(by(user.id, now), user.id, step)?;
            Ok(if confirmed { Ok(()) } else { Err(MfaError::Used) })
        }
        Given::Email(code) => {
            let pending = tx.pending_email(user.id)?.ok_or(MfaError::NothingPending)?;
            if now >= pending.until {
                return Err(MfaError::NothingPending);
            }
            let digest = code.digest(&app.keys.codes, &MailedFor::SetUp.bind(user));
            if !pending.code.same_as(&digest) {
                return Ok(Err(MfaError::Wrong));
            }
            let confirmed = tx.confirm_email(by(user.id, now), user.id)?;
            Ok(if confirmed { Ok(()) } else { Err(MfaError::Used) })
        }
    }
}

pub(super) fn new_sheet(
    app: &App,
    tx: &mut Tx,
    user: &User,
    random: &SheetBytes,
    now: Timestamp,
) -> Result<Vec<Zeroizing<String>>, MfaError> {
    let sheet = RecoveryCode::sheet(random);
    let digests = sheet.each_ref().map(|code| code.digest(&app.keys.codes, user.id));
    tx.replace_recovery_codes(by(user.id, now), user.id, &digests)?;
    Ok(sheet.iter().map(RecoveryCode::expose_text).collect())
}

/// Tells the user by mail, if mail can be sent; the change stands in any case.
fn notify(app: &App, user: &User, method: Method, now: Timestamp) {
    let Ok(address) = user.details.email.parse() else { return };
    let Ok(place) = app.mailer.reserve() else { return };
    let what = format!("The {} was set up for your account.", method.name());
    place.send(mail::notice(address, &app.site.name, &what, now, &app.site.contact));
}
