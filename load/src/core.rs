//! A core, as a process of the shipped program.

use core::time::Duration;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};

use crate::clock::Stopwatch;
use crate::database::free_port;

/// Where a core is and how it is started. It has the same ports each time.
#[derive(Clone, Debug)]
pub struct Place {
    /// The program.
    pub program: PathBuf,
    /// Its state directory.
    pub dir: PathBuf,
    /// Its database.
    pub url: String,
    /// Where clients are served.
    pub public: SocketAddr,
    /// Where gateways are served.
    pub gateways: SocketAddr,
    /// What is put before the program's name: a command that runs what follows it.
    pub wrapper: Vec<String>,
}

impl Place {
    /// Chooses free ports.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn new(program: &Path, dir: &Path, url: &str) -> Result<Self> {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Ok(Self {
            program: program.to_path_buf(),
            dir: dir.to_path_buf(),
            url: url.to_owned(),
            public: at(free_port()?),
            gateways: at(free_port()?),
            wrapper: Vec::new(),
        })
    }

    /// The program with what it needs to know.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut words = self.wrapper.iter();
        let mut command = if let Some(first) = words.next() {
            let mut command = Command::new(first);
            command.args(words).arg(&self.program);
            command
        } else {
            Command::new(&self.program)
        };
        command
            .arg("--dir")
            .arg(&self.dir)
            .env("WGMFA_DATABASE__URL", &self.url)
            .env_remove("CREDENTIALS_DIRECTORY")
            .env_remove("NOTIFY_SOCKET");
        command
    }

    /// Makes the state directory and the database.
    ///
    /// # Errors
    ///
    /// When `core-bin init` fails, with its words.
    pub fn init(&self) -> Result<()> {
        let made = self.command().args(["init", "--url", "https://localhost:8443/"]).output()?;
        if !made.status.success() {
            bail!("core-bin init: {}", String::from_utf8_lossy(&made.stderr));
        }
        Ok(())
    }

    /// Starts the server, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When it ends instead, with its words.
    pub fn start(&self) -> Result<Core> {
        let started = Stopwatch::start();
        let mut child = self
            .command()
            .arg("serve")
            .args(["--listen", &self.public.to_string()])
            .args(["--gateways-listen", &self.gateways.to_string()])
            .stderr(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let log = BufReader::new(child.stderr.take().context("its log")?);
        let mut lines = log.lines();
        let mut said = String::new();
        loop {
            let Some(line) = lines.next().transpose()? else {
                let _ = child.wait();
                bail!("core-bin serve ended: {said}");
            };
            if line.contains("ready") && line.contains("public=") {
                break;
            }
            said.push_str(&line);
            said.push('\n');
        }
        let log = Arc::new(Mutex::new(said));
        let written = Arc::clone(&log);
        // Goes on to read, so that the server can go on to write.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = written.lock().unwrap_or_else(PoisonError::into_inner);
                // Enough to see what it was that went wrong first.
                if log.len() < 1 << 20 {
                    log.push_str(&line);
                    log.push('\n');
                }
            }
        });
        Ok(Core { child, log, took: started.elapsed() })
    }
}

/// A running core. It is killed when it is dropped.
#[derive(Debug)]
pub struct Core {
    child: Child,
    log: Arc<Mutex<String>>,
    /// How long it took until it was ready.
    pub took: Duration,
}

impl Core {
    /// What it logged so far: the first MiB.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Tells whether it has ended by itself.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Kills it with SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    ///
    /// When it was gone already, which it must not be.
    pub fn kill(mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("core ended by itself ({status}): {}", self.log());
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// The CPU time that it has used, user and system.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        cpu_of(&self.id().to_string())
    }
}

/// The CPU time that a process has used, user and system: a number, or `self`.
#[must_use]
pub fn cpu_of(process: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks: u64 = [11, 12]
        .iter()
        .filter_map(|at| fields.get(*at).and_then(|field| field.parse::<u64>().ok()))
        .sum();
    // Linux counts in hundredths of a second towards programs (proc(5)).
    Duration::from_millis(ticks.saturating_mul(10))
}

impl Drop for Core {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
