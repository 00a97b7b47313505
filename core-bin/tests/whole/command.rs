//! `core-bin`, started as a process.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// The program, with a state directory and nothing of this process's environment that it reads.
fn core_bin(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_core-bin"));
    command.arg("--dir").arg(dir).env_remove("CREDENTIALS_DIRECTORY").env_remove("NOTIFY_SOCKET");
    command
}

fn run(dir: &Path, line: &str) -> Output {
    core_bin(dir).args(line.split(' ')).output().unwrap()
}

#[track_caller]
fn ok(output: &Output) -> String {
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    out.into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&ok(output)).unwrap()
}

fn refusal(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A server that is killed if a test fails.
struct Server {
    child: Child,
    public: String,
}

impl Server {
    /// Starts it on ports that the system chooses, and reads its log until it is ready.
    fn start(dir: &Path) -> Self {
        let mut child = core_bin(dir)
            .args(["serve", "--listen", "127.0.0.1:0", "--gateways-listen", "127.0.0.1:0"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut lines = log.lines().map(Result::unwrap);
        let ready = lines.find(|line| line.contains("ready")).expect("the server starts");
        let public = ready.split("public=").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        // Goes on to read, so that the server can go on to write.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, public }
    }

    /// Tells it to stop; returns whether it did so cleanly.
    fn stop(mut self) -> bool {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.child.wait().unwrap().success()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_empty_directory_becomes_a_running_server_without_editing_a_file() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("state");
    let made = json(&run(&dir, "init --json --url https://localhost:8443/"));
    let link = made["setup_link"].as_str().unwrap();
    assert!(link.starts_with("https://localhost:8443/setup?token="), "{link}");
    assert!(ok(&run(&dir, "config check")).contains("can be used"));

    let server = Server::start(&dir);
    let public = server.public.clone();
    let health =
        || core_bin(&dir).arg("health").env("WGMFA_PUBLIC__LISTEN", &public).output().unwrap();
    assert!(ok(&health()).contains("ready"));
    ok(&run(&dir, "location add paris --endpoint vpn.example.com:51820 --address 10.1.0.1/24"));
    ok(&run(&dir, "user add ada --email ada@example.com"));
    let ticket = json(&run(&dir, "user enroll ada --json"));
    assert_eq!(ticket["url"], "https://localhost:8443/");
    assert!(server.stop(), "SIGTERM ends it cleanly");
    assert!(refusal(&health()).contains("does not run"));
}

#[test]
fn init_makes_nothing_twice() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("state");
    let (first, second) = (json(&run(&dir, "init --json")), json(&run(&dir, "init --json")));
    assert_eq!(first["ca_pin"], second["ca_pin"], "what is there stays");
    ok(&run(&dir, "user add ada"));
    assert!(refusal(&run(&dir, "init")).contains("admin recover"));
    assert!(ok(&run(&dir, "admin recover")).contains("/setup?token="));
}

#[test]
fn what_cannot_work_is_refused_with_what_to_do() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("state");
    assert!(refusal(&run(&dir, "user list")).contains("core-bin init"));
    ok(&run(&dir, "init"));

    let config = dir.join("core.toml");
    let good = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{good}colour = \"red\"\n")).unwrap();
    let words = refusal(&run(&dir, "config check"));
    assert!(words.contains("line ") && words.contains("colour"), "{words}");
    std::fs::write(&config, good).unwrap();

    let key = dir.join("master.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(refusal(&run(&dir, "user list")).contains("chmod 600"));
    let words: Value = serde_json::from_str(&refusal(&run(&dir, "user list --json"))).unwrap();
    assert!(words["error"].as_str().unwrap().contains("chmod"), "also for programs");
}

#[test]
fn help_completions_and_the_manual_need_no_state() {
    let nowhere = Path::new("/nonexistent");
    assert!(ok(&run(nowhere, "location set --help")).contains("--peer-disconnect-threshold"));
    assert!(ok(&run(nowhere, "completions bash")).contains("core-bin"));
    assert!(ok(&run(nowhere, "man")).contains(".TH core-bin"));
    assert!(ok(&run(nowhere, "config example")).contains("[public]"));
}

#[test]
fn an_export_of_the_audit_log_goes_on_where_the_last_one_ended() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("state");
    ok(&run(&dir, "init"));
    ok(&run(&dir, "user add ada"));
    let lines = |text: &str| -> Vec<Value> {
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let first = lines(&ok(&run(&dir, "audit export")));
    let last = first.last().unwrap();
    assert_eq!((last["action"].as_str(), last["actor"].as_str()), (Some("user.add"), Some("cli")));
    assert_eq!(last["hash"].as_str().unwrap().len(), 64);
    let after = format!("audit export --after {}", last["seq"]);
    assert_eq!(ok(&run(&dir, &after)), "", "nothing is new");
    ok(&run(&dir, "user add bob"));
    let more = lines(&ok(&run(&dir, &after)));
    assert_eq!(more[0]["seq"].as_i64(), last["seq"].as_i64().map(|seq| seq + 1));
    let whole = lines(&ok(&run(&dir, "audit export")));
    assert_eq!(whole, [first, more].concat());
}

#[test]
fn core_keeps_its_memory_to_itself() {
    let root = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_core-bin"));
    // A database that accepts the connection and never answers: core waits for it.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://core@{}/core", silent.local_addr().unwrap());
    let state = root.path().join("state");
    let line = ["--dir", state.to_str().unwrap(), "init"];
    let environment = [("WGMFA_DATABASE__URL", url.as_str())];
    harden::testing::assert_private_with(program, &line, &environment, root.path());
}
