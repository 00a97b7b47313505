//! A real PostgreSQL for the tests: `$WGMFA_TEST_POSTGRES_URL` where that is set, else one
//! throw-away cluster for each test process. Without either the tests fail and say what to do.

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Makes a cluster in the directory `$1`, says `ready`, and lives until its standard input closes:
/// that is when the test process ends, however it ends. The server refuses to run as root.
const SCRIPT: &str = r#"
set -eu
dir=$1 port=$2
# An interrupted test interrupts this, too; it must still clean up behind it.
trap '' HUP INT TERM
trap 'rm -rf "$dir"' EXIT
PATH=$PATH:$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
command -v initdb >/dev/null || { echo "initdb: not found"; exit 1; }
as() {
    if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups -- "$@"; else "$@"; fi
}
[ "$(id -u)" != 0 ] || chown -R postgres "$dir"
cd "$dir"
as initdb -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$dir/initdb.log" 2>&1 ||
    { cat "$dir/initdb.log"; exit 1; }
as pg_ctl -D "$dir/data" -l "$dir/data/server.log" -w -o "-c listen_addresses=127.0.0.1 -p $port -k $dir \
    -c ssl=on -c ssl_cert_file=$dir/cert.pem -c ssl_key_file=$dir/key.pem \
    -c max_connections=300 -c fsync=off" start >/dev/null 2>&1 ||
    { cat "$dir/data/server.log"; exit 1; }
echo ready
cat >/dev/null
as pg_ctl -D "$dir/data" -m immediate stop >/dev/null 2>&1
"#;

const HELP: &str = "the PostgreSQL tests need a server: install it (Debian: `apt install postgresql`), \
     or set WGMFA_TEST_POSTGRES_URL to a server where databases may be created";

/// A server for this test process.
struct Server {
    /// Its own database, in the clear.
    url: String,
    /// Where it listens for TLS, and its CA; `None` for a server that was given.
    tls: Option<Secured>,
    /// Its input is closed by the operating system when this process ends.
    _script: Option<Child>,
}

/// The way in by TLS.
pub(crate) struct Secured {
    /// `localhost:PORT`
    pub(crate) host: String,
    /// The CA in a PEM file.
    pub(crate) root: PathBuf,
}

/// Returns the URL of a new, empty database. On a server that was given it stays there, named
/// `wgmfa_test_…`.
pub(crate) async fn fresh_database() -> String {
    fresh_database_on(server()).await
}

/// Returns the same on a server that has TLS, and the way there.
pub(crate) async fn fresh_database_with_tls() -> (String, &'static Secured) {
    let server = own();
    (fresh_database_on(server).await, server.tls.as_ref().expect("it was started with TLS"))
}

async fn fresh_database_on(server: &Server) -> String {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    let name = format!("wgmfa_test_{}_{number}", std::process::id());
    execute(&server.url, &format!("CREATE DATABASE {name}")).await;
    let (before, after) = server.url.split_once('?').unwrap_or((&server.url, ""));
    let (host, _) = before.rsplit_once('/').expect("the URL names a database");
    format!("{host}/{name}?{after}")
}

/// Runs statements on the database at `url`, past the store.
pub(crate) async fn execute(url: &str, sql: &str) {
    let (client, connection) =
        tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect(HELP);
    let driver = tokio::spawn(connection);
    client.batch_execute(sql).await.expect("the statements run");
    drop(client);
    driver.await.expect("the connection ends").expect("and without an error");
}

/// Returns the server that was given, or else the own one.
fn server() -> &'static Server {
    static GIVEN: OnceLock<Option<Server>> = OnceLock::new();
    let given = GIVEN.get_or_init(|| {
        let url = std::env::var("WGMFA_TEST_POSTGRES_URL").ok()?;
        Some(Server { url, tls: None, _script: None })
    });
    given.as_ref().unwrap_or_else(|| own())
}

/// Returns this process's own server, which is started by who asks first.
fn own() -> &'static Server {
    static OWN: OnceLock<Server> = OnceLock::new();
    OWN.get_or_init(start)
}

fn start() -> Server {
    let dir = tempfile::Builder::new().prefix("wgmfa-pg-").tempdir_in("/tmp").expect("a directory");
    // The script removes it.
    let dir = dir.keep();
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a key pair");
    let root = dir.join("cert.pem");
    std::fs::write(&root, signed.cert.pem()).expect("a certificate");
    let key = dir.join("key.pem");
    std::fs::write(&key, signed.signing_key.serialize_pem()).expect("a key");
    std::fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("its mode");
    // Free now; nothing else here asks for one.
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port").port();

    let mut child = Command::new("sh")
        .args(["-c", SCRIPT, "postgres"])
        .arg(&dir)
        .arg(port.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sh runs");
    let mut output = BufReader::new(child.stdout.take().expect("its output"));
    let mut line = String::new();
    output.read_line(&mut line).expect("its output is text");
    if line != "ready\n" {
        output.read_to_string(&mut line).expect("its output is text");
        panic!("{HELP}\n{line}");
    }
    let socket = dir.to_str().expect("a plain path").replace('/', "%2F");
    Server {
        url: format!("postgres://postgres@{socket}:{port}/postgres"),
        tls: Some(Secured { host: format!("localhost:{port}"), root }),
        _script: Some(child),
    }
}
