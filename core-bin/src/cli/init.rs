//! `init`: from an empty directory to a server that runs, without editing a file.

use anyhow::{Context as _, bail};
use mfa_core::token::Token;
use mfa_store::{Actor, By, Snapshot, StoreError};
use serde_json::json;
use url::Url;

use super::Globals;
use crate::admin::Answer;
use crate::app::instance_id;
use crate::clock::Clock;
use crate::config::EXAMPLE;
use crate::dir::{StateDir, write_new};
use crate::flows::setup;
use crate::pki::Ca;
use crate::rng::Rng;
use crate::serve::open_store;
use crate::text::utc;

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  core-bin init\n  \
    core-bin --dir ./state init --url https://vpn.example.com:8443/ --name Example")]
pub(super) struct Args {
    /// What clients and browsers will use [default: this host's name, port 8443]
    #[arg(long, value_name = "URL")]
    url: Option<Url>,
    /// Where the server listens for clients and browsers [default: 0.0.0.0:8443]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<std::net::SocketAddr>,
    /// Where the server listens for gateways [default: 0.0.0.0:8444]
    #[arg(long, value_name = "ADDRESS:PORT")]
    gateways_listen: Option<std::net::SocketAddr>,
    /// What clients call this server [default: wg-mfa]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

pub(super) async fn run(globals: &Globals, args: Args) -> anyhow::Result<Answer> {
    let (dir, rng, now) = (globals.dir(), Rng::system(), Clock::system().now());
    dir.create()?;
    if !dir.config().exists() {
        let text = configuration(&args)?;
        write_new(&dir.config(), 0o600, text.as_bytes())?;
    }
    let config = globals.load().context("the configuration is not usable")?;
    if !dir.master_key().exists() {
        dir.write_master_key(&rng.bytes())?;
    }
    let ca = Ca::load_or_create(&dir.ca(), &rng, now)?;
    let store = open_store(&config, &dir).await?;
    if !store.read(Snapshot::users).await?.is_empty() {
        bail!(
            "{} is in use already; `core-bin admin recover` prints a new link for an administrator",
            dir.path().display()
        );
    }
    let token = Token::from_random(*rng.bytes());
    let (digest, random) = (token.digest(), *rng.bytes::<16>());
    let expires = store
        .write(move |tx| {
            instance_id(tx, random)?;
            setup::issue(tx, By::new(Actor::Cli, now), &digest)
        })
        .await
        .map_err(|error: StoreError| error)?;
    let link = link(&config.public_url(), &token)?;
    let human = words(&dir, &link, &utc(expires), globals);
    let json = json!({
        "dir": dir.path(),
        "setup_link": link.as_str(),
        "expires": expires.as_unix_secs(),
        "url": config.public_url().as_str(),
        "gateways_url": config.gateways_url().as_str(),
        "ca_pin": ca.pin().to_string(),
    });
    Ok(Answer::new(json, human))
}

/// Where a browser sets up an administrator with this token.
pub(super) fn link(url: &Url, token: &Token) -> anyhow::Result<Url> {
    let mut link = url.join("setup").context("public.url cannot be extended")?;
    link.set_query(Some(&format!("token={}", *token.expose_text())));
    Ok(link)
}

/// The commented example with what was asked for in it.
fn configuration(args: &Args) -> anyhow::Result<String> {
    let quote = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mut changes = Vec::new();
    if let Some(url) = &args.url {
        changes.push(("#: url = \"https://vpn", format!("url = {}", quote(url.as_str()))));
    }
    if let Some(listen) = args.listen {
        changes.push(("listen = \"0.0.0.0:8443\"", format!("listen = \"{listen}\"")));
    }
    if let Some(listen) = args.gateways_listen {
        changes.push(("listen = \"0.0.0.0:8444\"", format!("listen = \"{listen}\"")));
    }
    if let Some(name) = &args.name {
        let name = crate::flows::name::label("server", name)?;
        changes.push(("name = \"wg-mfa\"", format!("name = {}", quote(&name))));
    }
    let mut text = String::new();
    for line in EXAMPLE.lines() {
        let change = changes.iter().find(|(start, _)| line.starts_with(start));
        text.push_str(change.map_or(line, |(_, new)| new));
        text.push('\n');
    }
    Ok(text)
}

fn words(dir: &StateDir, link: &Url, expires: &str, globals: &Globals) -> String {
    let at = match &globals.dir {
        Some(dir) => format!(" --dir {}", dir.display()),
        None => String::new(),
    };
    format!(
        "Made {dir}: core.toml, master.key, ca/, the database.\n\
         Keep a copy of master.key in a safe place: without it the database cannot be read.\n\n\
         Start the server:\n\n    core-bin{at} serve\n\n\
         Open this link until {expires}, to make the first administrator. It works once.\n\n    \
         {link}\n\n\
         Then, or instead, at the command line:\n\n    \
         core-bin{at} location add paris --endpoint vpn.example.com:51820 \\\n        \
         --address 10.1.0.1/24\n    \
         core-bin{at} gateway token paris gw1\n    \
         core-bin{at} user add ada --email ada@example.com\n    \
         core-bin{at} user enroll ada\n",
        dir = dir.path().display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn what_was_asked_for_is_in_the_configuration() {
        let args = Args {
            url: Some(Url::parse("https://h:1/").unwrap()),
            listen: Some("[::1]:2".parse().unwrap()),
            gateways_listen: Some("[::1]:3".parse().unwrap()),
            name: Some("A \"B\"".to_owned()),
        };
        let config: Config = toml::from_str(&configuration(&args).unwrap()).unwrap();
        assert_eq!(config.public_url().as_str(), "https://h:1/");
        assert_eq!(config.public.listen.port(), 2);
        assert_eq!(config.gateways.listen.port(), 3);
        assert_eq!(config.public.name, "A \"B\"");
    }
}
