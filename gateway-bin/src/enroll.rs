//! Makes this host a gateway: a key is made here, core signs for it, once, against a token.
//!
//! Core is believed only if its authority has the pin that came with the token; the token is shown
//! to nobody else. From then on both ends have certificates.

use std::fs;
use std::path::PathBuf;

use mfa_wire::gateway::EnrollRequest;
use mfa_wire::gateway::gateway_client::GatewayClient;
use zeroize::Zeroizing;

use crate::channel::{ConnectError, connect};
use crate::config::{Backend, ConfigError, ConfigFile, CoreUrl};
use crate::files::{self, FileError};
use crate::identity::{IdentityError, Key};
use crate::tls::{self, Pin};

/// What `core-bin gateway token` printed, and where to keep the result.
#[derive(Clone)]
pub struct Enrollment {
    /// Where core listens for gateways.
    pub core: CoreUrl,
    /// The one-use token.
    pub token: Zeroizing<String>,
    /// The pin of core's authority.
    pub ca_pin: Pin,
    /// Where the gateway's files shall be.
    pub dir: PathBuf,
    /// The interface that it shall program.
    pub interface: String,
    /// How WireGuard shall run.
    pub backend: Backend,
}

/// Who this host has become.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Enrolled {
    /// The gateway's name in core.
    pub name: String,
    /// The location that it serves.
    pub location: String,
}

/// Why a host did not become a gateway.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// It is one.
    #[error(
        "{} already holds an enrolled gateway. To replace it, move that directory away; to add \
         another one, say --dir DIR", dir.display()
    )]
    Already {
        /// Where.
        dir: PathBuf,
    },
    /// Core could not be reached, or it is not core.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Core did not take the token, or failed.
    #[error(
        "core refused the enrollment: {message}. A token is for one use and a short time; \
             make another with `core-bin gateway token LOCATION NAME`"
    )]
    Refused {
        /// Core's words.
        message: String,
    },
    /// Core sent another authority than the pinned one.
    #[error("core sent another certificate authority than the pin says; nothing was kept")]
    OtherAuthority,
    /// No key could be made, or core's certificate is not for it.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The directory cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// `gateway.toml` cannot be written.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// TLS does not start.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// Enrolls this host. Nothing is written unless core has signed.
///
/// # Errors
///
/// [`EnrollError`] says what to do next. After [`EnrollError::File`] the token is spent.
pub async fn enroll(enrollment: Enrollment) -> Result<Enrolled, EnrollError> {
    let dir = enrollment.dir;
    if dir.join("gateway.toml").exists() {
        return Err(EnrollError::Already { dir });
    }
    // Before the token is spent: can anything be kept here?
    files::make_dir(&dir)?;
    files::probe(&dir)?;

    let key = Key::generate()?;
    let hostname = hostname();
    let channel = connect(&enrollment.core, tls::pinned(enrollment.ca_pin)?).await?;
    let request = EnrollRequest {
        token: enrollment.token.to_string(),
        csr: key.request(&hostname)?,
        hostname,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let answer = GatewayClient::new(channel).enroll(request).await;
    let answer = answer
        .map_err(|status| EnrollError::Refused { message: status.message().to_owned() })?
        .into_inner();
    if Pin::of(&answer.ca_certificate) != enrollment.ca_pin {
        return Err(EnrollError::OtherAuthority);
    }
    key.check(&answer.certificate)?;

    key.save(&dir, &answer.certificate, &answer.ca_certificate)?;
    let mut config = ConfigFile::new(enrollment.core);
    config.interface = enrollment.interface;
    config.backend = enrollment.backend;
    // Last: where it is, the rest is.
    config.write(&dir)?;
    Ok(Enrolled { name: answer.gateway_name, location: answer.location_name })
}

/// This host's name, for people to tell gateways apart.
pub(crate) fn hostname() -> String {
    let name = ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .into_iter()
        .find_map(|path| fs::read_to_string(path).ok());
    name.map_or_else(|| "unknown".to_owned(), |name| name.trim().to_owned())
}

impl core::fmt::Debug for Enrollment {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Enrollment")
            .field("core", &self.core)
            .field("ca_pin", &self.ca_pin)
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}
