use proptest::prelude::*;

use super::*;

const MINUTE: u64 = 60;

#[test]
fn ten_wrong_codes_in_fifteen_minutes_are_looked_at_and_no_more() {
    let limits = [Lane::Proven, Lane::Stranger].map(Lane::guess_limits);
    assert_eq!(limits.map(|limits| limits.per_window).iter().sum::<usize>(), 10);
    let mut budget = proven();
    for second in 0..7 {
        assert!(budget.charge(at(second)).is_ok());
    }

    let refused = budget.charge(at(100));

    let retry_after = Duration::from_secs(15 * MINUTE - 100);
    assert_eq!(refused, Err(GuessRefused::Exhausted { retry_after }));
    assert!(budget.charge(at(15 * MINUTE - 1)).is_err());
    assert!(budget.charge(at(15 * MINUTE)).is_ok(), "the first has left the window");
    assert!(budget.charge(at(15 * MINUTE)).is_err(), "the second has not");
}

#[test]
fn knocking_on_a_closed_door_does_not_keep_it_closed() {
    let mut budget = proven();
    for _ in 0..7 {
        budget.charge(at(0)).unwrap();
    }
    let before = budget.clone();
    for second in 0..15 * MINUTE {
        assert!(budget.charge(at(second)).is_err());
    }
    assert_eq!(budget, before);
    assert!(budget.charge(at(15 * MINUTE)).is_ok());
}

#[test]
fn a_hundred_wrong_codes_in_a_row_lock_the_method_until_it_is_cleared() {
    let mut budget = proven();
    for round in 0..100 {
        assert!(!budget.is_locked());
        budget.charge(at(round * 15 * MINUTE)).unwrap();
    }
    let later = at(1_000_000 * MINUTE);

    assert!(budget.is_locked());
    assert_eq!(budget.charge(later), Err(GuessRefused::Locked));
    assert_eq!(budget.consecutive(), 100, "a refused guess is not counted");

    budget.clear();

    assert!(!budget.is_locked());
    assert_eq!(budget.consecutive(), 0);
    for _ in 0..7 {
        assert!(budget.charge(later).is_ok());
    }
}

#[test]
fn a_right_code_gives_back_its_own_charge_and_no_other() {
    let mut budget = proven();
    for second in 0..6 {
        budget.charge(at(second)).unwrap();
    }
    for second in 6..60 {
        let charge = budget.charge(at(second)).unwrap();
        budget.success(charge);
        assert_eq!(budget.to_parts().recent.len(), 6);
    }
    budget.charge(at(60)).unwrap();
    assert!(budget.charge(at(60)).is_err(), "six wrong codes and one are seven");
}

#[test]
fn a_right_code_ends_the_row_before_it_but_not_what_was_charged_meanwhile() {
    let mut budget = proven();
    budget.charge(at(0)).unwrap();
    let right = budget.charge(at(1)).unwrap();
    budget.charge(at(2)).unwrap();
    assert_eq!(budget.consecutive(), 3);

    budget.success(right);

    assert_eq!(budget.consecutive(), 1);
    assert_eq!(budget.to_parts().recent, [at(0), at(2)]);
}

#[test]
fn a_charge_given_back_twice_counts_once() {
    let mut budget = proven();
    let right = budget.charge(at(0)).unwrap();
    budget.charge(at(0)).unwrap();
    budget.charge(at(1)).unwrap();
    budget.success(right);
    budget.success(right);
    // The second charge of the same moment is given back in its place, the third is not.
    assert_eq!(budget.to_parts().recent.last(), Some(&at(1)));
    assert_eq!(budget.consecutive(), 2);
}

#[test]
fn strangers_have_three_guesses_and_a_hundred_in_a_row_and_lock_out_themselves() {
    let mut budget = GuessBudget::new(GuessKey { lane: Lane::Stranger, ..key() });
    let mut looked_at = 0;
    for round in 0..1_000 {
        let now = at(round * 15 * MINUTE);
        let open = (0..5).filter(|_| budget.charge(now).is_ok()).count();
        assert!(open <= 3);
        looked_at += open;
    }
    assert_eq!((looked_at, budget.is_locked()), (100, true));
    assert!(!proven().is_locked(), "the owner's lane is another");
}

#[test]
fn a_clock_set_back_closes_the_door_for_one_window_at_most() {
    let mut budget = proven();
    for _ in 0..6 {
        budget.charge(at(1_000_000)).unwrap();
    }
    let now = at(1_000);
    budget.charge(now).unwrap();

    let retry_after = Duration::from_secs(15 * MINUTE);
    assert_eq!(budget.charge(now), Err(GuessRefused::Exhausted { retry_after }));
    assert!(budget.charge(at(1_000 + 15 * MINUTE)).is_ok());
}

#[test]
fn a_stored_budget_is_the_same_budget() {
    let mut budget = proven();
    for second in 0..6 {
        budget.charge(at(second)).unwrap();
    }
    let charge = budget.charge(at(8)).unwrap();
    budget.success(charge);
    assert_eq!(GuessBudget::from_parts(budget.key(), budget.to_parts()), budget);
}

#[test]
fn refusals_say_what_to_do_next() {
    let exhausted = GuessRefused::Exhausted { retry_after: Duration::from_millis(61_001) };
    assert_eq!(exhausted.to_string(), "too many wrong codes; try again in 62 s");
    let refused = MailRefused { retry_after: Duration::from_secs(61) };
    assert!(refused.to_string().ends_with("or try again in 2 min"), "{refused}");
}

#[test]
fn five_mails_an_hour_and_twenty_a_day_are_sent() {
    let mut budget = MailBudget::new(Lane::Proven);
    for hour in 0..4 {
        for minute in 0..5 {
            budget.charge(at(hour * 3600 + minute * MINUTE)).unwrap();
        }
        let retry_after = Duration::from_secs(3600 - 5 * MINUTE);
        let refused = budget.charge(at(hour * 3600 + 5 * MINUTE));
        if hour < 3 {
            assert_eq!(refused, Err(MailRefused { retry_after }));
        }
    }
    let now = at(4 * 3600);
    let retry_after = Duration::from_secs(20 * 3600);
    assert_eq!(budget.charge(now), Err(MailRefused { retry_after }));
    assert!(budget.charge(at(24 * 3600)).is_ok());
    assert_eq!(budget.recent().len(), 20);
}

#[test]
fn a_stranger_gets_one_mail_an_hour_and_takes_none_of_the_owners() {
    let mut stranger = MailBudget::new(Lane::Stranger);
    stranger.charge(at(0)).unwrap();
    assert_eq!(stranger.charge(at(1)), Err(MailRefused { retry_after: Duration::from_secs(3599) }));
    assert!(stranger.charge(at(3600)).is_ok());
    assert_eq!(stranger.lane(), Lane::Stranger);

    let stored = MailBudget::from_parts(stranger.lane(), stranger.recent().to_vec());
    assert_eq!(stored, stranger);
}

#[test]
fn lanes_read_back() {
    for lane in [Lane::Proven, Lane::Stranger] {
        assert_eq!(Lane::from_code(lane.code()), Some(lane));
    }
    assert_eq!(Lane::from_code(""), None);
}

/// One thing that can happen to a budget.
#[derive(Clone, Copy, Debug)]
enum Op {
    /// Time passes.
    Wait(u64),
    /// A wrong code.
    Wrong,
    /// A right code.
    Right,
    /// The process restarts.
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        15 => (1_u64..600).prop_map(Op::Wait),
        5 => (600_u64..2_000).prop_map(Op::Wait),
        40 => Just(Op::Wrong),
        2 => Just(Op::Right),
        4 => Just(Op::Restart),
    ]
}

proptest! {
    /// Against a model that remembers everything: in any 15 min at most 10 wrong codes are looked
    /// at, at most 100 in a row, and a guess is refused only when one of these is reached.
    #[test]
    fn the_promise_holds_whatever_happens(
        ops in prop::collection::vec(op(), 1..100),
        stranger: bool,
        earlier in 0_u64..100,
    ) {
        let lane = if stranger { Lane::Stranger } else { Lane::Proven };
        let limits = lane.guess_limits();
        // A row of wrong codes from long ago, so that a hundred of them come up.
        let long_ago = GuessParts { charged: earlier, ..GuessParts::default() };
        let mut budget = GuessBudget::from_parts(GuessKey { lane, ..key() }, long_ago);
        let mut now = at(0);
        let mut wrong: Vec<Timestamp> = Vec::new();
        let mut row = earlier;
        for op in ops {
            match op {
                Op::Wait(secs) => now = now.saturating_add(Duration::from_secs(secs)),
                Op::Restart => {
                    budget = GuessBudget::from_parts(budget.key(), budget.to_parts());
                }
                Op::Wrong | Op::Right => {
                    let in_window = |at: &&Timestamp| now.since(**at) < limits.window;
                    let recent = wrong.iter().filter(in_window).count();
                    let locked = limits.consecutive.is_some_and(|limit| row >= limit);
                    let charge = budget.charge(now);
                    prop_assert_eq!(charge.is_ok(), !locked && recent < limits.per_window);
                    match charge {
                        Ok(charge) if matches!(op, Op::Right) => {
                            budget.success(charge);
                            row = 0;
                        }
                        Ok(_) => {
                            wrong.push(now);
                            row += 1;
                        }
                        Err(GuessRefused::Locked) => prop_assert!(locked),
                        Err(GuessRefused::Exhausted { retry_after }) => {
                            let soon = now.saturating_add(retry_after);
                            let just_before = soon.saturating_sub(Duration::from_millis(1));
                            prop_assert!(budget.clone().charge(just_before).is_err());
                            prop_assert!(budget.clone().charge(soon).is_ok());
                        }
                    }
                    prop_assert!(budget.to_parts().recent.len() <= limits.per_window);
                }
            }
        }
    }
}

fn proven() -> GuessBudget {
    GuessBudget::new(key())
}

fn key() -> GuessKey {
    GuessKey { user: UserId::new(1), method: Method::Totp, lane: Lane::Proven }
}

fn at(secs: u64) -> Timestamp {
    Timestamp::from_unix_millis(1_700_000_000_000 + secs * 1000)
}
