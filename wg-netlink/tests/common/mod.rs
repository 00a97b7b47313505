//! Network namespaces for the tests, each on a thread of its own.

use std::process::Command;
use std::sync::mpsc;
use std::thread;

use nix::sched::{CloneFlags, unshare};

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace of its own, which ends with this value.
pub(crate) struct Namespace {
    jobs: mpsc::Sender<Job>,
    thread_id: i32,
}

impl Namespace {
    /// Makes one, with its loopback up. Needs root.
    pub(crate) fn new() -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (started, start) = mpsc::channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
            started.send(nix::unistd::gettid().as_raw()).unwrap();
            for job in queue {
                job();
            }
        });
        let namespace = Self { jobs, thread_id: start.recv().unwrap() };
        namespace.shell("ip link set lo up");
        namespace
    }

    /// Joins two by a cable: `eth0` at both ends, with these addresses.
    pub(crate) fn join(&self, addresses: &[&str], other: &Self, others: &[&str]) {
        self.shell(&format!("ip link add eth0 type veth peer name eth0 netns {}", other.thread_id));
        for (end, addresses) in [(self, addresses), (other, others)] {
            for address in addresses {
                let nodad = if address.contains(':') { "nodad" } else { "" };
                end.shell(&format!("ip address add {address} dev eth0 {nodad}"));
            }
            end.shell("ip link set eth0 up");
        }
    }

    /// Runs something inside.
    pub(crate) fn run<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, receiver) = mpsc::channel();
        let job = move || {
            let _ = sender.send(act());
        };
        self.jobs.send(Box::new(job)).unwrap();
        receiver.recv().expect("what ran in the namespace panicked")
    }

    /// Runs a command inside and returns what it says.
    pub(crate) fn shell(&self, command: &str) -> String {
        let (is_ok, said) = self.attempt(command);
        assert!(is_ok, "{command}: {said}");
        said
    }

    /// Whether one packet and its answer pass. Waits for up to `seconds`.
    pub(crate) fn pings(&self, address: &str, seconds: u32) -> bool {
        self.attempt(&format!("ping -n -c 1 -w {seconds} {address}")).0
    }

    fn attempt(&self, command: &str) -> (bool, String) {
        let command = command.to_owned();
        self.run(move || {
            let output = Command::new("sh").args(["-c", &command]).output().unwrap();
            let said = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8_lossy(&said).into_owned())
        })
    }
}
