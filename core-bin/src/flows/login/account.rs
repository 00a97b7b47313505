//! What a person changes about the own account. Each change of a factor needs one that was proved a
//! moment ago, and is told to the address that was known before it.

use std::sync::Arc;

use mfa_core::method::Method;
use mfa_core::token::{Token, TokenDigest};
use mfa_store::User;
use mfa_wire::http::SecretText;
use zeroize::Zeroizing;

use super::password::tell;
use super::{Fresh, LoginError, SignedIn};
use crate::app::App;
use crate::flows::enroll::{self, EnrollSession};
use crate::flows::mfa::{self, Holder};
use crate::flows::user::{self, UserChange};
use crate::password::check_new;

/// Sets another password; other browsers are signed out.
///
/// # Errors
///
/// [`LoginError`].
pub async fn change_password(
    app: &Arc<App>,
    one: &SignedIn,
    new: SecretText,
) -> Result<(), LoginError> {
    let user = one.fresh()?.user();
    check_new(&new, &one.user.details.login)?;
    let hash = app.passwords.hash(new, &app.rng).await?;
    let (now, keep) = (app.clock.now(), one.session.id);
    app.store
        .write(move |tx| {
            let by = App::by_user(user, now);
            tx.set_password_hash(by, user, Some(&hash))?;
            tx.end_web_sessions(by, user, Some(keep))?;
            Ok::<_, LoginError>(())
        })
        .await?;
    let email = &one.user.details.email;
    tell(app, email, "The password of your account was changed.", now);
    Ok(())
}

/// Sets another e-mail address; the e-mail method has to be set up again.
///
/// # Errors
///
/// [`LoginError`].
pub async fn change_email(app: &Arc<App>, one: &SignedIn, new: &str) -> Result<(), LoginError> {
    let user = one.fresh()?.user();
    let now = app.clock.now();
    let (login, email) = (one.user.details.login.clone(), new.to_owned());
    let changed = app
        .store
        .write(move |tx| {
            let change = UserChange { email: Some(email.clone()), ..UserChange::default() };
            let by = App::by_user(user, now);
            Ok::<User, LoginError>(user::set(tx, by, &login, &change)?)
        })
        .await?;
    let old = &one.user.details.email;
    if *old != changed.details.email {
        app.registry.wake_all();
        tell(app, old, "The e-mail address of your account was changed.", now);
    }
    Ok(())
}

/// Takes a method away, but not the last one.
///
/// # Errors
///
/// [`LoginError`].
pub async fn remove_method(
    app: &Arc<App>,
    one: &SignedIn,
    method: Method,
) -> Result<(), LoginError> {
    let user = one.fresh()?.user();
    let (now, look, whole) = (app.clock.now(), Arc::clone(app), one.user.clone());
    app.store
        .write(move |tx| {
            let usable = look.usable(tx, &whole)?;
            if usable.without(method).is_empty() {
                return Err(LoginError::LastMethod);
            }
            tx.reset_method(App::by_user(user, now), user, method)?;
            Ok(())
        })
        .await?;
    app.registry.wake_all();
    let what = format!("The {} was removed from your account.", method.name());
    tell(app, &one.user.details.email, &what, now);
    Ok(())
}

/// Puts new recovery codes in the place of the old ones, and tells the user by mail.
///
/// # Errors
///
/// [`LoginError`].
pub async fn renew_codes(
    app: &Arc<App>,
    one: &SignedIn,
) -> Result<Vec<Zeroizing<String>>, LoginError> {
    let codes = mfa::renew_recovery(app, Holder::Web(one.fresh()?)).await?;
    let what = "New recovery codes were made for your account; the old ones are worth nothing.";
    tell(app, &one.user.details.email, what, app.clock.now());
    Ok(codes)
}

/// Signs every other browser of the user out. Returns how many.
///
/// # Errors
///
/// What the database reports.
pub async fn end_everywhere(app: &Arc<App>, one: &SignedIn) -> Result<usize, LoginError> {
    let (user, keep, now) = (one.user.id, one.session.id, app.clock.now());
    let by = App::by_user(user, now);
    Ok(app.store.write(move |tx| tx.end_web_sessions(by, user, Some(keep))).await?)
}

/// Begins an account by an enrollment's token: sets the password, and opens the enrollment's session
/// within which a factor is set up.
///
/// # Errors
///
/// [`LoginError`]; a password that is not taken does not use the token up.
pub async fn join(
    app: &Arc<App>,
    token: &str,
    password: SecretText,
) -> Result<(EnrollSession, Token), LoginError> {
    check_new(&password, "")?;
    let begun = enroll::start(app, token).await?;
    let hash = app.passwords.hash(password, &app.rng).await?;
    let (user, now) = (begun.user.id, app.clock.now());
    app.store
        .write(move |tx| {
            let by = App::by_user(user, now);
            tx.set_password_hash(by, user, Some(&hash))?;
            tx.end_web_sessions(by, user, None)?;
            Ok::<_, LoginError>(())
        })
        .await?;
    let text = begun.session.expose_text();
    let session = EnrollSession::parse(&text).ok_or(LoginError::Over)?;
    Ok((session, begun.session))
}

/// Issues an enrollment with which the user adds a device.
///
/// # Errors
///
/// [`LoginError`].
pub async fn add_device(
    app: &Arc<App>,
    fresh: Fresh,
    login: &str,
    token: TokenDigest,
) -> Result<mfa_core::time::Timestamp, LoginError> {
    let (now, login) = (app.clock.now(), login.to_owned());
    let by = App::by_user(fresh.user(), now);
    let valid = core::time::Duration::from_secs(3600);
    let issued = app.store.write(move |tx| user::enroll(tx, by, &login, token, valid)).await;
    Ok(issued?.1)
}
