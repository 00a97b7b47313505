//! A factor is about to be set up: a secret to scan, or a code to receive.

use std::sync::Arc;

use lettre::Address;
use mfa_core::budget::{GuessKey, Lane};
use mfa_core::factor::email_code::EmailCode;
use mfa_core::factor::totp::TotpSecret;
use mfa_core::method::Method;
use mfa_core::time::Timestamp;
use mfa_store::{PendingEmail, Tx, User};
use mfa_wire::http::Code;
use zeroize::Zeroizing;

use super::current::{self, Counted};
use super::{EMAIL_CODE_LIFE, Holder, MailedFor, MfaError, by};
use crate::app::App;
use crate::mail::{CodeMail, CodePurpose, MailError, Place};
use crate::text::masked;

/// What happens next.
#[derive(Debug)]
pub enum Staged {
    /// The user scans this secret and confirms it with a first code.
    Totp {
        /// For typing.
        base32: Zeroizing<String>,
        /// For the QR code.
        uri: Zeroizing<String>,
    },
    /// The user confirms the address with the code that was mailed to it.
    Email {
        /// The address, masked.
        sent_to: String,
    },
    /// Nothing yet: a code of the *current* factor was mailed, and has to come with the next try.
    CurrentCodeSent {
        /// The address, masked.
        sent_to: String,
    },
}

/// Begins to set up `method`. A device needs `current`: a factor that is set up, with its code
/// (`None` for e-mail: one is sent).
///
/// # Errors
///
/// [`MfaError`].
pub async fn start(
    app: &Arc<App>,
    holder: Holder,
    method: Method,
    current: Option<(Method, Option<Code>)>,
) -> Result<Staged, MfaError> {
    let now = app.clock.now();
    let look = Arc::clone(app);
    let (user, usable) = app
        .store
        .read(move |view| {
            let user = holder.user(view, now)?;
            let usable = look.usable(view, &user)?;
            Ok::<_, MfaError>((user, usable))
        })
        .await?;
    if let Some(reason) = app.unavailable(method, &user) {
        return Err(MfaError::Unavailable { method: method.name(), reason });
    }
    let current = match (holder, current) {
        (Holder::Enrollment(_) | Holder::Web(_), _) => None,
        (Holder::Device(_), None) if usable.is_empty() => {
            return Err(MfaError::EnrollmentRequired);
        }
        (Holder::Device(_), Some((current, _))) if !usable.contains(current) => {
            return Err(if usable.is_empty() {
                MfaError::EnrollmentRequired
            } else {
                MfaError::CurrentNotSetUp { method: current.name() }
            });
        }
        (Holder::Device(_), Some((Method::Email, None))) => {
            return send_current_code(app, holder, now).await;
        }
        (Holder::Device(_), None | Some((_, None))) => return Err(MfaError::CurrentRequired),
        (Holder::Device(_), Some((current, Some(code)))) => Some((current, code)),
    };
    let place = match method {
        Method::Email => Some(app.mailer.reserve()?),
        Method::Totp => None,
    };
    let counted = match &current {
        Some((current, _)) => Some(current::count(app, holder, *current, now).await?),
        None => None,
    };
    let secret = TotpSecret::from_bytes(*app.rng.bytes());
    let code = EmailCode::from_random(*app.rng.bytes());
    let (work, new, drawn) = (Arc::clone(app), secret.clone(), code.clone());
    let staged = app
        .store
        .write(move |tx| {
            let user = holder.user(tx, now)?;
            if let (Some((current, code)), Some(counted)) = (&current, counted) {
                if let Err(refused) =
                    current::verify(&work, tx, &user, (*current, code), None, now)?
                {
                    return Ok(Err(refused));
                }
                Counted::give_back(counted, tx)?;
            }
            unlock(tx, &user, method)?;
            match method {
                Method::Totp => tx.stage_totp(by(user.id, now), user.id, &new)?,
                Method::Email => stage_mail(&work, tx, &user, MailedFor::SetUp, &drawn, now)?,
            }
            Ok::<_, MfaError>(Ok(user))
        })
        .await?;
    let user = staged?;
    let Some(place) = place else {
        let uri = secret.expose_uri(&app.site.name, &user.details.login);
        return Ok(Staged::Totp { base32: secret.expose_base32(), uri });
    };
    let sent_to = send(app, place, &user, &CodePurpose::SetUp, &code, now)?;
    Ok(Staged::Email { sent_to })
}

/// Returns the secret that was shown and is not confirmed yet, to show it again.
///
/// # Errors
///
/// [`MfaError::NothingPending`] if there is none.
pub async fn pending_totp(app: &Arc<App>, holder: Holder) -> Result<Staged, MfaError> {
    let now = app.clock.now();
    let (user, secret) = app
        .store
        .read(move |view| {
            let user = holder.user(view, now)?;
            let secret = view.pending_totp(user.id)?.ok_or(MfaError::NothingPending)?;
            Ok::<_, MfaError>((user, secret))
        })
        .await?;
    let uri = secret.expose_uri(&app.site.name, &user.details.login);
    Ok(Staged::Totp { base32: secret.expose_base32(), uri })
}

/// Mails a code of the e-mail factor that is set up, to allow a change.
async fn send_current_code(
    app: &Arc<App>,
    holder: Holder,
    now: Timestamp,
) -> Result<Staged, MfaError> {
    let place = app.mailer.reserve()?;
    let code = EmailCode::from_random(*app.rng.bytes());
    let (work, drawn) = (Arc::clone(app), code.clone());
    let user = app
        .store
        .write(move |tx| {
            let user = holder.user(tx, now)?;
            stage_mail(&work, tx, &user, MailedFor::ChangeFactors, &drawn, now)?;
            Ok::<_, MfaError>(user)
        })
        .await?;
    let sent_to = send(app, place, &user, &CodePurpose::ChangeFactors, &code, now)?;
    Ok(Staged::CurrentCodeSent { sent_to })
}

fn stage_mail(
    app: &App,
    tx: &mut Tx,
    user: &User,
    purpose: MailedFor,
    code: &EmailCode,
    now: Timestamp,
) -> Result<(), MfaError> {
    let mut budget = tx.mail_budget(user.id, Lane::Proven)?;
    budget.charge(now)?;
    tx.save_mail_budget(user.id, &budget)?;
    let code = code.digest(&app.keys.codes, &purpose.bind(user));
    let pending = PendingEmail { code, until: now.saturating_add(EMAIL_CODE_LIFE) };
    tx.stage_email(by(user.id, now), user.id, &pending)?;
    Ok(())
}

/// Takes the lock of too many wrong codes from a method that is set up anew: its old secret is
/// about to go, and who got here had an administrator's word or another factor.
fn unlock(tx: &mut Tx, user: &User, method: Method) -> Result<(), MfaError> {
    let mut budget = tx.guess_budget(GuessKey { user: user.id, method, lane: Lane::Proven })?;
    if budget.is_locked() {
        budget.clear();
        tx.save_guess_budget(&budget)?;
    }
    Ok(())
}

/// Hands a code's mail over; returns its address, masked.
fn send(
    app: &App,
    place: Place,
    user: &User,
    purpose: &CodePurpose,
    code: &EmailCode,
    now: Timestamp,
) -> Result<String, MfaError> {
    let address: Address = user.details.email.parse().map_err(|_| MailError::ControlCharacter)?;
    let mail = CodeMail {
        instance: &app.site.name,
        purpose,
        device: None,
        asked: now,
        minutes: EMAIL_CODE_LIFE.as_secs() / 60,
        contact: &app.site.contact,
    };
    place.send(mail.write(address, &code.expose_text()));
    Ok(masked(&user.details.email))
}
