//! **mfa** — a user's factors: which there are, and how one is set up.
//!
//! A device's key alone never sets up a factor: it takes an enrollment's session, or a device that
//! proved itself *and* a code of a factor that is there already. Each code that is looked at is
//! counted first, in its own transaction, against the same budget as a login's.

pub(in crate::flows) mod current;
mod finish;
mod list;
mod recovery;
mod start;

pub use finish::finish;
pub use list::list;
pub use recovery::renew_recovery;
pub use start::{Staged, pending_totp, start};

use core::time::Duration;

use mfa_core::budget::{GuessRefused, MailRefused};
use mfa_core::factor::MalformedCode;
use mfa_core::id::UserId;
use mfa_core::time::Timestamp;
use mfa_core::token::TokenDigest;
use mfa_store::{By, Snapshot, StoreError, User};
use sha2::{Digest as _, Sha256};
use wg_types::PublicKey;

use super::enroll::{EnrollError, EnrollSession};
use super::login::Fresh;
use crate::app::App;
use crate::mail::MailError;

/// For how long a mailed code is good.
const EMAIL_CODE_LIFE: Duration = Duration::from_secs(600);

/// Who sets up a factor.
#[derive(Clone, Copy, Debug)]
pub enum Holder {
    /// Who has an enrollment's session; an administrator vouches.
    Enrollment(EnrollSession),
    /// Who proved a factor a moment ago, in a browser that is signed in.
    Web(Fresh),
    /// Who has a device that proved itself; a code of another factor must vouch, too.
    Device(PublicKey),
}

/// Why a factor is not set up.
#[derive(Debug, thiserror::Error)]
pub enum MfaError {
    /// The enrollment does not go on.
    #[error(transparent)]
    Enroll(#[from] EnrollError),
    /// No such device.
    #[error("this device is not registered any more; enroll it again")]
    DeviceNotFound,
    /// The user is disabled.
    #[error("this account is disabled; ask an administrator")]
    Disabled,
    /// No code of a factor that is there was given.
    #[error("enter a code of a method that is set up already, to allow the change")]
    CurrentRequired,
    /// Nothing is there yet that could allow it.
    #[error(
        "no method is set up yet, so only an enrollment can begin: ask an administrator for a new \
         enrollment token (`core-bin user enroll NAME`) and enroll again"
    )]
    EnrollmentRequired,
    /// The factor that should allow it is not set up.
    #[error("the {method} is not set up on this account")]
    CurrentNotSetUp {
        /// The method's name.
        method: &'static str,
    },
    /// The method cannot be offered.
    #[error("the {method} cannot be set up: {reason}")]
    Unavailable {
        /// The method's name.
        method: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// Nothing waits to be confirmed.
    #[error("there is nothing to confirm, or its time is over; begin the set-up again")]
    NothingPending,
    /// The text cannot be a code of the method; nothing was counted.
    #[error(transparent)]
    Malformed(#[from] MalformedCode),
    /// The code is wrong.
    #[error("wrong code")]
    Wrong,
    /// The code was used before.
    #[error("this code was used before; wait until the authenticator app shows the next one")]
    Used,
    /// The user has no guesses left.
    #[error(transparent)]
    Guess(#[from] GuessRefused),
    /// Too many mails to the user.
    #[error(transparent)]
    MailBudget(#[from] MailRefused),
    /// The mail cannot be sent.
    #[error(transparent)]
    Mail(#[from] MailError),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Holder {
    /// Finds out whose factors these are, and whether the holder may go on.
    fn user(self, view: &mut Snapshot, now: Timestamp) -> Result<User, MfaError> {
        match self {
            Self::Enrollment(session) => Ok(session.check(view, now)?),
            Self::Web(fresh) => {
                let user = view.user(fresh.user())?.ok_or(MfaError::Disabled)?;
                if user.active { Ok(user) } else { Err(MfaError::Disabled) }
            }
            Self::Device(key) => {
                let device = view.device_by_key(&key)?.ok_or(MfaError::DeviceNotFound)?;
                let user = view.user(device.user)?.ok_or(MfaError::DeviceNotFound)?;
                if user.active { Ok(user) } else { Err(MfaError::Disabled) }
            }
        }
    }
}

/// What a mailed code is bound to, in the place of a challenge.
#[derive(Clone, Copy, Debug)]
enum MailedFor {
    /// To confirm the address.
    SetUp,
    /// To allow a change.
    ChangeFactors,
}

impl MailedFor {
    /// Binds a code to its purpose, its user and the address that it was mailed to: after a change
    /// of the address it is worth nothing.
    fn bind(self, user: &User) -> TokenDigest {
        let purpose: &[u8] = match self {
            Self::SetUp => b"e-mail set-up\0",
            Self::ChangeFactors => b"change of factors\0",
        };
        let digest = Sha256::new()
            .chain_update(purpose)
            .chain_update(user.id.get().to_be_bytes())
            .chain_update(user.details.email.as_bytes())
            .finalize();
        TokenDigest::from_bytes(digest.into())
    }
}

const fn by(user: UserId, now: Timestamp) -> By {
    App::by_user(user, now)
}
