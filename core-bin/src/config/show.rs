//! What is in force, for people to read.

use core::fmt::Write as _;

use super::{Config, LogFormat, SmtpTls, Tls};

const MASK: &str = "(hidden)";

/// Prints every setting as TOML, with secrets masked.
#[must_use]
pub fn show(config: &Config) -> String {
    // Writing to a String cannot fail.
    let mut text = String::new();
    let mut section = "";
    for (key, value) in entries(config) {
        let (name, field) = key.split_once('.').unwrap_or(("", key));
        let Some(value) = value else { continue };
        if name != section {
            if !section.is_empty() {
                text.push('\n');
            }
            let _ = writeln!(text, "[{name}]");
            section = name;
        }
        let _ = writeln!(text, "{field} = {value}");
    }
    text
}

/// Every key there is.
#[cfg(test)]
pub(super) fn keys() -> Vec<&'static str> {
    entries(&Config::default()).into_iter().map(|(key, _)| key).collect()
}

/// Every key with its value as TOML; `None`: not set.
fn entries(config: &Config) -> Vec<(&'static str, Option<String>)> {
    let Config { public, gateways, database, smtp, sessions, log } = config;
    let smtp = smtp.as_ref();
    let proxies = public.trusted_proxies.iter().map(|net| quote(&net.to_string()));
    let database_url = database.url_file.is_none().then(|| mask_url(database.url.expose_secret()));
    vec![
        ("public.listen", Some(quote(&public.listen.to_string()))),
        ("public.url", public.url.as_ref().map(|url| quote(url.as_str()))),
        ("public.name", Some(quote(&public.name))),
        ("public.contact", Some(quote(&public.contact))),
        ("public.tls", Some(quote(tls(public.tls)))),
        ("public.cert", public.cert.as_ref().map(|path| quote(&path.to_string_lossy()))),
        ("public.key", public.key.as_ref().map(|path| quote(&path.to_string_lossy()))),
        ("public.trusted_proxies", Some(format!("[{}]", proxies.collect::<Vec<_>>().join(", ")))),
        ("gateways.listen", Some(quote(&gateways.listen.to_string()))),
        ("gateways.url", gateways.url.as_ref().map(|url| quote(url.as_str()))),
        ("gateways.allow_plaintext_legacy", Some(gateways.allow_plaintext_legacy.to_string())),
        ("database.url", database_url.map(|url| quote(&url))),
        ("database.url_file", path(database.url_file.as_deref())),
        (
            "smtp.url",
            smtp.and_then(|smtp| smtp.url.as_ref())
                .map(|url| quote(&mask_url(url.expose_secret()))),
        ),
        ("smtp.url_file", path(smtp.and_then(|smtp| smtp.url_file.as_deref()))),
        ("smtp.password", smtp.and_then(|smtp| smtp.password.as_ref()).map(|_| quote(MASK))),
        ("smtp.password_file", path(smtp.and_then(|smtp| smtp.password_file.as_deref()))),
        ("smtp.from", smtp.map(|smtp| quote(&smtp.from))),
        ("smtp.tls", smtp.map(|smtp| quote(smtp_tls(smtp.tls)))),
        ("smtp.ca", path(smtp.and_then(|smtp| smtp.ca.as_deref()))),
        ("sessions.check_period", Some(quote(&sessions.check_period.to_string()))),
        ("log.level", Some(quote(&log.level))),
        ("log.format", Some(quote(format_word(log.format)))),
    ]
}

/// Hides the password of a URL; of one that cannot be parsed, all of it.
fn mask_url(text: &str) -> String {
    let Ok(mut url) = url::Url::parse(text) else { return MASK.to_owned() };
    if url.password().is_some() && url.set_password(Some("hidden")).is_err() {
        return MASK.to_owned();
    }
    url.to_string()
}

fn path(path: Option<&std::path::Path>) -> Option<String> {
    path.map(|path| quote(&path.to_string_lossy()))
}

fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

const fn tls(tls: Tls) -> &'static str {
    match tls {
        Tls::SelfSigned => "self-signed",
        Tls::Files => "files",
        Tls::Off => "off",
    }
}

const fn smtp_tls(tls: SmtpTls) -> &'static str {
    match tls {
        SmtpTls::Required => "required",
        SmtpTls::Off => "off",
    }
}

const fn format_word(format: LogFormat) -> &'static str {
    match format {
        LogFormat::Human => "human",
        LogFormat::Json => "json",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked() {
        let config: Config = toml::from_str(
            "[database]\nurl = \"postgres://u:canary1@h/d\"\n\
             [smtp]\nurl = \"smtp://u:canary2@h\"\npassword = \"canary3\"\nfrom = \"a@b\"",
        )
        .unwrap();
        let shown = show(&config);
        assert!(!shown.contains("canary"), "{shown}");
        assert!(shown.contains("postgres://u:hidden@h/d"), "{shown}");
        assert!(!format!("{config:?}").contains("canary"));
    }

    #[test]
    fn what_is_shown_can_be_read_back() {
        let shown = show(&Config::default());
        let read: Config = toml::from_str(&shown).unwrap();
        assert_eq!(show(&read), shown);
    }
}
