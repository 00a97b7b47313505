//! A connection in the background: the same program once more, in a session of its own.
//!
//! The plan goes to it through a pipe and is nowhere else; what happens comes back through another
//! until the first handshake, and goes to a log all the time.

use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use zeroize::Zeroizing;

use crate::client::{Client, io_error};
use crate::connect::Plan;
use crate::error::ClientError;
use crate::event::Event;

/// The most bytes of a plan.
const MAX_PLAN: u64 = 64 << 10;

/// The command by which the program runs in the background.
pub const AGENT: &str = "agent";

/// A connection that went to the background.
#[derive(Debug)]
pub struct Background {
    /// The last event: `Connected`, `NoAnswer`, or why it failed.
    pub last: Event,
    /// The process.
    pub pid: u32,
    /// Where it writes what happens.
    pub log: PathBuf,
}

impl Client {
    /// Hands a plan to a process in the background and waits for the first handshake, or for the
    /// news that there is none.
    ///
    /// # Errors
    ///
    /// [`ClientError::Background`] if the process does not get that far.
    pub async fn detach(
        &self,
        plan: &Plan,
        tell: &mut (dyn FnMut(Event) + Send),
    ) -> Result<Background, ClientError> {
        let failed = |error: io::Error| ClientError::Background(error.to_string());
        let (log_path, log) = self
            .running()
            .log(&plan.instance, plan.location)
            .map_err(io_error("cannot write the log"))?;
        let mut child = Command::new(std::env::current_exe().map_err(failed)?)
            .arg("--dir")
            .arg(std::path::absolute(self.store.dir()).map_err(failed)?)
            .arg(AGENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        let pid = child.id().unwrap_or(0);
        // Never grown: no copy of the key stays behind.
        let mut text = Zeroizing::new(Vec::with_capacity(16 << 10));
        serde_json::to_writer(&mut *text, plan).map_err(|error| failed(error.into()))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(&text).await.map_err(failed)?;
        }
        let stdout = child.stdout.take().ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
        let mut lines = BufReader::new(stdout).lines();
        while let Some(line) = lines.next_line().await.map_err(failed)? {
            let event: Event = serde_json::from_str(&line).map_err(|e| failed(e.into()))?;
            let settled = matches!(
                event,
                Event::Connected { .. }
                    | Event::NoAnswer { .. }
                    | Event::Ended { .. }
                    | Event::Disconnected { .. }
                    | Event::Failed { .. }
            );
            tell(event.clone());
            if settled {
                return Ok(Background { last: event, pid, log: log_path });
            }
        }
        Err(ClientError::Background(format!("see {}", log_path.display())))
    }
}

/// The other end: leaves the terminal's session and reads the plan.
///
/// # Errors
///
/// [`ClientError::Background`] if there is no plan on standard input.
pub fn take_over() -> Result<Plan, ClientError> {
    // Fails only for who leads a session already, which is as good.
    let _ = rustix::process::setsid();
    // Whatever was mounted there may be unmounted.
    let _ = std::env::set_current_dir("/");
    let mut text = Zeroizing::new(Vec::with_capacity(16 << 10));
    io::stdin()
        .lock()
        .take(MAX_PLAN)
        .read_to_end(&mut text)
        .map_err(io_error("cannot read the plan"))?;
    serde_json::from_slice(&text).map_err(|error| ClientError::Background(error.to_string()))
}

/// Tells who started us as long as somebody listens.
#[derive(Debug, Default)]
pub struct Upwards {
    deaf: bool,
}

impl Upwards {
    /// Sends one event through standard output.
    pub fn tell(&mut self, event: &Event) {
        if self.deaf {
            return;
        }
        let sent = serde_json::to_vec(event).map_err(io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            let mut out = io::stdout().lock();
            out.write_all(&line).and_then(|()| out.flush())
        });
        self.deaf = sent.is_err();
    }
}
