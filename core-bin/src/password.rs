//! Passwords: for the web pages alone; no tunnel opens with one.
//!
//! Argon2id with 19 MiB, two passes (OWASP's first choice). Two are hashed at once, some wait, and
//! more are refused, so that a flood of log-ins cannot take all memory.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use mfa_wire::http::SecretText;
use tokio::sync::Semaphore;

use crate::rng::Rng;

/// Characters of the shortest password (NIST SP 800-63B-4 §3.1.1.2: 8 beside another factor).
pub const MIN: usize = 10;
/// Characters of the longest.
pub const MAX: usize = 128;

const AT_ONCE: usize = 2;
const WAITING: usize = 32;
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;

/// What everybody tries first; longer than [`MIN`] and still no secret.
const COMMON: [&str; 16] = [
    "1234567890",
    "0123456789",
    "12345678910",
    "123456789a",
    "1q2w3e4r5t",
    "1qaz2wsx3edc",
    "qwertyuiop",
    "qwerty123456",
    "password123",
    "password1234",
    "passwordpassword",
    "administrator",
    "letmeinplease",
    "changemenow",
    "welcome123",
    "wireguard123",
];

/// Why a password is not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PasswordError {
    /// Guessed too soon.
    #[error("the password is too short: use at least {MIN} characters")]
    Short,
    /// Nobody types this.
    #[error("the password is too long: use at most {MAX} characters")]
    Long,
    /// Among the first that anybody tries.
    #[error("this password is among the first that anybody tries; choose another one")]
    Common,
    /// Too many passwords are being checked.
    #[error("the server is busy; try again in a moment")]
    Busy,
    /// The hash function refused; the log knows why.
    #[error("the password could not be hashed")]
    Internal,
}

/// Hashes and checks passwords. Cheap to clone; clones share the limit.
#[derive(Clone, Debug)]
pub struct Passwords {
    slots: Arc<Semaphore>,
    queue: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            slots: Arc::new(Semaphore::new(AT_ONCE)),
            queue: Arc::new(Semaphore::new(AT_ONCE + WAITING)),
        }
    }
}

/// Decides whether a password may be set for `login`.
///
/// # Errors
///
/// [`PasswordError::Short`], [`PasswordError::Long`] or [`PasswordError::Common`].
pub fn check_new(password: &SecretText, login: &str) -> Result<(), PasswordError> {
    let text = password.expose_secret();
    let length = text.chars().count();
    if length < MIN {
        return Err(PasswordError::Short);
    }
    if length > MAX {
        return Err(PasswordError::Long);
    }
    let lower = text.to_lowercase();
    let first = text.chars().next();
    let monotonous = text.chars().all(|letter| Some(letter) == first);
    if monotonous || COMMON.contains(&lower.as_str()) || lower == login.to_lowercase() {
        return Err(PasswordError::Common);
    }
    Ok(())
}

impl Passwords {
    /// Hashes a password, in PHC format.
    ///
    /// # Errors
    ///
    /// [`PasswordError::Busy`] or [`PasswordError::Internal`].
    pub async fn hash(&self, password: SecretText, rng: &Rng) -> Result<String, PasswordError> {
        let salt = rng.bytes::<16>();
        self.work(move || {
            let hash: PasswordHash = argon2()?
                .hash_password_with_salt(password.expose_secret().as_bytes(), salt.as_slice())
                .map_err(internal)?;
            Ok(hash.to_string())
        })
        .await
    }

    /// Tells whether a password is the one of `hash`. Without a hash it takes as long and says no,
    /// so that time does not tell who has a password.
    ///
    /// # Errors
    ///
    /// [`PasswordError::Busy`] or [`PasswordError::Internal`].
    pub async fn verify(
        &self,
        password: SecretText,
        hash: Option<String>,
    ) -> Result<bool, PasswordError> {
        self.work(move || {
            let bytes = password.expose_secret().as_bytes();
            let Some(hash) = hash else {
                let _: PasswordHash =
                    argon2()?.hash_password_with_salt(bytes, &[0; 16]).map_err(internal)?;
                return Ok(false);
            };
            let hash = PasswordHash::new(&hash).map_err(internal)?;
            Ok(argon2()?.verify_password(bytes, &hash).is_ok())
        })
        .await
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let _place = self.queue.try_acquire().map_err(|_| PasswordError::Busy)?;
        let _slot = self.slots.acquire().await.map_err(|_| PasswordError::Busy)?;
        tokio::task::spawn_blocking(work).await.map_err(internal)?
    }
}

fn argon2() -> Result<Argon2<'static>, PasswordError> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).map_err(internal)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn internal(error: impl core::fmt::Display) -> PasswordError {
    tracing::error!(%error, "password hashing failed");
    PasswordError::Internal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_recognized_and_another_is_not() {
        let passwords = Passwords::default();
        let hash =
            passwords.hash(SecretText::new("correct horse battery"), &Rng::system()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let verify = |text: &str| passwords.verify(SecretText::new(text), Some(hash.clone()));
        assert!(verify("correct horse battery").await.unwrap());
        assert!(!verify("correct horse batterz").await.unwrap());
        assert!(!passwords.verify(SecretText::new("x"), None).await.unwrap());
    }

    #[test]
    fn what_anybody_tries_first_is_refused() {
        let check = |text: &str| check_new(&SecretText::new(text), "ada.lovelace");
        assert_eq!(check("short"), Err(PasswordError::Short));
        assert_eq!(check(&"x".repeat(129)), Err(PasswordError::Long));
        for text in ["Password123", "aaaaaaaaaaaa", "Ada.Lovelace"] {
            assert_eq!(check(text), Err(PasswordError::Common), "{text}");
        }
        assert_eq!(check("correct horse"), Ok(()));
    }
}
