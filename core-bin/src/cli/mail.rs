//! `mail test`.

use anyhow::{Context as _, bail};
use clap::Subcommand;
use lettre::Address;
use serde_json::json;

use super::Globals;
use crate::admin::Answer;
use crate::clock::Clock;
use crate::mail::{Transport, test_mail};

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Command {
    /// Send a mail, and say what the server said
    #[command(after_help = "Example:\n  core-bin mail test you@example.com")]
    Test {
        /// To whom
        address: String,
    },
}

pub(super) async fn run(globals: &Globals, command: Command) -> anyhow::Result<Answer> {
    let Command::Test { address } = command;
    let config = globals.load()?;
    let Some(smtp) = &config.smtp else {
        bail!(
            "there is no [smtp] in {}; `core-bin config example` shows how it looks",
            globals.dir().config().display()
        );
    };
    let to: Address = address.parse().context("this is no e-mail address")?;
    let transport = Transport::new(smtp)?;
    let mail = test_mail(to, &config.public.name, Clock::system().now());
    transport.send(&mail).await.context("the mail was not sent")?;
    let human = format!(
        "Sent to {address} ({}). If it does not arrive, look into the mail server's log.",
        transport.protection()
    );
    Ok(Answer::new(json!({ "sent": address, "protection": transport.protection() }), human))
}
