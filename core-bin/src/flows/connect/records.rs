//! What a login reads and changes.
//!
//! The transactions of this journey are written against these two traits, so that they are the same
//! code over the store and over the simulator's model of it. The functions are those of
//! [`Snapshot`] and [`Tx`], where they are described.

use mfa_core::budget::{GuessBudget, GuessKey, Lane, MailBudget};
use mfa_core::challenge::Challenge;
use mfa_core::connect::Session;
use mfa_core::factor::CodeDigest;
use mfa_core::factor::totp::TotpStep;
use mfa_core::id::{DeviceId, LocationId, SessionId, UserId};
use mfa_core::method::{Method, MethodSet};
use mfa_core::time::Timestamp;
use mfa_core::token::TokenDigest;
use mfa_store::{By, Device, Location, SessionInfo, Snapshot, StoreError, Totp, Tx, User};
use serde_json::Value;
use wg_types::PresharedKey;

macro_rules! records {
    (
        $(#[$view_doc:meta])* View { $(fn $read:ident($($ra:ident: $rt:ty),*) -> $ro:ty;)+ }
        $(#[$records_doc:meta])* Records { $(fn $write:ident($($wa:ident: $wt:ty),*) -> $wo:ty;)+ }
    ) => {
        $(#[$view_doc])*
        #[expect(missing_docs, clippy::missing_errors_doc, reason = "described at Snapshot")]
        pub trait View {
            $(fn $read(&mut self, $($ra: $rt),*) -> Result<$ro, StoreError>;)+
        }

        impl View for Snapshot {
            $(fn $read(&mut self, $($ra: $rt),*) -> Result<$ro, StoreError> {
                Self::$read(self, $($ra),*)
            })+
        }

        impl View for Tx {
            $(fn $read(&mut self, $($ra: $rt),*) -> Result<$ro, StoreError> {
                Snapshot::$read(self, $($ra),*)
            })+
        }

        $(#[$records_doc])*
        #[expect(missing_docs, clippy::missing_errors_doc, reason = "described at Tx")]
        pub trait Records: View {
            $(fn $write(&mut self, $($wa: $wt),*) -> Result<$wo, StoreError>;)+
            fn audit(
                &mut self,
                by: By,
                action: &str,
                subject: core::fmt::Arguments<'_>,
                detail: &Value,
            ) -> Result<(), StoreError>;
        }

        impl Records for Tx {
            $(fn $write(&mut self, $($wa: $wt),*) -> Result<$wo, StoreError> {
                Self::$write(self, $($wa),*)
            })+

            fn audit(
                &mut self,
                by: By,
                action: &str,
                subject: core::fmt::Arguments<'_>,
                detail: &Value,
            ) -> Result<(), StoreError> {
                Self::audit(self, by, action, subject, detail)
            }
        }
    };
}

records! {
    /// What a login reads.
    View {
        fn challenge(token: &TokenDigest) -> Option<Challenge>;
        fn pending_challenges(device: DeviceId, lane: Lane) -> Vec<Challenge>;
        fn guess_budget(key: GuessKey) -> GuessBudget;
        fn mail_budget(user: UserId, lane: Lane) -> MailBudget;
        fn user(id: UserId) -> Option<User>;
        fn device(id: DeviceId) -> Option<Device>;
        fn location(id: LocationId) -> Option<Location>;
        fn may_use(user: UserId, location: LocationId) -> bool;
        fn enabled_methods(user: UserId) -> MethodSet;
        fn totp(user: UserId) -> Option<Totp>;
        fn recovery_codes(user: UserId) -> Vec<CodeDigest>;
        fn session(id: SessionId) -> Option<SessionInfo>;
        fn session_psk(id: SessionId) -> Option<PresharedKey>;
        fn revision(location: LocationId) -> Option<i64>;
    }
    /// What a login changes.
    Records {
        fn add_challenge(by: By, new: &Challenge) -> ();
        fn save_challenge(changed: &Challenge) -> bool;
        fn save_guess_budget(budget: &GuessBudget) -> ();
        fn save_mail_budget(user: UserId, budget: &MailBudget) -> ();
        fn use_totp_step(user: UserId, step: TotpStep) -> bool;
        fn use_recovery_code(by: By, user: UserId, code: &CodeDigest) -> bool;
        fn begin_session(by: By, new: &Session) -> SessionId;
        fn renew_session(by: By, id: SessionId, method: Method, ends: Timestamp) -> bool;
    }
}
