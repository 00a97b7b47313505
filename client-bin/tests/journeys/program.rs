//! The program as others call it: arguments in, JSON and exit codes out.

use std::process::{Output, Stdio};

use client_bin::exit;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::support::{CODE, TOKEN, World};

/// The program with the world's folder, not yet run.
fn program(world: &World, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_client-bin"));
    command.arg("--dir").arg(world.client.store().dir()).args(arguments);
    command.env_remove("WGMFA_CLIENT_DIR").stdin(Stdio::null());
    command
}

async fn run(world: &World, arguments: &[&str]) -> Output {
    program(world, arguments).output().await.unwrap()
}

async fn answer(world: &World, arguments: &[&str]) -> Value {
    let output = run(world, arguments).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn failure(world: &World, arguments: &[&str]) -> (Value, u8) {
    let output = run(world, arguments).await;
    assert!(output.stdout.is_empty(), "an error leaves no answer behind");
    let code = u8::try_from(output.status.code().unwrap()).unwrap();
    (serde_json::from_slice(&output.stderr).unwrap(), code)
}

#[tokio::test]
async fn a_program_enrolls_and_sets_an_app_up() {
    let world = World::new().await;
    let url = world.server.url();

    let enrolled = answer(&world, &["--json", "enroll", &url, TOKEN, "--name", "laptop"]).await;
    assert_eq!(enrolled["device"], "laptop");
    assert_eq!(enrolled["locations"][0]["name"], "office");

    let begun = answer(&world, &["--json", "mfa", "setup", "totp", "--begin"]).await;
    assert_eq!(begun["secret"], "JBSWY3DPEHPK3PXP");
    assert!(begun["otpauth"].as_str().unwrap().starts_with("otpauth://totp/"));
    let done = answer(&world, &["--json", "mfa", "setup", "totp", "--code", CODE]).await;
    assert_eq!(done["recovery_codes"], json!(["aaaa-bbbb", "cccc-dddd"]));
}

#[tokio::test]
async fn a_token_can_be_piped_in() {
    let world = World::new().await;
    let mut command = program(&world, &["--json", "enroll", &world.server.url(), "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(TOKEN.as_bytes()).await.unwrap();
    assert!(child.wait().await.unwrap().success());
    assert_eq!(world.client.instance(None).unwrap().name, "Acme");
}

#[tokio::test]
async fn lists_have_stable_names() {
    let world = World::enrolled().await;

    let status = answer(&world, &["--json", "status"]).await;
    let office = &status["locations"][0];
    assert_eq!((&office["name"], &office["state"]), (&json!("office"), &json!("not connected")));
    assert_eq!((&office["mfa"], &office["server_error"]), (&json!(true), &Value::Null));

    let list = answer(&world, &["--json", "location", "list"]).await;
    let office = &list["locations"][0];
    assert_eq!((&office["id"], &office["methods"]), (&json!(1), &json!(["totp"])));
    assert_eq!(office["endpoint"], "127.0.0.1:51820");

    let factors = answer(&world, &["--json", "mfa", "list"]).await;
    assert_eq!(factors["methods"][0]["method"], "totp");
    assert_eq!(factors["recovery_codes_left"], 10);

    let update = answer(&world, &["--json", "update"]).await;
    assert_eq!(update["instances"][0]["changes"], json!([]));
    let ended = answer(&world, &["--json", "disconnect"]).await;
    assert_eq!(ended["disconnected"], json!([]));
}

#[tokio::test]
async fn errors_have_a_name_words_and_an_exit_code() {
    let world = World::new().await;
    let (error, code) = failure(&world, &["--json", "connect", "office", "--code", CODE]).await;
    assert_eq!((error["code"].as_str(), code), (Some("not-enrolled"), exit::UNKNOWN));
    assert!(error["error"].as_str().unwrap().contains("client-bin enroll"));

    world.client.enroll(&world.server.url(), TOKEN, None).await.unwrap();
    let (error, code) = failure(&world, &["--json", "connect", "nowhere", "--code", CODE]).await;
    assert_eq!((error["code"].as_str(), code), (Some("location-not-found"), exit::UNKNOWN));
    let (error, code) = failure(&world, &["--json", "mfa", "setup", "totp", "--code", "1"]).await;
    assert_eq!((error["code"].as_str(), code), (Some("setup"), exit::FAILED));
}

#[tokio::test]
async fn people_get_sentences_and_no_colours_in_a_pipe() {
    let world = World::enrolled().await;
    let output = run(&world, &["status"]).await;
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "office: not connected\n");
    let output = run(&world, &["location", "list"]).await;
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "ID  NAME    CODE  METHODS  ENDPOINT         STATE\n\
         1   office  yes   totp     127.0.0.1:51820  not connected\n"
    );
}

#[tokio::test]
async fn a_server_that_is_away_is_named_and_the_rest_is_told() {
    let world = World::enrolled().await;
    world.server.edit(|script| {
        for path in ["device/status", "device/nonce"] {
            let body = json!({ "error": "busy" });
            script.refusals.insert(format!("/api/v1/{path}"), (503, body));
        }
    });
    let status = answer(&world, &["--json", "status"]).await;
    let office = &status["locations"][0];
    assert_eq!(office["state"], "not connected");
    assert!(office["server_error"].as_str().unwrap().contains("Try again"));
}

#[test]
fn the_client_keeps_its_memory_to_itself() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    // It waits for the token on standard input.
    let line = ["--dir", state.to_str().unwrap(), "enroll", "https://127.0.0.1:1/", "-"];
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_client-bin"));
    harden::testing::assert_memory_is_private(program, &line, dir.path());
}
