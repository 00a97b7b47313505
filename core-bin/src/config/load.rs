//! Reads the file, lays the environment over it, checks the whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mfa_wire::http::SecretText;
use serde::Deserialize as _;
use toml::{Table, Value};

use super::{Config, SmtpTls, Tls};

const PREFIX: &str = "WGMFA_";
const SEPARATOR: &str = "__";

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML, or a key in it is unknown or has the wrong type.
    #[error("{}: {message}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What and where, without values.
        message: String,
    },
    /// A variable names no key, or has a value that the key cannot take.
    #[error("environment variable {name}: {message}")]
    Environment {
        /// Which variable.
        name: String,
        /// What is wrong with it, without its value.
        message: String,
    },
    /// Two settings contradict each other, or one needs another.
    #[error("{0}")]
    Rule(String),
}

/// Where settings come from.
#[derive(Clone, Debug, Default)]
pub struct Loader {
    file: Option<PathBuf>,
    must_exist: bool,
    environment: BTreeMap<String, String>,
}

impl Loader {
    /// Starts with defaults alone.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads `file`, unless it does not exist.
    #[must_use]
    pub fn file(mut self, file: impl Into<PathBuf>) -> Self {
        self.file = Some(file.into());
        self
    }

    /// Reads `file`, which must exist.
    #[must_use]
    pub fn required_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.file = Some(file.into());
        self.must_exist = true;
        self
    }

    /// Lays variables over the file; those that are not ours are passed over.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let ours = variables.into_iter().filter(|(name, _)| {
            name.strip_prefix(PREFIX).is_some_and(|rest| rest.contains(SEPARATOR))
        });
        self.environment.extend(ours);
        self
    }

    /// Reads and checks it all.
    ///
    /// # Errors
    ///
    /// Any [`ConfigError`]; the first one found.
    pub fn load(&self) -> Result<Config, ConfigError> {
        let (mut table, mut config) = self.read_file()?;
        for (name, value) in &self.environment {
            config = overlay(&mut table, name, value)?;
        }
        check(&config)?;
        Ok(config)
    }

    fn read_file(&self) -> Result<(Table, Config), ConfigError> {
        let Some(path) = &self.file else { return Ok((Table::new(), Config::default())) };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !self.must_exist => {
                return Ok((Table::new(), Config::default()));
            }
            Err(source) => return Err(ConfigError::Unreadable { path: path.clone(), source }),
        };
        let refuse = |error: &toml::de::Error| ConfigError::File {
            path: path.clone(),
            message: locate(&text, error),
        };
        // Straight from the text, since only so does an error know its line.
        let config = toml::from_str(&text).map_err(|error| refuse(&error))?;
        let table = toml::from_str(&text).map_err(|error| refuse(&error))?;
        Ok((table, config))
    }
}

/// Reads a file that holds one secret; a newline at its end is not part of it.
pub(crate) fn read_secret(path: &Path) -> Result<SecretText, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    let text = zeroize::Zeroizing::new(text);
    Ok(SecretText::new(text.trim_end_matches(['\r', '\n'])))
}

/// Says what and where, without quoting the line: it may hold a password.
fn locate(text: &str, error: &toml::de::Error) -> String {
    let message = error.message();
    let Some(span) = error.span() else { return message.to_owned() };
    let before = text.get(..span.start).unwrap_or(text);
    format!("line {}: {message}", before.matches('\n').count() + 1)
}

/// Sets one key from the environment: as text if the key takes text, else as TOML.
fn overlay(table: &mut Table, name: &str, value: &str) -> Result<Config, ConfigError> {
    let refuse = |message: String| ConfigError::Environment { name: name.to_owned(), message };
    let path = name.strip_prefix(PREFIX).unwrap_or(name).to_ascii_lowercase();
    let Some((section, key)) = path.split_once(SEPARATOR) else {
        return Err(refuse("is not of the form WGMFA_SECTION__KEY".to_owned()));
    };
    let parsed = toml::from_str::<Table>(&format!("value = {value}"))
        .ok()
        .and_then(|mut table| table.remove("value"));
    let candidates = [Some(Value::String(value.to_owned())), parsed];
    let mut problem = String::new();
    for candidate in candidates.into_iter().flatten() {
        let mut trial = table.clone();
        let entry = trial.entry(section).or_insert_with(|| Value::Table(Table::new()));
        let Some(entry) = entry.as_table_mut() else { continue };
        entry.insert(key.to_owned(), candidate);
        match Config::deserialize(Value::Table(trial.clone())) {
            Ok(config) => {
                *table = trial;
                return Ok(config);
            }
            // A section may need a key that a later variable brings.
            Err(error) if error.message().starts_with("missing field") => {
                *table = trial;
                return Ok(Config::default());
            }
            Err(error) => error.message().clone_into(&mut problem),
        }
    }
    Err(refuse(problem))
}

/// What types cannot say.
fn check(config: &Config) -> Result<(), ConfigError> {
    let rule = |text: &str| Err(ConfigError::Rule(text.to_owned()));
    let public = &config.public;
    match (public.tls, &public.cert, &public.key) {
        (Tls::Files, None, _) | (Tls::Files, _, None) => {
            return rule("public.tls = \"files\" needs public.cert and public.key");
        }
        (Tls::SelfSigned | Tls::Off, Some(_), _) | (Tls::SelfSigned | Tls::Off, _, Some(_)) => {
            return rule(
                "public.cert and public.key are set, but not used: set public.tls = \"files\"",
            );
        }
        (Tls::Files, Some(_), Some(_)) | (Tls::SelfSigned | Tls::Off, None, None) => {}
    }
    if let Some(url) = &public.url
        && (!matches!(url.scheme(), "http" | "https") || url.host_str().is_none())
    {
        return rule("public.url must begin with https:// (or http://) and name a host");
    }
    if let Some(url) = &config.gateways.url
        && (url.scheme() != "https" || url.host_str().is_none())
    {
        return rule("gateways.url must begin with https:// and name a host");
    }
    let period = config.sessions.check_period.as_secs();
    if !(1..=3_600).contains(&period) {
        return rule("sessions.check_period must be between 1s and 1h");
    }
    if let Some(smtp) = &config.smtp {
        if smtp.url.is_some() == smtp.url_file.is_some() {
            return rule("smtp needs exactly one of smtp.url and smtp.url_file");
        }
        if smtp.password.is_some() && smtp.password_file.is_some() {
            return rule("smtp.password and smtp.password_file cannot both be set");
        }
        if let Some(url) = &smtp.url {
            let implicit = url.expose_secret().starts_with("smtps://");
            if !implicit && !url.expose_secret().starts_with("smtp://") {
                return rule("smtp.url must begin with smtps:// or smtp://");
            }
            if implicit && smtp.tls == SmtpTls::Off {
                return rule("smtp.tls = \"off\" contradicts an smtps:// URL");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Loaded = Result<Config, ConfigError>;

    fn refusal_of(text: &str) -> ConfigError {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("core.toml");
        std::fs::write(&path, text).expect("a file");
        Loader::new().required_file(path).load().unwrap_err()
    }

    fn from_environment(variables: &[(&str, &str)]) -> Loaded {
        let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Loader::new().environment(variables).load()
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let error = refusal_of("# hello\n[public]\nlisten = \"[::]:1\"\nlissten = 4\n");
        let shown = error.to_string();
        assert!(shown.contains("line 4") && shown.contains("lissten"), "{shown}");
    }

    #[test]
    fn an_error_quotes_no_value() {
        let error = refusal_of("[smtp]\nfrom = \"a@b\"\npassword = [\"hunter2\"]\n");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn the_environment_stands_before_the_file() {
        let config = from_environment(&[
            ("WGMFA_PUBLIC__LISTEN", "[::1]:9"),
            ("WGMFA_PUBLIC__TRUSTED_PROXIES", "[\"10.0.0.0/8\"]"),
            ("WGMFA_SESSIONS__CHECK_PERIOD", "5m"),
            ("WGMFA_DATABASE__URL", "123"),
            ("WGMFA_DIR", "/x"),
            ("PATH", "/bin"),
        ])
        .unwrap();
        assert_eq!(config.public.listen.to_string(), "[::1]:9");
        assert_eq!(config.public.trusted_proxies.len(), 1);
        assert_eq!(config.sessions.check_period, Span::from_secs(300));
        assert_eq!(config.database.url.expose_secret(), "123", "text stays text");
    }

    #[test]
    fn a_section_can_come_from_the_environment_alone() {
        let smtp = [("WGMFA_SMTP__URL", "smtp://127.0.0.1:25"), ("WGMFA_SMTP__FROM", "a@b.c")];
        assert!(from_environment(&smtp).unwrap().smtp.is_some());
    }

    #[test]
    fn a_misspelt_variable_is_refused_by_name() {
        let error = from_environment(&[("WGMFA_PUBLIC__LISSTEN", "x")]).unwrap_err();
        assert!(error.to_string().contains("WGMFA_PUBLIC__LISSTEN"), "{error}");
    }

    #[test]
    fn contradictions_are_refused() {
        for text in [
            "[public]\ntls = \"files\"",
            "[public]\ncert = \"x\"",
            "[public]\nurl = \"ftp://x\"",
            "[sessions]\ncheck_period = \"0s\"",
            "[smtp]\nfrom = \"a@b\"",
            "[smtp]\nfrom = \"a@b\"\nurl = \"smtps://h\"\ntls = \"off\"",
            "[smtp]\nfrom = \"a@b\"\nurl = \"http://h\"",
        ] {
            assert!(matches!(refusal_of(text), ConfigError::Rule(_)), "{text}");
        }
    }

    use crate::span::Span;
}
