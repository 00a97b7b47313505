//! A TCP connection through the tunnel that lives as long as the test: `busybox nc` at both ends.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, ensure};
use demo::lab::{Host, Service};

use super::{wait, wait_until};

/// Lines go to an echo behind the gateway and come back, one a second.
pub(super) struct Stream {
    client: Child,
    gateway: Host,
    stop: Arc<AtomicBool>,
    writer: JoinHandle<u64>,
    came: Arc<AtomicU64>,
    _echo: Service,
}

impl Stream {
    /// Connects `client` with an echo on `gateway`, whose interface shows what is reset.
    pub(super) fn open(client: &Host, gateway: &Host, interface: &str, to: &str) -> Result<Self> {
        let mut echo = gateway.command("busybox");
        echo.args(["nc", "-ll", "-p", "7000", "-e", "busybox", "cat"]);
        let echo = gateway.spawn("echo", &mut echo)?;
        let counter = "tcp flags & rst == rst counter";
        let rules = format!(
            "table inet witness {{
                chain in {{
                    type filter hook input priority 300
                    iifname {interface} {counter}
                }}
                chain out {{
                    type filter hook output priority 300
                    oifname {interface} {counter}
                }}
            }}"
        );
        gateway.run("nft", [rules.as_str()])?;
        wait(1);
        let mut command: Command = client.command("busybox");
        command.args(["nc", to, "7000"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("`busybox` is missing")?;
        let mut input = child.stdin.take().context("no pipe")?;
        let output = BufReader::new(child.stdout.take().context("no pipe")?);
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let writer = std::thread::spawn(move || {
            let mut sent = 0_u64;
            while !stopping.load(Relaxed) && writeln!(input, "{}", sent + 1).is_ok() {
                sent += 1;
                wait(1);
            }
            // Its end must not end the connection before all came back.
            wait(30);
            sent
        });
        let came = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&came);
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // Only what is in its place counts.
                if line.parse() == Ok(counter.load(Relaxed) + 1) {
                    counter.fetch_add(1, Relaxed);
                }
            }
        });
        let stream =
            Self { client: child, gateway: gateway.clone(), stop, writer, came, _echo: echo };
        wait_until("the echo answers", 10, || Ok(stream.came.load(Relaxed) > 0))?;
        Ok(stream)
    }

    /// Ends it, and fails unless every line came back in its place and nothing was reset.
    pub(super) fn close(mut self) -> Result<u64> {
        self.stop.store(true, Relaxed);
        wait(20);
        let alive = self.client.try_wait()?.is_none();
        let rules = self.gateway.run("nft", ["list", "table", "inet", "witness"])?;
        let quiet = rules.matches("counter packets 0 ").count() == 2;
        let sent = self.writer.join().ok().context("the writer failed")?;
        let came = self.came.load(Relaxed);
        self.client.kill()?;
        self.client.wait()?;
        ensure!(alive, "the connection has ended, after {came} of {sent} lines");
        ensure!(came == sent, "of {sent} lines {came} came back in their place");
        ensure!(quiet, "there were resets: {rules}");
        Ok(sent)
    }
}
