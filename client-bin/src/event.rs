//! What happens during a connect and after it, for people and for programs.
//!
//! With `--json` each event is one line; the names of events and fields are stable.

use mfa_wire::http::SessionInfo;
use serde::{Deserialize, Serialize};

/// One thing that happened.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The Instance Update before the connect was not possible, and is not needed.
    UpdateSkipped {
        /// Why.
        message: String,
    },
    /// A challenge waits for its code.
    Challenge {
        /// `totp` or `email`.
        method: String,
        /// Where the code was mailed to, masked.
        sent_to: Option<String>,
    },
    /// The code was not taken, and another one is asked for.
    CodeRefused {
        /// The stable name of the refusal.
        code: String,
        /// Why, and what to do.
        message: String,
    },
    /// The server's session exists.
    Authenticated {
        /// Its facts; absent: the server does not tell them.
        session: Option<SessionInfo>,
    },
    /// The interface is up.
    Up {
        /// The location's name.
        location: String,
        /// The interface's name.
        interface: String,
        /// `kernel` or `userspace`.
        backend: String,
        /// This device's addresses.
        addresses: Vec<String>,
        /// What is routed into the tunnel.
        routes: Vec<String>,
        /// How name servers were set; absent: they were not.
        dns: Option<String>,
    },
    /// Name servers could not be set; the tunnel works without.
    DnsNotSet {
        /// Why.
        message: String,
    },
    /// The first handshake was completed.
    Connected {
        /// The location's name.
        location: String,
        /// The interface's name.
        interface: String,
        /// From the submitted code, or the command's start where there was none, milliseconds.
        took_millis: u64,
        /// Of these, from the interface being up to the handshake.
        handshake_millis: u64,
    },
    /// The gateway does not answer (any more).
    NoAnswer {
        /// Since when, Unix seconds.
        since: u64,
    },
    /// It answers again.
    AnswersAgain,
    /// The session ends soon, however much it is used; a fresh code extends it.
    EndsSoon {
        /// When, Unix seconds.
        at: u64,
        /// Seconds until then.
        left: u64,
        /// The location's name as a shell takes it.
        location: String,
    },
    /// A fresh code has extended the session.
    Renewed {
        /// When it ends now, Unix seconds.
        until: u64,
    },
    /// An Instance Update brought something new.
    Updated {
        /// What, in words.
        changes: Vec<String>,
    },
    /// The server cannot be asked now; the tunnel stays.
    ServerUnreachable {
        /// Why.
        message: String,
    },
    /// The server answers again.
    ServerBack,
    /// The connection was ended, and not from here.
    Ended {
        /// The stable name of the reason: `idle`, `lifetime`, `replaced`, `administrator`, …
        reason: String,
        /// What happened and what to do next.
        message: String,
    },
    /// The connection was ended from here.
    Disconnected {
        /// The server knows. `false`: it could not be told and finds out by itself.
        server_told: bool,
        /// Bytes received.
        rx_bytes: u64,
        /// Bytes sent.
        tx_bytes: u64,
        /// How long it lasted, seconds.
        seconds: u64,
    },
    /// It went wrong.
    Failed {
        /// The stable name of the error.
        code: String,
        /// What happened and what to do next.
        message: String,
        /// The exit code that goes with it.
        exit_code: u8,
    },
}
