//! **login** — a person signs in to the pages: a password, then a factor.
//!
//! No tunnel opens with it. The factor is counted against the same budget as a device's, in its own
//! transaction before it is looked at; who has the password has proved enough to use up guesses.
//! Each proof gets a new token; the old one is worth nothing from then on.

mod account;
pub mod passkey;
mod password;

pub use account::{
    add_device, change_email, change_password, end_everywhere, join, remove_method, renew_codes,
};
pub use password::{forgot, password, reset, tell_old_address};

use core::time::Duration;
use std::sync::Arc;

use mfa_core::budget::Lane;
use mfa_core::factor::email_code::EmailCode;
use mfa_core::id::UserId;
use mfa_core::method::Method;
use mfa_core::time::Timestamp;
use mfa_core::token::{Token, TokenDigest};
use mfa_store::{Snapshot, StoreError, Tx, User, WebSession, WebStage};
use mfa_wire::http::Code;

use super::mfa::{self, MfaError, current};
use crate::app::App;
use crate::http::throttle::Throttled;
use crate::mail::{CodeMail, CodePurpose, MailError};
use crate::password::PasswordError;

/// How long a sign-in may take from the password to the factor.
const PASSWORD_LIFE: Duration = Duration::from_secs(600);
/// How long a signed-in browser lives at most.
const OPEN_LIFE: Duration = Duration::from_secs(12 * 3600);
/// How long it lives without a request.
pub const IDLE: Duration = Duration::from_secs(30 * 60);
/// For how long a proved factor allows a change of factors.
pub const FRESH: Duration = Duration::from_secs(300);
/// How often a request is noted.
const NOTED: Duration = Duration::from_secs(60);

/// Why nobody is signed in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Login or password.
    #[error("the login or the password is wrong")]
    Wrong,
    /// Nothing to prove.
    #[error(
        "this account has no second factor yet; ask an administrator for an enrollment link, and \
         set one up there"
    )]
    NoFactor,
    /// The token is over.
    #[error("this took too long, or was used before; begin again")]
    Over,
    /// A change needs a factor that was proved a moment ago.
    #[error("prove your second factor again to make this change")]
    NotFresh,
    /// It would be the last one.
    #[error("this is the only method that is set up; set up another one first")]
    LastMethod,
    /// Too many tries.
    #[error("too many tries; try again in {} s", retry_after.as_secs().saturating_add(1))]
    Throttled {
        /// For how long to wait.
        retry_after: Duration,
    },
    /// Browsers make none for this server.
    #[error("passkeys work only at the address that core's public.url names, with TLS")]
    NoPasskeys,
    /// There are enough.
    #[error("this account has as many passkeys as it can have; remove one first")]
    TooManyPasskeys,
    /// The passkey.
    #[error(transparent)]
    Passkey(#[from] crate::passkey::PasskeyError),
    /// The factor.
    #[error(transparent)]
    Factor(#[from] MfaError),
    /// The password.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The user's details.
    #[error(transparent)]
    User(#[from] super::user::UserError),
    /// The enrollment.
    #[error(transparent)]
    Enroll(#[from] super::enroll::EnrollError),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Throttled> for LoginError {
    fn from(Throttled { retry_after }: Throttled) -> Self {
        Self::Throttled { retry_after }
    }
}

/// Who is signed in.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// The person.
    pub user: User,
    /// The browser's session.
    pub session: WebSession,
    now: Timestamp,
}

/// A user who proved a factor a moment ago. Only [`SignedIn::fresh`] makes one.
#[derive(Clone, Copy, Debug)]
pub struct Fresh(UserId);

impl Fresh {
    /// Returns whose factor it was.
    #[must_use]
    pub const fn user(self) -> UserId {
        self.0
    }
}

impl SignedIn {
    /// Returns the proof that a factor was proved within [`FRESH`].
    ///
    /// # Errors
    ///
    /// [`LoginError::NotFresh`].
    pub fn fresh(&self) -> Result<Fresh, LoginError> {
        if self.now.since(self.session.proved) <= FRESH {
            Ok(Fresh(self.user.id))
        } else {
            Err(LoginError::NotFresh)
        }
    }
}

/// A sign-in that waits for a factor.
#[derive(Debug)]
pub struct Pending {
    /// Whose.
    pub user: User,
    /// Each method, with why it cannot be used.
    pub methods: Vec<(Method, Option<String>)>,
    /// Whether a code was mailed.
    pub mailed: bool,
    /// Whether a passkey can be used instead.
    pub passkey: bool,
}

/// Finds who is signed in by this token. `watching`: the request is a page's own and keeps no
/// session alive.
///
/// # Errors
///
/// What the database reports.
pub async fn signed_in(
    app: &Arc<App>,
    token: &str,
    watching: bool,
) -> Result<Option<SignedIn>, StoreError> {
    let Some(token) = Token::parse(token) else { return Ok(None) };
    let (now, digest) = (app.clock.now(), token.digest());
    let found = app.store.read(move |view| find(view, &digest, now)).await?;
    let Some((session, user)) = found.filter(|(one, _)| one.stage == WebStage::Open) else {
        return Ok(None);
    };
    if !watching && now.since(session.seen) >= NOTED {
        app.store.write(move |tx| tx.note_web_session(session.id, now)).await?;
    }
    Ok(Some(SignedIn { user, session, now }))
}

/// Tells which methods a sign-in, or a signed-in browser, can go on with.
///
/// # Errors
///
/// [`LoginError::Over`].
pub async fn pending(app: &Arc<App>, token: &str) -> Result<Pending, LoginError> {
    let digest = Token::parse(token).ok_or(LoginError::Over)?.digest();
    let (now, look) = (app.clock.now(), Arc::clone(app));
    app.store
        .read(move |view| {
            let (session, user) = find(view, &digest, now)?.ok_or(LoginError::Over)?;
            let enabled = view.enabled_methods(user.id)?;
            let methods = Method::ALL
                .into_iter()
                .map(|method| {
                    let why = look.unavailable(method, &user).map(str::to_owned).or_else(|| {
                        (!enabled.contains(method))
                            .then(|| "it is not set up on this account".to_owned())
                    });
                    (method, why)
                })
                .collect();
            let passkey =
                passkey::unavailable(&look).is_none() && !view.passkeys(user.id)?.is_empty();
            Ok(Pending { user, methods, mailed: session.mailed_code.is_some(), passkey })
        })
        .await
}

/// Mails a code to finish a sign-in with.
///
/// # Errors
///
/// [`LoginError`].
pub async fn mail_code(app: &Arc<App>, token: &str) -> Result<(), LoginError> {
    let digest = Token::parse(token).ok_or(LoginError::Over)?.digest();
    let now = app.clock.now();
    let place = app.mailer.reserve().map_err(MfaError::from)?;
    let code = EmailCode::from_random(*app.rng.bytes());
    let (work, drawn) = (Arc::clone(app), code.clone());
    let user = app
        .store
        .write(move |tx| {
            let (session, user) = find(tx, &digest, now)?.ok_or(LoginError::Over)?;
            if !work.usable(tx, &user)?.contains(Method::Email) {
                let method = Method::Email.name();
                return Err(MfaError::CurrentNotSetUp { method }.into());
            }
            let mut budget = tx.mail_budget(user.id, Lane::Proven)?;
            budget.charge(now).map_err(MfaError::from)?;
            tx.save_mail_budget(user.id, &budget)?;
            tx.set_web_code(session.id, Some(drawn.digest(&work.keys.codes, &digest)))?;
            Ok::<_, LoginError>(user)
        })
        .await?;
    let address = user.details.email.parse();
    let address =
        address.map_err(|_| LoginError::from(MfaError::from(MailError::ControlCharacter)))?;
    let mail = CodeMail {
        instance: &app.site.name,
        purpose: &CodePurpose::SignIn,
        device: None,
        asked: now,
        minutes: PASSWORD_LIFE.as_secs() / 60,
        contact: &app.site.contact,
    };
    place.send(mail.write(address, &code.expose_text()));
    Ok(())
}

/// Proves a factor: a sign-in becomes a signed-in browser, and one that is signed in is fresh again.
/// Returns the new token; the old one is worth nothing.
///
/// # Errors
///
/// [`LoginError`].
pub async fn factor(
    app: &Arc<App>,
    token: &str,
    method: Method,
    code: Code,
) -> Result<Token, LoginError> {
    let digest = Token::parse(token).ok_or(LoginError::Over)?.digest();
    let now = app.clock.now();
    // A text that cannot be a code is not counted.
    current::parse(method, &code).map_err(LoginError::from)?;
    let user = app
        .store
        .read(move |view| Ok::<_, LoginError>(find(view, &digest, now)?.ok_or(LoginError::Over)?.1))
        .await?;
    let counted = current::count(app, mfa::Holder::Web(Fresh(user.id)), method, now).await?;
    let new = Token::from_random(*app.rng.bytes());
    let (work, fresh) = (Arc::clone(app), new.digest());
    let proved = app
        .store
        .write(move |tx| {
            let (session, user) = find(tx, &digest, now)?.ok_or(LoginError::Over)?;
            let mailed = session.mailed_code.map(|code| (digest, code));
            let seen = current::verify(&work, tx, &user, (method, &code), mailed, now)?;
            if let Err(refused) = seen {
                return Ok(Err(refused));
            }
            counted.give_back(tx)?;
            open(tx, &user, &session, &fresh, now)?;
            Ok::<_, LoginError>(Ok(()))
        })
        .await?;
    proved.map_err(LoginError::from)?;
    Ok(new)
}

/// Gives a browser whose user proved a factor a new token in the place of the old one.
fn open(
    tx: &mut Tx,
    user: &User,
    session: &WebSession,
    fresh: &TokenDigest,
    now: Timestamp,
) -> Result<(), LoginError> {
    let by = App::by_user(user.id, now);
    // Of two that prove one token, one wins.
    if !tx.end_web_session(by, user.id, session.id)? {
        return Err(LoginError::Over);
    }
    let (created, expires) = match session.stage {
        WebStage::Open => (session.created, session.expires),
        WebStage::Password | WebStage::Reset => (now, now.saturating_add(OPEN_LIFE)),
    };
    let open = WebSession {
        id: 0,
        user: user.id,
        stage: WebStage::Open,
        created,
        seen: now,
        proved: now,
        expires,
        mailed_code: None,
    };
    tx.add_web_session(by, fresh, &open)?;
    Ok(())
}

/// Signs a browser out.
///
/// # Errors
///
/// What the database reports.
pub async fn sign_out(app: &Arc<App>, one: &SignedIn) -> Result<(), StoreError> {
    let (user, id, now) = (one.user.id, one.session.id, app.clock.now());
    app.store.write(move |tx| tx.end_web_session(App::by_user(user, now), user, id).map(drop)).await
}

/// Finds a token that is good now, for a sign-in or a signed-in browser.
fn find(
    view: &mut Snapshot,
    digest: &TokenDigest,
    now: Timestamp,
) -> Result<Option<(WebSession, User)>, StoreError> {
    let Some(session) = view.web_session(digest)? else { return Ok(None) };
    let quiet = session.stage == WebStage::Open && now.since(session.seen) > IDLE;
    if session.stage == WebStage::Reset || now >= session.expires || quiet {
        return Ok(None);
    }
    let user = view.user(session.user)?.filter(|user| user.active);
    Ok(user.map(|user| (session, user)))
}
