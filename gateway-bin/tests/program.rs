//! `gateway-bin`, started as a process.

use std::net::TcpListener;
use std::path::Path;

#[test]
fn the_gateway_keeps_its_memory_to_itself() {
    let dir = tempfile::tempdir().unwrap();
    // A core that never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let core = format!("https://{}", silent.local_addr().unwrap());
    let pin = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let state = dir.path().join("state");
    let state = state.to_str().unwrap();
    let line = ["--dir", state, "enroll", "--core", &core, "--token", "T", "--ca-pin", pin];
    let program = Path::new(env!("CARGO_BIN_EXE_gateway-bin"));
    harden::testing::assert_memory_is_private(program, &line, dir.path());
}
