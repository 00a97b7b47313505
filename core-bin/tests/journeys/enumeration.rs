//! Answers do not tell what is known from what is not: the same status, and the same bytes.
//!
//! Times are measured by `fuzz enumerate`, against a core that runs.

use axum::body::Body;
use axum::http::Request;
use axum::http::header::CONTENT_TYPE;
use mfa_core::token::Token;
use mfa_wire::http::path;
use serde_json::json;

use crate::rig::{Answer, ELSEWHERE, HOME, Rig};

/// What a stranger sees of an answer, but for the field that repeats what was sent.
fn seen(answer: &Answer, sent: &str) -> (u16, Vec<(String, String)>, String) {
    let headers = answer.headers.iter();
    let headers =
        headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    let text = answer.text.replace(&format!("value=\"{sent}\""), "");
    (answer.status.as_u16(), headers.collect(), text)
}

#[track_caller]
fn all_the_same<T: PartialEq + core::fmt::Debug>(answers: &[T]) {
    assert!(answers.windows(2).all(|two| two[0] == two[1]), "{answers:#?}");
}

async fn form(rig: &Rig, path: &str, fields: &[(&str, &str)]) -> Answer {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let request = Request::post(path)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header("sec-fetch-site", "same-origin");
    rig.send(HOME, request.body(Body::from(body)).unwrap()).await
}

fn never_issued() -> String {
    Token::from_random([0x42; 32]).expose_text().to_string()
}

#[tokio::test]
async fn a_login_that_is_unknown_reads_like_one_that_is_known() {
    let rig = Rig::new().await;
    rig.add_user("bob", &[]).await;
    rig.set_active("bob", false).await;
    // Of one length, since the page repeats it. Known, unknown, disabled; another spelling.
    for logins in [["ada", "zzz", "bob", "ADA"], ["ada@example.com"; 4]] {
        let mut answers = Vec::new();
        for login in logins {
            let login = if logins[0].contains('@') && answers.len() % 2 == 1 {
                "zzz@example.com"
            } else {
                login
            };
            let wrong = [("login", login), ("password", "wrong horse battery")];
            let page = form(&rig, "/login", &wrong).await;
            let link = form(&rig, "/forgot", &[("who", login)]).await;
            assert_eq!((page.status.as_u16(), link.status.as_u16()), (401, 303));
            answers.push((seen(&page, login), seen(&link, login)));
        }
        all_the_same(&answers);
    }
}

#[tokio::test]
async fn a_token_of_somebody_else_reads_like_one_that_never_was() {
    let rig = Rig::new().await;
    let device = rig.enroll_with_totp("ada").await;
    // Of another kind, of nobody, and no token at all.
    let other_kind = rig.challenge(&device, 0).await;
    let tokens = [other_kind.as_str(), &never_issued(), &"?".repeat(other_kind.len())];
    let (mut starts, mut polls, mut resets, mut finishes) = (vec![], vec![], vec![], vec![]);
    for token in tokens {
        let body = json!({ "token": token });
        let answer = rig.post_from(ELSEWHERE, path::ENROLLMENT_START, body.clone()).await;
        starts.push(seen(&answer, token));
        polls.push(seen(&rig.post_from(ELSEWHERE, path::POLL, body).await, token));
        let fields = [("token", token), ("password", "correct horse battery")];
        resets.push(seen(&form(&rig, "/reset", &fields).await, token));
    }
    for token in [device.polling_token.as_str(), &never_issued()] {
        let body = json!({ "token": token, "code": rig.code(&device) });
        finishes.push(seen(&rig.post_from(ELSEWHERE, path::MFA_FINISH, body).await, token));
    }
    for answers in [starts, polls, resets, finishes] {
        assert!(answers.iter().all(|(status, ..)| (400..500).contains(status)), "{answers:#?}");
        all_the_same(&answers);
    }
}
