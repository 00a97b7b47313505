//! What a person has set up: an authenticator app, a mailbox, recovery codes.

use diesel::dsl::exists;
use diesel::prelude::*;
use mfa_core::connect::EndReason;
use mfa_core::factor::CodeDigest;
use mfa_core::factor::totp::{TotpSecret, TotpStep};
use mfa_core::id::UserId;
use mfa_core::method::{Method, MethodSet};
use mfa_core::time::Timestamp;
use serde_json::json;

use crate::schema::{factor_email, factor_totp, recovery_code};
use crate::seal::Place;
use crate::session::Scope;
use crate::value::{from_millis, to_digest, to_millis};
use crate::{By, Snapshot, StoreError, Tx};

const TOTP: &str = "factor_totp";
/// The stored step of a user who never used a code.
const NO_STEP: i64 = -1;

/// A confirmed authenticator app.
#[derive(Clone, Debug)]
pub struct Totp {
    /// What the app and the server share.
    pub secret: TotpSecret,
    /// The last step whose code was accepted.
    pub last_step: Option<TotpStep>,
}

/// A code that was mailed to confirm an address.
#[derive(Clone, Copy, Debug)]
pub struct PendingEmail {
    /// The code's keyed digest.
    pub code: CodeDigest,
    /// When it is over.
    pub until: Timestamp,
}

const fn place(column: &'static str, user: UserId) -> Place {
    Place { table: TOTP, column, row: user.get() }
}

fn step(step: i64) -> Option<TotpStep> {
    u64::try_from(step).ok().map(TotpStep::new)
}

fn to_step(step: TotpStep) -> i64 {
    i64::try_from(step.get()).unwrap_or(i64::MAX)
}

impl Snapshot {
    /// Returns the methods that a user has set up.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn enabled_methods(&mut self, user: UserId) -> Result<MethodSet, StoreError> {
        let totp = factor_totp::table
            .filter(factor_totp::user_id.eq(user.get()))
            .filter(factor_totp::secret.is_not_null());
        let email = factor_email::table
            .filter(factor_email::user_id.eq(user.get()))
            .filter(factor_email::confirmed_at.is_not_null());
        let (totp, email): (bool, bool) =
            diesel::select((exists(totp), exists(email))).get_result(&mut self.conn)?;
        let mut methods = MethodSet::EMPTY;
        if totp {
            methods = methods.with(Method::Totp);
        }
        if email {
            methods = methods.with(Method::Email);
        }
        Ok(methods)
    }

    /// Returns a user's confirmed authenticator app.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unsealable`] if somebody changed the stored secret.
    pub fn totp(&mut self, user: UserId) -> Result<Option<Totp>, StoreError> {
        let row: Option<(Option<Vec<u8>>, i64)> = factor_totp::table
            .find(user.get())
            .select((factor_totp::secret, factor_totp::last_step))
            .get_result(&mut self.conn)
            .optional()?;
        let Some((Some(sealed), last)) = row else { return Ok(None) };
        let secret = self.open_totp("secret", user, &sealed)?;
        Ok(Some(Totp { secret, last_step: step(last) }))
    }

    /// Returns the secret that a user was shown and has not confirmed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unsealable`] if somebody changed the stored secret.
    pub fn pending_totp(&mut self, user: UserId) -> Result<Option<TotpSecret>, StoreError> {
        let row: Option<Option<Vec<u8>>> = factor_totp::table
            .find(user.get())
            .select(factor_totp::pending_secret)
            .get_result(&mut self.conn)
            .optional()?;
        let Some(sealed) = row.flatten() else { return Ok(None) };
        self.open_totp("pending_secret", user, &sealed).map(Some)
    }

    /// Returns the code that was mailed to a user to confirm the address.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn pending_email(&mut self, user: UserId) -> Result<Option<PendingEmail>, StoreError> {
        let row: Option<(Option<Vec<u8>>, Option<i64>)> = factor_email::table
            .find(user.get())
            .select((factor_email::pending_code, factor_email::pending_until))
            .get_result(&mut self.conn)
            .optional()?;
        let Some((Some(code), Some(until))) = row else { return Ok(None) };
        let code = CodeDigest::from_bytes(to_digest(&code, "factor_email")?);
        Ok(Some(PendingEmail { code, until: from_millis(until) }))
    }

    /// Lists the digests of a user's recovery codes that were not used yet.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn recovery_codes(&mut self, user: UserId) -> Result<Vec<CodeDigest>, StoreError> {
        let rows: Vec<Vec<u8>> = recovery_code::table
            .filter(recovery_code::user_id.eq(user.get()))
            .filter(recovery_code::used_at.is_null())
            .order(recovery_code::id.asc())
            .select(recovery_code::digest)
            .load(&mut self.conn)?;
        rows.iter()
            .map(|digest| to_digest(digest, "recovery_code").map(CodeDigest::from_bytes))
            .collect()
    }

    fn open_totp(
        &self,
        column: &'static str,
        user: UserId,
        sealed: &[u8],
    ) -> Result<TotpSecret, StoreError> {
        let secret = self.seal.open(place(column, user), sealed)?;
        let bytes = <[u8; 20]>::try_from(secret.as_slice())
            .map_err(|_| StoreError::Unsealable { table: TOTP })?;
        Ok(TotpSecret::from_bytes(bytes))
    }
}

impl Tx {
    /// Remembers a secret that is shown to a user now. The one in force stays so until this one is
    /// [confirmed](Self::confirm_totp).
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn stage_totp(
        &mut self,
        by: By,
        user: UserId,
        secret: &TotpSecret,
    ) -> Result<(), StoreError> {
        let sealed =
            self.seal_in(place("pending_secret", user), secret.expose_secret().as_slice())?;
        let row = (
            factor_totp::pending_secret.eq(&sealed),
            factor_totp::pending_at.eq(to_millis(by.now)),
        );
        let changed =
            diesel::update(factor_totp::table.find(user.get())).set(row).execute(&mut self.conn)?;
        if changed == 0 {
            diesel::insert_into(factor_totp::table)
                .values((
                    factor_totp::user_id.eq(user.get()),
                    factor_totp::last_step.eq(NO_STEP),
                    row,
                ))
                .execute(&mut self.conn)?;
        }
        self.audit(by, "totp.stage", format_args!("user:{user}"), &json!({}))
    }

    /// Puts the pending secret in force, and uses up the step of the code that confirmed it.
    /// Sessions that the old secret bought end. Returns `false`, and changes nothing, if no secret
    /// is pending or the step was used before.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unsealable`] if somebody changed the stored secret.
    pub fn confirm_totp(
        &mut self,
        by: By,
        user: UserId,
        step: TotpStep,
    ) -> Result<bool, StoreError> {
        let Some(secret) = self.pending_totp(user)? else { return Ok(false) };
        if !self.use_totp_step(user, step)? {
            return Ok(false);
        }
        let sealed = self.seal_in(place("secret", user), secret.expose_secret().as_slice())?;
        diesel::update(factor_totp::table.find(user.get()))
            .set((
                factor_totp::secret.eq(sealed),
                factor_totp::confirmed_at.eq(to_millis(by.now)),
                factor_totp::pending_secret.eq(None::<Vec<u8>>),
                factor_totp::pending_at.eq(None::<i64>),
            ))
            .execute(&mut self.conn)?;
        self.end_sessions(by, Scope::UserMethod(user, Method::Totp), EndReason::MethodReset)?;
        self.audit(by, "totp.confirm", format_args!("user:{user}"), &json!({}))?;
        Ok(true)
    }

    /// Uses up a step, by compare-and-set: `false` if this step or a later one was used before, by
    /// whomever, wherever.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn use_totp_step(&mut self, user: UserId, step: TotpStep) -> Result<bool, StoreError> {
        let step = to_step(step);
        let unused = factor_totp::table.find(user.get()).filter(factor_totp::last_step.lt(step));
        let changed =
            diesel::update(unused).set(factor_totp::last_step.eq(step)).execute(&mut self.conn)?;
        Ok(changed > 0)
    }

    /// Remembers a code that is mailed to a user now to confirm the address.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn stage_email(
        &mut self,
        by: By,
        user: UserId,
        pending: &PendingEmail,
    ) -> Result<(), StoreError> {
        let row = (
            factor_email::pending_code.eq(pending.code.as_bytes().as_slice()),
            factor_email::pending_until.eq(to_millis(pending.until)),
        );
        let changed = diesel::update(factor_email::table.find(user.get()))
            .set(row)
            .execute(&mut self.conn)?;
        if changed == 0 {
            diesel::insert_into(factor_email::table)
                .values((factor_email::user_id.eq(user.get()), row))
                .execute(&mut self.conn)?;
        }
        self.audit(by, "email.stage", format_args!("user:{user}"), &json!({}))
    }

    /// Enables the e-mail method, because the code of the pending confirmation came back. Returns
    /// `false`, and changes nothing, if none is pending: it was used before.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn confirm_email(&mut self, by: By, user: UserId) -> Result<bool, StoreError> {
        let pending =
            factor_email::table.find(user.get()).filter(factor_email::pending_code.is_not_null());
        let changed = diesel::update(pending)
            .set((
                factor_email::confirmed_at.eq(to_millis(by.now)),
                factor_email::pending_code.eq(None::<Vec<u8>>),
                factor_email::pending_until.eq(None::<i64>),
            ))
            .execute(&mut self.conn)?;
        if changed == 0 {
            return Ok(false);
        }
        self.audit(by, "email.confirm", format_args!("user:{user}"), &json!({}))?;
        Ok(true)
    }

    /// Puts a new sheet of recovery codes in the place of the old one.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn replace_recovery_codes(
        &mut self,
        by: By,
        user: UserId,
        codes: &[CodeDigest],
    ) -> Result<(), StoreError> {
        self.forget_recovery_codes(user)?;
        for code in codes {
            diesel::insert_into(recovery_code::table)
                .values((
                    recovery_code::user_id.eq(user.get()),
                    recovery_code::digest.eq(code.as_bytes().as_slice()),
                ))
                .execute(&mut self.conn)?;
        }
        let detail = json!({ "codes": codes.len() });
        self.audit(by, "recovery.replace", format_args!("user:{user}"), &detail)
    }

    /// Uses up a recovery code, by compare-and-set: `false` if it was used before.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn use_recovery_code(
        &mut self,
        by: By,
        user: UserId,
        code: &CodeDigest,
    ) -> Result<bool, StoreError> {
        let unused = recovery_code::table
            .filter(recovery_code::user_id.eq(user.get()))
            .filter(recovery_code::digest.eq(code.as_bytes().as_slice()))
            .filter(recovery_code::used_at.is_null());
        let changed = diesel::update(unused)
            .set(recovery_code::used_at.eq(to_millis(by.now)))
            .execute(&mut self.conn)?;
        if changed == 0 {
            return Ok(false);
        }
        self.audit(by, "recovery.use", format_args!("user:{user}"), &json!({}))?;
        Ok(true)
    }

    /// Takes a method away from a user, with its secret and, for TOTP, the recovery codes; the
    /// sessions that it bought end. The last accepted step stays. Returns whether there was
    /// anything to take.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn reset_method(
        &mut self,
        by: By,
        user: UserId,
        method: Method,
    ) -> Result<bool, StoreError> {
        let changed = match method {
            Method::Totp => {
                self.forget_recovery_codes(user)?;
                diesel::update(factor_totp::table.find(user.get()))
                    .set((
                        factor_totp::secret.eq(None::<Vec<u8>>),
                        factor_totp::confirmed_at.eq(None::<i64>),
                        factor_totp::pending_secret.eq(None::<Vec<u8>>),
                        factor_totp::pending_at.eq(None::<i64>),
                    ))
                    .execute(&mut self.conn)?
            }
            Method::Email => {
                diesel::delete(factor_email::table.find(user.get())).execute(&mut self.conn)?
            }
        };
        if changed == 0 {
            return Ok(false);
        }
        self.end_sessions(by, Scope::UserMethod(user, method), EndReason::MethodReset)?;
        let detail = json!({ "method": method.code() });
        self.audit(by, "method.reset", format_args!("user:{user}"), &detail)?;
        Ok(true)
    }

    fn forget_recovery_codes(&mut self, user: UserId) -> Result<(), StoreError> {
        diesel::delete(recovery_code::table.filter(recovery_code::user_id.eq(user.get())))
            .execute(&mut self.conn)?;
        Ok(())
    }
}
