//! A device joins, and learns of changes.

use core::time::Duration;

use axum::http::header::SET_COOKIE;
use core_bin::flows::location::LocationChange;
use mfa_core::policy::Mfa;
use mfa_wire::http::path;
use serde_json::json;
use wg_types::PrivateKey;

use crate::rig::Rig;

#[tokio::test]
async fn a_token_buys_one_session_and_tells_who_enrolls_where() {
    let rig = Rig::new().await;
    let ticket = rig.ticket("ada").await;
    let answer = rig.post(path::ENROLLMENT_START, json!({ "token": ticket })).await;
    let cookie = answer.headers[SET_COOKIE].to_str().unwrap().to_owned();
    assert!(cookie.starts_with("defguard_proxy="), "{cookie}");
    for part in ["HttpOnly", "SameSite=Strict", "Secure"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert_eq!(answer.headers["defguard-core-version"], "1.6.0");
    assert_eq!(answer.headers["defguard-core-connected"], "true");
    let json = answer.ok();
    assert_eq!(json["user"]["login"], "ada");
    assert_eq!(json["instance"]["proxy_url"], "https://vpn.example.com/");
    assert_eq!(json["settings"]["smtp_configured"], true);

    let again = rig.post(path::ENROLLMENT_START, json!({ "token": ticket })).await;
    again.is_refused(401, "unauthorized", "enrollment-invalid");
}

#[tokio::test]
async fn the_pin_behind_a_token_is_the_clients_own_affair() {
    let rig = Rig::new().await;
    let ticket = format!("{}.{}", rig.ticket("ada").await, "ab".repeat(32));
    rig.redeem(&ticket).await;
}

#[tokio::test]
async fn unknown_and_expired_tokens_are_refused() {
    let rig = Rig::new().await;
    let ticket = rig.ticket("ada").await;
    rig.clock.advance(Duration::from_secs(24 * 3600));
    for token in [ticket.as_str(), "nonsense", "", &"0".repeat(64)] {
        let answer = rig.post(path::ENROLLMENT_START, json!({ "token": token })).await;
        answer.is_refused(401, "unauthorized", "enrollment-invalid");
    }
}

#[tokio::test]
async fn an_enrollments_session_ends() {
    let rig = Rig::new().await;
    let device = rig.enroll("ada").await;
    let info = json!({ "pubkey": device.pubkey() });
    rig.post_with(&device.cookie, path::ENROLLMENT_NETWORK_INFO, info.clone()).await.ok();
    rig.clock.advance(Duration::from_secs(30 * 60));
    let late = rig.post_with(&device.cookie, path::ENROLLMENT_NETWORK_INFO, info.clone()).await;
    late.is_refused(401, "unauthorized", "enrollment-invalid");
    let none = rig.post(path::ENROLLMENT_NETWORK_INFO, info).await;
    none.is_refused(401, "unauthorized", "enrollment-invalid");
}

#[tokio::test]
async fn a_device_gets_its_locations_as_text_for_wg_quick() {
    let rig = Rig::new().await;
    let device = rig.enroll("ada").await;
    let answer = rig.post(path::POLL, json!({ "token": device.polling_token })).await.ok();
    let config = &answer["device_config"]["configs"][0];
    assert_eq!(config["network_name"], "paris");
    assert_eq!(config["assigned_ip"], "10.1.0.2");
    assert_eq!(config["mfa_enabled"], true);
    assert_eq!(config["location_mfa_mode"], 2);
    assert_eq!(config["service_location_mode"], 1);
    let text = config["config"].as_str().unwrap();
    for line in [
        "PrivateKey = YOUR_PRIVATE_KEY",
        "Address = 10.1.0.2/32",
        "AllowedIPs = 10.1.0.0/24",
        "Endpoint = vpn.example.com:51820",
        "PersistentKeepalive = 25",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
}

#[tokio::test]
async fn a_key_belongs_to_one_device() {
    let rig = Rig::new().await;
    let device = rig.enroll("ada").await;
    let create = path::ENROLLMENT_CREATE_DEVICE;
    let body = json!({ "name": "copy", "pubkey": device.pubkey() });
    let copy = rig.post_with(&device.cookie, create, body).await;
    copy.is_refused(409, "device already exists", "device-exists");
    for (name, pubkey) in [
        ("a\r\nBcc: x", PrivateKey::from_bytes([9; 32]).public_key().to_string()),
        ("ok", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned()),
        ("ok", "short".to_owned()),
    ] {
        let body = json!({ "name": name, "pubkey": pubkey });
        let answer = rig.post_with(&device.cookie, create, body).await;
        assert_eq!(answer.status, 400, "{}", answer.text);
    }
}

#[tokio::test]
async fn an_update_by_hand_gives_a_new_polling_token_and_ends_the_old_one() {
    let rig = Rig::new().await;
    let device = rig.enroll("ada").await;
    let info = json!({ "pubkey": device.pubkey() });
    let answer = rig.post_with(&device.cookie, path::ENROLLMENT_NETWORK_INFO, info).await.ok();
    let old = rig.post(path::POLL, json!({ "token": device.polling_token })).await;
    old.is_refused(401, "invalid token", "poll-token-invalid");
    rig.post(path::POLL, json!({ "token": answer["token"] })).await.ok();
}

#[tokio::test]
async fn a_password_ends_the_enrollment() {
    let rig = Rig::new().await;
    let device = rig.enroll("ada").await;
    let activate = path::ENROLLMENT_ACTIVATE_USER;
    let weak = json!({ "phone_number": null, "password": "short" });
    let weak = rig.post_with(&device.cookie, activate, weak).await;
    weak.is_refused(400, "invalid password", "bad-request");
    let body = json!({ "phone_number": "+49 30 1", "password": "correct horse battery" });
    let answer = rig.post_with(&device.cookie, activate, body.clone()).await;
    assert!(answer.headers[SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
    answer.ok();
    let again = rig.post_with(&device.cookie, activate, body).await;
    again.is_refused(401, "unauthorized", "enrollment-invalid");
}

#[tokio::test]
async fn a_poll_tells_of_changes_and_leaves_out_what_is_not_for_the_user() {
    let rig = Rig::new().await;
    let device = rig.enroll("ada").await;
    rig.add_location("rome", "10.2.0.0/24", &["staff"]).await;
    let poll = || rig.post(path::POLL, json!({ "token": device.polling_token }));
    let before = poll().await.ok();
    let configs = |answer: &serde_json::Value| {
        let configs = answer["device_config"]["configs"].as_array().unwrap().clone();
        configs
            .iter()
            .map(|one| one["network_name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(configs(&before), ["paris"]);

    let off = LocationChange { mfa: Some(Mfa::Off), ..LocationChange::default() };
    rig.set_location("paris", off).await;
    let after = poll().await.ok();
    assert_eq!(after["device_config"]["configs"][0]["mfa_enabled"], false);
    assert_ne!(
        before["device_config"]["config_version"], after["device_config"]["config_version"],
        "the client sees that something changed"
    );

    rig.set_active("ada", false).await;
    poll().await.is_refused(401, "unauthorized", "disabled");
}
