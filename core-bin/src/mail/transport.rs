//! A connection to an SMTP server, as the configuration asks for it.

use core::fmt;
use core::time::Duration;
use std::net::IpAddr;

use data_encoding::HEXLOWER_PERMISSIVE;
use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, Tokio1Executor};
use mfa_store::{MailSettings, MailTls};
use url::{Host, Url};

use super::MailError;
use crate::config::{Smtp, SmtpTls, load};

/// How long the server may take for one answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// An SMTP server and the sender's name.
pub struct Transport {
    smtp: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    security: Security,
}

/// What protects the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Security {
    Implicit,
    StartTls,
    Plain,
}

/// Why mail did not go out, or cannot.
#[derive(Debug, thiserror::Error)]
pub enum SmtpError {
    /// A setting is wrong.
    #[error("{0}")]
    Setting(String),
    /// A file named in the settings cannot be read.
    #[error(transparent)]
    File(#[from] crate::config::ConfigError),
    /// The mail cannot be written.
    #[error(transparent)]
    Mail(#[from] MailError),
    /// The server, or the way to it, refused.
    #[error("{}", chain(.0))]
    Smtp(#[from] lettre::transport::smtp::Error),
}

impl SmtpError {
    /// Tells whether another try may succeed: the server was not there, or said "not now".
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Setting(_) | Self::File(_) | Self::Mail(_) => false,
            Self::Smtp(error) => !error.is_permanent() && !error.is_client(),
        }
    }
}

/// Says the error with its causes: lettre's own words stop at "Connection error".
fn chain(error: &lettre::transport::smtp::Error) -> String {
    let mut text = error.to_string();
    let mut cause = core::error::Error::source(error);
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

impl Transport {
    /// Prepares the connection; nothing is sent yet. To be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`SmtpError::Setting`] or [`SmtpError::File`].
    pub fn new(settings: &Smtp) -> Result<Self, SmtpError> {
        let url = match (&settings.url, &settings.url_file) {
            (Some(url), _) => url.clone(),
            (None, Some(file)) => load::read_secret(file)?,
            (None, None) => return Err(setting("smtp.url is missing")),
        };
        // The parser's error could repeat the password.
        let url = Url::parse(url.expose_secret()).map_err(|_| setting("smtp.url is no URL"))?;
        let host = url.host_str().ok_or_else(|| setting("smtp.url names no host"))?.to_owned();
        let security = security(&url, settings.tls)?;
        let port = url.port().unwrap_or(match security {
            Security::Implicit => 465,
            Security::StartTls => 587,
            Security::Plain => 25,
        });
        let tls = match security {
            Security::Plain => Tls::None,
            Security::Implicit => Tls::Wrapper(parameters(&host, settings)?),
            Security::StartTls => Tls::Required(parameters(&host, settings)?),
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
            .port(port)
            .tls(tls)
            .timeout(Some(TIMEOUT));
        if let Some(credentials) = credentials(&url, settings)? {
            builder = builder.credentials(credentials);
        }
        let from = settings
            .from
            .parse()
            .map_err(|_| setting("smtp.from is no address; write it as: VPN <vpn@example.com>"))?;
        Ok(Self { smtp: builder.build(), from, security })
    }

    /// Prepares the connection that an administrator set; nothing is sent yet. To be called within
    /// a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`SmtpError::Setting`], in words for whoever filled the form in.
    pub fn of(settings: &MailSettings) -> Result<Self, SmtpError> {
        let MailSettings { host, port, tls, login, password, sender } = settings;
        let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.is_empty() || host.len() > 253 || !host.chars().all(name) {
            return Err(setting("the mail server is a host name or an IP address"));
        }
        if *port == 0 {
            return Err(setting("the port is a number from 1 to 65535"));
        }
        let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let parameters = || TlsParameters::builder(host.clone()).build_rustls();
        let (security, tls) = match tls {
            MailTls::Implicit => (Security::Implicit, Tls::Wrapper(parameters()?)),
            MailTls::StartTls => (Security::StartTls, Tls::Required(parameters()?)),
            MailTls::None if local => (Security::Plain, Tls::None),
            MailTls::None => {
                return Err(setting(
                    "without TLS, codes go no further than this host: choose TLS, or a mail \
                     server on 127.0.0.1",
                ));
            }
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host.clone())
            .port(*port)
            .tls(tls)
            .timeout(Some(TIMEOUT));
        match (login.as_str(), password) {
            ("", None) => {}
            ("", Some(_)) => return Err(setting("there is a password, but no user")),
            (_, None) => return Err(setting("there is a user, but no password")),
            (login, Some(password)) => {
                let credentials = Credentials::new(login.to_owned(), password.to_string());
                builder = builder.credentials(credentials);
            }
        }
        let from = sender
            .parse()
            .map_err(|_| setting("the sender is no address; write it as: VPN <vpn@example.com>"))?;
        Ok(Self { smtp: builder.build(), from, security })
    }

    pub(super) const fn smtp(&self) -> &AsyncSmtpTransport<Tokio1Executor> {
        &self.smtp
    }

    pub(super) const fn from(&self) -> &Mailbox {
        &self.from
    }

    /// Says how the connection is protected.
    #[must_use]
    pub const fn protection(&self) -> &'static str {
        match self.security {
            Security::Implicit => "TLS from the start",
            Security::StartTls => "STARTTLS, required",
            Security::Plain => "plain text",
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("security", &self.security).finish_non_exhaustive()
    }
}

fn security(url: &Url, tls: SmtpTls) -> Result<Security, SmtpError> {
    let asked = url.query_pairs().find(|(name, _)| name == "tls").map(|(_, value)| value);
    match (url.scheme(), asked.as_deref(), tls) {
        ("smtps", _, _) => Ok(Security::Implicit),
        ("smtp", None, SmtpTls::Off) => Ok(Security::Plain),
        ("smtp", None, SmtpTls::Required) if is_loopback(url) => Ok(Security::Plain),
        ("smtp", None | Some("required"), SmtpTls::Required) => Ok(Security::StartTls),
        ("smtp", Some(_), _) => Err(setting(
            "smtp.url: the only ?tls= is ?tls=required, and smtp.tls = \"off\" contradicts it",
        )),
        _ => Err(setting("smtp.url must begin with smtps:// or smtp://")),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        // For a scheme that it does not know, the parser leaves an address as a name.
        Some(Host::Domain(name)) => {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        None => false,
    }
}

fn parameters(host: &str, settings: &Smtp) -> Result<TlsParameters, SmtpError> {
    let mut builder = TlsParameters::builder(host.to_owned());
    if let Some(path) = &settings.ca {
        let pem = std::fs::read(path).map_err(|source| crate::config::ConfigError::Unreadable {
            path: path.clone(),
            source,
        })?;
        let certificate =
            Certificate::from_pem(&pem).map_err(|_| setting("smtp.ca holds no PEM certificate"))?;
        builder = builder.add_root_certificate(certificate);
    }
    Ok(builder.build_rustls()?)
}

fn credentials(url: &Url, settings: &Smtp) -> Result<Option<Credentials>, SmtpError> {
    let password = match (&settings.password, &settings.password_file) {
        (Some(password), _) => Some(password.expose_secret().to_owned()),
        (None, Some(file)) => Some(load::read_secret(file)?.expose_secret().to_owned()),
        (None, None) => url.password().map(percent_decode),
    };
    match (url.username(), password) {
        ("", None) => Ok(None),
        ("", Some(_)) => Err(setting("smtp has a password, but smtp.url names no user")),
        (_, None) => Err(setting("smtp.url names a user, but there is no smtp.password")),
        (user, Some(password)) => Ok(Some(Credentials::new(percent_decode(user), password))),
    }
}

/// Turns `%40` into `@`; what is no such sequence stays.
fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        let decoded = after.get(..2).and_then(|hex| {
            HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).ok().and_then(|byte| byte.first().copied())
        });
        if let (Some(byte), Some(tail)) = (decoded, after.get(2..)) {
            bytes.push(byte);
            rest = tail;
        } else {
            bytes.push(b'%');
            rest = after;
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

fn setting(text: &str) -> SmtpError {
    SmtpError::Setting(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(url: &str, tls: SmtpTls) -> Option<Security> {
        security(&Url::parse(url).unwrap(), tls).ok()
    }

    #[test]
    fn plain_text_goes_no_further_than_this_host_unless_allowed() {
        use SmtpTls::{Off, Required};
        for (url, tls, expected) in [
            ("smtps://mail.example.com", Required, Some(Security::Implicit)),
            ("smtp://mail.example.com", Required, Some(Security::StartTls)),
            ("smtp://mail.example.com:25?tls=required", Required, Some(Security::StartTls)),
            ("smtp://127.0.0.1:2525", Required, Some(Security::Plain)),
            ("smtp://[::1]:2525", Required, Some(Security::Plain)),
            ("smtp://localhost", Required, Some(Security::Plain)),
            ("smtp://localhost?tls=required", Required, Some(Security::StartTls)),
            ("smtp://127.0.0.1.example.com", Required, Some(Security::StartTls)),
            ("smtp://mail.example.com", Off, Some(Security::Plain)),
            ("smtp://mail.example.com?tls=none", Required, None),
            ("http://mail.example.com", Required, None),
        ] {
            assert_eq!(judge(url, tls), expected, "{url}");
        }
    }

    #[tokio::test]
    async fn a_user_needs_a_password_and_the_other_way_round() {
        let load = |text: &str| -> Smtp { toml::from_str(text).unwrap() };
        let ok = "url = \"smtps://vpn%40example.com@h\"\npassword = \"p\"\nfrom = \"a@b.c\"";
        assert!(Transport::new(&load(ok)).is_ok());
        for text in [
            "url = \"smtps://vpn@h\"\nfrom = \"a@b.c\"",
            "url = \"smtps://h\"\npassword = \"p\"\nfrom = \"a@b.c\"",
            "url = \"smtps://h\"\nfrom = \"nobody\"",
        ] {
            assert!(matches!(Transport::new(&load(text)), Err(SmtpError::Setting(_))), "{text}");
        }
    }

    #[test]
    fn a_user_name_may_be_an_address() {
        assert_eq!(percent_decode("vpn%40example.com"), "vpn@example.com");
        assert_eq!(percent_decode("100%"), "100%");
        assert_eq!(percent_decode("%zz%e4"), "%zz\u{fffd}");
    }
}
