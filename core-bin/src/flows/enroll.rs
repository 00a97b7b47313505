//! **enroll** — a device joins.
//!
//! An administrator issues a token; who has it trades it for a session, within which devices are
//! added and factors set up. No gateway hears of it where a factor is asked for: without a session
//! there is no peer.

use std::net::IpAddr;
use std::sync::Arc;

use mfa_core::enroll::{EnrollRefused, Enrollment};
use mfa_core::id::UserId;
use mfa_core::time::Timestamp;
use mfa_core::token::{Token, TokenDigest};
use mfa_store::{Device, NewDevice, Snapshot, StoreError, Tx, User};
use mfa_wire::http::{DeviceConfigResponse, SecretText};
use wg_types::{KeyError, PublicKey};

use super::device_config;
use super::name::{self, NameError};
use crate::app::App;
use crate::password::{self, PasswordError};

/// Devices of one user; more is a mistake, or an attempt to use up a location's addresses.
const MAX_DEVICES: usize = 64;

/// Why an enrollment does not go on.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// No such token or session.
    #[error("this enrollment is unknown; ask an administrator for a new token")]
    Unknown,
    /// It was used, or is over.
    #[error(transparent)]
    Refused(#[from] EnrollRefused),
    /// The user is disabled or gone.
    #[error("this account is disabled; ask an administrator")]
    Disabled,
    /// The device's name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The device's public key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key is taken.
    #[error("a device with this public key exists already; make a new key pair")]
    KeyTaken,
    /// Too many devices.
    #[error("this account has {MAX_DEVICES} devices already; remove one first")]
    TooManyDevices,
    /// No such device of this user.
    #[error("this account has no device with this public key")]
    DeviceNotFound,
    /// The password.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The store refused.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for EnrollError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Exists { what: "public key" } => Self::KeyTaken,
            error => Self::Store(error),
        }
    }
}

/// An enrollment's session, as its cookie names it.
#[derive(Clone, Copy, Debug)]
pub struct EnrollSession(TokenDigest);

impl EnrollSession {
    /// Reads a cookie's value; `None`: it is none of ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Token::parse(text).map(|token| Self(token.digest()))
    }

    /// Decides whether the session may go on, and returns whose it is.
    ///
    /// # Errors
    ///
    /// [`EnrollError::Unknown`], [`EnrollError::Refused`] or [`EnrollError::Disabled`].
    pub fn check(self, view: &mut Snapshot, now: Timestamp) -> Result<User, EnrollError> {
        let mut enrollment = view.enrollment_by_session(&self.0)?.ok_or(EnrollError::Unknown)?;
        let user = enrollment.check_session(now)?;
        active(view, user)
    }
}

fn active(view: &mut Snapshot, user: UserId) -> Result<User, EnrollError> {
    view.user(user)?.filter(|user| user.active).ok_or(EnrollError::Disabled)
}

/// A session that has begun.
#[derive(Debug)]
pub struct Begun {
    /// Its cookie.
    pub session: Token,
    /// Whose it is.
    pub user: User,
    /// The user's devices.
    pub devices: Vec<Device>,
    /// Until when it is good.
    pub deadline: Timestamp,
}

/// Trades an enrollment token for a session.
///
/// The token may be followed by a dot and the CA's pin, as the command prints it for our client.
///
/// # Errors
///
/// [`EnrollError`].
pub async fn start(app: &Arc<App>, token: &str) -> Result<Begun, EnrollError> {
    let now = app.clock.now();
    let token = token.trim().split('.').next().unwrap_or_default();
    let token = Token::parse(token).ok_or(EnrollError::Unknown)?.digest();
    let session = Token::from_random(*app.rng.bytes());
    let cookie = session.digest();
    let begun = app.store.write(move |tx| redeem(tx, token, cookie, now)).await?;
    let (enrollment, user, devices) = begun?;
    Ok(Begun { session, user, devices, deadline: enrollment.deadline() })
}

type Redeemed = (Enrollment, User, Vec<Device>);

fn redeem(
    tx: &mut Tx,
    token: TokenDigest,
    cookie: TokenDigest,
    now: Timestamp,
) -> Result<Result<Redeemed, EnrollError>, EnrollError> {
    let mut enrollment = tx.enrollment(&token)?.ok_or(EnrollError::Unknown)?;
    let user = active(tx, enrollment.user())?;
    let before = enrollment.state();
    let by = App::by_user(user.id, now);
    if let Err(refused) = enrollment.redeem(cookie, now) {
        // That it has expired is worth storing; the refusal must not undo it.
        if enrollment.state() != before {
            tx.save_enrollment(by, &before, &enrollment)?;
        }
        return Ok(Err(refused.into()));
    }
    if !tx.save_enrollment(by, &before, &enrollment)? {
        return Err(EnrollRefused::Used.into());
    }
    let devices = tx.devices_of(user.id)?;
    Ok(Ok((enrollment, user, devices)))
}

/// Adds a device, and returns what it should know, with its polling token.
///
/// # Errors
///
/// [`EnrollError`].
pub async fn create_device(
    app: &Arc<App>,
    session: EnrollSession,
    name: &str,
    key: &str,
    source: IpAddr,
) -> Result<DeviceConfigResponse, EnrollError> {
    let now = app.clock.now();
    let name = name::label("device", name)?;
    let public_key: PublicKey = key.parse()?;
    let token = Token::from_random(*app.rng.bytes());
    let (work, polling_token) = (Arc::clone(app), token.digest());
    app.store
        .write(move |tx| {
            let user = session.check(tx, now)?;
            if tx.devices_of(user.id)?.len() >= MAX_DEVICES {
                return Err(EnrollError::TooManyDevices);
            }
            let new = NewDevice {
                user: user.id,
                name: name.clone(),
                public_key,
                polling_token,
                source: Some(source),
            };
            let device = tx.add_device(App::by_user(user.id, now), &new)?;
            let token = SecretText::new(token.expose_text().as_str());
            Ok(device_config::build(tx, &work.site, &user, &device, Some(token))?)
        })
        .await
        .inspect(|_| app.registry.wake_all())
}

/// Returns what a device of the user should know, with a new polling token: the old one is kept
/// nowhere and cannot be told again.
///
/// # Errors
///
/// [`EnrollError`].
pub async fn network_info(
    app: &Arc<App>,
    session: EnrollSession,
    key: &str,
) -> Result<DeviceConfigResponse, EnrollError> {
    let now = app.clock.now();
    let public_key: PublicKey = key.parse()?;
    let token = Token::from_random(*app.rng.bytes());
    let (work, digest) = (Arc::clone(app), token.digest());
    app.store
        .write(move |tx| {
            let user = session.check(tx, now)?;
            let device = tx
                .device_by_key(&public_key)?
                .filter(|device| device.user == user.id)
                .ok_or(EnrollError::DeviceNotFound)?;
            tx.set_polling_token(App::by_user(user.id, now), device.id, &digest)?;
            let token = SecretText::new(token.expose_text().as_str());
            Ok(device_config::build(tx, &work.site, &user, &device, Some(token))?)
        })
        .await
}

/// Sets the user's password, and ends the enrollment.
///
/// # Errors
///
/// [`EnrollError`].
pub async fn activate_user(
    app: &Arc<App>,
    session: EnrollSession,
    phone: Option<String>,
    password: SecretText,
) -> Result<(), EnrollError> {
    let now = app.clock.now();
    // Hashing is slow: only for who has a session, and outside the transaction.
    let user = app.store.read(move |view| session.check(view, now)).await?;
    password::check_new(&password, &user.details.login)?;
    let phone = match phone.as_deref().map(str::trim) {
        None | Some("") => None,
        Some(phone) => Some(name::label("telephone", phone)?),
    };
    let hash = app.passwords.hash(password, &app.rng).await?;
    app.store
        .write(move |tx| {
            let user = session.check(tx, now)?;
            let by = App::by_user(user.id, now);
            tx.set_password_hash(by, user.id, Some(&hash))?;
            if let Some(phone) = &phone {
                let mut details = user.details.clone();
                details.phone.clone_from(phone);
                tx.set_user_details(by, user.id, &details)?;
            }
            confirm(tx, session, now)
        })
        .await
}

/// Ends an enrollment, because everything is set up. Returns whose it was.
///
/// # Errors
///
/// [`EnrollError`].
pub async fn close(app: &Arc<App>, session: EnrollSession) -> Result<User, EnrollError> {
    let now = app.clock.now();
    app.store
        .write(move |tx| {
            let user = session.check(tx, now)?;
            confirm(tx, session, now)?;
            Ok(user)
        })
        .await
}

fn confirm(tx: &mut Tx, session: EnrollSession, now: Timestamp) -> Result<(), EnrollError> {
    let mut enrollment = tx.enrollment_by_session(&session.0)?.ok_or(EnrollError::Unknown)?;
    let before = enrollment.state();
    enrollment.confirm(now)?;
    let by = App::by_user(enrollment.user(), now);
    if tx.save_enrollment(by, &before, &enrollment)? {
        Ok(())
    } else {
        Err(EnrollRefused::Used.into())
    }
}
