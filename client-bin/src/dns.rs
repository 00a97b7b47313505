//! Name servers for the time of a connection, and the old ones back after it.
//!
//! Whoever manages the machine's name servers does it here too: systemd-resolved, or a resolvconf.
//! Where nobody does, `/etc/resolv.conf` is written, and restored only if it is still ours.

use core::fmt::{self, Write as _};
use std::fs;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

/// The first line of a file that this client wrote.
const MARK: &str = "# Written by client-bin for the interface ";

/// Sets name servers.
pub trait Resolver: Send + Sync + fmt::Debug {
    /// Makes these the name servers while `interface` is up.
    ///
    /// # Errors
    ///
    /// [`io::Error`] with what failed; nothing is then changed.
    fn set(&self, interface: &str, servers: &[IpAddr], search: &[String]) -> io::Result<Change>;

    /// Takes a change back.
    ///
    /// # Errors
    ///
    /// [`io::Error`] with what failed.
    fn restore(&self, interface: &str, change: &Change) -> io::Result<()>;
}

/// What was done, and what it takes to undo it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Change {
    /// systemd-resolved knows the servers of the interface; it forgets them with it.
    Resolvectl,
    /// A resolvconf merged them.
    Resolvconf,
    /// The file was written.
    File {
        /// What stood there before.
        before: String,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolvectl => "through resolvectl",
            Self::Resolvconf => "through resolvconf",
            Self::File { .. } => "in /etc/resolv.conf, restored at the end",
        })
    }
}

/// The machine's own.
#[derive(Debug)]
pub struct Dns {
    /// Where programs are looked for.
    path: Vec<PathBuf>,
    /// The resolver's file.
    file: PathBuf,
    /// There while systemd-resolved runs.
    resolved: PathBuf,
}

impl Default for Dns {
    fn default() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let system = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
        Self {
            path: std::env::split_paths(&path).chain(system).collect(),
            file: "/etc/resolv.conf".into(),
            resolved: "/run/systemd/resolve/io.systemd.Resolve".into(),
        }
    }
}

impl Resolver for Dns {
    fn set(&self, interface: &str, servers: &[IpAddr], search: &[String]) -> io::Result<Change> {
        if self.resolved.exists()
            && let Some(program) = self.find("resolvectl")
        {
            let servers = servers.iter().map(ToString::to_string);
            run(Command::new(&program).args(["dns", interface]).args(servers), "")?;
            // "~." sends every name to these servers, as a resolvconf does.
            let domains = search.iter().map(String::as_str).chain(["~."]);
            run(Command::new(&program).args(["domain", interface]).args(domains), "")?;
            return Ok(Change::Resolvectl);
        }
        if let Some(program) = self.find("resolvconf") {
            let record = format!("tun.{interface}");
            let text = lines(servers, search);
            run(Command::new(program).args(["-a", &record, "-m", "0", "-x"]), &text)?;
            return Ok(Change::Resolvconf);
        }
        let before = match fs::read_to_string(&self.file) {
            Ok(text) if text.starts_with(MARK) => String::new(), // a crashed connection's
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let text = format!("{MARK}{interface}\n{}", lines(servers, search));
        // In place: in a container or a network namespace the file is a mount.
        fs::write(&self.file, text)?;
        Ok(Change::File { before })
    }

    fn restore(&self, interface: &str, change: &Change) -> io::Result<()> {
        match change {
            Change::Resolvectl => Ok(()),
            Change::Resolvconf => match self.find("resolvconf") {
                Some(program) => {
                    let record = format!("tun.{interface}");
                    run(Command::new(program).args(["-d", &record, "-f"]), "")
                }
                None => Ok(()),
            },
            Change::File { before } => {
                let now = fs::read_to_string(&self.file)?;
                if now.starts_with(&format!("{MARK}{interface}\n")) {
                    fs::write(&self.file, before)?;
                }
                Ok(())
            }
        }
    }
}

impl Dns {
    fn find(&self, program: &str) -> Option<PathBuf> {
        self.path.iter().map(|dir| dir.join(program)).find(|path| path.is_file())
    }
}

fn lines(servers: &[IpAddr], search: &[String]) -> String {
    let mut text = String::new();
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !search.is_empty() {
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    text
}

fn run(command: &mut Command, input: &str) -> io::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    // A program that fails may not read its input; what it says then is better than "broken pipe".
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output()?;
    if output.status.success() {
        return written;
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{name} failed ({}): {}", output.status, said.trim())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;

    fn in_dir(dir: &Path) -> Dns {
        Dns {
            path: vec![dir.join("bin")],
            file: dir.join("resolv.conf"),
            resolved: dir.join("resolved"),
        }
    }

    /// A program that writes its arguments and its input to a file.
    fn script(dir: &Path, name: &str) {
        let bin = dir.join("bin");
        fs::create_dir_all(&bin).unwrap();
        let log = dir.join("log");
        let text = format!("#!/bin/sh\necho {name} \"$@\" >> {0}\ncat >> {0}\n", log.display());
        fs::write(bin.join(name), text).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn servers() -> Vec<IpAddr> {
        vec!["10.1.0.1".parse().unwrap(), "fd00::1".parse().unwrap()]
    }

    #[test]
    fn the_file_is_written_and_restored() {
        let dir = tempfile::tempdir().unwrap();
        let dns = in_dir(dir.path());
        fs::write(&dns.file, "nameserver 192.0.2.53\n").unwrap();

        let change = dns.set("wg-office", &servers(), &["corp.example".to_owned()]).unwrap();
        let text = fs::read_to_string(&dns.file).unwrap();
        assert!(text.ends_with("nameserver 10.1.0.1\nnameserver fd00::1\nsearch corp.example\n"));

        dns.restore("wg-office", &change).unwrap();
        assert_eq!(fs::read_to_string(&dns.file).unwrap(), "nameserver 192.0.2.53\n");
    }

    #[test]
    fn a_file_that_somebody_else_wrote_meanwhile_stays() {
        let dir = tempfile::tempdir().unwrap();
        let dns = in_dir(dir.path());
        fs::write(&dns.file, "nameserver 192.0.2.53\n").unwrap();
        let change = dns.set("wg-office", &servers(), &[]).unwrap();
        fs::write(&dns.file, "nameserver 198.51.100.1\n").unwrap();

        dns.restore("wg-office", &change).unwrap();

        assert_eq!(fs::read_to_string(&dns.file).unwrap(), "nameserver 198.51.100.1\n");
    }

    #[test]
    fn resolvconf_is_preferred_to_the_file() {
        let dir = tempfile::tempdir().unwrap();
        script(dir.path(), "resolvconf");
        let dns = in_dir(dir.path());

        let change = dns.set("wg-office", &servers()[..1], &[]).unwrap();
        dns.restore("wg-office", &change).unwrap();

        assert_eq!(
            fs::read_to_string(dir.path().join("log")).unwrap(),
            "resolvconf -a tun.wg-office -m 0 -x\nnameserver 10.1.0.1\nresolvconf -d tun.wg-office -f\n"
        );
        assert!(!dns.file.exists());
    }

    #[test]
    fn resolvectl_is_used_where_resolved_runs() {
        let dir = tempfile::tempdir().unwrap();
        script(dir.path(), "resolvectl");
        let dns = in_dir(dir.path());
        fs::write(&dns.resolved, "").unwrap();

        let change = dns.set("wg-office", &servers()[..1], &["corp.example".to_owned()]).unwrap();

        assert_eq!(change, Change::Resolvectl);
        assert_eq!(
            fs::read_to_string(dir.path().join("log")).unwrap(),
            "resolvectl dns wg-office 10.1.0.1\nresolvectl domain wg-office corp.example ~.\n"
        );
    }

    #[test]
    fn a_program_that_fails_is_quoted() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("bin")).unwrap();
        let program = dir.path().join("bin/resolvconf");
        fs::write(&program, "#!/bin/sh\necho no signature >&2\nexit 3\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();

        let error = in_dir(dir.path()).set("wg-office", &servers(), &[]).unwrap_err();

        assert!(error.to_string().contains("no signature"), "{error}");
    }
}
