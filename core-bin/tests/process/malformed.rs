//! Damaged calls to the gateways' port.

use load::malformed;

use crate::rig::Rig;

/// `load malformed` sends a million.
const CALLS: u64 = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_calls_of_gateways_are_refused_and_never_a_failure_of_core() {
    let rig = Rig::sqlite().await;
    let core = rig.place.start().unwrap();

    let seen = malformed::run(&rig.place.dir, rig.place.gateways, CALLS, 4).await.unwrap();

    assert_eq!(seen.values().sum::<usize>(), 400);
    assert!(seen.len() > 4, "different calls are refused differently: {seen:?}");
    assert!(!core.log().contains("panicked"), "{}", core.log());
    core.kill().unwrap();
}
