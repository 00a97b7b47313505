//! The command line, as clap parses it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use mfa_wire::http::Method;

use crate::host::Backend;

/// Connects this device to WireGuard locations that ask for a second factor.
#[derive(Debug, Parser)]
#[command(name = "client-bin", version, about, long_about = None, after_help = AFTER_HELP)]
pub struct Cli {
    /// The folder with this device's keys [default: /etc/wg-mfa-client for root, else
    /// ~/.config/wg-mfa]
    #[arg(long, global = true, env = "WGMFA_CLIENT_DIR", value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Which server, by name, where this device is enrolled at several
    #[arg(long, global = true, value_name = "NAME")]
    pub instance: Option<String>,
    /// Answer in JSON; errors too, on standard error
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What follows the options in `--help`.
const AFTER_HELP: &str = "\
Exit codes:
  0  done
  1  failed in another way
  2  wrong usage
  3  not enrolled, or no such location
  4  refused by the server: wrong code, method not set up, not allowed, locked
  5  the server cannot be reached or is not trusted
  6  the configuration is stale: run `client-bin update`
  7  the connection was ended by the server, or its interface was removed
  8  the tunnel is up and the gateway does not answer yet
  9  the interface cannot be made

Colours are used on a terminal only, and not if NO_COLOR is set.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make this device known to a server, with a token from your administrator
    Enroll(Enroll),
    /// Set up and list the factors of your account
    Mfa {
        /// What to do.
        #[command(subcommand)]
        command: MfaCommand,
    },
    /// List the locations of this device
    Location {
        /// What to do.
        #[command(subcommand)]
        command: LocationCommand,
    },
    /// Prove a factor and bring the tunnel up
    Connect(Connect),
    /// Extend a session by a fresh code; the tunnel is not interrupted
    Renew(Renew),
    /// Show how the connections stand: by the interface and the server, both asked now
    Status,
    /// End a connection; without LOCATION, every one
    Disconnect {
        /// The location's name or number.
        location: Option<String>,
    },
    /// Fetch the locations of today (Instance Update)
    Update,
    /// Open the client as a page in this machine's browser
    Ui(Ui),
    /// Stay with a connection in the background
    #[command(hide = true)]
    Agent,
    /// Print the completions of a shell
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write all of them into a folder
    Man {
        /// The folder.
        dir: Option<PathBuf>,
    },
}

/// `enroll`
#[derive(Debug, Args)]
pub struct Enroll {
    /// The server's address, such as `https://vpn.example.org:8443/`
    pub url: String,
    /// The one-use token, with what follows its dot; `-` reads it from standard input
    pub token: String,
    /// The device's name [default: this machine's]
    #[arg(long, value_name = "DEVICE")]
    pub name: Option<String>,
    /// Read a password for the server's web pages from standard input; this ends the enrollment
    #[arg(long)]
    pub password_stdin: bool,
}

/// `mfa …`
#[derive(Debug, Subcommand)]
pub enum MfaCommand {
    /// Set up a factor and confirm it by a first code
    Setup(Setup),
    /// Show which factors are set up and where each serves
    List,
}

/// `mfa setup`
#[derive(Debug, Args)]
pub struct Setup {
    /// Which factor
    pub method: Factor,
    /// Begin only; confirm later with --code
    #[arg(long, conflicts_with_all = ["code", "code_command"])]
    pub begin: bool,
    /// Confirm what --begin began, by this first code
    #[arg(long, value_name = "CODE", conflicts_with = "code_command")]
    pub code: Option<String>,
    /// A shell command that prints the first code. It finds the secret in `$WGMFA_SECRET`
    #[arg(long, value_name = "COMMAND")]
    pub code_command: Option<String>,
    /// A code of a factor that is set up already; needed once the enrollment is over
    #[arg(long, value_name = "CODE")]
    pub current_code: Option<String>,
}

/// `location …`
#[derive(Debug, Subcommand)]
pub enum LocationCommand {
    /// List them
    List,
}

/// `connect`
#[derive(Debug, Args)]
pub struct Connect {
    /// The location's name or number
    pub location: String,
    /// Which factor, and where its code comes from.
    #[command(flatten)]
    pub proof: Proof,
    /// The interface's name [default: after the location]
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,
    /// Where packets are encrypted
    #[arg(long, value_enum, default_value_t = Backend::Auto)]
    pub backend: Backend,
    /// Leave the name servers alone
    #[arg(long)]
    pub no_dns: bool,
    /// Do an Instance Update first where one is due, without asking
    #[arg(long)]
    pub update: bool,
    /// Go to the background once the gateway answers
    #[arg(long)]
    pub detach: bool,
}

/// `renew`
#[derive(Debug, Args)]
pub struct Renew {
    /// The location's name or number
    pub location: String,
    /// Which factor, and where its code comes from.
    #[command(flatten)]
    pub proof: Proof,
}

/// `ui`
#[derive(Debug, Args)]
pub struct Ui {
    /// The port on 127.0.0.1 [default: one that is free]
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    pub port: u16,
    /// Print the link only; start no browser
    #[arg(long)]
    pub no_open: bool,
}

/// How a factor is proved.
#[derive(Debug, Args)]
pub struct Proof {
    /// The factor [default: the only one that opens the location; else asked, or totp]
    #[arg(long, value_name = "METHOD")]
    pub method: Option<Factor>,
    /// The code; `-` reads it from standard input. Others may see the command line: prefer
    /// --code-command, a pipe or the prompt
    #[arg(long, value_name = "CODE", conflicts_with = "code_command")]
    pub code: Option<String>,
    /// A shell command that prints the code. It finds `$WGMFA_METHOD`,
    /// `$WGMFA_PURPOSE` and `$WGMFA_SENT_TO`
    #[arg(long, value_name = "COMMAND")]
    pub code_command: Option<String>,
}

/// A factor that this client can use.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Factor {
    /// An authenticator app
    Totp,
    /// A code by e-mail
    Email,
}

impl From<Factor> for Method {
    fn from(factor: Factor) -> Self {
        match factor {
            Factor::Totp => Self::Totp,
            Factor::Email => Self::Email,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_exit_code_is_documented() {
        for code in 0..=9 {
            assert!(AFTER_HELP.contains(&format!("\n  {code}  ")), "{code}");
        }
    }

    #[test]
    fn a_code_has_one_source() {
        let both = ["client-bin", "connect", "office", "--code", "1", "--code-command", "x"];
        assert!(Cli::try_parse_from(both).is_err());
    }
}
