//! `admin recover`.

use clap::Subcommand;
use mfa_core::token::Token;
use mfa_store::{Actor, By};
use serde_json::json;

use super::Globals;
use crate::admin::Answer;
use crate::flows::setup;
use crate::text::utc;

#[derive(Clone, Copy, Debug, Subcommand)]
pub(super) enum Command {
    /// Print a one-use link that makes an administrator, or gives one a new password and factor
    Recover,
}

pub(super) async fn run(globals: &Globals, command: Command) -> anyhow::Result<Answer> {
    let Command::Recover = command;
    let desk = globals.open().await?;
    let by = By::new(Actor::Cli, desk.clock.now());
    let token = Token::from_random(*desk.rng.bytes());
    let digest = token.digest();
    let expires = desk.store.write(move |tx| setup::issue(tx, by, &digest)).await?;
    let link = super::init::link(&desk.config.public_url(), &token)?;
    let human = format!("Open this link until {}. It works once.\n\n    {link}\n", utc(expires));
    let json = json!({ "setup_link": link.as_str(), "expires": expires.as_unix_secs() });
    Ok(Answer::new(json, human))
}
