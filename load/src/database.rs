//! Where a world's state is kept: an SQLite file, or a PostgreSQL that lives as long as this process.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Makes a cluster in the directory `$1`, which listens on port `$2`, says `ready`, does what it is told
/// line by line, and ends when its standard input closes. It is as durable as PostgreSQL is.
const SCRIPT: &str = r#"
set -eu
dir=$1 port=$2
trap '' HUP INT TERM
trap 'rm -rf "$dir"' EXIT
PATH=$PATH:$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
command -v initdb >/dev/null || { echo "initdb: not found"; exit 1; }
as() {
    if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups -- "$@"; else "$@"; fi
}
start() {
    as pg_ctl -D "$dir/data" -l "$dir/data/server.log" -w -o "-c listen_addresses=127.0.0.1 -p $port -k $dir \
        -c max_connections=100" start >/dev/null 2>&1 || { cat "$dir/data/server.log"; exit 1; }
}
[ "$(id -u)" != 0 ] || chown -R postgres "$dir"
cd "$dir"
as initdb -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$dir/initdb.log" 2>&1 ||
    { cat "$dir/initdb.log"; exit 1; }
start
echo ready
while read -r word rest; do
    case $word in
        stop) as pg_ctl -D "$dir/data" -m immediate stop >/dev/null 2>&1 ;;
        start) start ;;
        sql) printf '%s\n' "$rest" | as psql -q -v ON_ERROR_STOP=1 -h "$dir" -p "$port" -U postgres >"$dir/sql.log" 2>&1 ||
            { tail -n 1 "$dir/sql.log"; continue; } ;;
    esac
    echo done
done
as pg_ctl -D "$dir/data" -m immediate stop >/dev/null 2>&1
"#;

/// A database.
#[derive(Debug)]
pub struct Database {
    url: String,
    server: Option<Server>,
}

#[derive(Debug)]
struct Server {
    child: Child,
    /// `None` only while it is dropped.
    to: Option<ChildStdin>,
    from: BufReader<std::process::ChildStdout>,
}

impl Database {
    /// A file in `dir`.
    #[must_use]
    pub fn sqlite(dir: &Path) -> Self {
        Self { url: format!("sqlite:{}", dir.join("core.db").display()), server: None }
    }

    /// A PostgreSQL server of its own, with fsync.
    ///
    /// # Errors
    ///
    /// When the server is not installed or does not start; the message says which.
    pub fn postgres() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("wgmfa-load-pg-").tempdir()?;
        // The script removes it.
        let dir = dir.keep();
        let port = free_port()?;
        let mut child = Command::new("sh")
            .args(["-c", SCRIPT, "postgres"])
            .arg(&dir)
            .arg(port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let to = child.stdin.take().context("its input")?;
        let mut from = BufReader::new(child.stdout.take().context("its output")?);
        let mut line = String::new();
        from.read_line(&mut line)?;
        if line != "ready\n" {
            from.read_to_string(&mut line)?;
            bail!("no PostgreSQL (Debian: `apt install postgresql`): {line}");
        }
        let url = format!("postgres://postgres@127.0.0.1:{port}/postgres?sslmode=disable");
        Ok(Self { url, server: Some(Server { child, to: Some(to), from }) })
    }

    /// Its URL, as core takes it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops PostgreSQL as a power cut would, except for what the disk has.
    ///
    /// # Errors
    ///
    /// When there is no such server.
    pub fn stop(&mut self) -> Result<()> {
        self.tell("stop")
    }

    /// Starts it again.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn start(&mut self) -> Result<()> {
        self.tell("start")
    }

    /// Runs a statement on PostgreSQL, as its administrator.
    ///
    /// # Errors
    ///
    /// When there is no such server, or it refuses the statement.
    pub fn sql(&mut self, statement: &str) -> Result<()> {
        self.tell(&format!("sql {statement}"))
    }

    fn tell(&mut self, word: &str) -> Result<()> {
        let server = self.server.as_mut().context("there is no PostgreSQL")?;
        let to = server.to.as_mut().context("PostgreSQL has ended")?;
        writeln!(to, "{word}")?;
        let mut line = String::new();
        server.from.read_line(&mut line)?;
        if line != "done\n" {
            bail!("PostgreSQL does not {word}: {line}");
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.to = None;
        // It may have ended by itself.
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
///
/// # Errors
///
/// What the operating system says.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
