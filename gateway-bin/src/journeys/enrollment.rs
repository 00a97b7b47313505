//! A host becomes a gateway.

use std::path::PathBuf;

use wg_netlink::fake::FakeKernel;

use super::soon;
use crate::config::{Backend, Config, Overrides};
use crate::enroll::{EnrollError, Enrolled, Enrollment, enroll};
use crate::gateway::Gateway;
use crate::testing::{Authority, FakeCore, TOKEN};
use crate::tls::Pin;

fn enrollment(core: &FakeCore, dir: PathBuf) -> Enrollment {
    Enrollment {
        core: core.url().parse().unwrap(),
        token: TOKEN.to_owned().into(),
        ca_pin: Pin::of(core.authority.certificate()),
        dir,
        interface: "wg7".into(),
        backend: Backend::Userspace,
    }
}

#[tokio::test]
async fn an_enrolled_host_is_a_gateway_that_can_run() {
    soon(async {
        let mut core = FakeCore::start().await;
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("gateway");

        let enrolled = enroll(enrollment(&core, home.clone())).await.unwrap();
        assert_eq!(enrolled, Enrolled { name: "gw1".into(), location: "Office".into() });

        let config = Config::load(&home, Overrides::default()).unwrap();
        assert_eq!((config.interface.as_str(), config.backend), ("wg7", Backend::Userspace));
        let wg7 = FakeKernel::new().interface("wg7");
        tokio::spawn(Gateway::run(config, Box::new(wg7), core::future::pending()));
        core.talk().await;
    })
    .await;
}

#[tokio::test]
async fn a_core_with_another_pin_is_not_given_the_token() {
    soon(async {
        let core = FakeCore::start().await;
        let dir = tempfile::tempdir().unwrap();
        let mut enrollment = enrollment(&core, dir.path().join("gateway"));
        enrollment.ca_pin = Pin::of(Authority::new().certificate());

        let error = enroll(enrollment).await.unwrap_err();

        assert!(matches!(error, EnrollError::Connect(_)), "{error}");
        assert!(error.to_string().contains("the pin is mistyped"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_refused_token_leaves_nothing_behind() {
    soon(async {
        let core = FakeCore::start().await;
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("gateway");
        let mut enrollment = enrollment(&core, home.clone());
        enrollment.token = "another".to_owned().into();

        let error = enroll(enrollment).await.unwrap_err();

        assert!(error.to_string().contains("core-bin gateway token"), "{error}");
        assert_eq!(std::fs::read_dir(home).unwrap().count(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_gateway_is_not_enrolled_over() {
    soon(async {
        let core = FakeCore::start().await;
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("gateway");
        enroll(enrollment(&core, home.clone())).await.unwrap();

        let error = enroll(enrollment(&core, home)).await.unwrap_err();

        assert!(matches!(error, EnrollError::Already { .. }), "{error}");
    })
    .await;
}
