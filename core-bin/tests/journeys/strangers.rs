//! Who knows a public key, and no more.

use core::time::Duration;

use axum::body::Body;
use axum::http::Request;
use mfa_wire::http::{PROOF_HEADER, path};
use serde_json::json;

use crate::rig::{Device, ELSEWHERE, HOME, Rig, token_of};

async fn stranger_starts(rig: &Rig, device: &Device, method: u8) -> crate::rig::Answer {
    rig.post_from(ELSEWHERE, path::MFA_START, rig.start_body(device, method)).await
}

#[tokio::test]
async fn a_stranger_cannot_lock_the_owner_out() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    let mut refused = 0;
    for _ in 0..60 {
        let answer = stranger_starts(&rig, &device, 0).await;
        if answer.status != 200 {
            refused += 1;
            continue;
        }
        let token = token_of(&answer.json());
        let body = json!({ "token": token, "code": rig.wrong_code(&device) });
        rig.post_from(ELSEWHERE, path::MFA_FINISH, body).await;
    }
    assert!(refused > 0, "the stranger runs out of guesses");
    // The owner, from home and from anywhere with a proof, notices nothing.
    rig.connect(&device).await;
    let body = rig.start_body(&device, 0);
    let token = token_of(&rig.prove(&device.key, path::MFA_START, body).await.ok());
    rig.finish(&token, &rig.code(&device)).await.ok();
}

#[tokio::test]
async fn a_stranger_gets_three_guesses_and_no_more() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    let mut looked_at = 0;
    for _ in 0..20 {
        let answer = stranger_starts(&rig, &device, 0).await;
        if answer.status != 200 {
            continue;
        }
        let body = json!({ "token": token_of(&answer.json()), "code": rig.wrong_code(&device) });
        if rig.post_from(ELSEWHERE, path::MFA_FINISH, body).await.status == 401 {
            looked_at += 1;
        }
    }
    assert_eq!(looked_at, 3);
}

#[tokio::test]
async fn ten_wrong_codes_are_looked_at_whoever_sends_them_and_from_where() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    let mut looked_at = 0;
    for round in 0..30 {
        // From home, from elsewhere, and from elsewhere with a proof.
        let body = rig.start_body(&device, 0);
        let (from, answer) = match round % 3 {
            0 => (HOME, rig.post_from(HOME, path::MFA_START, body).await),
            1 => (ELSEWHERE, rig.post_from(ELSEWHERE, path::MFA_START, body).await),
            _ => (ELSEWHERE, rig.prove(&device.key, path::MFA_START, body).await),
        };
        if answer.status != 200 {
            continue;
        }
        let body = json!({ "token": token_of(&answer.json()), "code": rig.wrong_code(&device) });
        if rig.post_from(from, path::MFA_FINISH, body).await.status == 401 {
            looked_at += 1;
        }
    }
    assert_eq!(looked_at, 10);
}

#[tokio::test]
async fn strangers_shut_out_themselves_after_a_hundred_and_nobody_else() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    let mut looked_at = 0;
    for _ in 0..50 {
        for _ in 0..3 {
            let answer = stranger_starts(&rig, &device, 0).await;
            if answer.status != 200 {
                continue;
            }
            let wrong = rig.wrong_code(&device);
            let body = json!({ "token": token_of(&answer.json()), "code": wrong });
            if rig.post_from(ELSEWHERE, path::MFA_FINISH, body).await.status == 401 {
                looked_at += 1;
            }
        }
        rig.clock.advance(Duration::from_secs(15 * 60));
    }
    assert_eq!(looked_at, 100);
    let body = rig.start_body(&device, 0);
    let token = token_of(&rig.prove(&device.key, path::MFA_START, body).await.ok());
    rig.finish(&token, &rig.code(&device)).await.ok();
}

#[tokio::test]
async fn a_stranger_gets_one_mail_an_hour_out_and_never_the_owners() {
    let mut rig = Rig::new().await;
    let device = rig.enroll("ada").await;
    rig.set_up_email(&device).await;
    let first = stranger_starts(&rig, &device, 1).await.ok();
    assert!(first.get("sent_to").is_none(), "a stranger learns no address");
    for _ in 0..5 {
        let more = stranger_starts(&rig, &device, 1).await;
        assert_eq!(more.status, 429, "{}", more.text);
    }
    assert!(rig.try_mail().is_some());
    rig.start(&device, 1).await.ok();
}

#[tokio::test]
async fn a_strangers_challenge_does_not_push_the_owners_out() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    let token = rig.challenge(&device, 0).await;
    for _ in 0..5 {
        stranger_starts(&rig, &device, 0).await;
    }
    rig.finish(&token, &rig.code(&device)).await.ok();
}

#[tokio::test]
async fn strangers_are_slowed_down_by_their_address() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    let mut last = stranger_starts(&rig, &device, 0).await;
    for _ in 0..40 {
        last = stranger_starts(&rig, &device, 0).await;
    }
    last.is_refused(429, "too many requests", "too-many-requests");
    rig.clock.advance(Duration::from_secs(60));
    stranger_starts(&rig, &device, 0).await.ok();
}

#[tokio::test]
async fn made_up_tokens_slow_their_address_down_and_not_who_proved_the_device() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    let made_up = json!({ "token": "5a".repeat(32), "code": "123456" });
    let first = rig.post_from(ELSEWHERE, path::MFA_FINISH, made_up.clone()).await;
    assert_ne!(first.status, 429);
    let mut last = first;
    for _ in 0..40 {
        last = rig.post_from(ELSEWHERE, path::MFA_FINISH, made_up.clone()).await;
    }
    last.is_refused(429, "too many requests", "too-many-requests");

    // The owner stands behind the same address.
    let body = rig.start_body(&device, 0);
    let token = token_of(&rig.prove(&device.key, path::MFA_START, body).await.ok());
    let body = json!({ "token": token, "code": rig.code(&device) });
    rig.post_from(ELSEWHERE, path::MFA_FINISH, body).await.ok();
}

#[tokio::test]
async fn a_polls_address_vouches_for_a_day() {
    let mut rig = Rig::new().await;
    let device = rig.enroll("ada").await;
    rig.set_up_email(&device).await;
    rig.clock.advance(Duration::from_secs(24 * 3600 + 1));
    let stale = rig.start(&device, 1).await.ok();
    assert!(stale.get("sent_to").is_none(), "nobody polled from here for a day");
    rig.post(path::POLL, json!({ "token": device.polling_token })).await.ok();
    let fresh = rig.start(&device, 1).await.ok();
    assert_eq!(fresh["sent_to"], "a***@example.com");
}

#[tokio::test]
async fn a_proof_is_good_for_its_own_device_and_request() {
    let rig = Rig::new().await;
    let (ada, body) = (rig.enroll_with_totp("ada").await, json!({}));
    rig.add_user("bob", &[]).await;
    let bob = rig.enroll_with_totp("bob").await;

    let foreign = rig.prove(&bob.key, path::MFA_START, rig.start_body(&ada, 0)).await;
    foreign.is_refused(401, "invalid proof", "proof-invalid");

    let header = rig.proof(&ada.key, path::DEVICE_STATUS, &body).await;
    let send = async |path: &str, body: &str| {
        let request = Request::post(path).header(PROOF_HEADER, &header);
        rig.send(ELSEWHERE, request.body(Body::from(body.to_owned())).unwrap()).await
    };
    send(path::DEVICE_STATUS, "{}").await.ok();
    send(path::DEVICE_MFA, "{}").await.is_refused(401, "invalid proof", "proof-invalid");
    send(path::DEVICE_STATUS, "{ }").await.is_refused(401, "invalid proof", "proof-invalid");
    rig.clock.advance(Duration::from_secs(60));
    send(path::DEVICE_STATUS, "{}").await.is_refused(401, "invalid proof", "proof-invalid");
}

#[tokio::test]
async fn our_own_calls_need_a_proof() {
    let rig = Rig::new().await;
    let device = rig.enroll("ada").await;
    for path in [path::DEVICE_STATUS, path::DEVICE_MFA] {
        rig.post(path, json!({})).await.is_refused(401, "proof required", "proof-required");
    }
    let disconnect = json!({ "location_id": rig.paris.get() });
    let answer = rig.post(path::DEVICE_DISCONNECT, disconnect).await;
    answer.is_refused(401, "proof required", "proof-required");
    rig.prove(&device.key, path::DEVICE_STATUS, json!({})).await.ok();
}
