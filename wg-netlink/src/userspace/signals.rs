//! Gives back the signals that boringtun takes.
//!
//! boringtun listens for SIGINT and SIGTERM by itself and ends its threads on either. If the program
//! listens too, it is chance who gets one: the program then goes on without a tunnel and without
//! knowing that it was told to stop. So its threads are watched; if they end while the interface is
//! still wanted, the process is sent SIGTERM again, which now nobody else takes.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a swallowed signal stays unnoticed, at most.
const PERIOD: Duration = Duration::from_millis(200);

/// Watches for as long as it is kept. To be dropped before the device.
pub(super) struct Watch {
    over: Arc<AtomicBool>,
    thread: Thread,
}

impl Watch {
    /// Watches the threads with this name, of which there is at least one.
    ///
    /// # Errors
    ///
    /// If no thread can be started.
    pub(super) fn begin(threads: String) -> io::Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let watching = thread::Builder::new().name("wg-watch".to_owned()).spawn(move || {
            // Where /proc cannot be read nothing can be watched.
            while is_alive(&threads).unwrap_or_default() {
                thread::park_timeout(PERIOD);
            }
            if is_alive(&threads).is_some() && !seen.load(Ordering::SeqCst) {
                tracing::debug!("boringtun took a signal that was meant for the process");
                // The process can always send itself a signal.
                let _ = kill(Pid::this(), Signal::SIGTERM);
            }
        })?;
        Ok(Self { over, thread: watching.thread().clone() })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// Whether a thread of this process has the name; `None`: it cannot be said.
fn is_alive(name: &str) -> Option<bool> {
    let mut threads = fs::read_dir("/proc/self/task").ok()?;
    Some(threads.any(|thread| {
        let comm = thread.and_then(|thread| fs::read_to_string(thread.path().join("comm")));
        comm.is_ok_and(|comm| comm.trim_end() == name)
    }))
}
