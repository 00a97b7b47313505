//! Why a server cannot be talked to, and what to do about it.

use std::io;

use rustls::{CertificateError, Error as TlsError};

use crate::tls::WrongPin;

/// Nothing was learned from the server. Each text says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// The name has no address.
    #[error(
        "cannot find the address of {host} ({source}). Check the name and this machine's network connection"
    )]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// Nobody listens there.
    #[error(
        "{server} refuses connections: no server listens there. Check the port, or ask your administrator whether the server is running"
    )]
    Refused {
        /// Host and port.
        server: String,
    },
    /// No answer in time.
    #[error(
        "{server} did not answer within {seconds} s. Check the network connection; a firewall on the way may drop the packets"
    )]
    TimedOut {
        /// Host and port.
        server: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The connection failed in another way.
    #[error("cannot connect to {server}: {source}. Check this machine's network connection")]
    Connect {
        /// Host and port.
        server: String,
        /// What the system said.
        source: io::Error,
    },
    /// The pinned authority did not issue the server's certificate.
    #[error(
        "{server} shows a certificate of another authority than the one this device enrolled with; nothing was sent to it. If the server's certificates were replaced on purpose, ask your administrator for a new enrollment token; if not, somebody may be listening between here and the server"
    )]
    WrongPin {
        /// Host and port.
        server: String,
    },
    /// No authority that the system trusts issued the certificate.
    #[error(
        "the certificate of {server} comes from no authority that this system trusts. If the server has an authority of its own, enroll with the whole token, TOKEN.PIN, as the server printed it"
    )]
    NotTrusted {
        /// Host and port.
        server: String,
    },
    /// The certificate is another host's.
    #[error(
        "the certificate of {server} is for another name. Use the name under which your administrator published the server"
    )]
    WrongName {
        /// Host and port.
        server: String,
    },
    /// The certificate's time is over, or yet to come.
    #[error(
        "the certificate of {server} is not valid at this time. Check this machine's clock, then tell your administrator"
    )]
    WrongTime {
        /// Host and port.
        server: String,
    },
    /// The server does not speak TLS.
    #[error("{server} does not speak TLS. Check the port: it should be the one of https://")]
    NotTls {
        /// Host and port.
        server: String,
    },
    /// TLS failed in another way.
    #[error("no secure connection to {server}: {source}. Tell your administrator")]
    Tls {
        /// Host and port.
        server: String,
        /// What TLS said.
        source: TlsError,
    },
    /// The server broke off, or did not speak HTTP.
    #[error("{server} broke off the conversation ({source}). Try again")]
    Http {
        /// Host and port.
        server: String,
        /// What HTTP said.
        source: Box<dyn core::error::Error + Send + Sync>,
    },
}

impl Unreachable {
    /// Sorts a failed TCP connection.
    pub(super) fn connect(server: &str, source: io::Error) -> Self {
        let server = server.to_owned();
        match source.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused { server },
            _ => Self::Connect { server, source },
        }
    }

    /// Sorts a failed TLS handshake; its cause lies inside an [`io::Error`].
    pub(super) fn tls(server: &str, error: io::Error) -> Self {
        let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()).cloned();
        let server = server.to_owned();
        match cause {
            None if error.kind() == io::ErrorKind::UnexpectedEof => {
                Self::Http { server, source: error.into() }
            }
            None => Self::Connect { server, source: error },
            Some(TlsError::InvalidMessage(_)) => Self::NotTls { server },
            Some(TlsError::InvalidCertificate(certificate)) => {
                Self::certificate(server, certificate)
            }
            Some(source) => Self::Tls { server, source },
        }
    }

    fn certificate(server: String, error: CertificateError) -> Self {
        match error {
            CertificateError::Other(other) if other.0.is::<WrongPin>() => Self::WrongPin { server },
            CertificateError::UnknownIssuer => Self::NotTrusted { server },
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::WrongName { server }
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Self::WrongTime { server },
            other => Self::Tls { server, source: TlsError::InvalidCertificate(other) },
        }
    }
}
