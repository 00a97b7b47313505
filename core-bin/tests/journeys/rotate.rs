//! The PSK of a live session is replaced.

use core::time::Duration;

use core_bin::drivers::rotate::{self, Done};
use core_bin::flows::location::LocationChange;
use mfa_core::rotate::PskPolicy;
use mfa_store::Scope;
use mfa_wire::http::path;
use serde_json::{Value, json};

use crate::rig::{Device, Rig};

const MINUTE: Duration = Duration::from_secs(60);

/// What the driver does now.
async fn look(rig: &Rig) -> Done {
    rotate::look(&rig.app, rig.clock.now()).await.unwrap()
}

/// A client's word: what it has set, and what is proven.
async fn say(rig: &Rig, device: &Device, session: &Value, set: u32, proven: u32) -> Value {
    let body = json!({
        "location_id": rig.paris.get(), "session_id": session, "set": set, "proven": proven,
    });
    rig.prove(&device.key, path::DEVICE_ROTATE, body).await.ok()
}

async fn next_generation(rig: &Rig, device: &Device) -> Value {
    let status = rig.prove(&device.key, path::DEVICE_STATUS, json!({})).await.ok();
    status["locations"][0]["session"]["next_generation"].clone()
}

/// A connected device, whose client takes keys, and its session.
async fn connected(rig: &Rig) -> (Device, Value, Value) {
    let device = rig.enroll_with_totp("ada").await;
    let answer = rig.connect(&device).await;
    let (session, psk) = (answer["session"]["id"].clone(), answer["preshared_key"].clone());
    let said = say(rig, &device, &session, 1, 1).await;
    assert_eq!(said, json!({ "generation": 1 }));
    (device, session, psk)
}

async fn generation_of_gateways(rig: &Rig) -> u32 {
    let location = rig.paris;
    let peers = rig.read(move |view| view.desired_peers(location, None)).await;
    peers[0].session.as_ref().unwrap().generation.get()
}

#[tokio::test]
async fn a_key_goes_from_staged_to_promoted() {
    let rig = Rig::new().await;
    let (device, session, first) = connected(&rig).await;
    rig.clock.advance(9 * MINUTE);
    assert_eq!(look(&rig).await, Done::default(), "not before the period is over");
    rig.clock.advance(MINUTE);
    assert_eq!(look(&rig).await, Done { staged: 1, ..Done::default() });
    assert_eq!(next_generation(&rig, &device).await, 2);

    let answer = say(&rig, &device, &session, 1, 1).await;
    assert_eq!((&answer["generation"], &answer["next"]["generation"]), (&json!(1), &json!(2)));
    let second = &answer["next"]["preshared_key"];
    assert_ne!(*second, first);
    assert_eq!(say(&rig, &device, &session, 1, 1).await["next"]["preshared_key"], *second);
    assert_eq!(generation_of_gateways(&rig).await, 1, "not before the client has it");

    assert_eq!(say(&rig, &device, &session, 2, 1).await, json!({ "generation": 1 }));
    assert_eq!(generation_of_gateways(&rig).await, 2);
    assert_eq!(next_generation(&rig, &device).await, Value::Null);
    assert_eq!(look(&rig).await, Done::default(), "no handshake has proven it");

    say(&rig, &device, &session, 2, 2).await;
    assert_eq!(look(&rig).await, Done { promoted: 1, ..Done::default() });
    assert_eq!(say(&rig, &device, &session, 2, 2).await, json!({ "generation": 2 }));
    assert_eq!(generation_of_gateways(&rig).await, 2);

    let known = rig.read(|view| view.live_sessions(Scope::All)).await;
    assert_eq!(known[0].generation.get(), 2);
    rig.clock.advance(9 * MINUTE);
    assert_eq!(look(&rig).await.staged, 0);
    rig.clock.advance(MINUTE);
    assert_eq!(look(&rig).await.staged, 1, "the next, a period after this one was staged");
}

#[tokio::test]
async fn a_client_that_never_speaks_of_keys_keeps_its_first_and_its_session() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    rig.connect(&device).await;
    for _ in 0..20 {
        rig.clock.advance(10 * MINUTE);
        assert_eq!(look(&rig).await, Done::default());
    }
    assert_eq!(rig.live_sessions().await, 1);
}

#[tokio::test]
async fn a_client_that_cannot_be_reached_ends_with_a_reason_when_patience_is_over() {
    let rig = Rig::new().await;
    let (device, session, _) = connected(&rig).await;
    rig.clock.advance(10 * MINUTE);
    assert_eq!(look(&rig).await.staged, 1);
    rig.clock.advance(29 * MINUTE);
    assert_eq!(look(&rig).await, Done::default());
    rig.clock.advance(MINUTE);
    assert_eq!(look(&rig).await, Done { given_up: 1, ..Done::default() });

    let status = rig.prove(&device.key, path::DEVICE_STATUS, json!({})).await.ok();
    assert_eq!(status["locations"][0]["ended"]["reason"], "rotation_failed");
    let body =
        json!({ "location_id": rig.paris.get(), "session_id": session, "set": 1, "proven": 1 });
    let refused = rig.prove(&device.key, path::DEVICE_ROTATE, body).await;
    refused.is_refused(400, "no such session", "session-over");
}

#[tokio::test]
async fn nobody_takes_part_in_the_rotation_of_another_devices_session() {
    let rig = Rig::new().await;
    let (_, session, _) = connected(&rig).await;
    rig.clock.advance(10 * MINUTE);
    assert_eq!(look(&rig).await.staged, 1);
    rig.add_user("eve", &[]).await;
    let eve = rig.enroll_with_totp("eve").await;
    rig.connect(&eve).await;
    let body =
        json!({ "location_id": rig.paris.get(), "session_id": session, "set": 2, "proven": 2 });
    let stranger = rig.post(path::DEVICE_ROTATE, body.clone()).await;
    stranger.is_refused(401, "proof required", "proof-required");
    let refused = rig.prove(&eve.key, path::DEVICE_ROTATE, body).await;
    refused.is_refused(400, "no such session", "session-over");
    assert_eq!(look(&rig).await, Done::default());
}

#[tokio::test]
async fn nothing_is_staged_while_a_gateway_is_away_or_cannot_set_a_key_in_place() {
    let mut rig = Rig::new().await;
    connected(&rig).await;
    rig.clock.advance(10 * MINUTE);
    rig.gateway_leaves().await;
    assert_eq!(look(&rig).await, Done::default(), "no gateway is connected");
    rig.gateway_arrives_with(1, "userspace");
    assert_eq!(look(&rig).await, Done::default(), "it would lose the tunnel");
    rig.gateway_leaves().await;
    rig.gateway_arrives(1);
    assert_eq!(look(&rig).await, Done::default(), "it may have a key of before");
    has_all(&rig).await;
    assert_eq!(look(&rig).await.staged, 1);
}

#[tokio::test]
async fn what_a_gateway_lacks_is_not_promoted() {
    let mut rig = Rig::new().await;
    let (device, session, _) = connected(&rig).await;
    rig.clock.advance(10 * MINUTE);
    look(&rig).await;
    rig.gateway_leaves().await;
    say(&rig, &device, &session, 2, 2).await;
    rig.clock.advance(60 * MINUTE);
    assert_eq!(look(&rig).await, Done::default(), "and what the client has is not given up");
    rig.gateway_arrives(1);
    has_all(&rig).await;
    assert_eq!(look(&rig).await.promoted, 1);
}

/// Waits until the gateway that has just arrived has what there is.
async fn has_all(rig: &Rig) {
    // The seat's first look is at the next wake.
    rig.app.registry.wake_all();
    let location = rig.paris;
    let revision = rig.read(move |view| view.revision(location)).await.unwrap();
    rig.app.registry.wait_applied(location, revision, MINUTE).await;
}

#[tokio::test]
async fn rotation_is_off_where_the_location_says_so() {
    let rig = Rig::new().await;
    connected(&rig).await;
    let psk = Some(PskPolicy::Fixed);
    rig.set_location("paris", LocationChange { psk, ..LocationChange::default() }).await;
    rig.clock.advance(60 * MINUTE);
    assert_eq!(look(&rig).await, Done::default());
    let psk = Some(PskPolicy::every(2 * MINUTE).unwrap());
    rig.set_location("paris", LocationChange { psk, ..LocationChange::default() }).await;
    assert_eq!(look(&rig).await.staged, 1);
}

#[tokio::test]
async fn a_restart_of_core_loses_nothing() {
    let rig = Rig::new().await;
    let (device, session, _) = connected(&rig).await;
    rig.clock.advance(10 * MINUTE);
    look(&rig).await;
    let answer = say(&rig, &device, &session, 1, 1).await;
    // The driver remembers nothing between two looks, so each look is as one after a restart.
    say(&rig, &device, &session, 2, 2).await;
    assert_eq!(look(&rig).await.promoted, 1);
    let psk = rig.read(|view| {
        let id = view.live_sessions(Scope::All)?[0].id;
        view.session_psk(id)
    });
    let psk = psk.await.unwrap().expose_base64();
    assert_eq!(answer["next"]["preshared_key"].as_str().unwrap(), psk.as_str());
}
