//! The gateway that we ship, with a modelled kernel, against the listener that we ship.

use core::future::Future;
use core::time::Duration;
use std::path::Path;

use gateway_bin::config::{Backend, Config, Overrides};
use gateway_bin::enroll::{Enrollment, enroll};
use gateway_bin::{Gateway, status};
use mfa_core::id::LocationId;
use mfa_core::policy::LocationPolicy;
use wg_netlink::WireGuard as _;
use wg_netlink::fake::{FakeInterface, FakeKernel};

use crate::rig::{Rig, SOON, device_key};

/// Enrolls a host in `dir` and runs it on `kernel`.
async fn gateway(
    rig: &Rig,
    location: LocationId,
    dir: &Path,
    kernel: &FakeKernel,
) -> FakeInterface {
    let (_, token) = rig.gateway(location, "gw1").await;
    let enrollment = Enrollment {
        core: format!("https://127.0.0.1:{}", rig.address.port()).parse().unwrap(),
        token: token.into(),
        ca_pin: rig.ca.pin().to_string().parse().unwrap(),
        dir: dir.to_owned(),
        interface: "wg0".into(),
        backend: Backend::Auto,
    };
    let enrolled = enroll(enrollment).await.unwrap();
    assert_eq!((enrolled.name.as_str(), enrolled.location.as_str()), ("gw1", "Paris"));
    run(dir, kernel)
}

/// Runs the gateway that was enrolled in `dir`.
fn run(dir: &Path, kernel: &FakeKernel) -> FakeInterface {
    let mut config = Config::load(dir, Overrides::default()).unwrap();
    config.statistics_period = Duration::from_secs(1);
    let wg0 = kernel.interface("wg0");
    tokio::spawn(Gateway::run(config, Box::new(wg0.clone()), core::future::pending()));
    wg0
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("it did not come in time")
}

async fn applied(rig: &Rig, location: LocationId) {
    // Nobody waits for a gateway that is not there yet.
    while rig.registry.connected(location) == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    rig.registry.wake(location);
    let newest = rig.store.read(move |tx| tx.revision(location)).await.unwrap().unwrap();
    assert!(rig.registry.wait_applied(location, newest, SOON).await.is_complete());
}

#[tokio::test]
async fn a_session_is_in_the_kernel_before_it_counts_as_applied() {
    soon(async {
        let rig = Rig::start().await;
        let paris = rig.location("Paris", LocationPolicy::recommended()).await;
        let device = rig.device(1).await;
        let (dir, kernel) = (tempfile::tempdir().unwrap(), FakeKernel::new());
        let wg0 = gateway(&rig, paris, &dir.path().join("gateway"), &kernel).await;
        applied(&rig, paris).await;
        assert_eq!(wg0.interface().unwrap().peers.len(), 0, "without a session there is no peer");

        let session = rig.begin_session(&device, paris, 7).await;
        applied(&rig, paris).await;
        assert_eq!(wg0.psk(&device_key(1)).unwrap().expose_secret(), &[7; 32]);

        rig.end_session(session).await;
        applied(&rig, paris).await;
        assert_eq!(wg0.interface().unwrap().peers.len(), 0);
    })
    .await;
}

#[tokio::test]
async fn its_reports_are_believed() {
    soon(async {
        let mut rig = Rig::start().await;
        let paris = rig.location("Paris", LocationPolicy::recommended()).await;
        let device = rig.device(1).await;
        rig.begin_session(&device, paris, 7).await;
        let (dir, kernel) = (tempfile::tempdir().unwrap(), FakeKernel::new());
        let wg0 = gateway(&rig, paris, &dir.path().join("gateway"), &kernel).await;
        applied(&rig, paris).await;
        wg0.hear(&device_key(1), 148, 92);

        let mut report = rig.stats.recv().await.unwrap();
        while report.peers[0].rx_bytes == 0 {
            report = rig.stats.recv().await.unwrap();
        }

        assert_eq!((report.location, report.period), (paris, Duration::from_secs(1)));
        assert_eq!(report.peers[0].public_key, device_key(1));
    })
    .await;
}

#[tokio::test]
async fn revoked_it_takes_the_peers_out() {
    soon(async {
        let rig = Rig::start().await;
        let paris = rig.location("Paris", LocationPolicy::recommended()).await;
        let device = rig.device(1).await;
        rig.begin_session(&device, paris, 7).await;
        let (dir, kernel) = (tempfile::tempdir().unwrap(), FakeKernel::new());
        let home = dir.path().join("gateway");
        let wg0 = gateway(&rig, paris, &home, &kernel).await;
        applied(&rig, paris).await;
        assert_eq!(wg0.interface().unwrap().peers.len(), 1);

        let id = rig.registry.list(paris)[0].gateway;
        rig.write(move |tx, by| tx.revoke_gateway(by, id)).await;
        while !status::ask(&home).await.unwrap().interface.peers.is_empty() {}

        assert_eq!(wg0.interface().unwrap().peers.len(), 0);
    })
    .await;
}
