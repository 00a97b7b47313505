//! What may happen once happens once, however many come for it, over however many cores.

use mfa_core::budget::Lane;
use mfa_core::challenge::{Challenge, ChallengeParts, ChallengeState, Question, Subject};
use mfa_core::enroll::Enrollment;
use mfa_core::factor::CodeDigest;
use mfa_core::factor::totp::{TotpSecret, TotpStep};
use mfa_store::{Spent, Store, StoreError, TokenPurpose, Tx};
use tokio::task::JoinSet;

use crate::on_both;
use crate::support::{BY, Fresh, NOW, fresh_digest, read, world, write};

/// Has `times` tasks do the same at once, every other one on another core, and counts for how many
/// of them it was granted.
async fn race(
    fresh: &Fresh,
    times: usize,
    work: impl Fn(&mut Tx) -> Result<bool, StoreError> + Clone + Send + 'static,
) -> usize {
    let cores: [Store; 2] = [fresh.open(), fresh.open()];
    let mut tasks = JoinSet::new();
    for core in cores.iter().cycle().take(times) {
        let (core, work) = (core.clone(), work.clone());
        tasks.spawn(async move { write(&core, work).await });
    }
    tasks.join_all().await.into_iter().filter(|granted| *granted).count()
}

on_both! {
    async fn one_totp_step_is_accepted_once_of_a_hundred(fresh: Fresh) {
        let store = fresh.open();
        let user = world(&store).await.user;
        let secret = TotpSecret::from_bytes([3; 20]);
        write(&store, move |tx| {
            tx.stage_totp(BY, user, &secret)?;
            tx.confirm_totp(BY, user, TotpStep::new(1))
        })
        .await;
        let step = TotpStep::new(60_000_000);
        assert_eq!(race(&fresh, 100, move |tx| tx.use_totp_step(user, step)).await, 1);
        for (step, granted) in [(60_000_000, false), (59_999_999, false), (60_000_001, true)] {
            let step = TotpStep::new(step);
            assert_eq!(write(&store, move |tx| tx.use_totp_step(user, step)).await, granted);
        }
    }

    async fn one_recovery_code_is_used_once_of_a_hundred(fresh: Fresh) {
        let store = fresh.open();
        let user = world(&store).await.user;
        let codes = [1, 2].map(|byte| CodeDigest::from_bytes([byte; 32]));
        write(&store, move |tx| tx.replace_recovery_codes(BY, user, &codes)).await;
        let [code, other] = codes;
        assert_eq!(race(&fresh, 100, move |tx| tx.use_recovery_code(BY, user, &code)).await, 1);
        let left = read(&store, move |view| view.recovery_codes(user)).await;
        assert!(left.len() == 1 && left[0].same_as(&other));
    }

    async fn of_many_finishes_of_one_challenge_one_wins(fresh: Fresh) {
        let store = fresh.open();
        let world = world(&store).await;
        let parts = ChallengeParts {
            token: fresh_digest(),
            subject: Subject {
                user: world.user,
                device: world.device.id,
                location: world.location.id,
            },
            lane: Lane::Proven,
            question: Question::Totp,
            started: NOW,
            expires: NOW,
            tries: 1,
            state: ChallengeState::Pending,
        };
        write(&store, move |tx| tx.add_challenge(BY, &Challenge::from_parts(parts))).await;
        let verified =
            Challenge::from_parts(ChallengeParts { state: ChallengeState::Verified, ..parts });
        let won = race(&fresh, 64, move |tx| tx.save_challenge(&verified)).await;
        assert_eq!(won, 1);
    }

    async fn of_two_gateways_with_one_token_one_enrolls(fresh: Fresh) {
        let store = fresh.open();
        let at = world(&store).await.location.id;
        let token = fresh_digest();
        let gateway = write(&store, move |tx| {
            let id = tx.add_gateway(BY, at, "gw-1")?;
            let expires = NOW.saturating_add(core::time::Duration::from_secs(900));
            tx.add_token(BY, TokenPurpose::Gateway(id), &token, expires)?;
            Ok(id)
        })
        .await;
        let good = Spent::Good(TokenPurpose::Gateway(gateway));
        let won = race(&fresh, 64, move |tx| Ok(tx.spend_token(BY, &token)? == good)).await;
        assert_eq!(won, 1);
        assert_eq!(write(&store, move |tx| tx.spend_token(BY, &token)).await, Spent::Used);
        let unknown = fresh_digest();
        assert_eq!(write(&store, move |tx| tx.spend_token(BY, &unknown)).await, Spent::Unknown);
    }

    async fn a_token_is_worth_nothing_after_its_time_or_once_there_is_a_newer_one(fresh: Fresh) {
        let store = fresh.open();
        let at = world(&store).await.location.id;
        let (older, newer) = (fresh_digest(), fresh_digest());
        write(&store, move |tx| {
            let purpose = TokenPurpose::Gateway(tx.add_gateway(BY, at, "gw-1")?);
            let later = NOW.saturating_add(core::time::Duration::from_secs(1));
            tx.add_token(BY, purpose, &older, later)?;
            tx.add_token(BY, purpose, &newer, NOW)
        })
        .await;
        assert_eq!(write(&store, move |tx| tx.spend_token(BY, &older)).await, Spent::Unknown);
        assert_eq!(write(&store, move |tx| tx.spend_token(BY, &newer)).await, Spent::Expired);
    }

    async fn an_enrollment_is_redeemed_once(fresh: Fresh) {
        let store = fresh.open();
        let user = world(&store).await.user;
        let issued = Enrollment::issue(user, fresh_digest(), Enrollment::TOKEN_TTL, NOW);
        let (before, new) = (issued.state(), issued.clone());
        write(&store, move |tx| tx.add_enrollment(BY, &new)).await;
        let won = race(&fresh, 32, move |tx| {
            let mut redeemed = issued.clone();
            redeemed.redeem(fresh_digest(), NOW).expect("it is fresh");
            tx.save_enrollment(BY, &before, &redeemed)
        })
        .await;
        assert_eq!(won, 1);
    }
}
