//! What a client learns of its session, and how it ends one.

use core_bin::flows::location::LocationChange;
use mfa_core::policy::Mfa;
use mfa_wire::http::path;
use serde_json::{Value, json};

use crate::rig::Rig;

#[tokio::test]
async fn status_tells_of_a_live_session_and_of_how_the_last_one_ended() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    let status = || rig.prove(&device.key, path::DEVICE_STATUS, json!({}));
    let before = status().await.ok();
    assert_eq!(before["username"], "ada");
    assert_eq!(before["methods"], json!([0]));
    assert_eq!(before["locations"][0]["session"], Value::Null);
    assert_eq!(before["locations"][0]["gateways_connected"], 1);

    let connected = rig.connect(&device).await;
    let live = status().await.ok();
    assert_eq!(live["locations"][0]["session"]["id"], connected["session"]["id"]);
    assert_eq!(live["locations"][0]["session"]["gateways_applied"], 1);
    assert_eq!(live["locations"][0]["ended"], Value::Null);

    let disconnect = json!({ "location_id": rig.paris.get() });
    let done = rig.prove(&device.key, path::DEVICE_DISCONNECT, disconnect.clone()).await.ok();
    assert_eq!(done["ended"], true);
    let again = rig.prove(&device.key, path::DEVICE_DISCONNECT, disconnect).await.ok();
    assert_eq!(again["ended"], false);
    let ended = status().await.ok();
    assert_eq!(ended["locations"][0]["ended"]["reason"], "disconnected");
    let words = ended["locations"][0]["ended"]["detail"].as_str().unwrap();
    assert!(words.contains("Connect again"), "{words}");
}

#[tokio::test]
async fn status_has_the_polls_version_so_that_a_client_sees_an_update_is_due() {
    let rig = Rig::new().await;
    let device = rig.enroll("ada").await;
    let poll = rig.post(path::POLL, json!({ "token": device.polling_token })).await.ok();
    let status = || rig.prove(&device.key, path::DEVICE_STATUS, json!({}));
    let version = status().await.ok()["config_version"].clone();
    assert_eq!(version, poll["device_config"]["config_version"]);
    let off = LocationChange { mfa: Some(Mfa::Off), ..LocationChange::default() };
    rig.set_location("paris", off).await;
    assert_ne!(status().await.ok()["config_version"], version);
}

#[tokio::test]
async fn enabling_mfa_ends_peers_without_a_session() {
    let rig = Rig::new().await;
    let mfa = |mfa| LocationChange { mfa: Some(mfa), ..LocationChange::default() };
    rig.set_location("paris", mfa(Mfa::Off)).await;
    rig.enroll("ada").await;
    let paris = rig.paris;
    let peers = || rig.read(move |view| view.desired_peers(paris, None));
    assert_eq!(peers().await.len(), 1, "without MFA the device is a peer at once");
    rig.set_location("paris", mfa(Mfa::Required)).await;
    assert!(peers().await.is_empty());
}
