//! A real PostgreSQL for the tests: `$WGMFA_TEST_POSTGRES_URL` where that is set, else one
//! throw-away cluster for each test process. Without either the tests fail and say what to do.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Makes a cluster, says `ready` and its directory, and lives until its standard input closes: that
/// is when the test process ends, however it ends. The server refuses to run as root.
const SCRIPT: &str = r#"
set -eu
PATH=$PATH:$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
command -v initdb >/dev/null || { echo "initdb: not found"; exit 1; }
dir=$(mktemp -d /tmp/wgmfa-pg-XXXXXX)
trap 'rm -rf "$dir"' EXIT
as() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups -- "$@"; else "$@"; fi; }
[ "$(id -u)" != 0 ] || chown postgres "$dir"
cd "$dir"
as initdb -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$dir/initdb.log" 2>&1 ||
    { cat "$dir/initdb.log"; exit 1; }
as pg_ctl -D "$dir/data" -l "$dir/data/server.log" -w \
    -o "-c listen_addresses= -k $dir -c max_connections=300 -c fsync=off" start >/dev/null 2>&1 ||
    { cat "$dir/data/server.log"; exit 1; }
echo ready "$dir"
cat >/dev/null
as pg_ctl -D "$dir/data" -m immediate stop >/dev/null 2>&1
"#;

const HELP: &str = "the PostgreSQL tests need a server: install it (Debian: `apt install postgresql`), \
     or set WGMFA_TEST_POSTGRES_URL to a server where databases may be created";

struct Server {
    url: String,
    /// Its input is closed by the operating system when this process ends.
    _script: Option<Child>,
}

/// Returns the URL of a new, empty database. On a server that was given it stays there, named
/// `wgmfa_test_…`.
pub(crate) async fn fresh_database() -> String {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let server = server();
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

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| match std::env::var("WGMFA_TEST_POSTGRES_URL") {
        Ok(url) => Server { url, _script: None },
        Err(_) => start(),
    })
}

fn start() -> Server {
    let mut child = Command::new("sh")
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sh runs");
    let mut output = BufReader::new(child.stdout.take().expect("its output"));
    let mut line = String::new();
    output.read_line(&mut line).expect("its output is text");
    let Some(dir) = line.strip_prefix("ready ") else {
        output.read_to_string(&mut line).expect("its output is text");
        panic!("{HELP}\n{line}");
    };
    let host = dir.trim().replace('/', "%2F");
    Server { url: format!("postgres://postgres@{host}/postgres"), _script: Some(child) }
}
