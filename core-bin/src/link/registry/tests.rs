use mfa_core::token::TokenDigest;

use super::*;

const PARIS: LocationId = LocationId::new(1);
const ROME: LocationId = LocationId::new(2);
const A: GatewayId = GatewayId::new(1);
const B: GatewayId = GatewayId::new(2);
const ANY: Credential = Credential::Token(TokenDigest::from_bytes([0; 32]));
const BRIEFLY: Duration = Duration::from_secs(4);

#[tokio::test(start_paused = true)]
async fn waiting_ends_when_the_last_gateway_has_applied() {
    let registry = Registry::new();
    let (a, b) = (join(&registry, A, 1), join(&registry, B, 2));
    let waiting = tokio::spawn({
        let registry = Arc::clone(&registry);
        async move { registry.wait_applied(PARIS, 7, BRIEFLY).await }
    });

    a.applied(7);
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    b.applied(8);

    assert_eq!(waiting.await.unwrap(), Applied { connected: 2, applied: 2 });
}

#[tokio::test(start_paused = true)]
async fn a_silent_gateway_is_not_waited_for_for_ever() {
    let registry = Registry::new();
    let (a, _b) = (join(&registry, A, 1), join(&registry, B, 2));
    a.applied(7);
    let applied = registry.wait_applied(PARIS, 7, BRIEFLY).await;
    assert_eq!(applied, Applied { connected: 2, applied: 1 });
    assert!(!applied.is_complete());
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_leaves_is_no_longer_waited_for() {
    let registry = Registry::new();
    let (a, b) = (join(&registry, A, 1), join(&registry, B, 2));
    a.applied(7);
    drop(b);
    assert!(registry.wait_applied(PARIS, 7, BRIEFLY).await.is_complete());
}

#[tokio::test(start_paused = true)]
async fn without_a_gateway_there_is_nothing_to_wait_for() {
    let registry = Registry::new();
    let begun = tokio::time::Instant::now();
    assert_eq!(registry.wait_applied(PARIS, 7, BRIEFLY).await, Applied::default());
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn a_newer_process_closes_the_older_and_shuts_it_out() {
    let registry = Registry::new();
    let mut older = join(&registry, A, 1);
    let newer = join(&registry, A, 2);

    assert_eq!(older.called().await, Call::Close(Closing::Superseded));
    older.applied(9);
    assert_eq!(registry.list(PARIS)[0].applied, None);
    drop(older);
    assert_eq!(registry.connected(PARIS), 1);
    assert_eq!(try_join(&registry, A, 1).unwrap_err(), Fenced);

    drop(newer);
    assert!(try_join(&registry, A, 1).is_ok());
}

#[tokio::test]
async fn a_process_that_dials_again_replaces_itself_quietly() {
    let registry = Registry::new();
    let mut first = join(&registry, A, 1);
    let _second = join(&registry, A, 1);
    assert_eq!(first.called().await, Call::Close(Closing::Redialled));
    assert!(try_join(&registry, A, 1).is_ok());
}

#[tokio::test]
async fn a_revoked_gateway_hears_why() {
    let registry = Registry::new();
    let mut seat = join(&registry, A, 1);
    registry.close(A, Closing::Revoked);
    assert_eq!(seat.called().await, Call::Close(Closing::Revoked));
}

#[tokio::test(start_paused = true)]
async fn a_wake_reaches_its_location_and_no_other() {
    let registry = Registry::new();
    let mut paris = join(&registry, A, 1);
    let process = ProcessId(vec![2]);
    let mut rome = registry.join(ROME, B, ANY, &process, About::default(), at(0)).unwrap();
    registry.wake(PARIS);
    assert_eq!(paris.called().await, Call::Look);
    assert!(tokio::time::timeout(BRIEFLY, rome.called()).await.is_err());
}

#[test]
fn news_are_told_once_also_of_a_gateway_that_left() {
    let registry = Registry::new();
    let seat = join(&registry, A, 1);
    seat.applied(3);
    seat.heard(at(5));
    let about = About::default();
    let news = News { gateway: A, applied: Some(3), last_heard: at(5), about };
    let news = vec![news];
    assert_eq!(registry.take_news(), news);
    assert_eq!(registry.take_news(), []);
    drop(seat);
    assert_eq!(registry.take_news(), news);
}

fn join(registry: &Arc<Registry>, gateway: GatewayId, process: u8) -> Seat {
    try_join(registry, gateway, process).unwrap()
}

fn try_join(registry: &Arc<Registry>, gateway: GatewayId, process: u8) -> Result<Seat, Fenced> {
    registry.join(PARIS, gateway, ANY, &ProcessId(vec![process]), About::default(), at(0))
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix_millis(seconds * 1000)
}
