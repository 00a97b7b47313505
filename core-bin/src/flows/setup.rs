//! The first administrator, by a link that is good once.

use core::time::Duration;
use std::sync::Arc;

use mfa_core::enroll::Enrollment;
use mfa_core::time::Timestamp;
use mfa_core::token::{Token, TokenDigest};
use mfa_store::{Actor, By, Spent, StoreError, TokenPurpose, Tx, User};
use mfa_wire::http::SecretText;

use super::enroll::EnrollSession;
use super::user::{self, NewUser, UserError};
use crate::app::App;
use crate::password::{self, PasswordError};

/// How long a link waits.
pub const LINK_LIFE: Duration = Duration::from_secs(24 * 3600);

/// Why there is no administrator.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The link's token.
    #[error(
        "this link was used, has expired, or is not whole; `core-bin admin recover` prints a new one"
    )]
    Link,
    /// A code by e-mail, and a word to users, need an address.
    #[error("an administrator needs an e-mail address")]
    NoEmail,
    /// The user.
    #[error(transparent)]
    User(#[from] UserError),
    /// The password.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Issues a link's token.
///
/// # Errors
///
/// What the database reports.
pub fn issue(tx: &mut Tx, by: By, token: &TokenDigest) -> Result<Timestamp, StoreError> {
    let expires = by.now.saturating_add(LINK_LIFE);
    tx.add_token(by, TokenPurpose::Setup, token, expires)?;
    Ok(expires)
}

/// Spends the link's token and makes the administrator, or makes a user of this login one; opens an
/// enrollment's session within which the factor is set up.
///
/// # Errors
///
/// [`SetupError`]; the token is as good as before then, but for [`SetupError::Link`].
pub async fn administrator(
    app: &Arc<App>,
    link: &str,
    new: NewUser,
    password: SecretText,
) -> Result<(User, EnrollSession, Token), SetupError> {
    let now = app.clock.now();
    let link = Token::parse(link).ok_or(SetupError::Link)?.digest();
    if new.email.trim().is_empty() {
        return Err(SetupError::NoEmail);
    }
    password::check_new(&password, &new.login)?;
    let hash = app.passwords.hash(password, &app.rng).await?;
    let (token, cookie) =
        (Token::from_random(*app.rng.bytes()), Token::from_random(*app.rng.bytes()));
    let (enrollment, session) = (token.digest(), cookie.digest());
    let user = app
        .store
        .write(move |tx| {
            let by = By::new(Actor::System, now);
            match tx.spend_token(by, &link)? {
                Spent::Good(TokenPurpose::Setup) => {}
                Spent::Good(TokenPurpose::Gateway(_))
                | Spent::Used
                | Spent::Expired
                | Spent::Unknown => return Err(SetupError::Link),
            }
            let user = admin(tx, by, &new)?;
            tx.set_password_hash(by, user.id, Some(&hash))?;
            let mut begun = Enrollment::issue(user.id, enrollment, Enrollment::TOKEN_TTL, now);
            tx.add_enrollment(by, &begun)?;
            let before = begun.state();
            // A fresh enrollment is redeemed at once: it is neither used nor over.
            if begun.redeem(session, now).is_ok() {
                tx.save_enrollment(by, &before, &begun)?;
            }
            Ok(user)
        })
        .await?;
    let text = cookie.expose_text();
    let session = EnrollSession::parse(&text).ok_or(SetupError::Link)?;
    Ok((user, session, cookie))
}

/// Adds the administrator; a user of this login who is there becomes one.
fn admin(tx: &mut Tx, by: By, new: &NewUser) -> Result<User, UserError> {
    if tx.user_by_login(&new.login)?.is_none() {
        return user::add(tx, by, &NewUser { admin: true, ..new.clone() });
    }
    user::set_active(tx, by, &new.login, true)?;
    let change = user::UserChange {
        email: Some(new.email.clone()),
        admin: Some(true),
        ..user::UserChange::default()
    };
    user::set(tx, by, &new.login, &change)
}
