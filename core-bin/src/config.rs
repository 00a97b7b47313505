//! What an administrator sets: `core.toml`, then the environment, then flags.
//!
//! Every key has a default that works, so the file may be empty or missing.
//! `WGMFA_SECTION__KEY` in the environment stands before the file. Unknown keys are refused, with
//! the line: a misspelt setting that is silently not set is worse than a server that does not start.

pub(crate) mod load;
mod show;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use mfa_wire::http::SecretText;
use serde::Deserialize;
use url::Url;

pub use load::{ConfigError, Loader};
pub use show::show;

use crate::span::Span;

/// The commented example: every key with its default.
pub const EXAMPLE: &str = include_str!("../core.example.toml");

/// Everything that can be set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What clients and browsers talk to.
    pub public: Public,
    /// What gateways dial.
    pub gateways: Gateways,
    /// Where state is kept.
    pub database: Database,
    /// How mail leaves; absent: no mail, and no e-mail codes.
    pub smtp: Option<Smtp>,
    /// Sessions.
    pub sessions: Sessions,
    /// The log.
    pub log: Log,
}

/// The public listener.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Public {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// What clients and browsers are told to use; absent: this host's name and the port above.
    pub url: Option<Url>,
    /// What clients call this server.
    pub name: String,
    /// Who answers users' questions, shown when they enroll.
    pub contact: String,
    /// Where the certificate comes from.
    pub tls: Tls,
    /// The certificate chain, PEM, for `tls = "files"`.
    pub cert: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

impl Default for Public {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8443)),
            url: None,
            name: "wg-mfa".to_owned(),
            contact: String::new(),
            tls: Tls::SelfSigned,
            cert: None,
            key: None,
            trusted_proxies: Vec::new(),
        }
    }
}

/// Where the public listener's certificate comes from.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Tls {
    /// From core's own CA; our client pins it, browsers warn.
    SelfSigned,
    /// From files, made by a CA that everybody knows.
    Files,
    /// Plain HTTP, for a proxy that speaks TLS in front of it.
    Off,
}

/// The gateways' listener.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gateways {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// What gateways are told to dial; absent: the public URL's host and the port above.
    pub url: Option<Url>,
    /// Whether gateways of another make are served without TLS, too: their token and all keys of
    /// the location can then be read on the way.
    pub allow_plaintext_legacy: bool,
}

impl Default for Gateways {
    fn default() -> Self {
        let listen = SocketAddr::from(([0, 0, 0, 0], 8444));
        Self { listen, url: None, allow_plaintext_legacy: false }
    }
}

/// Where state is kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// `sqlite:FILE`, relative to the state directory, or `postgres://USER:PASSWORD@HOST/NAME`.
    pub url: SecretText,
    /// A file with the URL in it, instead.
    pub url_file: Option<PathBuf>,
}

impl Default for Database {
    fn default() -> Self {
        Self { url: SecretText::new("sqlite:core.db"), url_file: None }
    }
}

/// How mail leaves.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smtp {
    /// `smtps://USER@HOST:465` (TLS from the start) or `smtp://USER@HOST:587` (STARTTLS, required).
    #[serde(default)]
    pub url: Option<SecretText>,
    /// A file with the URL in it, instead.
    #[serde(default)]
    pub url_file: Option<PathBuf>,
    /// The password, if it is not part of the URL.
    #[serde(default)]
    pub password: Option<SecretText>,
    /// A file with the password in it, instead.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// The sender: `wg-mfa <vpn@example.com>`.
    pub from: String,
    /// `off` allows plain text to a server that is not on this host.
    #[serde(default)]
    pub tls: SmtpTls,
    /// A CA certificate, PEM, if the server's is not one that everybody knows.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

/// What an SMTP connection must have.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum SmtpTls {
    /// TLS, except to a loopback address.
    #[default]
    Required,
    /// None.
    Off,
}

/// Sessions.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sessions {
    /// How often sessions are checked for inactivity.
    pub check_period: Span,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { check_period: Span::from_secs(60) }
    }
}

/// The log, on standard error.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or per module: `info,core_bin::http=debug`.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Human }
    }
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// What clients and browsers are told to use; ends with a slash.
    #[must_use]
    pub fn public_url(&self) -> Url {
        let mut url = self.public.url.clone().unwrap_or_else(|| self.guessed_url());
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        url
    }

    /// What gateways are told to dial.
    #[must_use]
    pub fn gateways_url(&self) -> Url {
        if let Some(url) = &self.gateways.url {
            return url.clone();
        }
        let mut url = self.public_url();
        url.set_path("");
        // Neither fails for a URL that has a host, as http and https URLs do.
        let _ = url.set_scheme("https");
        let _ = url.set_port(Some(self.gateways.listen.port()));
        url
    }

    /// Returns the database's URL with a relative SQLite path under `dir`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Unreadable`] if `url_file` cannot be read.
    pub fn database_url(&self, dir: &Path) -> Result<SecretText, ConfigError> {
        let url = match &self.database.url_file {
            Some(file) => load::read_secret(file)?,
            None => self.database.url.clone(),
        };
        let Some(path) = url.expose_secret().strip_prefix("sqlite:") else { return Ok(url) };
        if path == ":memory:" || Path::new(path).is_absolute() {
            return Ok(url);
        }
        Ok(SecretText::new(format!("sqlite:{}", dir.join(path).display())))
    }

    fn guessed_url(&self) -> Url {
        let scheme = if self.public.tls == Tls::Off { "http" } else { "https" };
        let port = self.public.listen.port();
        let ip = self.public.listen.ip();
        let host = if ip.is_unspecified() {
            crate::dir::hostname()
        } else if ip.is_ipv6() {
            format!("[{ip}]")
        } else {
            ip.to_string()
        };
        let guess = Url::parse(&format!("{scheme}://{host}:{port}/"));
        guess.unwrap_or_else(|_| localhost(scheme, port))
    }
}

fn localhost(scheme: &str, port: u16) -> Url {
    let text = format!("{scheme}://localhost:{port}/");
    #[expect(clippy::expect_used, reason = "a literal with a number in it is a URL")]
    Url::parse(&text).expect("a URL")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_says_what_the_defaults_are() {
        let example: Config = toml::from_str(EXAMPLE).unwrap();
        let default = Config::default();
        assert_eq!(show(&example), show(&default));
    }

    #[test]
    fn the_example_names_every_key_also_in_its_comments() {
        let all: String = EXAMPLE
            .lines()
            .map(|line| line.strip_prefix("#: ").unwrap_or(line))
            .flat_map(|line| [line, "\n"])
            .collect();
        let config: Config = toml::from_str(&all).unwrap();
        assert!(config.smtp.is_some() && config.public.url.is_some());
        for key in show::keys() {
            let (_, name) = key.split_once('.').unwrap();
            assert!(all.lines().any(|line| line.starts_with(&format!("{name} ="))), "{key}");
        }
    }

    #[test]
    fn a_public_url_ends_with_a_slash_and_the_gateways_is_beside_it() {
        let config: Config =
            toml::from_str("[public]\nurl = \"https://vpn.example.com/mfa\"").unwrap();
        assert_eq!(config.public_url().as_str(), "https://vpn.example.com/mfa/");
        assert_eq!(config.gateways_url().as_str(), "https://vpn.example.com:8444/");
    }

    #[test]
    fn a_relative_database_is_in_the_state_directory() {
        let url = Config::default().database_url(Path::new("/var/lib/wg-mfa")).unwrap();
        assert_eq!(url.expose_secret(), "sqlite:/var/lib/wg-mfa/core.db");
    }
}
