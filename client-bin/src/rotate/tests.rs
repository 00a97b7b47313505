use std::time::UNIX_EPOCH;

use mfa_wire::http::SecretText;

use super::*;

const START: u64 = 1_800_000_000;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(START + seconds)
}

fn key(generation: u32) -> PresharedKey {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&generation.to_be_bytes());
    PresharedKey::from_bytes(bytes)
}

fn session(next: Option<u32>) -> SessionInfo {
    SessionInfo {
        id: 7,
        since: START,
        expires: START + 43_200,
        idle_threshold: 300,
        generation: 1,
        next_generation: next,
        gateways_connected: 1,
        gateways_applied: 1,
    }
}

fn link(handshake: u64, tx_bytes: u64) -> Link {
    Link { last_handshake: Some(at(handshake)), rx_bytes: 0, tx_bytes, endpoint: None }
}

fn next(generation: u32) -> NextKey {
    let preshared_key = SecretText::new(key(generation).expose_base64().as_str());
    NextKey { generation, preshared_key }
}

/// A client that core knows to take keys.
fn settled() -> Rotate {
    let mut rotate = Rotate::new(1, &session(None), key(1), at(0));
    let first = rotate.due(at(0)).expect("the first word says that keys are taken");
    assert_eq!((first.set, first.proven), (1, 1));
    rotate.handle_answer(&first, None);
    assert_eq!(rotate.due(at(1)), None);
    rotate
}

/// A client that was given generation 2 and has not set it.
fn given() -> Rotate {
    let mut rotate = settled();
    rotate.handle_status(&session(Some(2)));
    let ask = rotate.due(at(1)).expect("a key is offered");
    rotate.handle_answer(&ask, Some(&next(2)));
    assert_eq!(rotate.due(at(1)), None, "it has the key");
    rotate
}

/// Looks at the interface, and does as it is told.
fn look(rotate: &mut Rotate, now: u64, link: &Link) -> Option<u32> {
    let psk = rotate.handle_link(at(now), link)?;
    rotate.handle_set(at(now), link);
    let (given, generation) = (psk, rotate.generation());
    assert!(given.same_as(&key(generation)));
    Some(rotate.generation())
}

#[test]
fn a_key_is_offered_fetched_set_and_proven() {
    let mut rotate = given();
    assert_eq!(look(&mut rotate, 10, &link(1, 0)), Some(2));
    let set = rotate.due(at(10)).unwrap();
    assert_eq!((set.set, set.proven), (2, 1));
    rotate.handle_answer(&set, None);
    assert_eq!(rotate.due(at(11)), None);

    assert_eq!(look(&mut rotate, 121, &link(120, 0)), None);
    let proven = rotate.due(at(121)).unwrap();
    assert_eq!((proven.set, proven.proven), (2, 2));
    rotate.handle_answer(&proven, None);
    assert_eq!(rotate.due(at(122)), None);
}

#[test]
fn a_key_waits_for_the_handshake_that_is_due_soon() {
    let mut rotate = given();
    for now in [102, 119, 125, 181] {
        assert_eq!(look(&mut rotate, now, &link(1, 0)), None, "{now}");
    }
    assert_eq!(look(&mut rotate, 182, &link(1, 0)), Some(2), "no key is alive any more");

    let mut rotate = given();
    assert_eq!(look(&mut rotate, 119, &link(1, 0)), None);
    assert_eq!(look(&mut rotate, 122, &link(121, 0)), Some(2), "it is done");
}

#[test]
fn before_the_first_handshake_nothing_is_set() {
    let mut rotate = given();
    let none = Link::default();
    assert!(rotate.handle_link(at(5), &none).is_none());
}

#[test]
fn keys_take_turns_until_a_handshake_is_answered() {
    let mut rotate = given();
    assert_eq!(look(&mut rotate, 10, &link(1, 1000)), Some(2));
    let set = rotate.due(at(10)).unwrap();
    rotate.handle_answer(&set, None);

    // The gateway has the key before: it never got the word.
    let mut turns = Vec::new();
    for now in 11..181 {
        if let Some(generation) = look(&mut rotate, now, &link(1, 1000 + now)) {
            turns.push((now, generation));
        }
    }
    assert_eq!(turns, [(134, 1), (147, 2), (160, 1), (173, 2)]);
    // It was answered with the key before: that proves nothing of the new one.
    assert_eq!(look(&mut rotate, 186, &link(1, 9000)), Some(1));
    assert_eq!(look(&mut rotate, 187, &link(186, 9000)), None);
    assert_eq!(look(&mut rotate, 188, &link(187, 9000)), None);
    assert_eq!(rotate.due(at(188)), None, "core knows already what this client has");
    // By the next handshake the gateway has it.
    for now in 189..320 {
        assert_eq!(look(&mut rotate, now, &link(187, 9000 + now)), None, "{now}");
    }
    assert_eq!(look(&mut rotate, 320, &link(187, 9999)), Some(2));
    assert_eq!(look(&mut rotate, 322, &link(321, 9999)), None);
    assert_eq!(rotate.due(at(322)).map(|said| (said.set, said.proven)), Some((2, 2)));
}

/// Gateways had taken the second key when the client went back to the first, and have no other until
/// core hears that the third is set.
#[test]
fn the_newer_key_is_kept_for_the_next_one() {
    let mut rotate = given();
    assert_eq!(look(&mut rotate, 10, &link(1, 0)), Some(2));
    assert_eq!(look(&mut rotate, 100, &link(90, 500)), None, "a handshake proved it");
    assert_eq!(look(&mut rotate, 230, &link(90, 1000)), Some(1), "and then there was none");
    rotate.handle_status(&session(Some(3)));
    let ask = rotate.due(at(231)).unwrap();
    rotate.handle_answer(&ask, Some(&next(3)));

    assert_eq!(look(&mut rotate, 300, &link(90, 1000)), Some(3));

    assert!(rotate.has(3) && rotate.has(2) && !rotate.has(1));
    assert_eq!(look(&mut rotate, 320, &link(90, 2000)), Some(2), "they take turns");
}

#[test]
fn who_sends_nothing_tries_no_other_key() {
    let mut rotate = given();
    assert_eq!(look(&mut rotate, 10, &link(1, 1000)), Some(2));
    for now in 11..1000 {
        assert_eq!(look(&mut rotate, now, &link(1, 1000)), None, "{now}");
    }
}

#[test]
fn without_a_rotation_there_is_nothing_to_try() {
    let mut rotate = settled();
    for now in 11..1000 {
        assert_eq!(look(&mut rotate, now, &link(1, now)), None, "{now}");
    }
}

#[test]
fn a_call_that_failed_is_made_again_after_a_pause() {
    let mut rotate = settled();
    rotate.handle_status(&session(Some(2)));
    assert!(rotate.due(at(10)).is_some());
    rotate.handle_failure(at(10));
    assert_eq!(rotate.due(at(14)), None);
    assert!(rotate.due(at(15)).is_some());
    rotate.handle_failure(at(1000));
    assert!(rotate.due(at(10)).is_some(), "a clock that was set back stops nothing");
}

#[test]
fn an_offer_that_is_withdrawn_is_asked_for_once() {
    let mut rotate = settled();
    rotate.handle_status(&session(Some(2)));
    let ask = rotate.due(at(10)).unwrap();
    rotate.handle_answer(&ask, None);
    assert_eq!(rotate.due(at(11)), None);
}

#[test]
fn a_key_of_another_generation_or_session_is_left_alone() {
    let mut rotate = settled();
    rotate.handle_status(&SessionInfo { id: 8, ..session(Some(2)) });
    assert_eq!(rotate.due(at(10)), None);
    rotate.handle_status(&session(Some(2)));
    let ask = rotate.due(at(10)).unwrap();
    for wrong in [next(1), next(3), NextKey { generation: 2, preshared_key: SecretText::new("x") }]
    {
        rotate.handle_answer(&ask, Some(&wrong));
        assert_eq!(look(&mut rotate, 11, &link(1, 0)), None);
    }
}

#[test]
fn debug_shows_no_key() {
    assert_eq!(format!("{:?}", given()), "Rotate(generation 1, ..)");
}
