use core::time::Duration;

use super::*;
use crate::budget::{GuessBudget, Lane};
use crate::challenge::{Access, Answer, Challenge, Evidence, Question, Standing};
use crate::factor::CodeKey;
use crate::factor::email_code::EmailCode;
use crate::id::{DeviceId, LocationId, UserId};
use crate::method::MethodSet;
use crate::policy::Lifetime;
use crate::token::TokenDigest;

const ALICE: Subject =
    Subject { user: UserId::new(1), device: DeviceId::new(10), location: LocationId::new(100) };

#[test]
fn a_session_is_of_who_proved_it() {
    let session = authorized();
    assert_eq!(session.subject(), ALICE);
    assert_eq!(session.method(), Method::Email);
    assert_eq!(session.authorized(), at(0));
    assert_eq!(session.generation(), PskGeneration::FIRST);
    assert_eq!(session.state().code(), "authorized");
    assert!(session.psk().is_some_and(|psk| psk.same_as(&psk_of(1))));
}

#[test]
fn a_session_ends_exactly_when_its_lifetime_is_over() {
    let mut session = authorized();
    assert_eq!(session.lifetime_ends(), at(3600));

    assert!(!session.handle_timeout(at(3600).saturating_sub(Duration::from_millis(1))));
    assert!(session.is_live());
    assert!(session.handle_timeout(at(3600)));
    assert!(!session.handle_timeout(at(3600)), "once");

    assert!(matches!(
        session.state(),
        SessionState::Ended { reason: EndReason::Lifetime, at: when } if *when == at(3600)
    ));
}

#[test]
fn the_end_wipes_the_key_and_its_first_reason_stays() {
    for connected in [false, true] {
        let mut session = authorized();
        if connected {
            session.connect(at(1));
        }
        assert_eq!(session.end(EndReason::Idle, at(2)), Ok(()));
        assert!(session.psk().is_none() && !session.is_live());

        let again = session.end(EndReason::Administrator, at(3));

        assert_eq!(again, Err(AlreadyEnded { at: at(2), reason: EndReason::Idle }));
        session.connect(at(4));
        assert_eq!(session.state().code(), "ended", "nothing revives it");
        assert!(!session.handle_timeout(at(1_000_000)));
    }
}

#[test]
fn the_first_traffic_connects() {
    let mut session = authorized();
    session.connect(at(5));
    session.connect(at(9));
    assert!(matches!(session.state(), SessionState::Connected { since, .. } if *since == at(5)));
    assert!(session.psk().is_some_and(|psk| psk.same_as(&psk_of(1))));
}

#[test]
fn a_rotation_replaces_the_key_and_never_goes_back() {
    let mut session = authorized();
    let second = PskGeneration::FIRST.next();
    assert_eq!(session.rotate(second, psk_of(2)), Ok(()));
    assert!(session.psk().is_some_and(|psk| psk.same_as(&psk_of(2))));

    let stale = RotateRefused::Stale { current: second, given: second };
    assert_eq!(session.rotate(second, psk_of(3)), Err(stale));
    let stale = RotateRefused::Stale { current: second, given: PskGeneration::FIRST };
    assert_eq!(session.rotate(PskGeneration::FIRST, psk_of(3)), Err(stale));
    assert!(session.psk().is_some_and(|psk| psk.same_as(&psk_of(2))));
    assert_eq!(session.generation(), second);

    session.end(EndReason::Idle, at(1)).unwrap();
    assert_eq!(session.rotate(second.next(), psk_of(3)), Err(RotateRefused::Ended));
    assert!(session.psk().is_none());
}

#[test]
fn a_renewal_gives_a_lifetime_from_now_on_and_keeps_the_key() {
    let policy = hour();
    let mut session = authorized();

    assert_eq!(session.renew(verified(&policy), &policy, at(3599)), Ok(()));

    assert_eq!(session.lifetime_ends(), at(3599 + 3600));
    assert_eq!(session.authorized(), at(0));
    assert!(session.psk().is_some_and(|psk| psk.same_as(&psk_of(1))));
}

#[test]
fn a_session_that_is_over_is_not_renewed() {
    let policy = hour();
    let mut late = authorized();
    let over = Err(RenewRefused::Ended);
    assert_eq!(late.renew(verified(&policy), &policy, at(3600)), over, "to the second");
    assert_eq!(late.lifetime_ends(), at(3600));

    let mut ended = authorized();
    ended.end(EndReason::Disconnected, at(1)).unwrap();
    assert_eq!(ended.renew(verified(&policy), &policy, at(2)), over);
    assert!(!ended.is_live());
}

#[test]
fn a_proof_for_another_subject_renews_nothing() {
    let policy = hour();
    let others = [
        Subject { user: UserId::new(2), ..ALICE },
        Subject { device: DeviceId::new(11), ..ALICE },
        Subject { location: LocationId::new(101), ..ALICE },
    ];
    for other in others {
        let mut session = authorized();
        let foreign = verified_for(&policy, other);
        assert_eq!(session.renew(foreign, &policy, at(60)), Err(RenewRefused::Foreign));
        assert_eq!(session.lifetime_ends(), at(3600));
    }
}

#[test]
fn a_stored_session_is_the_same_session() {
    let mut session = authorized();
    session.connect(at(7));
    session.rotate(PskGeneration::new(4), psk_of(4)).unwrap();

    let again = Session::from_parts(session.into_parts());

    assert_eq!((again.subject(), again.method()), (ALICE, Method::Email));
    assert_eq!((again.authorized(), again.lifetime_ends()), (at(0), at(3600)));
    assert_eq!(again.generation(), PskGeneration::new(4));
    assert!(matches!(again.state(), SessionState::Connected { since, .. } if *since == at(7)));
    assert!(again.psk().is_some_and(|psk| psk.same_as(&psk_of(4))));
}

#[test]
fn every_reason_has_a_code_of_its_own_and_says_what_happened() {
    let mut codes = std::collections::BTreeSet::new();
    for reason in EndReason::ALL.iter().copied() {
        assert!(codes.insert(reason.code()), "{reason:?}");
        assert_eq!(EndReason::from_code(reason.code()), Some(reason));
        assert_eq!(reason.to_string(), reason.sentence());
        assert!(reason.sentence().ends_with('.') && !reason.sentence().contains("  "), "{reason}");
    }
    assert_eq!(EndReason::from_code("Idle"), None);
}

/// These words are stored and sent, so they never change.
#[test]
fn codes_are_stable() {
    let codes: Vec<&str> = EndReason::ALL.iter().map(|reason| reason.code()).collect();
    assert_eq!(
        codes,
        [
            "idle",
            "lifetime",
            "disconnected",
            "administrator",
            "user_disabled",
            "device_removed",
            "access_removed",
            "replaced",
            "policy_changed",
            "method_reset",
            "location_removed",
            "link_lost",
            "rotation_failed",
        ]
    );
}

#[test]
fn debug_shows_no_key() {
    let mut session = authorized();
    session.connect(at(1));
    let text = format!("{session:?}");
    assert!(text.contains("psk: PresharedKey(..)"), "{text}");
}

fn authorized() -> Session {
    let policy = hour();
    Session::authorize(verified(&policy), &policy, psk_of(1), at(0))
}

fn hour() -> LocationPolicy {
    let lifetime = Lifetime::new(Duration::from_secs(3600)).unwrap();
    LocationPolicy::recommended().with_lifetime(lifetime)
}

fn verified(policy: &LocationPolicy) -> Verified {
    verified_for(policy, ALICE)
}

/// The long way, since there is no other.
fn verified_for(policy: &LocationPolicy, subject: Subject) -> Verified {
    let (key, token) = (CodeKey::from_bytes([1; 32]), TokenDigest::from_bytes([2; 32]));
    let code = EmailCode::from_random([3; 32]);
    let question = Question::Email(code.digest(&key, &token));
    let standing = Standing { access: Access::Granted, policy, enabled: MethodSet::ALL };
    let mut challenge =
        Challenge::start(token, subject, Lane::Proven, question, &standing, at(0)).unwrap();
    let mut budget = GuessBudget::new(challenge.guess_key());
    let attempt = challenge.count_try(Answer::Email(code), &mut budget, at(0)).unwrap();
    let evidence = Evidence { key: &key, totp: None, recovery: &[] };
    challenge.verify(&attempt, &subject, &evidence, &standing, at(0)).unwrap()
}

fn psk_of(byte: u8) -> PresharedKey {
    PresharedKey::from_bytes([byte; 32])
}

fn at(secs: u64) -> Timestamp {
    Timestamp::from_unix_millis(1_700_000_000_000 + secs * 1000)
}
