//! `mail …`: how mail leaves.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use lettre::Address;
use mfa_store::{Actor, By, MailTls, Snapshot};
use mfa_wire::http::SecretText;
use serde_json::json;

use super::Globals;
use crate::admin::Answer;
use crate::config::load::read_secret;
use crate::flows::mail::{self as flow, MailChange};
use crate::mail::{NOT_SET_UP, Transport, test_mail};

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Command {
    /// Show how mail leaves
    Show,
    /// Set how mail leaves; a core that serves takes it up within seconds
    #[command(after_help = "Example (asks for the password):\n  \
        core-bin mail set --host mail.example.com --user vpn --sender 'VPN <vpn@example.com>'")]
    Set(Set),
    /// Remove what was set; mail leaves as core.toml says, if it does
    Unset,
    /// Send a mail, and say what the server said
    #[command(after_help = "Example:\n  core-bin mail test you@example.com")]
    Test {
        /// To whom
        address: String,
    },
}

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Set {
    /// The SMTP server: a name or an address
    #[arg(long)]
    host: Option<String>,
    /// Its port [default: 587, or 465 with TLS from the start]
    #[arg(long)]
    port: Option<u16>,
    /// TLS from the start, STARTTLS, or none (only for a server on this host)
    #[arg(long, value_parser = ["implicit", "starttls", "none"])]
    tls: Option<String>,
    /// The user; empty: the server asks for none
    #[arg(long)]
    user: Option<String>,
    /// A file with the password in it; without it the terminal is asked
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Who mails come from: VPN <vpn@example.com>
    #[arg(long)]
    sender: Option<String>,
}

pub(super) async fn run(globals: &Globals, command: Command) -> anyhow::Result<Answer> {
    match command {
        Command::Show => show(globals).await,
        Command::Set(set) => change(globals, set).await,
        Command::Unset => {
            let desk = globals.open().await?;
            let by = By::new(Actor::Cli, desk.clock.now());
            desk.store.write(move |tx| tx.set_mail_settings(by, None)).await?;
            Ok(Answer::new(json!({ "unset": true }), "The mail settings are removed."))
        }
        Command::Test { address } => test(globals, &address).await,
    }
}

async fn show(globals: &Globals) -> anyhow::Result<Answer> {
    let desk = globals.open().await?;
    let Some(set) = desk.store.read(Snapshot::mail_settings).await? else {
        let (file, text) = if desk.config.smtp.is_some() {
            (true, "Mail leaves as [smtp] of core.toml says.".to_owned())
        } else {
            (false, format!("{NOT_SET_UP}; set it with `core-bin mail set` or in the console."))
        };
        return Ok(Answer::new(json!({ "set_up": file, "server": null }), text));
    };
    let text = format!(
        "Mail leaves by {}:{} ({}), {}, as {}.",
        set.host,
        set.port,
        set.tls.code(),
        if set.login.is_empty() { "without a user" } else { set.login.as_str() },
        set.sender,
    );
    let json = json!({
        "set_up": true,
        "server": {
            "host": set.host, "port": set.port, "tls": set.tls.code(), "login": set.login,
            "has_password": set.password.is_some(), "sender": set.sender,
        },
    });
    Ok(Answer::new(json, text))
}

async fn change(globals: &Globals, set: Set) -> anyhow::Result<Answer> {
    let Set { host, port, tls, user, password_file, sender } = set;
    let password = match password_file {
        Some(file) => Some(read_secret(&file)?),
        None if user.as_ref().is_some_and(|user| !user.is_empty())
            && std::io::stdin().is_terminal() =>
        {
            let typed = rpassword::prompt_password("The mail server's password: ")?;
            Some(SecretText::new(typed))
        }
        None => None,
    };
    let change = MailChange {
        host,
        port,
        tls: tls.as_deref().and_then(MailTls::from_code),
        login: user,
        password,
        sender,
    };
    let desk = globals.open().await?;
    let by = By::new(Actor::Cli, desk.clock.now());
    let protection = flow::store(&desk.store, by, change).await?.protection();
    let text =
        format!("Mail leaves as set ({protection}). Try it: core-bin mail test you@example.com");
    Ok(Answer::new(json!({ "set_up": true, "protection": protection }), text))
}

async fn test(globals: &Globals, address: &str) -> anyhow::Result<Answer> {
    let to: Address = address.parse().context("this is no e-mail address")?;
    let desk = globals.open().await?;
    let transport = match desk.store.read(Snapshot::mail_settings).await? {
        Some(set) => Transport::of(&set)?,
        None => match &desk.config.smtp {
            Some(smtp) => Transport::new(smtp)?,
            None => bail!(
                "{NOT_SET_UP}: set it with `core-bin mail set`, in the console, or as [smtp] in {}",
                globals.dir().config().display()
            ),
        },
    };
    let mail = test_mail(to, &desk.config.public.name, desk.clock.now());
    transport.send(&mail).await.context("the mail was not sent")?;
    let human = format!(
        "Sent to {address} ({}). If it does not arrive, look into the mail server's log.",
        transport.protection()
    );
    Ok(Answer::new(json!({ "sent": address, "protection": transport.protection() }), human))
}
