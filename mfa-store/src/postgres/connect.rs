//! How PostgreSQL is reached: over a socket of this host in the clear, over a network by TLS.

use core::time::Duration;
use std::path::PathBuf;

use diesel::ConnectionError;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection as _};
use tokio_postgres::config::{Config, Host, SslMode};
use tokio_postgres::{Connection, NoTls, Socket};

use super::tls::{self, Tls};
use crate::StoreError;

/// * A commit is on the disk before it is answered, whatever the server's default is.
/// * A writer that hangs, because its process was stopped or its host is gone, loses its turn.
/// * Who waits for a turn gives up soon: a request has ten seconds, may wait behind another batch, and
///   each is tried twice; its answer shall say the reason.
const SETTINGS: &str = "
    SELECT set_config('synchronous_commit', 'on', false)
        WHERE current_setting('synchronous_commit') IN ('off', 'local');
    SET lock_timeout = '2s';
    SET statement_timeout = '30s';
    SET idle_in_transaction_session_timeout = '10s';
";

/// How long the server may take to let us in, and how long sent data may stay unconfirmed.
const PATIENCE: Duration = Duration::from_secs(10);

/// How the bytes travel.
#[derive(Debug, Eq, PartialEq)]
enum Transport {
    Clear,
    /// Verified against these roots; `None`: against those of the operating system.
    Tls(Option<PathBuf>),
}

/// Connects to the server that `url` names.
pub(super) async fn connect(url: &str) -> Result<AsyncPgConnection, StoreError> {
    let (config, transport) = parse(url)?;
    let mut conn = match transport {
        Transport::Clear => {
            let (client, connection) =
                config.connect(NoTls).await.map_err(|error| refused(&error))?;
            adopt(client, connection).await
        }
        Transport::Tls(roots) => {
            let tls = Tls::new(roots.as_deref())?;
            let (client, connection) =
                config.connect(tls).await.map_err(|error| refused(&error))?;
            adopt(client, connection).await
        }
    }?;
    conn.batch_execute(SETTINGS).await?;
    Ok(conn)
}

async fn adopt<S>(
    client: tokio_postgres::Client,
    connection: Connection<Socket, S>,
) -> Result<AsyncPgConnection, StoreError>
where
    S: tokio_postgres::tls::TlsStream + Unpin + Send + 'static,
{
    AsyncPgConnection::try_from_client_and_connection(client, connection)
        .await
        .map_err(StoreError::Connect)
}

fn refused(error: &tokio_postgres::Error) -> StoreError {
    // Its source says what the server, or the certificate, was refused for.
    let words = tls::chain(error);
    StoreError::Connect(ConnectionError::BadConnection(words))
}

/// Reads libpq's URL. Beyond tokio-postgres it knows `sslrootcert=FILE`, and takes `verify-ca` and
/// `verify-full` for `require`, since TLS without a verified server is never used.
fn parse(url: &str) -> Result<(Config, Transport), StoreError> {
    let (address, options) = url.split_once('?').unwrap_or((url, ""));
    let mut roots = None;
    let mut kept = Vec::new();
    for option in options.split('&').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("sslrootcert", path)) => roots = Some(PathBuf::from(path)),
            Some(("sslmode", "verify-ca" | "verify-full")) => kept.push("sslmode=require"),
            _ => kept.push(option),
        }
    }
    let url = format!("{address}?{}", kept.join("&"));
    let mut config: Config = url.parse().map_err(|_| StoreError::UnknownUrl)?;
    config.connect_timeout(PATIENCE).tcp_user_timeout(PATIENCE);

    let transport = match config.get_ssl_mode() {
        SslMode::Require => Transport::Tls(roots),
        SslMode::Disable => Transport::Clear,
        _ if config.get_hosts().iter().all(is_this_host) => {
            config.ssl_mode(SslMode::Disable);
            Transport::Clear
        }
        _ => return Err(StoreError::Unencrypted),
    };
    Ok((config, transport))
}

fn is_this_host(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_asks_for_tls_or_for_a_word_that_it_is_not_wanted() {
        let of = |url: &str| parse(url).map(|(_, transport)| transport);
        for near in
            ["postgres://u@%2Frun%2Fpg/db", "postgres://u@localhost/db", "postgres://u@[::1]/db"]
        {
            assert_eq!(of(near).unwrap(), Transport::Clear, "{near}");
        }
        let far = "postgres://u@db.example.org/db";
        assert!(matches!(of(far), Err(StoreError::Unencrypted)));
        assert_eq!(of(&format!("{far}?sslmode=disable")).unwrap(), Transport::Clear);
        for mode in ["require", "verify-ca", "verify-full"] {
            assert_eq!(of(&format!("{far}?sslmode={mode}")).unwrap(), Transport::Tls(None));
        }
        let roots = Some(PathBuf::from("/etc/ca.pem"));
        let url = format!("{far}?sslrootcert=/etc/ca.pem&sslmode=require&application_name=x");
        assert_eq!(of(&url).unwrap(), Transport::Tls(roots));
        assert!(matches!(of("postgres://u@h/db?colour=red"), Err(StoreError::UnknownUrl)));
    }
}
