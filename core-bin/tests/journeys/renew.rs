//! A fresh factor extends a session; the tunnel does not notice.

use core::time::Duration;

use core_bin::flows::location::LocationChange;
use mfa_store::Scope;
use mfa_wire::http::path;
use serde_json::{Value, json};

use crate::rig::{Answer, Device, Rig};

const HOUR: Duration = Duration::from_secs(3600);

/// A connected device, its session, and the session's end.
async fn connected(rig: &Rig) -> (Device, i64, u64) {
    let device = rig.enroll_with_totp("ada").await;
    let answer = rig.connect(&device).await;
    let session = &answer["session"];
    (device, session["id"].as_i64().unwrap(), session["expires"].as_u64().unwrap())
}

async fn renew(rig: &Rig, device: &Device, session: i64, code: &str) -> Answer {
    let token = rig.challenge(device, 0).await;
    let body = json!({ "session_id": session, "token": token, "code": code });
    rig.prove(&device.key, path::DEVICE_RENEW, body).await
}

async fn revision(rig: &Rig) -> i64 {
    let location = rig.paris;
    rig.read(move |view| view.revision(location)).await.unwrap()
}

#[tokio::test]
async fn a_session_ends_later_and_its_peer_is_not_touched() {
    let rig = Rig::new().await;
    let (device, id, expires) = connected(&rig).await;
    rig.clock.advance(11 * HOUR);
    let before = (revision(&rig).await, rig.read(move |v| v.session_psk(id_of(id))).await);

    let answer = renew(&rig, &device, id, &rig.code(&device)).await.ok();

    assert_eq!(answer["session"]["id"], id);
    let later = answer["session"]["expires"].as_u64().unwrap();
    assert!(later >= expires + 11 * 3600, "{later}");
    let (revision_before, psk_before) = before;
    assert_eq!(revision(&rig).await, revision_before);
    let psk = rig.read(move |v| v.session_psk(id_of(id))).await.unwrap();
    assert!(psk.same_as(&psk_before.unwrap()));
    let live = rig.read(|view| view.live_sessions(Scope::All)).await;
    assert_eq!(live.len(), 1);
    assert_eq!(live[0].lifetime_ends.as_unix_secs(), later);
    assert_eq!(rig.audit().await.get("session.renew"), Some(&1));
}

#[tokio::test]
async fn a_wrong_or_used_code_extends_nothing() {
    let rig = Rig::new().await;
    let (device, id, expires) = connected(&rig).await;
    rig.clock.advance(HOUR);
    let wrong = renew(&rig, &device, id, &rig.wrong_code(&device)).await;
    wrong.is_refused(401, "Unauthorized", "code-wrong");
    let code = rig.code(&device);
    renew(&rig, &device, id, &code).await.ok();
    let used = renew(&rig, &device, id, &code).await;
    used.is_refused(401, "Unauthorized", "code-used");
    let live = rig.read(|view| view.live_sessions(Scope::All)).await;
    assert_eq!(live[0].lifetime_ends.as_unix_secs(), expires + 3600 + 30);
}

#[tokio::test]
async fn an_ended_session_or_another_devices_is_not_extended_and_the_code_stays_good() {
    let rig = Rig::new().await;
    let (device, id, _) = connected(&rig).await;
    rig.add_user("eve", &[]).await;
    let eve = rig.enroll_with_totp("eve").await;
    let refused = renew(&rig, &eve, id, &rig.code(&eve)).await;
    refused.is_refused(400, "no such session", "session-over");
    rig.connect(&eve).await;

    let body = json!({ "location_id": rig.paris.get() });
    rig.prove(&device.key, path::DEVICE_DISCONNECT, body).await.ok();
    let refused = renew(&rig, &device, id, &rig.code(&device)).await;
    refused.is_refused(400, "no such session", "session-over");
    assert_ne!(rig.connect(&device).await["preshared_key"], Value::Null);
}

#[tokio::test]
async fn without_a_proof_of_the_device_nothing_is_extended() {
    let rig = Rig::new().await;
    let (device, id, _) = connected(&rig).await;
    let token = rig.challenge(&device, 0).await;
    let body = json!({ "session_id": id, "token": token, "code": rig.code(&device) });
    let refused = rig.post(path::DEVICE_RENEW, body).await;
    refused.is_refused(401, "proof required", "proof-required");
}

#[tokio::test]
async fn a_session_ends_at_the_locations_time_of_day() {
    let rig = Rig::new().await;
    let daily_end = Some(Some("18:30 Europe/Warsaw".parse().unwrap()));
    rig.set_location("paris", LocationChange { daily_end, ..LocationChange::default() }).await;
    rig.clock.advance(8 * HOUR);
    let (_, _, expires) = connected(&rig).await;
    // 18:30 in Warsaw is 17:30 or 16:30 by UTC, the whole year.
    let hour = expires % 86_400;
    assert!(hour == 17 * 3600 + 1800 || hour == 16 * 3600 + 1800, "{hour}");
    assert!(expires <= rig.clock.now().as_unix_secs() + 12 * 3600);
}

const fn id_of(id: i64) -> mfa_core::id::SessionId {
    mfa_core::id::SessionId::new(id)
}
