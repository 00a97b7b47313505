//! Nothing secret is logged or told, and no request brings the server down.

use std::io::Write;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::Request;
use mfa_wire::http::path;
use serde_json::json;

use crate::rig::{HOME, Rig};

/// A log that a test can read.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut log = self.0.lock().map_err(|_| std::io::Error::other("poisoned"))?;
        log.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_whole_journey_leaves_no_secret_in_the_log_at_its_finest() {
    let sink = Sink::default();
    let writer = sink.clone();
    let log = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(log);
    tracing::trace!("the log is on");

    let mut rig = Rig::new().await;
    let ticket = rig.ticket("ada").await;
    let cookie = rig.redeem(&ticket).await;
    let device = rig.enroll_with_totp("ada").await;
    rig.set_up_email(&device).await;
    let token = rig.challenge(&device, 0).await;
    let wrong = rig.wrong_code(&device);
    rig.finish(&token, &wrong).await;
    let code = rig.code(&device);
    let answer = rig.finish(&token, &code).await.ok();
    let mail_token = rig.challenge(&device, 1).await;
    let mailed = rig.mailed_code();
    rig.finish(&mail_token, &mailed).await.ok();

    let written = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    assert!(written.contains("the log is on"));
    let psk = answer["preshared_key"].as_str().unwrap().to_owned();
    let secret = device.totp.as_ref().unwrap().expose_base32().to_string();
    let cookie = cookie.split('=').nth(1).unwrap().to_owned();
    let secrets = [ticket, cookie, device.polling_token, token, mail_token, psk, secret, mailed];
    for secret in secrets.iter().chain(&device.recovery) {
        assert!(!written.contains(secret.as_str()), "{secret} in the log");
    }
}

#[tokio::test]
async fn malformed_bodies_are_told_so_and_never_repeated() {
    let rig = Rig::new().await;
    let canary = "canary-4711";
    for body in [
        String::new(),
        "{".to_owned(),
        "[]".to_owned(),
        format!("{{\"token\":[\"{canary}\"]}}"),
        format!("{{\"token\":\"{canary}\",\"code\":{{}}}}"),
        "[".repeat(10_000),
    ] {
        let request = Request::post(path::MFA_FINISH).body(Body::from(body)).unwrap();
        let answer = rig.send(HOME, request).await;
        answer.is_refused(400, "bad request", "bad-request");
        assert!(!answer.text.contains(canary), "{}", answer.text);
    }
    let large = "x".repeat(16 * 1024 + 1);
    let request = Request::post(path::MFA_FINISH).body(Body::from(large)).unwrap();
    assert_eq!(rig.send(HOME, request).await.status, 413);
}

#[tokio::test]
async fn a_flood_from_one_address_is_slowed_down() {
    let rig = Rig::new().await;
    let mut last = 200;
    for _ in 0..1_001 {
        last = rig.post(path::POLL, json!({ "token": "x" })).await.status.as_u16();
    }
    assert_eq!(last, 429);
}

#[tokio::test]
async fn the_audit_log_is_whole_after_a_journey() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    rig.connect(&device).await;
    let key = mfa_store::MasterKey::from_bytes([7; 32]);
    let verdict = rig.read(move |view| view.verify_audit(&key)).await;
    assert!(matches!(verdict, mfa_store::AuditVerdict::Whole { .. }), "{verdict:?}");
    let audit = rig.audit().await;
    for action in ["device.add", "totp.confirm", "challenge.start", "session.begin"] {
        assert!(audit.contains_key(action), "{action} in {audit:?}");
    }
}
