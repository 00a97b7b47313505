//! Setting factors up, and changing them.

use core::time::Duration;

use mfa_core::factor::totp::TotpSecret;
use mfa_wire::http::path;
use serde_json::{Value, json};

use crate::rig::Rig;

#[tokio::test]
async fn without_smtp_the_email_method_says_why_it_cannot_be() {
    let mut rig = Rig::bare(false).await;
    rig.gateway_arrives(1);
    let device = rig.enroll_with_totp("ada").await;
    let body = json!({ "method": 1 });
    let set_up = rig.post_with(&device.cookie, path::ENROLLMENT_MFA_START, body).await;
    set_up.is_refused(400, "selected MFA method not available", "method-unavailable");
    assert!(set_up.text.contains("SMTP"), "{}", set_up.text);
    let start = rig.start(&device, 1).await;
    start.is_refused(400, "selected MFA method not available", "method-unavailable");
    assert!(start.text.contains("SMTP"), "{}", start.text);

    let list = rig.prove(&device.key, path::DEVICE_MFA, json!({})).await.ok();
    let email = &list["methods"][1];
    assert_eq!((&email["method"], &email["set_up"]), (&json!(1), &json!(false)));
    assert!(email["unavailable"].as_str().unwrap().contains("SMTP"));
    assert!(email["locations"][0]["refused"].as_str().unwrap().contains("SMTP"));
    assert_eq!(list["methods"][0]["locations"][0]["refused"], Value::Null);
    assert_eq!(list["recovery_codes_left"], 10);
}

#[tokio::test]
async fn a_device_key_alone_never_sets_up_a_factor() {
    let rig = Rig::new().await;
    let bare = rig.enroll("ada").await;
    let start = path::DEVICE_MFA_START;
    let none = rig.prove(&bare.key, start, json!({ "method": 0 })).await;
    none.is_refused(401, "enrollment required", "enrollment-required");

    let device = rig.enroll_with_totp("ada").await;
    let without = rig.prove(&device.key, start, json!({ "method": 1 })).await;
    without.is_refused(401, "current code required", "current-code-required");
    let wrong = json!({
        "method": 1,
        "current": { "method": 0, "code": rig.wrong_code(&device) },
    });
    rig.prove(&device.key, start, wrong).await.is_refused(401, "Unauthorized", "code-wrong");
}

#[tokio::test]
async fn a_code_of_one_factor_sets_up_another() {
    let mut rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    rig.mail();
    let body = json!({ "method": 1, "current": { "method": 0, "code": rig.code(&device) } });
    let staged = rig.prove(&device.key, path::DEVICE_MFA_START, body.clone()).await.ok();
    assert_eq!(staged["sent_to"], "a***@example.com");
    let used = rig.prove(&device.key, path::DEVICE_MFA_START, body).await;
    used.is_refused(401, "Unauthorized", "code-used");

    let code = rig.mailed_code();
    let finish = json!({ "method": 1, "code": code });
    rig.prove(&device.key, path::DEVICE_MFA_FINISH, finish.clone()).await.ok();
    assert!(rig.mail().text.contains("was set up"), "the owner is told");
    let again = rig.prove(&device.key, path::DEVICE_MFA_FINISH, finish).await;
    again.is_refused(400, "MFA setup session not found", "challenge-invalid");
    let list = rig.prove(&device.key, path::DEVICE_MFA, json!({})).await.ok();
    assert_eq!(list["methods"][1]["set_up"], true);
}

#[tokio::test]
async fn a_mailed_code_allows_a_new_authenticator_app() {
    let mut rig = Rig::new().await;
    let device = rig.enroll("ada").await;
    rig.set_up_email(&device).await;
    let start = path::DEVICE_MFA_START;
    let ask = json!({ "method": 0, "current": { "method": 1 } });
    let sent = rig.prove(&device.key, start, ask).await.ok();
    assert_eq!(sent["current_code_sent_to"], "a***@example.com");
    assert_eq!(sent["totp_secret"], Value::Null);

    let code = rig.mailed_code();
    let with_code = json!({ "method": 0, "current": { "method": 1, "code": code } });
    let staged = rig.prove(&device.key, start, with_code.clone()).await.ok();
    let secret = TotpSecret::from_base32(staged["totp_secret"].as_str().unwrap()).unwrap();
    assert!(staged["otpauth_uri"].as_str().unwrap().starts_with("otpauth://totp/Example"));
    let again = rig.prove(&device.key, start, with_code).await;
    again.is_refused(401, "Unauthorized", "code-wrong");

    let first = secret.code_at(rig.clock.now()).expose_text().to_string();
    let body = json!({ "method": 0, "code": first });
    let codes = rig.prove(&device.key, path::DEVICE_MFA_FINISH, body).await.ok();
    assert_eq!(codes["recovery_codes"].as_array().unwrap().len(), 10);
}

#[tokio::test]
async fn the_confirming_code_is_used_up_too() {
    let rig = Rig::new().await;
    let device = rig.enroll("ada").await;
    let start = path::ENROLLMENT_MFA_START;
    let answer = rig.post_with(&device.cookie, start, json!({ "method": 0 })).await.ok();
    let secret = TotpSecret::from_base32(answer["totp_secret"].as_str().unwrap()).unwrap();
    let code = secret.code_at(rig.clock.now()).expose_text().to_string();
    let body = json!({ "code": code, "method": 0 });
    rig.post_with(&device.cookie, path::ENROLLMENT_MFA_FINISH, body).await.ok();
    let token = rig.challenge(&device, 0).await;
    rig.finish(&token, &code).await.is_refused(401, "Unauthorized", "code-used");
}

#[tokio::test]
async fn a_new_secret_ends_the_sessions_of_the_old_one_and_its_codes() {
    let rig = Rig::new().await;
    let mut device = rig.enroll_with_totp("ada").await;
    rig.connect(&device).await;
    let old = device.recovery.clone();
    rig.set_up_totp(&mut device).await;
    assert_eq!(rig.live_sessions().await, 0);
    let token = rig.challenge(&device, 0).await;
    rig.finish(&token, &old[0]).await.is_refused(401, "Unauthorized", "code-wrong");
    rig.finish(&token, &device.recovery[0]).await.ok();
}

#[tokio::test]
async fn guesses_at_a_set_up_count_with_those_at_a_login() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    for _ in 0..10 {
        let body = json!({
            "method": 1,
            "current": { "method": 0, "code": rig.wrong_code(&device) },
        });
        rig.prove(&device.key, path::DEVICE_MFA_START, body).await;
    }
    let login = rig.start(&device, 0).await;
    login.is_refused(429, "too many requests", "too-many-tries");
}

#[tokio::test]
async fn another_address_is_another_mailbox() {
    let mut rig = Rig::new().await;
    let device = rig.enroll("ada").await;
    let start = path::ENROLLMENT_MFA_START;
    rig.post_with(&device.cookie, start, json!({ "method": 1 })).await.ok();
    let code = rig.mailed_code();
    let by = rig.by();
    let change = core_bin::flows::user::UserChange {
        email: Some("eve@example.com".to_owned()),
        ..Default::default()
    };
    let set = move |tx: &mut mfa_store::Tx| core_bin::flows::user::set(tx, by, "ada", &change);
    rig.app.store.write(set).await.unwrap();
    let body = json!({ "code": code, "method": 1 });
    let late = rig.post_with(&device.cookie, path::ENROLLMENT_MFA_FINISH, body).await;
    assert_ne!(late.status, 200, "the code was mailed to the old address");
    rig.clock.advance(Duration::from_secs(1));
}
