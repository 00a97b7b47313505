//! What is asked, what was answered, and what the answer is compared with.

use crate::factor::email_code::EmailCode;
use crate::factor::recovery::RecoveryCode;
use crate::factor::totp::{TotpCode, TotpSecret, TotpStep};
use crate::factor::{CodeDigest, CodeKey, MalformedCode};
use crate::method::Method;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub enum Question {
    /// The code that the authenticator app shows, or a recovery code.
    Totp,
    /// The code whose digest this is and that was mailed to the user.
    Email(CodeDigest),
}

impl Question {
    /// Returns the method that is asked for.
    #[must_use]
    pub const fn method(&self) -> Method {
        match self {
            Self::Totp => Method::Totp,
            Self::Email(_) => Method::Email,
        }
    }
}

/// What a person gave as the answer.
#[derive(Debug)]
pub enum Answer {
    /// The code of an authenticator app.
    Totp(TotpCode),
    /// A code sent by e-mail.
    Email(EmailCode),
    /// A recovery code, in place of the authenticator app.
    Recovery(RecoveryCode),
}

impl Answer {
    /// Reads the text given for a challenge of `method`.
    ///
    /// # Errors
    ///
    /// [`MalformedCode`]: such a text cannot be right, so no guess is counted for it.
    pub fn parse(method: Method, text: &str) -> Result<Self, MalformedCode> {
        match method {
            Method::Email => EmailCode::parse(text).map(Self::Email),
            Method::Totp => TotpCode::parse(text)
                .map(Self::Totp)
                .or_else(|_| RecoveryCode::parse(text).map(Self::Recovery))
                .map_err(|_| MalformedCode::TotpOrRecovery),
        }
    }
}

/// What the answer is compared with, as the store says at this moment.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The key of the installation's code digests.
    pub key: &'a CodeKey,
    /// The user's authenticator app; `None`: none is set up.
    pub totp: Option<TotpEvidence<'a>>,
    /// The digests of the user's recovery codes that were not used yet.
    pub recovery: &'a [CodeDigest],
}

/// What is known of a user's authenticator app.
#[derive(Clone, Copy, Debug)]
pub struct TotpEvidence<'a> {
    /// What the app and the server share.
    pub secret: &'a TotpSecret,
    /// The last step whose code was accepted, the one that confirmed the set-up included.
    pub last_step: Option<TotpStep>,
}

/// What made the answer right, and must be marked as used by compare-and-set.
#[derive(Clone, Copy, Debug)]
pub enum Proof {
    /// Set the user's last step to this one, where it is earlier or none.
    TotpStep(TotpStep),
    /// The challenge itself is used up; there is nothing else to mark.
    EmailCode,
    /// Mark the recovery code with this digest as used, where it is unused.
    RecoveryCode(CodeDigest),
}
