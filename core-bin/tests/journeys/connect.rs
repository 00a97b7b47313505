//! A fresh factor buys a session and its PSK.

use core::time::Duration;

use core_bin::flows::location::LocationChange;
use mfa_core::policy::Mfa;
use mfa_store::Scope;
use mfa_wire::http::path;
use serde_json::json;
use wg_types::PresharedKey;

use crate::rig::{Rig, token_of};

#[tokio::test]
async fn a_right_code_buys_a_session_that_the_gateway_has() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    let answer = rig.connect(&device).await;
    let psk = PresharedKey::from_base64(answer["preshared_key"].as_str().unwrap()).unwrap();
    assert_eq!(answer["token"], json!(null));
    assert_eq!(answer["session"]["gateways_connected"], 1);
    assert_eq!(answer["session"]["gateways_applied"], 1);
    assert_eq!(answer["session"]["idle_threshold"], 300);

    let paris = rig.paris;
    let peers = rig.read(move |view| view.desired_peers(paris, None)).await;
    let session = peers[0].session.as_ref().unwrap();
    assert!(session.psk.same_as(&psk), "the gateway has the same key as the client");
    assert_eq!(peers[0].public_key, device.key.public_key());
}

#[tokio::test]
async fn before_the_code_there_is_no_peer() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    let paris = rig.paris;
    rig.challenge(&device, 0).await;
    assert!(rig.read(move |view| view.desired_peers(paris, None)).await.is_empty());
}

#[tokio::test]
async fn a_wrong_code_is_refused_and_the_right_one_still_works() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    let token = rig.challenge(&device, 0).await;
    let wrong = rig.finish(&token, &rig.wrong_code(&device)).await;
    wrong.is_refused(401, "Unauthorized", "code-wrong");
    rig.finish(&token, &rig.code(&device)).await.ok();
}

#[tokio::test]
async fn a_code_is_good_once_whatever_the_challenge() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    let (first, second) = (rig.challenge(&device, 0).await, rig.challenge(&device, 0).await);
    let code = rig.code(&device);
    rig.finish(&first, &code).await.ok();
    rig.finish(&second, &code).await.is_refused(401, "Unauthorized", "code-used");
    rig.finish(&first, &code).await.is_refused(409, "login session not found", "challenge-spent");
    assert_eq!(rig.live_sessions().await, 1);
}

#[tokio::test]
async fn of_many_finishes_at_once_one_gets_the_session() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    let token = rig.challenge(&device, 0).await;
    let code = rig.code(&device);
    let all = (0..4).map(|_| rig.finish(&token, &code));
    let mut answers = Vec::new();
    for answer in futures_of(all).await {
        answers.push(answer.status.as_u16());
    }
    answers.sort_unstable();
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 1, "{answers:?}");
    assert_eq!(rig.audit().await["session.begin"], 1);
}

/// Polls all of them to the end, side by side.
async fn futures_of<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut pinned: Vec<_> = all.map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = pinned.iter().map(|_| None).collect();
    core::future::poll_fn(move |cx| {
        for (future, done) in pinned.iter_mut().zip(&mut done) {
            if done.is_none()
                && let core::task::Poll::Ready(output) = future.as_mut().poll(cx)
            {
                *done = Some(output);
            }
        }
        if done.iter().all(Option::is_some) {
            core::task::Poll::Ready(done.iter_mut().filter_map(Option::take).collect())
        } else {
            core::task::Poll::Pending
        }
    })
    .await
}

#[tokio::test]
async fn a_challenge_is_over_after_two_minutes_and_is_told_from_a_wrong_code() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    let token = rig.challenge(&device, 0).await;
    rig.clock.advance(Duration::from_secs(120));
    let late = rig.finish(&token, &rig.code(&device)).await;
    late.is_refused(400, "invalid token", "challenge-invalid");
    let unknown = rig.finish(&"0".repeat(64), "123456").await;
    unknown.is_refused(400, "invalid token", "challenge-invalid");
}

#[tokio::test]
async fn a_challenge_looks_at_five_codes() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    let token = rig.challenge(&device, 0).await;
    for _ in 0..5 {
        rig.finish(&token, &rig.wrong_code(&device)).await;
    }
    let right = rig.finish(&token, &rig.code(&device)).await;
    right.is_refused(400, "login session not found", "challenge-invalid");
    assert_eq!(rig.live_sessions().await, 0);
}

#[tokio::test]
async fn new_challenges_bring_no_new_guesses() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    for _ in 0..2 {
        let token = rig.challenge(&device, 0).await;
        for _ in 0..5 {
            rig.finish(&token, &rig.wrong_code(&device)).await;
        }
    }
    let third = rig.start(&device, 0).await;
    third.is_refused(429, "too many requests", "too-many-tries");
    assert!(third.headers.contains_key("retry-after"));
    rig.clock.advance(Duration::from_secs(15 * 60 + 1));
    rig.connect(&device).await;
}

#[tokio::test]
async fn what_cannot_be_a_code_is_not_counted() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    let token = rig.challenge(&device, 0).await;
    for text in [" 123456", "123456\n", "+12345", "\u{ff11}23456", "1234567", ""] {
        for _ in 0..3 {
            let answer = rig.finish(&token, text).await;
            answer.is_refused(400, "invalid code", "code-malformed");
        }
    }
    rig.finish(&token, &rig.code(&device)).await.ok();
}

#[tokio::test]
async fn an_old_clients_number_gets_its_zeros_back() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    // Walk until the app shows a code with a leading zero.
    while !rig.code(&device).starts_with('0') {
        rig.clock.advance(Duration::from_secs(30));
    }
    let token = rig.challenge(&device, 0).await;
    let number: u64 = rig.code(&device).parse().unwrap();
    rig.post(path::MFA_FINISH, json!({ "token": token, "code": number })).await.ok();
}

#[tokio::test]
async fn each_refusal_of_a_start_has_its_own_words() {
    let rig = Rig::new().await;
    let device = rig.enroll("ada").await;
    let ask = async |location: i64, pubkey: &str, method: u8| {
        let body = json!({ "location_id": location, "pubkey": pubkey, "method": method });
        rig.post(path::MFA_START, body).await
    };
    let (paris, key) = (rig.paris.get(), device.pubkey());
    ask(99, &key, 0).await.is_refused(400, "location not found", "location-not-found");
    let stranger = wg_types::PrivateKey::from_bytes([9; 32]).public_key().to_string();
    ask(paris, &stranger, 0).await.is_refused(400, "device not found", "device-not-found");
    let none = ask(paris, &key, 0).await;
    none.is_refused(400, "selected MFA method not available", "method-not-set-up");
    let oidc = ask(paris, &key, 2).await;
    oidc.is_refused(400, "selected MFA method not supported by location", "method-not-allowed");

    let totp_only =
        LocationChange { methods: Some("email".parse().unwrap()), ..LocationChange::default() };
    rig.set_location("paris", totp_only).await;
    let forbidden = ask(paris, &key, 0).await;
    forbidden.is_refused(
        400,
        "selected MFA method not supported by location",
        "method-not-allowed",
    );

    let off = LocationChange { mfa: Some(Mfa::Off), ..LocationChange::default() };
    rig.set_location("paris", off).await;
    ask(paris, &key, 0).await.is_refused(400, "MFA not enabled for location", "mfa-not-enabled");

    let staff = rig.add_location("rome", "10.2.0.0/24", &["staff"]).await;
    ask(staff.get(), &key, 0).await.is_refused(401, "unauthorized", "not-allowed");
    rig.set_active("ada", false).await;
    ask(paris, &key, 0).await.is_refused(401, "unauthorized", "disabled");
}

#[tokio::test]
async fn a_location_whose_gateways_are_away_refuses_before_a_code_is_used_up() {
    let mut rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    rig.gateway_leaves().await;
    let away = rig.start(&device, 0).await;
    away.is_refused(503, "no gateway of the location is connected", "gateway-offline");
    rig.gateway_arrives(1);
    rig.connect(&device).await;
}

#[tokio::test]
async fn finish_reads_everything_anew() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;

    let token = rig.challenge(&device, 0).await;
    rig.set_active("ada", false).await;
    let disabled = rig.finish(&token, &rig.code(&device)).await;
    disabled.is_refused(401, "unauthorized", "disabled");
    rig.set_active("ada", true).await;

    let token = rig.challenge(&device, 0).await;
    let staff = LocationChange { groups: Some(vec!["staff".to_owned()]), ..Default::default() };
    rig.set_location("paris", staff).await;
    let ungrouped = rig.finish(&token, &rig.code(&device)).await;
    ungrouped.is_refused(401, "unauthorized", "not-allowed");
    assert_eq!(rig.live_sessions().await, 0);
}

#[tokio::test]
async fn connecting_again_asks_again_and_replaces_the_session() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    let first = rig.connect(&device).await;
    let second = rig.connect(&device).await;
    assert_ne!(first["preshared_key"], second["preshared_key"]);
    assert_ne!(first["session"]["id"], second["session"]["id"]);
    assert_eq!(rig.live_sessions().await, 1);
    let newest = rig.read(|view| view.newest_sessions(2)).await;
    assert_eq!(newest[1].ended.unwrap().1.code(), "replaced");
}

#[tokio::test]
async fn an_email_code_opens_once_and_only_its_own_challenge() {
    let mut rig = Rig::new().await;
    let device = rig.enroll("ada").await;
    rig.set_up_email(&device).await;
    let first = rig.start(&device, 1).await.ok();
    assert_eq!(first["sent_to"], "a***@example.com");
    let mail = rig.mail();
    assert_eq!(mail.to.to_string(), "ada@example.com");
    for part in ["paris", "laptop", "Was it not you?", "helpdesk@example.com"] {
        assert!(mail.text.contains(part), "{part} in {}", *mail.text);
    }
    let second = rig.challenge(&device, 1).await;
    let code = rig.mailed_code();
    let other = rig.finish(&token_of(&first), &code).await;
    other.is_refused(401, "Unauthorized", "code-wrong");
    rig.finish(&second, &code).await.ok();
    rig.finish(&second, &code).await.is_refused(409, "login session not found", "challenge-spent");
}

#[tokio::test]
async fn an_email_code_is_good_for_ten_minutes() {
    let mut rig = Rig::new().await;
    let device = rig.enroll("ada").await;
    rig.set_up_email(&device).await;
    let token = rig.challenge(&device, 1).await;
    let code = rig.mailed_code();
    rig.clock.advance(Duration::from_secs(600));
    rig.finish(&token, &code).await.is_refused(400, "invalid token", "challenge-invalid");
}

#[tokio::test]
async fn a_mailbox_is_not_flooded() {
    let mut rig = Rig::new().await;
    let device = rig.enroll("ada").await;
    rig.set_up_email(&device).await;
    let mut sent = 1;
    while rig.start(&device, 1).await.status == 200 {
        sent += 1;
        assert!(sent <= 5, "five mails an hour");
    }
    let more = rig.start(&device, 1).await;
    more.is_refused(429, "too many requests", "too-many-requests");
    rig.clock.advance(Duration::from_secs(3601));
    rig.start(&device, 1).await.ok();
}

#[tokio::test]
async fn a_recovery_code_opens_once_in_the_apps_place() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    assert_eq!(device.recovery.len(), 10);
    let token = rig.challenge(&device, 0).await;
    rig.finish(&token, &device.recovery[3].to_uppercase()).await.ok();
    let token = rig.challenge(&device, 0).await;
    let again = rig.finish(&token, &device.recovery[3]).await;
    again.is_refused(401, "Unauthorized", "code-wrong");
}

#[tokio::test]
async fn a_client_with_an_old_configuration_is_told_so() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    let poll = || rig.post(path::POLL, json!({ "token": device.polling_token }));
    let version = poll().await.ok()["device_config"]["config_version"].clone();
    let threshold = LocationChange {
        endpoint: Some("vpn2.example.com:51820".to_owned()),
        ..LocationChange::default()
    };
    rig.set_location("paris", threshold).await;
    let mut body = rig.start_body(&device, 0);
    body["config_version"] = version;
    let stale = rig.post(path::MFA_START, body.clone()).await;
    stale.is_refused(409, "configuration is out of date", "config-stale");
    body["config_version"] = poll().await.ok()["device_config"]["config_version"].clone();
    rig.post(path::MFA_START, body).await.ok();
}

#[tokio::test]
async fn a_fourth_challenge_ends_the_oldest() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    let oldest = rig.challenge(&device, 0).await;
    for _ in 0..3 {
        rig.challenge(&device, 0).await;
    }
    let code = rig.code(&device);
    rig.finish(&oldest, &code).await.is_refused(400, "invalid token", "challenge-invalid");
}

#[tokio::test]
async fn the_database_keeps_the_psk_while_the_session_lives_and_no_longer() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    rig.connect(&device).await;
    let live = rig.read(|view| view.live_sessions(Scope::All)).await[0].id;
    assert!(rig.read(move |view| view.session_psk(live)).await.is_some());
    rig.connect(&device).await;
    assert!(rig.read(move |view| view.session_psk(live)).await.is_none());
}
