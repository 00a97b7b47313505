//! A device asks for a challenge.
//!
//! Nothing is spent for who cannot succeed: every refusal comes before the first change, and a
//! location whose gateways are all away is refused here rather than after a code was used up.

use core::time::Duration;
use std::sync::Arc;

use lettre::Address;
use mfa_core::budget::{GuessRefused, Lane, MailRefused};
use mfa_core::challenge::{Access, Challenge, NotAdmitted, Question, Standing, Subject};
use mfa_core::factor::email_code::EmailCode;
use mfa_core::id::LocationId;
use mfa_core::method::{Method, MethodSet};
use mfa_core::policy::MethodRefused;
use mfa_core::time::Timestamp;
use mfa_core::token::Token;
use mfa_store::{Device, Location, Snapshot, StoreError, User};
use wg_types::PublicKey;

use super::login::{self, OpenError};
use crate::app::{App, Caller};
use crate::flows::device_config;
use crate::http::throttle::Throttled;
use crate::mail::{CodeMail, CodePurpose, MailError};
use crate::text::masked;

/// What a device asks for.
#[derive(Clone, Debug)]
pub struct StartOrder {
    /// Where to.
    pub location: LocationId,
    /// Which device.
    pub device: PublicKey,
    /// With what; `None`: a method that does not exist here.
    pub method: Option<Method>,
    /// The version of the configuration that the client has; `None`: it does not say.
    pub config_version: Option<String>,
    /// Who asks.
    pub caller: Caller,
}

/// A challenge waits for its code.
#[derive(Debug)]
pub struct Started {
    /// Names the challenge; for the client alone.
    pub token: Token,
    /// When it is over.
    pub expires: Timestamp,
    /// Where the code was mailed to, masked; only for a device that is known to be one.
    pub sent_to: Option<String>,
}

/// Why there is no challenge.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No such location.
    #[error("there is no such location; update the client's configuration")]
    LocationNotFound,
    /// No such device.
    #[error("this device is not registered; enroll it first")]
    DeviceNotFound,
    /// The device's user is gone.
    #[error("the device's user is not registered any more; ask an administrator")]
    UserNotFound,
    /// The proof is of another device.
    #[error("the proof is of another device than the one that wants to connect")]
    ForeignProof,
    /// The user is disabled.
    #[error("this account is disabled; ask an administrator")]
    UserDisabled,
    /// The user's groups may not use the location.
    #[error("this account may not use this location; ask an administrator")]
    NotPermitted,
    /// The client's configuration is older than the location's.
    #[error("this location's settings have changed; update the client's configuration first")]
    ConfigStale,
    /// The location asks for no factor.
    #[error("this location does not ask for a second factor; update the client's configuration")]
    MfaOff,
    /// The location forbids the method.
    #[error("{location} does not allow this method; it allows: {allowed}")]
    MethodNotAllowed {
        /// The location's name.
        location: String,
        /// What it allows.
        allowed: MethodSet,
    },
    /// The user has not set the method up.
    #[error("the {method} is not set up on this account; {next}")]
    MethodNotSetUp {
        /// The method's name.
        method: &'static str,
        /// What to do.
        next: String,
    },
    /// The server cannot offer the method.
    #[error("the {method} cannot be used: {reason}")]
    MethodUnavailable {
        /// The method's name.
        method: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// No gateway would learn of a session.
    #[error(
        "no gateway of {location} is connected, so nobody can connect now; ask an administrator"
    )]
    NoGateway {
        /// The location's name.
        location: String,
    },
    /// The user has no guesses left.
    #[error(transparent)]
    Guess(#[from] GuessRefused),
    /// Too many mails to the user.
    #[error(transparent)]
    MailBudget(#[from] MailRefused),
    /// Too many mails altogether.
    #[error(transparent)]
    Mail(#[from] MailError),
    /// Too many requests of strangers from one source.
    #[error("too many requests; try again in a moment")]
    Throttled {
        /// For how long to wait.
        retry_after: Duration,
    },
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Guess(refused) => Self::Guess(refused),
            OpenError::Mail(refused) => Self::MailBudget(refused),
            OpenError::Store(error) => Self::Store(error),
        }
    }
}

/// Starts a challenge, and mails its code if the method is e-mail.
///
/// # Errors
///
/// [`StartError`]; nothing has changed then.
pub async fn start(app: &Arc<App>, order: StartOrder) -> Result<Started, StartError> {
    let now = app.clock.now();
    let (look, asked) = (Arc::clone(app), order.clone());
    let lane = app.store.read(move |view| foresee(&look, view, &asked, now)).await?;
    if lane == Lane::Stranger {
        let limit = app.limits.strangers.charge(order.caller.source.into(), now);
        limit.map_err(|Throttled { retry_after }| StartError::Throttled { retry_after })?;
    }
    let place = match order.method {
        Some(Method::Email) => Some(app.mailer.reserve()?),
        Some(Method::Totp) | None => None,
    };
    // Drawn before the transaction, which may run twice.
    let random = *app.rng.bytes();
    let code = EmailCode::from_random(*app.rng.bytes());

    let (work, drawn) = (Arc::clone(app), code.clone());
    let (token, challenge, found) = app
        .store
        .write(move |tx| {
            let found = find(&work, tx, &order, now)?;
            let lane = found.lane;
            let token = work.keys.challenges.issue(random, lane);
            let digest = token.digest();
            let question = match found.method {
                Method::Totp => Question::Totp,
                Method::Email => Question::Email(drawn.digest(&work.keys.codes, &digest)),
            };
            let enabled = work.usable(tx, &found.user)?;
            let policy = &found.location.settings.policy;
            let standing = Standing { access: Access::Granted, policy, enabled };
            let challenge =
                Challenge::start(digest, found.subject(), lane, question, &standing, now)
                    .map_err(|refused| found.explain(&work, refused))?;
            login::open(tx, &challenge, now)?;
            Ok::<_, StartError>((token, challenge, found))
        })
        .await?;

    let mut sent_to = None;
    if let Some(place) = place {
        let address: Address =
            found.user.details.email.parse().map_err(|_| MailError::ControlCharacter)?;
        if found.lane == Lane::Proven {
            sent_to = Some(masked(&found.user.details.email));
        }
        let location = found.location.settings.name.clone();
        let mail = CodeMail {
            instance: &app.site.name,
            purpose: &CodePurpose::Connect { location },
            device: Some(&found.device.name),
            asked: now,
            minutes: challenge.expires().since(now).as_secs() / 60,
            contact: &app.site.contact,
        };
        place.send(mail.write(address, &code.expose_text()));
    }
    Ok(Started { token, expires: challenge.expires(), sent_to })
}

/// Who asks, and for what, as the store says now.
struct Found {
    user: User,
    device: Device,
    location: Location,
    method: Method,
    lane: Lane,
}

impl Found {
    const fn subject(&self) -> Subject {
        Subject { user: self.user.id, device: self.device.id, location: self.location.id }
    }

    /// Says a refusal with all that helps a person.
    fn explain(&self, app: &App, refused: NotAdmitted) -> StartError {
        match refused {
            NotAdmitted::UserDisabled => StartError::UserDisabled,
            NotAdmitted::DeviceRemoved => StartError::DeviceNotFound,
            NotAdmitted::NotPermitted => StartError::NotPermitted,
            NotAdmitted::Method(MethodRefused::MfaOff) => StartError::MfaOff,
            NotAdmitted::Method(MethodRefused::NotAllowed) => StartError::MethodNotAllowed {
                location: self.location.settings.name.clone(),
                allowed: self.location.settings.policy.methods(),
            },
            NotAdmitted::Method(MethodRefused::NotEnabled) => {
                let method = self.method.name();
                match app.unavailable(self.method, &self.user) {
                    Some(reason) => StartError::MethodUnavailable { method, reason },
                    None => StartError::MethodNotSetUp {
                        method,
                        next: format!(
                            "set it up first (`client-bin mfa setup {}`), or choose another method",
                            self.method.code()
                        ),
                    },
                }
            }
        }
    }
}

/// Turns away most of those who cannot succeed, by a look that costs no write: a flood of strangers would
/// else fill the queue of the writer. Of who proves the device, and costs no mail, it asks only whether
/// that device is registered; all else is looked at once, when the challenge is stored.
fn foresee(
    app: &App,
    view: &mut Snapshot,
    order: &StartOrder,
    now: Timestamp,
) -> Result<Lane, StartError> {
    if order.caller.proven == Some(order.device) && order.method == Some(Method::Totp) {
        view.device_by_key(&order.device)?.ok_or(StartError::DeviceNotFound)?;
        return Ok(Lane::Proven);
    }
    Ok(find(app, view, order, now)?.lane)
}

/// Finds all that an order names, and refuses what cannot succeed, in the order in which clients
/// know the refusals.
fn find(
    app: &App,
    view: &mut Snapshot,
    order: &StartOrder,
    now: Timestamp,
) -> Result<Found, StartError> {
    let location = view.location(order.location)?.ok_or(StartError::LocationNotFound)?;
    let device = view.device_by_key(&order.device)?.ok_or(StartError::DeviceNotFound)?;
    if order.caller.proven.is_some_and(|proven| proven != device.public_key) {
        return Err(StartError::ForeignProof);
    }
    let user = view.user(device.user)?.ok_or(StartError::UserNotFound)?;
    let access = login::access(view, Some(&user), Some(&device), Some(&location))?;
    if access == Access::UserDisabled {
        return Err(StartError::UserDisabled);
    }
    if let Some(version) = &order.config_version
        && *version != device_config::version(view, &app.site, &user, &device)?
    {
        return Err(StartError::ConfigStale);
    }
    let policy = location.settings.policy;
    let lane = order.caller.lane(&device, now);
    let method = order.method.ok_or_else(|| {
        if location.asks_mfa() {
            StartError::MethodNotAllowed {
                location: location.settings.name.clone(),
                allowed: policy.methods(),
            }
        } else {
            StartError::MfaOff
        }
    })?;
    let found = Found { user, device, location, method, lane };
    if !found.location.asks_mfa() {
        return Err(StartError::MfaOff);
    }
    let enabled = app.usable(view, &found.user)?;
    let standing = Standing { access, policy: &policy, enabled };
    standing.admit(method).map_err(|refused| found.explain(app, refused))?;
    if app.registry.connected(found.location.id) == 0 {
        return Err(StartError::NoGateway { location: found.location.settings.name });
    }
    Ok(found)
}
