//! A gateway as the registry knows it.

use std::net::SocketAddr;

use mfa_core::id::GatewayId;
use mfa_core::time::Timestamp;
use mfa_core::token::TokenDigest;

use crate::pki::Serial;

/// One gateway that is connected now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Connected {
    /// Which.
    pub gateway: GatewayId,
    /// The revision of its location that it last acknowledged on this stream; `None`: none yet.
    pub applied: Option<i64>,
    /// Since when.
    pub since: Timestamp,
    /// When its last message came.
    pub last_heard: Timestamp,
    /// What it said of itself.
    pub about: About,
}

/// What a gateway says of itself. Claims, for people to read.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct About {
    /// Its software's version.
    pub version: String,
    /// Its host.
    pub hostname: String,
    /// How WireGuard runs there: `kernel`, `userspace`.
    pub backend: String,
    /// The WireGuard interface.
    pub interface: String,
    /// Where it dialled from.
    pub remote: Option<SocketAddr>,
    /// Which protocol it speaks.
    pub protocol: Protocol,
}

/// Which protocol a gateway speaks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Protocol {
    /// Ours: it acknowledges each revision after a look into its kernel.
    #[default]
    Own,
    /// The existing one, without acknowledgements: what has been written to its stream counts as
    /// applied.
    Legacy,
}

/// By what a gateway proved who it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Credential {
    /// A certificate of our CA, with this serial number.
    Certificate(Serial),
    /// A long-lived token with this digest.
    Token(TokenDigest),
}

/// A gateway process, as it names itself at random when it starts. Empty: it has no such name, and
/// is never fenced.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ProcessId(pub Vec<u8>);
