//! Codes of an authenticator app: TOTP with HMAC-SHA-1, 6 digits, 30 s (RFC 6238, RFC 4226).
//!
//! These parameters are the ones that every app honours; some silently ignore others.

use core::fmt;

use data_encoding::BASE32_NOPAD;
use mutant::Mutant;
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
        let skew = SKEW_STEPS + u64::from(mutant::on(Mutant::WideWindow));
        for step in current.saturating_sub(skew)..=current.saturating_add(skew) {
            let step = TotpStep(step);
            let same: bool = code_of(&generator, step).ct_eq(&code.0).into();
            if same && last.is_none_or(|last| step > last) {
                // Should two steps have one code, the later is taken and both are used up.
                accepted = Some(step);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 6238, appendix B: the SHA-1 rows, of which six digits are the last six of eight.
    #[test]
    fn codes_are_those_of_rfc_6238() {
        let rows = [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ];
        for (secs, code) in rows {
            assert_eq!(*secret().code_at(at(secs)).expose_text(), code);
            let step = secret().verify(&parse(code), at(secs), None);
            assert_eq!(step, Ok(TotpStep::new(secs / 30)), "{code}");
        }
    }

    /// RFC 4226, appendix D: the counters 0 to 9.
    #[test]
    fn codes_are_those_of_rfc_4226() {
        let codes = [
            "755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583",
            "399871", "520489",
        ];
        for (counter, code) in (0..).zip(codes) {
            assert_eq!(*secret().code_at(at(counter * STEP_SECS)).expose_text(), code);
        }
    }

    #[test]
    fn only_the_step_of_now_and_its_neighbours_are_accepted() {
        let now = at(1_000 * STEP_SECS);
        for offset in -3_i64..=3 {
            let step = 1_000_u64.checked_add_signed(offset).unwrap();
            let code = secret().code_at(at(step * STEP_SECS));
            let expected =
                if offset.abs() <= 1 { Ok(TotpStep::new(step)) } else { Err(TotpRefused::Wrong) };
            assert_eq!(secret().verify(&code, now, None), expected, "offset {offset}");
        }
    }

    #[test]
    fn a_step_changes_with_its_thirtieth_second() {
        assert_eq!(TotpStep::at(Timestamp::from_unix_millis(29_999)), TotpStep::new(0));
        assert_eq!(TotpStep::at(Timestamp::from_unix_millis(30_000)), TotpStep::new(1));
    }

    #[test]
    fn a_code_is_good_once_and_so_is_every_earlier_one() {
        let now = at(1_000 * STEP_SECS);
        let (before, current, after) =
            (code_of_step(999), code_of_step(1_000), code_of_step(1_001));

        let last = secret().verify(&current, now, None).ok();

        assert_eq!(secret().verify(&current, now, last), Err(TotpRefused::Replayed));
        assert_eq!(secret().verify(&before, now, last), Err(TotpRefused::Replayed));
        assert_eq!(secret().verify(&after, now, last), Ok(TotpStep::new(1_001)));
    }

    /// The steps 153,567 and 153,569 of the RFCs' secret have one code.
    #[test]
    fn a_code_that_two_steps_share_is_good_once_too() {
        let (code, now) = (parse("468457"), at(153_568 * STEP_SECS));
        let later = TotpStep::new(153_569);

        assert_eq!(secret().verify(&code, now, None), Ok(later));
        assert_eq!(secret().verify(&code, now, Some(TotpStep::new(153_567))), Ok(later));
        assert_eq!(secret().verify(&code, now, Some(later)), Err(TotpRefused::Replayed));
    }

    #[test]
    fn the_first_moments_of_1970_and_the_last_of_time_are_no_special_case() {
        let (first, last) = (Timestamp::UNIX_EPOCH, Timestamp::from_unix_millis(u64::MAX));
        for now in [first, last] {
            assert!(secret().verify(&secret().code_at(now), now, None).is_ok());
        }
    }

    #[test]
    fn a_code_is_exactly_six_ascii_digits() {
        for text in ["000000", "012345", "999999"] {
            assert_eq!(*parse(text).expose_text(), text);
        }
        for text in [
            "",
            "12345",
            "1234567",
            " 123456",
            "123456 ",
            "123456\n",
            "+12345",
            "-12345",
            "12 456",
            "12345a",
            "0x1234",
            "1e5000",
            "１２３４５６",
            "٠١٢٣٤٥",
            "12345６",
        ] {
            assert_eq!(TotpCode::parse(text).err(), Some(MalformedCode::Totp), "{text:?}");
        }
    }

    #[test]
    fn the_uri_is_what_apps_read() {
        let uri = secret().expose_uri("Acme VPN", "bob@example.com");
        assert!(uri.starts_with("otpauth://totp/"), "{}", *uri);
        let again = Totp::from_url(uri.as_str()).unwrap();
        assert_eq!(again.issuer(), Some("Acme VPN"));
        assert_eq!(again.account_name(), "bob@example.com");
        assert_eq!((again.digits(), again.step()), (6, 30));
        assert_eq!(again.secret().as_bytes(), secret().expose_secret());
    }

    #[test]
    fn names_that_would_break_the_uri_are_mended() {
        for (issuer, account) in [("", ""), (":", ":"), ("a:b", "c:d/é?&#"), (" ", "x")] {
            let uri = secret().expose_uri(issuer, account);
            let again = Totp::from_url(uri.as_str()).unwrap();
            assert_eq!(
                again.secret().as_bytes(),
                secret().expose_secret(),
                "{issuer:?} {account:?}"
            );
        }
        let uri = secret().expose_uri("a:b", "");
        let again = Totp::from_url(uri.as_str()).unwrap();
        assert_eq!((again.issuer(), again.account_name()), (Some("a b"), "account"));
    }

    #[test]
    fn base32_reads_back() {
        let text = secret().expose_base32();
        assert_eq!(*text, "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        let again = TotpSecret::from_base32(&text).unwrap();
        assert_eq!(again.expose_secret(), secret().expose_secret());
        for text in ["", "GEZDGNBV", "gezdgnbvgy3tqojqgezdgnbvgy3tqojq", "!"] {
            assert!(TotpSecret::from_base32(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn debug_shows_nothing_of_a_secret() {
        let text = format!("{:?} {:?}", secret(), parse("123456"));
        assert_eq!(text, "TotpSecret(..) TotpCode(..)");
    }

    proptest! {
        /// Whatever is sent in whatever order, the accepted steps only grow.
        #[test]
        fn accepted_steps_only_grow(tries in prop::collection::vec((0_u64..6, 0_u64..6), 1..40)) {
            let mut last = None;
            for (now, step) in tries {
                let (now, code) = (at((100 + now) * STEP_SECS), code_of_step(100 + step));
                if let Ok(accepted) = secret().verify(&code, now, last) {
                    prop_assert!(last.is_none_or(|last| accepted > last));
                    prop_assert!(accepted.get().abs_diff(TotpStep::at(now).get()) <= 1);
                    last = Some(accepted);
                }
            }
        }
    }

    fn secret() -> TotpSecret {
        TotpSecret::from_bytes(*b"12345678901234567890")
    }

    fn parse(text: &str) -> TotpCode {
        TotpCode::parse(text).unwrap()
    }

    fn code_of_step(step: u64) -> TotpCode {
        secret().code_at(at(step * STEP_SECS))
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_unix_millis(secs * 1000)
    }
}
