//! Commands: a noun, a verb. Each opens the state directly, so it works with and without a running
//! server, and tells a running one to look at once.

mod config;
mod desk;
mod health;
mod init;
mod mail;
mod recover;
mod serve;
mod shell;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::admin::{Answer, Noun};

/// The control server of wg-mfa: who may use which WireGuard tunnel, with which second factor.
#[derive(Debug, Parser)]
#[command(
    name = "core-bin",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "From nothing to a first connection:\n\
      \n  core-bin init\
      \n  core-bin serve &\
      \n  core-bin location add paris --endpoint vpn.example.com:51820 --address 10.1.0.1/24\
      \n  core-bin gateway token paris gw1        (run what it prints on the gateway)\
      \n  core-bin user add ada --email ada@example.com\
      \n  core-bin user enroll ada                (run what it prints on ada's computer)"
)]
pub struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(Clone, Debug, clap::Args)]
struct Globals {
    /// The state directory [default: /var/lib/wg-mfa for root, else ./wg-mfa]
    #[arg(
        long,
        global = true,
        env = "WGMFA_DIR",
        value_name = "DIR",
        help_heading = "Global options"
    )]
    dir: Option<PathBuf>,
    /// The configuration file [default: core.toml in the state directory]
    #[arg(
        long,
        global = true,
        env = "WGMFA_CONFIG",
        value_name = "FILE",
        help_heading = "Global options"
    )]
    config: Option<PathBuf>,
    /// How to answer
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Human, help_heading = "Global options")]
    output: Format,
    /// The same as --output json
    #[arg(long, global = true, help_heading = "Global options")]
    json: bool,
}

/// How to answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Format {
    /// For people
    Human,
    /// For programs; the names of fields stay as they are
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a state directory: configuration, keys, database; print a link for the first administrator
    Init(init::Args),
    /// Run the server
    Serve(serve::Args),
    /// Check or show the configuration
    #[command(subcommand)]
    Config(config::Command),
    #[command(flatten)]
    Noun(Noun),
    /// Set, show and try how mail leaves
    #[command(subcommand)]
    Mail(mail::Command),
    /// Ask a running server whether it is well; the exit code says so
    Health,
    /// Get back in
    #[command(subcommand)]
    Admin(recover::Command),
    /// Print completions for a shell
    Completions(shell::CompletionsArgs),
    /// Print the manual page
    Man,
}

/// Runs a command to its end, and says how it went.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    let Cli { globals, command } = cli;
    let json = globals.json || globals.output == Format::Json;
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error), json),
    };
    match runtime.block_on(dispatch(globals, command)) {
        Ok(answer) => print(&answer, json),
        Err(error) => fail(&error, json),
    }
}

async fn dispatch(globals: Globals, command: Command) -> anyhow::Result<Answer> {
    match command {
        Command::Init(args) => init::run(&globals, args).await,
        Command::Serve(args) => serve::run(&globals, args).await,
        Command::Config(command) => config::run(&globals, command),
        Command::Noun(noun) => Ok(globals.open().await?.run(noun).await?),
        Command::Mail(command) => mail::run(&globals, command).await,
        Command::Health => health::run(&globals).await,
        Command::Admin(command) => recover::run(&globals, command).await,
        Command::Completions(args) => shell::completions(args),
        Command::Man => shell::man(),
    }
}

fn print(answer: &Answer, json: bool) -> ExitCode {
    let mut text = if !json {
        answer.text.clone()
    } else if answer.json.is_null() {
        String::new()
    } else {
        format!("{:#}", answer.json)
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // A closed pipe, as in `… | head`, is no failure.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

fn fail(error: &anyhow::Error, json: bool) -> ExitCode {
    let words = format!("{error:#}");
    let text = if json {
        format!("{}\n", serde_json::json!({ "error": words }))
    } else {
        format!("core-bin: {words}\n")
    };
    // With no standard error there is nobody to tell.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_commands_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_takes_json() {
        for line in ["core-bin user list --json", "core-bin -o json session list"] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
    }
}
