//! A core inside another process.

use core_bin::clock::Clock;
use core_bin::config::Config;
use core_bin::dir::StateDir;
use core_bin::rng::Rng;
use core_bin::serve::{Core, ServeError, Setup};
use mfa_core::time::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn setup(dir: &std::path::Path) -> Setup {
    let config = "[public]\nlisten = \"127.0.0.1:0\"\ntls = \"off\"\n\
                  [gateways]\nlisten = \"127.0.0.1:0\"\n";
    let config: Config = toml::from_str(config).unwrap();
    let clock = Clock::manual(Timestamp::from_unix_millis(1_795_478_400_000));
    Setup { dir: StateDir::new(dir), config, clock, rng: Rng::system() }
}

async fn get(core: &Core, path: &str) -> String {
    let mut stream = TcpStream::connect(core.public_address()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_core_starts_serves_and_stops_within_another_process() {
    let root = tempfile::tempdir().unwrap();
    let setup = setup(root.path());
    setup.dir.write_master_key(&[7; 32]).unwrap();
    let core = Core::start(setup.clone()).await.unwrap();
    assert_ne!(core.public_address().port(), 0);
    assert!(get(&core, "/readyz").await.starts_with("HTTP/1.1 200"));
    assert!(get(&core, "/").await.contains("WireGuard"));
    assert!(TcpStream::connect(core.gateways_address()).await.is_ok());
    let (address, id) = (core.public_address(), core.app().site.id.clone());
    core.stop().await;
    assert!(TcpStream::connect(address).await.is_err());

    let again = Core::start(setup).await.unwrap();
    assert_eq!(again.app().site.id, id, "it is the same installation");
    again.stop().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_its_setting() {
    let root = tempfile::tempdir().unwrap();
    let mut setup = setup(root.path());
    setup.dir.write_master_key(&[7; 32]).unwrap();
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    setup.config.public.listen = taken.local_addr().unwrap();
    let error = Core::start(setup).await.unwrap_err();
    assert!(matches!(error, ServeError::Bind { what: "public.listen", .. }), "{error}");
}
