//! enroll: a token buys one certificate, once.

use core::time::Duration;

use mfa_wire::gateway::EnrollRequest;
use tonic::Code;

use crate::rig::{Rig, csr};

#[tokio::test]
async fn a_token_buys_one_certificate() {
    let rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    let (id, token) = rig.gateway(paris, "gw1").await;

    let papers = rig.try_enroll(&token).await.unwrap();
    assert_eq!(papers.id, id);
    rig.linked(&papers).await;

    let second = rig.try_enroll(&token).await.map(|_| ()).unwrap_err();
    assert_eq!(second.code(), Code::Unauthenticated);
    assert!(second.message().contains("has been used"), "{second:?}");
    rig.linked(&papers).await;
}

#[tokio::test]
async fn of_many_who_come_with_one_token_one_gets_in() {
    let rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    let (_, token) = rig.gateway(paris, "gw1").await;
    let one = || rig.try_enroll(&token);
    let all = tokio::join!(one(), one(), one(), one(), one(), one(), one(), one());
    let all = [all.0, all.1, all.2, all.3, all.4, all.5, all.6, all.7];
    assert_eq!(all.iter().filter(|result| result.is_ok()).count(), 1);
}

#[tokio::test]
async fn a_token_is_good_for_a_quarter_of_an_hour() {
    let rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    let (_, token) = rig.gateway(paris, "gw1").await;
    rig.clock.advance(Duration::from_secs(15 * 60));
    let status = rig.try_enroll(&token).await.map(|_| ()).unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("time is over"), "{status:?}");
}

#[tokio::test]
async fn tokens_that_nobody_made_are_all_answered_alike() {
    let rig = Rig::start().await;
    let mut answers = Vec::new();
    for token in ["", "x", &"0".repeat(64), &"g".repeat(64), &"a".repeat(100_000)] {
        let status = rig.try_enroll(token).await.map(|_| ()).unwrap_err();
        answers.push((status.code(), status.message().to_owned()));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
}

#[tokio::test]
async fn a_request_that_is_refused_does_not_spend_the_token() {
    let rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    let (_, token) = rig.gateway(paris, "gw1").await;
    let mut csr = csr(&rcgen::KeyPair::generate().unwrap());
    *csr.last_mut().unwrap() ^= 1;
    let request = EnrollRequest { token: token.clone(), csr, ..EnrollRequest::default() };
    let status = rig.anonymous().enroll(request).await.map(|_| ()).unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    rig.try_enroll(&token).await.unwrap();
}

#[tokio::test]
async fn revoking_takes_a_token_back_that_was_not_used_yet() {
    let rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    let (id, token) = rig.gateway(paris, "gw1").await;
    rig.write(move |tx, by| tx.revoke_gateway(by, id)).await;
    let status = rig.try_enroll(&token).await.map(|_| ()).unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn enrolling_anew_takes_the_place_of_the_old_certificate() {
    let rig = Rig::start().await;
    let paris = rig.open_location("Paris").await;
    let old = rig.enrolled(paris, "gw1").await;
    let (mut stream, _) = rig.linked(&old).await;

    let token = rig.token(old.id).await;
    let new = rig.try_enroll(&token).await.unwrap();

    assert_eq!(stream.end().await, Err(Code::Unauthenticated));
    let refused = rig.try_link(&old, 1).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    rig.linked(&new).await;
}
