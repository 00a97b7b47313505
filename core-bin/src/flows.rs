//! What can be done, one operation one file, used by the public API, the web pages and the commands
//! alike.
//!
//! A flow takes an [`App`](crate::app::App) or a transaction, decides with `mfa-core`, stores with
//! `mfa-store`, and sends nothing before its commit: mails and wakes come after it.

pub mod api_token;
pub mod connect;
pub mod device;
pub mod device_config;
pub mod disconnect;
pub mod enroll;
pub mod gateway;
pub mod group;
pub mod import;
pub mod location;
pub mod login;
pub mod mail;
pub mod master_key;
pub mod mfa;
pub mod name;
pub mod poll;
pub mod rotate;
pub mod session;
pub mod setup;
pub mod status;
pub mod user;

use mfa_core::method::Method;

/// Digits of a code of `method`, to give an old client's number its zeros back.
pub(crate) const fn code_digits(method: Method) -> usize {
    match method {
        Method::Totp => 6,
        Method::Email => 8,
    }
}
