//! Every part logs all that it can while people enroll, connect and leave; then no secret is anywhere but
//! where it belongs.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use demo::company::text;
use harden::testing::canary::{Canaries, processes};

use super::*;

/// Which secrets have their place in which files: see docs/security.md.
const BELONGS: &[(&str, &[&str])] = &[
    ("core/master.key", &["master key"]),
    ("core/ca/ca.key", &["CA key"]),
    ("core/tls/public.key", &["core's TLS key"]),
    ("gw1/key.pem", &["gateway's TLS key"]),
    ("laptop/client.json", &["device key", "polling token", "enrollment session"]),
];

/// The longest line of a PEM file.
fn pem(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let lines = text.lines().filter(|line| !line.starts_with("--"));
    Ok(lines.max_by_key(|line| line.len()).unwrap_or_default().to_owned())
}

/// Notes a PSK as `wg` sees it.
fn note_psk(canaries: &mut Canaries, name: &str, gateway: &Gateway) -> Result<()> {
    let shown = gateway.host().run("wg", ["show", gateway.interface(), "preshared-keys"])?;
    let psk = shown.split_whitespace().nth(1).context("a PSK")?;
    ensure!(psk != "(none)", "the session has a PSK");
    canaries.add_text(name, psk);
    Ok(())
}

#[test]
fn no_secret_is_anywhere_but_where_it_belongs() -> Result<()> {
    demo::lab::within("canary::no_secret_is_anywhere_but_where_it_belongs", |lab| {
        let mut site = Site::in_lab(lab);
        site.environment.push(("WGMFA_LOG__LEVEL".into(), "trace".into()));
        site.gateway_log = "trace".into();
        // What anybody on this machine can see of processes, from the first to the last.
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, mut visible) = (Arc::clone(&stop), Vec::new());
        let watcher = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                visible.extend(processes());
                std::thread::park_timeout(Duration::from_millis(20));
            }
            visible
        });

        let company = Company::found_at(site)?;
        let policy = ["--mfa", "on"];
        add_location(&company, "office", "10.1.0.1/24,fd10::1/64", "10.77.0.2:51820", &policy)?;
        let gateway = join_gateway(&company, lab, "office", "gw1", SERVER)?;
        company.admin(&["user", "add", "alice", "--email", "alice@example.org"])?;
        let laptop = new_laptop(lab, "laptop")?;
        let mut canaries = Canaries::default();
        // Typed on a command line by the lab, so looked for in files only.
        let mut typed = Canaries::default();

        let ticket = company.admin(&["user", "enroll", "alice"])?;
        typed.add_text("enrollment token", text(&ticket, "token")?);
        laptop.client(&["enroll", text(&ticket, "url")?, text(&ticket, "token")?])?;
        let setup = laptop.client(&["mfa", "setup", "totp", "--begin"])?;
        let secret = text(&setup, "secret")?;
        canaries.add_text("authenticator secret", secret);
        let authenticator = Authenticator::new(secret);
        let done = laptop.confirm_totp(&authenticator)?;
        let sheet = done.get("recovery_codes").and_then(Value::as_array).context("a sheet")?;
        let code = sheet.iter().find_map(Value::as_str).context("a recovery code")?;
        typed.add_text("used recovery code", code);
        for code in sheet.iter().skip(1).filter_map(Value::as_str) {
            canaries.add_text("recovery code", code);
        }
        let token = company.admin(&["token", "add", "grafana", "--scopes", "sessions:read"])?;
        canaries.add_text("API token", text(&token, "token")?);

        // By the app, by a recovery code, by mail; each ends the session before it.
        let connect = |code: &str| laptop.connect("office", &["--method", "totp", "--code", code]);
        connect(&authenticator.code(0)?)?;
        ensure!(laptop.host().ping(SERVER)?);
        note_psk(&mut canaries, "PSK of the app", &gateway)?;
        laptop.client(&["disconnect", "office"])?;
        connect(code)?;
        note_psk(&mut canaries, "PSK of the recovery code", &gateway)?;
        laptop.client(&["disconnect", "office"])?;
        laptop.set_up_email(&company).or_else(|_| {
            // With a factor in place a change needs one: the app's next code.
            let more = ["mfa", "setup", "email", "--begin", "--current-code"];
            let seen = company.mailbox().len();
            laptop.client(&[&more[..], &[&authenticator.code(1)?]].concat())?;
            let (_, code) = company.mailbox().wait_for_code(seen, 8)?;
            laptop.client(&["mfa", "setup", "email", "--code", &code]).map(drop)
        })?;
        let before = company.mailbox().len();
        let mut mailed = String::new();
        laptop.connect_with("office", "email", &mut || {
            mailed = company.mailbox().wait_for_code(before, 8)?.1;
            Ok(mailed.clone())
        })?;
        note_psk(&mut canaries, "PSK of the mailed code", &gateway)?;
        typed.add_text("mailed code", &mailed);

        // What the parts keep for themselves.
        let root = lab.directory();
        let shown = gateway.host().run("wg", ["show", gateway.interface(), "private-key"])?;
        canaries.add_text("location's key", shown.trim());
        let key = fs::read_to_string(root.join("core/master.key"))?;
        canaries.add_text("master key", key.trim());
        let state: Value = serde_json::from_slice(&fs::read(root.join("laptop/client.json"))?)?;
        let kept = |field: &str| {
            let value = state.pointer(&format!("/instances/0/{field}")).and_then(Value::as_str);
            value.map(str::to_owned).with_context(|| format!("{field} in client.json"))
        };
        canaries.add_text("device key", &kept("private_key")?);
        canaries.add_text("polling token", &kept("polling_token")?);
        if let Ok(cookie) = kept("enrollment/cookie") {
            canaries.add_text("enrollment session", cookie.split('=').nth(1).unwrap_or(&cookie));
        }
        canaries.add_text("gateway's TLS key", &pem(&root.join("gw1/key.pem"))?);
        for (name, file) in
            [("CA key", "core/ca/ca.key"), ("core's TLS key", "core/tls/public.key")]
        {
            canaries.add_text(name, &pem(&root.join(file))?);
        }

        // A backup as docs/operate.md says, and the audit log as somebody keeps it.
        let backup = root.join("backup");
        fs::create_dir(&backup)?;
        for entry in fs::read_dir(root.join("core"))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("core.db") {
                fs::copy(entry.path(), backup.join(name))?;
            }
        }
        let audit = company.admin(&["audit", "export"])?;
        fs::write(root.join("audit.json"), audit.to_string())?;
        stop.store(true, Ordering::Relaxed);
        let seen = watcher.join().map_err(|_| anyhow::anyhow!("the watcher failed"))?;

        // That the search can find, and that there was something to search.
        ensure!(canaries.len() > 20, "{} canaries", canaries.len());
        let log = fs::read_to_string(root.join("core.log"))?;
        ensure!(log.contains("TRACE"), "core logs all that it can");
        let log = fs::read_to_string(root.join("gw1.log"))?;
        ensure!(log.contains("TRACE") || log.contains("DEBUG"), "the gateway, too");
        ensure!(canaries.found_in(key.as_bytes()) == ["master key"]);
        ensure!(seen.windows(9).any(|part| part == b"gateway-b"), "processes were seen");
        let bare = canaries.found_under(root, &[]);
        for (file, names) in BELONGS {
            let there = bare.iter().any(|one| one.contains(file) && one.ends_with(names[0]));
            ensure!(there, "{} is not in {file}: {bare:?}", names[0]);
        }

        let strays = canaries.found_under(root, BELONGS);
        ensure!(strays.is_empty(), "secrets where none belong: {strays:#?}");
        let strays = typed.found_under(root, BELONGS);
        ensure!(strays.is_empty(), "codes and tokens where none belong: {strays:#?}");
        let strays = canaries.found_in(&seen);
        ensure!(strays.is_empty(), "secrets on a command line or in an environment: {strays:?}");
        Ok(())
    })
}
