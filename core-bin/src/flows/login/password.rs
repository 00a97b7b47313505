//! A password opens a sign-in; a mailed link sets a new one.

use core::time::Duration;
use std::net::IpAddr;
use std::sync::Arc;

use mfa_core::budget::Lane;
use mfa_core::time::Timestamp;
use mfa_core::token::Token;
use mfa_store::{StoreError, User, WebSession, WebStage};
use mfa_wire::http::SecretText;

use super::{LoginError, PASSWORD_LIFE};
use crate::app::App;
use crate::http::throttle::Source;
use crate::mail;
use crate::password::check_new;

/// How long a link to reset a password is good.
const RESET_LIFE: Duration = Duration::from_secs(30 * 60);

/// Looks at a login and a password. Returns the token with which a factor can be proved.
///
/// # Errors
///
/// [`LoginError`]; an unknown login takes as long and says the same as a wrong password.
pub async fn password(
    app: &Arc<App>,
    login: &str,
    given: SecretText,
    source: IpAddr,
) -> Result<Token, LoginError> {
    let now = app.clock.now();
    app.limits.strangers.charge(source.into(), now)?;
    app.limits.passwords.charge(Source::from(source).with(&login.trim().to_lowercase()), now)?;
    let asked = login.to_owned();
    let found = app
        .store
        .read(move |view| {
            let Some(user) = view.user_by_login(&asked)?.filter(|user| user.active) else {
                return Ok::<_, LoginError>(None);
            };
            let hash = view.password_hash(user.id)?;
            Ok(Some((user, hash)))
        })
        .await?;
    let (user, hash) = found.map_or((None, None), |(user, hash)| (Some(user), hash));
    let right = app.passwords.verify(given, hash).await?;
    let Some(user) = user.filter(|_| right) else {
        tracing::info!(%source, "a sign-in was refused: login or password");
        return Err(LoginError::Wrong);
    };
    let token = Token::from_random(*app.rng.bytes());
    let (digest, look) = (token.digest(), Arc::clone(app));
    app.store
        .write(move |tx| {
            if look.usable(tx, &user)?.is_empty() {
                return Err(LoginError::NoFactor);
            }
            let by = App::by_user(user.id, now);
            tx.add_web_session(by, &digest, &begun(&user, WebStage::Password, now, PASSWORD_LIFE))?;
            Ok(())
        })
        .await?;
    Ok(token)
}

/// Mails a link to reset a password, if there is such an account; nobody is told whether.
///
/// # Errors
///
/// [`LoginError::Throttled`].
pub fn forgot(app: &Arc<App>, who: &str, source: IpAddr) -> Result<(), LoginError> {
    app.limits.strangers.charge(source.into(), app.clock.now())?;
    // The answer does not wait, so its time tells nothing.
    let (app, who) = (Arc::clone(app), who.trim().to_owned());
    tokio::spawn(async move {
        if let Err(error) = send_link(&app, who).await {
            tracing::info!(%error, "no link to reset a password was sent");
        }
    });
    Ok(())
}

async fn send_link(app: &Arc<App>, who: String) -> Result<(), LoginError> {
    let now = app.clock.now();
    let Ok(place) = app.mailer.reserve() else { return Ok(()) };
    let token = Token::from_random(*app.rng.bytes());
    let digest = token.digest();
    let user = app
        .store
        .write(move |tx| {
            let user = match tx.user_by_login(&who)? {
                Some(user) => Some(user),
                None => tx.users()?.into_iter().find(|user| {
                    !user.details.email.is_empty() && user.details.email.eq_ignore_ascii_case(&who)
                }),
            };
            let Some(user) = user.filter(|user| user.active && user.has_password) else {
                return Ok(None);
            };
            let mut budget = tx.mail_budget(user.id, Lane::Stranger)?;
            if budget.charge(now).is_err() {
                return Ok(None);
            }
            tx.save_mail_budget(user.id, &budget)?;
            let by = App::by_user(user.id, now);
            tx.add_web_session(by, &digest, &begun(&user, WebStage::Reset, now, RESET_LIFE))?;
            Ok::<_, StoreError>(Some(user))
        })
        .await?;
    let Some(user) = user else { return Ok(()) };
    let Ok(address) = user.details.email.parse() else { return Ok(()) };
    let what = format!(
        "Somebody asked to set a new password for the account {}. To do that, open this link \
         within 30 minutes: {}reset?token={}",
        user.details.login,
        app.site.url,
        token.expose_text().as_str(),
    );
    place.send(mail::notice(address, &app.site.name, &what, now, &app.site.contact));
    Ok(())
}

/// Sets a new password by a mailed link, and signs every browser of the user out.
///
/// # Errors
///
/// [`LoginError::Over`] or [`LoginError::Password`].
pub async fn reset(app: &Arc<App>, token: &str, new: SecretText) -> Result<(), LoginError> {
    let digest = Token::parse(token).ok_or(LoginError::Over)?.digest();
    let now = app.clock.now();
    let good = move |view: &mut mfa_store::Snapshot| {
        let session = view.web_session(&digest)?;
        let session = session.filter(|one| one.stage == WebStage::Reset && now < one.expires);
        let session = session.ok_or(LoginError::Over)?;
        let user = view.user(session.user)?.filter(|user| user.active);
        Ok::<_, LoginError>((session, user.ok_or(LoginError::Over)?))
    };
    let (_, user) = app.store.read(good).await?;
    check_new(&new, &user.details.login)?;
    let hash = app.passwords.hash(new, &app.rng).await?;
    let user = app
        .store
        .write(move |tx| {
            let (session, user) = good(tx)?;
            let by = App::by_user(user.id, now);
            if !tx.end_web_session(by, user.id, session.id)? {
                return Err(LoginError::Over);
            }
            tx.set_password_hash(by, user.id, Some(&hash))?;
            tx.end_web_sessions(by, user.id, None)?;
            Ok(user)
        })
        .await?;
    tell(app, &user.details.email, "The password of your account was changed.", now);
    Ok(())
}

/// Tells a user by mail, if mail can be sent; the change stands in any case.
pub(super) fn tell(app: &App, address: &str, what: &str, now: Timestamp) {
    let Ok(address) = address.parse() else { return };
    let Ok(place) = app.mailer.reserve() else { return };
    place.send(mail::notice(address, &app.site.name, what, now, &app.site.contact));
}

/// Tells a user's old address that an administrator has put another in its place, if one has.
pub fn tell_old_address(app: &App, old: &str, new: &str) {
    if old != new {
        let what = "An administrator changed the e-mail address of your account.";
        tell(app, old, what, app.clock.now());
    }
}

fn begun(user: &User, stage: WebStage, now: Timestamp, life: Duration) -> WebSession {
    WebSession {
        id: 0,
        user: user.id,
        stage,
        created: now,
        seen: now,
        proved: now,
        expires: now.saturating_add(life),
        mailed_code: None,
    }
}
