//! **mail** — an administrator says how mail leaves.
//!
//! What is set here comes before `[smtp]` of the configuration file, and is in force at once: at
//! this core with the answer, at others on the same database within seconds.

use std::sync::Arc;

use mfa_store::{By, MailSettings, MailTls, Snapshot, Store, StoreError};
use mfa_wire::http::SecretText;
use zeroize::Zeroizing;

use crate::app::App;
use crate::mail::{MailError, SmtpError, Transport, test_mail};

/// The settings to change; what is absent stays.
#[derive(Debug, Default)]
pub struct MailChange {
    /// A host name or an address.
    pub host: Option<String>,
    /// A TCP port.
    pub port: Option<u16>,
    /// What protects the way.
    pub tls: Option<MailTls>,
    /// Empty: the server asks for none.
    pub login: Option<String>,
    /// Absent: the old one stays, if server and user do.
    pub password: Option<SecretText>,
    /// `VPN <vpn@example.com>`.
    pub sender: Option<String>,
}

/// Why the settings stay as they are.
#[derive(Debug, thiserror::Error)]
pub enum SetMailError {
    /// A stored password goes to the server that it was given for, and to no other.
    #[error("enter the password again: it is not sent to another server or for another user")]
    PasswordNeeded,
    /// A setting is wrong.
    #[error(transparent)]
    Setting(#[from] SmtpError),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why no test mail went out.
#[derive(Debug, thiserror::Error)]
pub enum TestMailError {
    /// The address.
    #[error("this is no e-mail address")]
    Address,
    /// There is no mail server.
    #[error(transparent)]
    Mail(#[from] MailError),
    /// What the server said.
    #[error("the mail was not sent: {0}")]
    Refused(#[from] SmtpError),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Works out the settings that a change leads to, and checks them.
///
/// # Errors
///
/// [`SetMailError`].
pub fn apply(
    old: Option<&MailSettings>,
    change: MailChange,
) -> Result<(MailSettings, Transport), SetMailError> {
    let port = |tls| if tls == MailTls::Implicit { 465 } else { 587 };
    let tls = change.tls.or_else(|| old.map(|old| old.tls)).unwrap_or(MailTls::StartTls);
    let text = |new: Option<String>, old: Option<&String>| {
        new.map_or_else(|| old.cloned().unwrap_or_default(), |new| new.trim().to_owned())
    };
    let mut new = MailSettings {
        host: text(change.host, old.map(|old| &old.host)),
        port: change.port.or_else(|| old.map(|old| old.port)).unwrap_or_else(|| port(tls)),
        tls,
        login: text(change.login, old.map(|old| &old.login)),
        password: None,
        sender: text(change.sender, old.map(|old| &old.sender)),
    };
    let given = change.password.filter(|password| !password.expose_secret().is_empty());
    if let Some(password) = given {
        new.password = Some(Zeroizing::new(password.expose_secret().to_owned()));
    } else if !new.login.is_empty()
        && let Some(old) = old
    {
        let same = (&old.host, old.port, &old.login) == (&new.host, new.port, &new.login);
        if old.password.is_some() && !same {
            return Err(SetMailError::PasswordNeeded);
        }
        new.password.clone_from(&old.password);
    }
    let transport = Transport::of(&new)?;
    Ok((new, transport))
}

/// Stores the settings that a change leads to. To be called within a tokio runtime.
///
/// # Errors
///
/// [`SetMailError`].
pub async fn store(store: &Store, by: By, change: MailChange) -> Result<Transport, SetMailError> {
    let old = store.read(Snapshot::mail_settings).await?;
    let (new, transport) = apply(old.as_ref(), change)?;
    store.write(move |tx| tx.set_mail_settings(by, Some(&new))).await?;
    Ok(transport)
}

/// Changes how mail leaves, at once.
///
/// # Errors
///
/// [`SetMailError`].
pub async fn set(app: &Arc<App>, by: By, change: MailChange) -> Result<(), SetMailError> {
    let transport = store(&app.store, by, change).await?;
    app.mailer.set(Some(Arc::new(transport)));
    app.registry.wake_all();
    Ok(())
}

/// Removes what was set; mail leaves as the configuration file says, if it says so.
///
/// # Errors
///
/// What the database reports.
pub async fn unset(app: &Arc<App>, by: By) -> Result<(), StoreError> {
    app.store.write(move |tx| tx.set_mail_settings(by, None)).await?;
    app.mailer.set(None);
    app.registry.wake_all();
    Ok(())
}

/// Returns what was set.
///
/// # Errors
///
/// What the database reports.
pub async fn show(app: &Arc<App>) -> Result<Option<MailSettings>, StoreError> {
    app.store.read(Snapshot::mail_settings).await
}

/// Sends a test mail past the queue, and waits for the server's word. Returns what protected it.
///
/// # Errors
///
/// [`TestMailError`].
pub async fn test(app: &Arc<App>, by: By, to: &str) -> Result<&'static str, TestMailError> {
    let address = to.trim().parse().map_err(|_| TestMailError::Address)?;
    let transport = app.mailer.transport().ok_or(MailError::NotSetUp)?;
    let detail = serde_json::json!({});
    app.store.write(move |tx| tx.audit(by, "mail.test", "mail", &detail)).await?;
    transport.send(&test_mail(address, &app.site.name, by.now)).await?;
    Ok(transport.protection())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first() -> MailChange {
        MailChange {
            host: Some("mail.example.com".to_owned()),
            login: Some("vpn".to_owned()),
            password: Some(SecretText::new("hunter2")),
            sender: Some("VPN <vpn@example.com>".to_owned()),
            ..MailChange::default()
        }
    }

    #[tokio::test]
    async fn a_stored_password_goes_to_no_other_server() {
        let (old, transport) = apply(None, first()).unwrap();
        assert_eq!((old.port, transport.protection()), (587, "STARTTLS, required"));
        let keep = MailChange { sender: Some("a@b.c".to_owned()), ..MailChange::default() };
        let (kept, _) = apply(Some(&old), keep).unwrap();
        assert_eq!(kept.password.as_ref().map(|text| text.as_str()), Some("hunter2"));
        for elsewhere in [
            MailChange { host: Some("evil.example".to_owned()), ..MailChange::default() },
            MailChange { port: Some(2525), ..MailChange::default() },
            MailChange { login: Some("other".to_owned()), ..MailChange::default() },
        ] {
            let refused = apply(Some(&old), elsewhere).unwrap_err();
            assert!(matches!(refused, SetMailError::PasswordNeeded), "{refused}");
        }
        let none = MailChange { login: Some(String::new()), ..MailChange::default() };
        assert_eq!(apply(Some(&old), none).unwrap().0.password, None);
        assert!(!format!("{old:?}").contains("hunter2"));
    }

    #[tokio::test]
    async fn wrong_settings_are_refused_in_words() {
        for (change, word) in [
            (MailChange { host: Some(String::new()), ..first() }, "host name"),
            (MailChange { host: Some("a b".to_owned()), ..first() }, "host name"),
            (MailChange { port: Some(0), ..first() }, "port"),
            (MailChange { tls: Some(MailTls::None), ..first() }, "without TLS"),
            (MailChange { sender: Some("nobody".to_owned()), ..first() }, "sender"),
            (MailChange { password: None, ..first() }, "password"),
            (MailChange { login: None, ..first() }, "no user"),
        ] {
            let refused = apply(None, change).unwrap_err().to_string();
            assert!(refused.contains(word), "{word}: {refused}");
        }
        let local =
            MailChange { host: Some("127.0.0.1".to_owned()), tls: Some(MailTls::None), ..first() };
        assert!(apply(None, local).is_ok());
    }
}
