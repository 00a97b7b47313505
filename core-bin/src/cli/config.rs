//! `config check` and `config show`.

use clap::Subcommand;
use serde_json::json;

use super::Globals;
use crate::admin::Answer;
use crate::config::{EXAMPLE, show};

#[derive(Clone, Copy, Debug, Subcommand)]
pub(super) enum Command {
    /// Say whether the configuration can be used
    Check,
    /// Print what is in force: defaults, file and environment together, secrets hidden
    Show,
    /// Print the commented example
    Example,
}

pub(super) fn run(globals: &Globals, command: Command) -> anyhow::Result<Answer> {
    if matches!(command, Command::Example) {
        return Ok(Answer::new(json!({ "example": EXAMPLE }), EXAMPLE));
    }
    let config = globals.load()?;
    if matches!(command, Command::Show) {
        let shown = show(&config);
        let table: toml::Table = toml::from_str(&shown)?;
        return Ok(Answer::new(serde_json::to_value(table)?, shown));
    }
    let dir = globals.dir();
    dir.read_master_key()?;
    if let Some(smtp) = &config.smtp {
        crate::mail::Transport::new(smtp)?;
    }
    if let (Some(cert), Some(key)) = (&config.public.cert, &config.public.key) {
        crate::http::tls::from_files(cert, key)?;
    }
    config.database_url(dir.path())?;
    let human = format!(
        "{} can be used.\n  clients and browsers  {}\n  gateways              {}\n  e-mail codes          {}\n",
        dir.config().display(),
        config.public_url(),
        config.gateways_url(),
        if config.smtp.is_some() { "yes" } else { "no: there is no [smtp]" },
    );
    let json = json!({
        "ok": true,
        "url": config.public_url().as_str(),
        "gateways_url": config.gateways_url().as_str(),
        "smtp": config.smtp.is_some(),
    });
    Ok(Answer::new(json, human))
}
