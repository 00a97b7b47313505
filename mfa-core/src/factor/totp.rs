//! Codes of an authenticator app: TOTP with HMAC-SHA-1, 6 digits, 30 s (RFC 6238, RFC 4226).
//!
//! These parameters are the ones that every app honours; some silently ignore others.

use core::fmt;

use data_encoding::BASE32_NOPAD;
use subtle::ConstantTimeEq as _;
use totp_rs::{Builder, Totp};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::MalformedCode;
use crate::time::Timestamp;

/// Seconds for which one code is shown (RFC 6238 §5.2).
pub const STEP_SECS: u64 = 30;

/// Steps before and after the current one whose codes are accepted, for slow fingers and clocks
/// that drift (RFC 6238 §5.2).
pub const SKEW_STEPS: u64 = 1;

/// The secret that an authenticator app and the server share: 160 bits (RFC 4226 §4). Wiped on
/// drop.
///
/// ```
/// use mfa_core::factor::totp::{TotpCode, TotpSecret};
/// use mfa_core::time::Timestamp;
///
/// let secret = TotpSecret::from_bytes(*b"12345678901234567890"); // random in earnest
/// let now = Timestamp::from_unix_millis(59_000);
/// let code = TotpCode::parse("287082")?;
///
/// let step = secret.verify(&code, now, None).expect("the code of RFC 6238, appendix B");
/// assert!(secret.verify(&code, now, Some(step)).is_err(), "a code is good once");
/// # Ok::<(), mfa_core::factor::MalformedCode>(())
/// ```
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct TotpSecret([u8; 20]);

impl TotpSecret {
    /// Wraps bytes from a cryptographically secure generator.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// Lends the secret, to be sealed and stored.
    #[must_use]
    pub const fn expose_secret(&self) -> &[u8; 20] {
        &self.0
    }

    /// Writes the secret as base32 without padding, for a person who types it into the app.
    #[must_use]
    pub fn expose_base32(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE32_NOPAD.encode(&self.0))
    }

    /// Reads what [`expose_base32`](Self::expose_base32) wrote; `None` for anything else.
    #[must_use]
    pub fn from_base32(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(BASE32_NOPAD.decode(text.as_bytes()).ok()?);
        bytes.as_slice().try_into().ok().map(Self)
    }

    /// Writes the `otpauth://` URI that goes into the QR code.
    ///
    /// `issuer` is shown above the code and `account` beside it. A colon divides the two in the
    /// URI, so one inside them becomes a blank; an empty account becomes `account`.
    #[must_use]
    pub fn expose_uri(&self, issuer: &str, account: &str) -> Zeroizing<String> {
        let issuer = issuer.replace(':', " ");
        let account = account.replace(':', " ");
        let account = if account.trim().is_empty() { "account".to_owned() } else { account };
        let totp = Builder::new()
            .with_secret(self.0.as_slice())
            .with_account_name(account)
            .with_issuer((!issuer.trim().is_empty()).then_some(issuer))
            .build_noncompliant();
        // The one error is an empty account, which is replaced above.
        Zeroizing::new(totp.to_url().unwrap_or_default())
    }

    /// Returns the code that an app shows at `now`.
    ///
    /// For tests and for tools that stand in for an app; the server only [verifies](Self::verify).
    #[must_use]
    pub fn code_at(&self, now: Timestamp) -> TotpCode {
        TotpCode(code_of(&self.generator(), TotpStep::at(now)))
    }

    /// Checks `code` against the step of `now` and its two neighbours, and accepts only a step
    /// later than `last`, the last one accepted (`None`: none ever was).
    ///
    /// All three steps are computed and compared in constant time, so the time taken tells nothing
    /// of the code. The caller stores the step by compare-and-set in the transaction that makes use
    /// of it; only then is a code good once (RFC 6238 §5.2).
    ///
    /// # Errors
    ///
    /// [`TotpRefused::Wrong`] when no step in the window has this code, [`TotpRefused::Replayed`]
    /// when only steps up to `last` have it.
    pub fn verify(
        &self,
        code: &TotpCode,
        now: Timestamp,
        last: Option<TotpStep>,
    ) -> Result<TotpStep, TotpRefused> {
        let generator = self.generator();
        let current = TotpStep::at(now).get();
        let mut accepted = None;
        let mut replayed = false;
        for step in current.saturating_sub(SKEW_STEPS)..=current.saturating_add(SKEW_STEPS) {
            let step = TotpStep(step);
            let same: bool = code_of(&generator, step).ct_eq(&code.0).into();
            if same && last.is_none_or(|last| step > last) {
                accepted = accepted.or(Some(step));
            } else if same {
                replayed = true;
            }
        }
        accepted.ok_or(if replayed { TotpRefused::Replayed } else { TotpRefused::Wrong })
    }

    fn generator(&self) -> Totp {
        Builder::new().with_secret(self.0.as_slice()).build_noncompliant()
    }
}

/// The six digits of `step`.
fn code_of(generator: &Totp, step: TotpStep) -> [u8; 6] {
    let text = Zeroizing::new(
        generator.generate(step.0.saturating_mul(STEP_SECS)).to_string().into_bytes(),
    );
    text.as_slice().try_into().unwrap_or_default()
}

impl fmt::Debug for TotpSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TotpSecret(..)")
    }
}

/// The six digits that an app shows. Wiped on drop.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct TotpCode([u8; 6]);

impl TotpCode {
    /// Reads a code: exactly six ASCII digits, leading zeros included.
    ///
    /// # Errors
    ///
    /// [`MalformedCode::Totp`] for anything else: nothing is trimmed, and a text that is read in
    /// two ways could be used twice.
    pub fn parse(text: &str) -> Result<Self, MalformedCode> {
        super::digits(text).map(Self).ok_or(MalformedCode::Totp)
    }

    /// Writes the six digits, for a tool that stands in for an app.
    #[must_use]
    pub fn expose_text(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.iter().copied().map(char::from).collect())
    }
}

impl fmt::Debug for TotpCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TotpCode(..)")
    }
}

/// A span of [`STEP_SECS`]: the n-th since the Unix epoch (T of RFC 6238 §4.2).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TotpStep(u64);

impl TotpStep {
    /// Wraps a stored step.
    #[must_use]
    pub const fn new(step: u64) -> Self {
        Self(step)
    }

    /// Returns the step that `now` lies in.
    #[must_use]
    pub const fn at(now: Timestamp) -> Self {
        Self(now.as_unix_secs() / STEP_SECS)
    }

    /// Returns the number for the store.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Why a code of an app was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TotpRefused {
    /// Not the code of this time.
    #[error("this is not the code that the authenticator app shows now; enter the newest one")]
    Wrong,
    /// Right, and used before.
    #[error("this code was used before; wait until the authenticator app shows the next one")]
    Replayed,
}
