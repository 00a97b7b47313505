use super::*;
use crate::budget::GuessRefused;
use crate::factor::MalformedCode;
use crate::factor::email_code::EmailCode;
use crate::factor::totp::TotpStep;
use crate::id::{DeviceId, LocationId, UserId};
use crate::method::MethodSet;
use crate::policy::{LocationPolicy, MethodRefused};
use core::time::Duration;

mod promise;
mod world;

use world::{ALICE, World, at, key, recovery_code, totp_secret, wrong};

#[test]
fn a_right_totp_code_is_verified_and_names_its_step() {
    let mut world = World::new(Method::Totp);
    let verified = world.answer(world.right()).unwrap();

    assert_eq!(verified.subject(), ALICE);
    assert_eq!((verified.method(), verified.at()), (Method::Totp, at(0)));
    assert!(matches!(verified.proof(), Proof::TotpStep(step) if *step == TotpStep::at(at(0))));
    assert_eq!(world.challenge.state(), ChallengeState::Verified);
}

#[test]
fn the_charge_of_a_right_code_can_be_given_back() {
    let mut world = World::new(Method::Totp);
    let verified = world.answer(world.right()).unwrap();
    assert_eq!(world.budget.consecutive(), 1);

    world.budget.success(verified.charge());

    assert_eq!(world.budget.consecutive(), 0);
}

#[test]
fn a_right_mailed_code_is_verified() {
    let mut world = World::new(Method::Email);
    let verified = world.answer(world.right()).unwrap();
    assert!(matches!(verified.proof(), Proof::EmailCode));
    assert_eq!(verified.method(), Method::Email);
}

#[test]
fn an_unused_recovery_code_stands_in_for_the_app() {
    let mut world = World::new(Method::Totp);
    let verified = world.answer(Answer::Recovery(recovery_code(3))).unwrap();
    let used = recovery_code(3).digest(&key(), ALICE.user);
    assert!(matches!(verified.proof(), Proof::RecoveryCode(digest) if digest.same_as(&used)));

    let mut world = World::new(Method::Totp);
    world.recovery.remove(3);
    assert_eq!(world.answer(Answer::Recovery(recovery_code(3))).err(), Some(wrong(4)));
}

#[test]
fn a_recovery_code_works_without_an_app_but_a_totp_code_does_not() {
    let mut world = World::new(Method::Totp);
    world.totp = None;
    assert_eq!(world.answer(world.right()).err(), Some(wrong(4)));
    assert!(world.answer(Answer::Recovery(recovery_code(0))).is_ok());
}

#[test]
fn a_code_of_another_kind_is_wrong_and_counted() {
    let mut world = World::new(Method::Totp);
    let mailed = EmailCode::from_random([7; 32]);
    assert_eq!(world.answer(Answer::Email(mailed)).err(), Some(wrong(4)));

    let mut world = World::new(Method::Email);
    let totp = totp_secret().code_at(at(0));
    assert_eq!(world.answer(Answer::Totp(totp)).err(), Some(wrong(4)));
    assert_eq!(world.answer(Answer::Recovery(recovery_code(0))).err(), Some(wrong(3)));
}

#[test]
fn a_used_step_is_refused_by_its_own_name() {
    let mut world = World::new(Method::Totp);
    world.last_step = Some(TotpStep::at(at(0)));
    assert_eq!(world.answer(world.right()).err(), Some(Refused::Replayed));
    assert_eq!(world.challenge.tries_left(), 4);
}

#[test]
fn five_codes_are_looked_at_and_the_sixth_is_not_even_counted() {
    let mut world = World::new(Method::Totp);
    for left in [4, 3, 2, 1, 0] {
        assert_eq!(world.answer(world.wrong()).err(), Some(wrong(left)));
    }
    assert_eq!(world.challenge.state(), ChallengeState::Exhausted);
    assert_eq!(world.answer(world.right()).err(), Some(NotOpen::Exhausted.into()));
    assert_eq!(world.budget.consecutive(), 5);
}

#[test]
fn the_fifth_code_may_still_be_right() {
    let mut world = World::new(Method::Totp);
    for _ in 0..4 {
        assert!(world.answer(world.wrong()).is_err());
    }
    assert!(world.answer(world.right()).is_ok());
}

#[test]
fn a_challenge_is_over_exactly_when_its_time_is() {
    for (method, secs) in [(Method::Totp, 120), (Method::Email, 600)] {
        let mut world = World::new(method);
        world.now = at(secs).saturating_sub(Duration::from_millis(1));
        assert!(world.answer(world.right()).is_ok(), "{method}");

        let mut world = World::new(method);
        assert_eq!(world.challenge.expires(), at(secs));
        world.now = at(secs);
        assert_eq!(world.answer(world.right()).err(), Some(NotOpen::Expired.into()), "{method}");
        assert_eq!(world.challenge.state(), ChallengeState::Expired);
        assert_eq!(world.budget.consecutive(), 0, "a dead challenge costs no guess");
    }
}

#[test]
fn time_that_runs_out_between_count_and_look_is_out() {
    let mut world = World::new(Method::Totp);
    let attempt = world.count(world.right()).unwrap();
    world.now = at(120);
    assert_eq!(world.verify(&attempt).err(), Some(NotOpen::Expired.into()));
}

#[test]
fn an_exhausted_budget_refuses_before_the_try_is_counted() {
    let mut world = World::new(Method::Totp);
    for _ in 0..7 {
        world.budget.charge(at(0)).unwrap();
    }
    let retry_after = Duration::from_secs(900);
    assert_eq!(
        world.count(world.right()).err(),
        Some(GuessRefused::Exhausted { retry_after }.into())
    );
    assert_eq!(world.challenge.tries_left(), 5);
}

#[test]
fn the_budget_of_someone_else_cannot_be_charged() {
    let own = World::new(Method::Totp).challenge.guess_key();
    let foreign = [
        GuessKey { user: UserId::new(2), ..own },
        GuessKey { method: Method::Email, ..own },
        GuessKey { lane: Lane::Stranger, ..own },
    ];
    for key in foreign {
        let mut world = World::new(Method::Totp);
        world.budget = GuessBudget::new(key);
        assert_eq!(world.count(world.right()).err(), Some(TryRefused::ForeignBudget));
        assert_eq!(world.challenge.tries_left(), 5);
        assert_eq!(world.budget, GuessBudget::new(key));
    }
}

#[test]
fn an_attempt_whose_count_was_rolled_back_buys_no_look() {
    let mut world = World::new(Method::Totp);
    let before = world.challenge.clone();
    let attempt = world.count(world.right()).unwrap();

    world.challenge = before;

    assert_eq!(world.verify(&attempt).err(), Some(Refused::NotCounted));
}

#[test]
fn an_attempt_of_another_challenge_buys_no_look() {
    let mut world = World::new(Method::Totp);
    let attempt = world.count(world.right()).unwrap();
    let mut other = World::new(Method::Totp);
    other.challenge.token = TokenDigest::from_bytes([9; 32]);
    let _ = other.count(other.wrong()).unwrap();

    assert_eq!(other.verify(&attempt).err(), Some(Refused::NotCounted));
}

#[test]
fn a_repeated_transaction_looks_at_the_same_answer_again() {
    let mut world = World::new(Method::Totp);
    let attempt = world.count(world.right()).unwrap();
    let stored = world.challenge.clone();
    assert!(world.verify(&attempt).is_ok());

    world.challenge = stored;

    assert!(world.verify(&attempt).is_ok());
}

#[test]
fn a_second_finish_of_one_challenge_gets_nothing() {
    let mut world = World::new(Method::Email);
    let (one, two) = (world.count(world.right()).unwrap(), world.count(world.right()).unwrap());
    assert!(world.verify(&one).is_ok());
    assert_eq!(world.verify(&two).err(), Some(NotOpen::Used.into()));
}

#[test]
fn a_challenge_holds_for_its_device_user_and_location_only() {
    let others = [
        Subject { user: UserId::new(2), ..ALICE },
        Subject { device: DeviceId::new(2), ..ALICE },
        Subject { location: LocationId::new(2), ..ALICE },
    ];
    for other in others {
        let mut world = World::new(Method::Totp);
        let attempt = world.count(world.right()).unwrap();
        world.subject = other;
        assert_eq!(world.verify(&attempt).err(), Some(Refused::ForeignSubject), "{other:?}");
        assert_eq!(world.challenge.state(), ChallengeState::Pending);
    }
}

#[test]
fn a_mailed_code_means_nothing_to_another_challenge() {
    let mut world = World::new(Method::Email);
    let right = world.right();
    world.challenge.token = TokenDigest::from_bytes([9; 32]);
    assert_eq!(world.answer(right).err(), Some(wrong(4)));
}

/// Whether the standing is good is asked at the start, and asked again when the code comes.
#[test]
fn what_changed_between_start_and_finish_refuses_the_finish() {
    let access = [
        (Access::UserDisabled, NotAdmitted::UserDisabled),
        (Access::DeviceRemoved, NotAdmitted::DeviceRemoved),
        (Access::NotPermitted, NotAdmitted::NotPermitted),
    ];
    for (access, why) in access {
        check_refusal(|world| world.access = access, why);
    }
    check_refusal(|world| world.policy = LocationPolicy::off(), MethodRefused::MfaOff.into());
    check_refusal(
        |world| {
            let email = MethodSet::from(Method::Email);
            world.policy = LocationPolicy::recommended().with_methods(email).unwrap();
        },
        MethodRefused::NotAllowed.into(),
    );
    check_refusal(|world| world.enabled = Method::Email.into(), MethodRefused::NotEnabled.into());
}

fn check_refusal(change: impl Fn(&mut World), why: NotAdmitted) {
    let mut world = World::new(Method::Totp);
    let attempt = world.count(world.right()).unwrap();
    change(&mut world);

    assert_eq!(world.verify(&attempt).err(), Some(why.into()));
    assert_eq!(world.challenge.state(), ChallengeState::Pending);

    let (token, lane) = (TokenDigest::from_bytes([1; 32]), Lane::Proven);
    let standing = world.standing();
    let start = Challenge::start(token, ALICE, lane, Question::Totp, &standing, world.now);
    assert_eq!(start.err(), Some(why));
}

#[test]
fn texts_are_read_as_the_method_reads_them() {
    assert!(matches!(Answer::parse(Method::Totp, "123456"), Ok(Answer::Totp(_))));
    assert!(matches!(Answer::parse(Method::Email, "12345678"), Ok(Answer::Email(_))));
    let recovery = recovery_code(0).expose_text();
    assert!(matches!(Answer::parse(Method::Totp, &recovery), Ok(Answer::Recovery(_))));

    for text in ["", "12345", "12345678", " 123456", "wrong"] {
        let refused = Answer::parse(Method::Totp, text).err();
        assert_eq!(refused, Some(MalformedCode::TotpOrRecovery), "{text:?}");
    }
    for text in ["", "123456", " 12345678", recovery.as_str()] {
        let refused = Answer::parse(Method::Email, text).err();
        assert_eq!(refused, Some(MalformedCode::Email), "{text:?}");
    }
}

#[test]
fn debug_shows_no_answer() {
    let world = World::new(Method::Totp);
    let answers = [world.right(), Answer::Recovery(recovery_code(0))];
    assert_eq!(format!("{answers:?}"), "[Totp(TotpCode(..)), Recovery(RecoveryCode(..))]");

    let mut world = World::new(Method::Email);
    let attempt = world.count(world.right()).unwrap();
    assert!(format!("{attempt:?}").contains("Email(EmailCode(..))"));
    assert!(format!("{:?}", world.challenge).contains("Email(CodeDigest(..))"));
}

#[test]
fn states_read_back() {
    for state in ChallengeState::ALL {
        assert_eq!(ChallengeState::from_code(state.code()), Some(state));
    }
    assert_eq!(ChallengeState::from_code("open"), None);
}
