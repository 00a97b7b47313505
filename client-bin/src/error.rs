//! What can go wrong, in sentences, with a stable name and an exit code each.

use std::io;

use mfa_wire::http::{Method, Problem};

use crate::api::ApiError;
use crate::code::CodeError;
use crate::life::quoted;
use crate::pin::BadPin;
use crate::state::{PickError, StateError};
use crate::tunnel::{DownError, TunnelError};

/// Exit codes, as `--help` lists them.
pub mod exit {
    /// Done.
    pub const DONE: u8 = 0;
    /// Failed in another way.
    pub const FAILED: u8 = 1;
    /// Wrong usage.
    pub const USAGE: u8 = 2;
    /// Not enrolled, or no such location.
    pub const UNKNOWN: u8 = 3;
    /// The server refused: wrong code, method not set up, not allowed, locked, …
    pub const REFUSED: u8 = 4;
    /// The server cannot be reached or is not trusted.
    pub const UNREACHABLE: u8 = 5;
    /// The configuration is stale: `client-bin update` is needed first.
    pub const STALE: u8 = 6;
    /// The connection was ended, and not from here.
    pub const ENDED: u8 = 7;
    /// The interface is up and the gateway does not answer (yet).
    pub const NO_ANSWER: u8 = 8;
    /// The interface cannot be made.
    pub const INTERFACE: u8 = 9;
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The client's memory.
    #[error(transparent)]
    State(#[from] StateError),
    /// The choice of an instance.
    #[error(transparent)]
    Pick(#[from] PickError),
    /// The server.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The pin of a token.
    #[error(transparent)]
    Pin(#[from] BadPin),
    /// The interface.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    /// The interface, on the way down.
    #[error("not everything was cleaned up: {0}")]
    Down(#[from] DownError),
    /// No code.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// A password that cannot be read, a terminal that is gone, …
    #[error("{doing}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Not an address of a server.
    #[error(
        "\"{url}\" is not the address of a server: {why}. It looks like https://vpn.example.org:8443/"
    )]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No location of this name.
    #[error("there is no location \"{wanted}\". {known} Run `client-bin update` if it is new")]
    NoLocation {
        /// What was asked for.
        wanted: String,
        /// Which there are, as a sentence.
        known: String,
    },
    /// Several locations of this name.
    #[error(
        "several servers have a location \"{wanted}\": {instances}. Choose with --instance NAME"
    )]
    Ambiguous {
        /// What was asked for.
        wanted: String,
        /// The instances' names.
        instances: String,
    },
    /// The stored configuration is not the server's of today.
    #[error("the configuration has changed at the server: {}. Run `client-bin update`, then `client-bin connect {}` again", .changes.join("; "), quoted(.location))]
    Stale {
        /// The location's name.
        location: String,
        /// What changed, in words.
        changes: Vec<String>,
    },
    /// No method opens the location.
    #[error(
        "{location} asks for a code, and no method of yours opens it: {reasons}. Set one up with `client-bin mfa setup totp`"
    )]
    NoMethod {
        /// The location's name.
        location: String,
        /// Method by method, why not.
        reasons: String,
    },
    /// The location's factor is an identity provider's.
    #[error(
        "{0} asks for a log-in by browser, which this client cannot show. Ask your administrator for a location with TOTP or e-mail codes"
    )]
    External(String),
    /// The connection is there already.
    #[error(
        "{0} is connected already. `client-bin status` shows how; `client-bin disconnect` ends it"
    )]
    AlreadyConnected(String),
    /// There is no session to extend.
    #[error("{0} has no session to extend. Run `client-bin connect` to begin one")]
    NotConnected(String),
    /// The process that should hold the connection is not there.
    #[error("the process in the background did not start: {0}")]
    Background(String),
    /// Something is missing for a setup.
    #[error("{0}")]
    Setup(&'static str),
    /// No setup waits for a code.
    #[error("no setup of {0} waits for a code. Begin one with `client-bin mfa setup {0}`")]
    NothingPending(Method),
}

impl ClientError {
    /// The stable name, for `--json`.
    #[must_use]
    pub fn code(&self) -> String {
        match self {
            Self::State(StateError::Exposed { .. }) => "state-exposed",
            Self::State(_) => "state",
            Self::Pick(PickError::NotEnrolled) => "not-enrolled",
            Self::Pick(_) => "instance",
            Self::Api(ApiError::Refused(refusal)) => return problem_name(refusal.problem),
            Self::Api(ApiError::Unreachable(_)) => "unreachable",
            Self::Api(_) => "answer",
            Self::Pin(_) => "pin",
            Self::Tunnel(_) => "interface",
            Self::Down(_) => "cleanup",
            Self::Code(_) => "no-code",
            Self::Io { .. } => "system",
            Self::Url { .. } => "url",
            Self::NoLocation { .. } => "location-not-found",
            Self::Ambiguous { .. } => "location-ambiguous",
            Self::Stale { .. } => "config-stale",
            Self::NoMethod { .. } => "no-method",
            Self::External(_) => "external-login",
            Self::AlreadyConnected(_) => "already-connected",
            Self::NotConnected(_) => "not-connected",
            Self::Background(_) => "background",
            Self::Setup(_) | Self::NothingPending(_) => "setup",
        }
        .to_owned()
    }

    /// The exit code.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Pick(_) | Self::NoLocation { .. } | Self::Ambiguous { .. } => exit::UNKNOWN,
            Self::Api(ApiError::Refused(refusal)) if refusal.problem == Problem::ConfigStale => {
                exit::STALE
            }
            Self::Api(ApiError::Refused(_))
            | Self::NoMethod { .. }
            | Self::External(_)
            | Self::Code(_) => exit::REFUSED,
            Self::Api(_) => exit::UNREACHABLE,
            Self::Stale { .. } => exit::STALE,
            Self::Tunnel(_) => exit::INTERFACE,
            Self::Pin(_) | Self::Url { .. } => exit::USAGE,
            _ => exit::FAILED,
        }
    }
}

/// The name of a refusal as it stands on the wire.
#[must_use]
pub fn problem_name(problem: Problem) -> String {
    match serde_json::to_value(problem) {
        Ok(serde_json::Value::String(name)) => name,
        _ => "unknown".to_owned(),
    }
}
