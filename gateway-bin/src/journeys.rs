//! Whole journeys in process: a gateway with a modelled kernel, and a core that says what the test
//! says, over real TCP and TLS. Nothing sleeps: each test waits for what must come.

mod enrollment;
mod kernel;
mod line;
mod real;

use core::future::Future;
use core::time::Duration;
use std::path::PathBuf;

use mfa_wire::gateway as wire;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use wg_netlink::fake::{FakeInterface, FakeKernel};

use crate::config::{Backend, Config, CoreUrl};
use crate::gateway::{Gateway, RunError};
use crate::lease::Without;
use crate::status;
use crate::testing::{FakeCore, FakeGate, Talk, key, snapshot};

/// Whatever must come comes within this time, or the test has failed.
const DEADLINE: Duration = Duration::from_secs(30);

/// A gateway that runs, with the kernel that it has.
struct Running {
    wg0: FakeInterface,
    kernel: FakeKernel,
    gate: FakeGate,
    dir: TempDir,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), RunError>>,
}

/// How a gateway is set in these tests: statistics seldom, so that only who asks for them gets them.
fn config(dir: PathBuf, core: &str) -> Config {
    Config {
        dir,
        core: core.parse::<CoreUrl>().unwrap(),
        interface: "wg0".into(),
        backend: Backend::Auto,
        statistics_period: Duration::from_secs(3600),
        heartbeat_period: Duration::from_secs(10),
        lease: Duration::from_secs(90),
        without_gate: Without::Serve,
    }
}

impl Running {
    fn start(core: &FakeCore) -> Self {
        let dir = tempfile::tempdir().unwrap();
        crate::testing::enroll(&core.authority, dir.path());
        Self::start_with(&FakeKernel::new(), dir, core, |_| ())
    }

    fn start_with(
        kernel: &FakeKernel,
        dir: TempDir,
        core: &FakeCore,
        set: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = config(dir.path().to_owned(), &core.url());
        set(&mut config);
        let kernel = kernel.clone();
        let wg0 = kernel.interface("wg0");
        let (stop, stopped) = oneshot::channel::<()>();
        let again = kernel.clone();
        let gate = FakeGate::default();
        let gateway = Gateway::new(config, Box::new(wg0.clone()))
            .reopen_with(move || Ok(Box::new(again.interface("wg0"))))
            .gate_with(gate.clone());
        let shutdown = async move {
            let _ = stopped.await;
        };
        let task = tokio::spawn(gateway.serve(shutdown));
        Self { wg0, kernel, gate, dir, stop: Some(stop), task }
    }

    /// Stops the process; the kernel and the files stay.
    async fn stop(mut self) -> (FakeKernel, TempDir) {
        drop(self.stop.take());
        self.task.await.unwrap().unwrap();
        (self.kernel, self.dir)
    }

    /// Asks for the status until `is_so`.
    async fn until(&self, is_so: impl Fn(&status::Status) -> bool) -> status::Status {
        loop {
            if let Ok(status) = status::ask(self.dir.path()).await
                && is_so(&status)
            {
                return status;
            }
            tokio::task::yield_now().await;
        }
    }

    fn session_of(&self, n: u8) -> Option<[u8; 32]> {
        self.wg0.psk(&key(n)).map(|psk| *psk.expose_secret())
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("it did not come in time")
}

/// A gateway that has applied a snapshot of revision 1 with these peers, and has said what they
/// counted, as it does when a stream begins: from here on it looks at the kernel only when told.
async fn settled(core: &mut FakeCore, peers: Vec<wire::Peer>) -> (Running, Talk) {
    let running = Running::start(core);
    let mut talk = core.talk().await;
    talk.snapshot(snapshot(1, peers)).await;
    talk.done(1).await;
    talk.stats().await;
    (running, talk)
}
