//! The values of mfa-core come back as they were stored.

use core::time::Duration;

use mfa_core::budget::{GuessBudget, GuessKey, Lane, MailBudget};
use mfa_core::challenge::{Challenge, ChallengeParts, ChallengeState, Question, Subject};
use mfa_core::enroll::Enrollment;
use mfa_core::factor::CodeDigest;
use mfa_core::method::{Method, MethodSet};
use mfa_core::policy::{IdleMode, IdlePolicy, Lifetime, LocationPolicy, Mfa};
use mfa_core::rotate::PskPolicy;

use crate::on_both;
use crate::support::{
    BY, Fresh, NOW, World, fresh_digest, location, location_key, read, world, write,
};

on_both! {
    async fn a_policy_comes_back_whole(fresh: Fresh) {
        let store = fresh.open();
        let every = |secs| PskPolicy::every(Duration::from_secs(secs)).unwrap();
        let idle = |mode, secs| IdlePolicy::new(mode, Duration::from_secs(secs)).unwrap();
        let hour = Lifetime::new(Duration::from_secs(3600)).unwrap();
        let policies = [
            LocationPolicy::recommended(),
            LocationPolicy::off(),
            LocationPolicy::new(
                Mfa::Required,
                MethodSet::from(Method::Email),
                idle(IdleMode::Handshake, 180),
                hour,
                PskPolicy::Fixed,
            )
            .unwrap(),
            LocationPolicy::new(
                Mfa::Off,
                MethodSet::EMPTY,
                idle(IdleMode::Transfer, 5),
                hour,
                every(120),
            )
            .unwrap(),
        ];
        for (number, policy) in policies.into_iter().enumerate() {
            let mut settings = location(&format!("l{number}"), &["10.1.0.1/24", "fd00::1/64"]);
            settings.policy = policy;
            settings.dns = vec!["10.1.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
            settings.mtu = Some(1380);
            settings.keepalive = None;
            let new = settings.clone();
            let id =
                write(&store, move |tx| Ok(tx.add_location(BY, &new, &location_key())?.id)).await;
            let stored = read(&store, move |view| view.location(id)).await.unwrap();
            assert_eq!(stored.settings, settings);
        }
    }

    async fn a_challenge_comes_back_whole(fresh: Fresh) {
        let store = fresh.open();
        let World { user, device, location } = world(&store).await;
        let email = CodeDigest::from_bytes([9; 32]);
        for (question, lane) in
            [(Question::Totp, Lane::Proven), (Question::Email(email), Lane::Stranger)]
        {
            let token = fresh_digest();
            let challenge = Challenge::from_parts(ChallengeParts {
                token,
                subject: Subject { user, device: device.id, location: location.id },
                lane,
                question,
                started: NOW,
                expires: NOW.saturating_add(Duration::from_secs(120)),
                tries: 3,
                state: ChallengeState::Pending,
            });
            let new = challenge.clone();
            write(&store, move |tx| tx.add_challenge(BY, &new)).await;
            let stored = read(&store, move |view| view.challenge(&token)).await.unwrap();
            let (stored, new) = (stored.to_parts(), challenge.to_parts());
            assert_eq!(
                (stored.token, stored.subject, stored.lane, stored.started, stored.expires),
                (new.token, new.subject, new.lane, new.started, new.expires)
            );
            assert_eq!((stored.tries, stored.state), (3, ChallengeState::Pending));
            match (stored.question, new.question) {
                (Question::Totp, Question::Totp) => {}
                (Question::Email(stored), Question::Email(new)) => assert!(stored.same_as(&new)),
                _ => panic!("another question"),
            }
            let open = read(&store, move |view| view.pending_challenges(device.id, lane)).await;
            assert_eq!(open.len(), 1);
        }
    }

    async fn budgets_come_back_whole_and_apart(fresh: Fresh) {
        let store = fresh.open();
        let user = world(&store).await.user;
        let key = GuessKey { user, method: Method::Totp, lane: Lane::Proven };
        let mut guesses = GuessBudget::new(key);
        let mut mails = MailBudget::new(Lane::Stranger);
        for round in 0..3 {
            guesses.charge(NOW).unwrap();
            if round == 0 {
                mails.charge(NOW).unwrap();
            }
            let (stored_guesses, stored_mails) = (guesses.clone(), mails.clone());
            write(&store, move |tx| {
                tx.save_guess_budget(&stored_guesses)?;
                tx.save_mail_budget(user, &stored_mails)
            })
            .await;
            assert_eq!(read(&store, move |view| view.guess_budget(key)).await, guesses);
            let stored = read(&store, move |view| view.mail_budget(user, Lane::Stranger)).await;
            assert_eq!(stored, mails);
        }
        let other = GuessKey { lane: Lane::Stranger, ..key };
        let untouched = read(&store, move |view| view.guess_budget(other)).await;
        assert_eq!(untouched, GuessBudget::new(other));
    }

    async fn an_enrollment_comes_back_whole_in_each_state(fresh: Fresh) {
        let store = fresh.open();
        let user = world(&store).await.user;
        let (token, session) = (fresh_digest(), fresh_digest());
        let mut enrollment = Enrollment::issue(user, token, Enrollment::TOKEN_TTL, NOW);
        let new = enrollment.clone();
        write(&store, move |tx| tx.add_enrollment(BY, &new)).await;
        assert_eq!(read(&store, move |view| view.enrollment(&token)).await, Some(enrollment.clone()));

        let before = enrollment.state();
        enrollment.redeem(session, NOW).unwrap();
        let redeemed = enrollment.clone();
        assert!(write(&store, move |tx| tx.save_enrollment(BY, &before, &redeemed)).await);
        let found = read(&store, move |view| view.enrollment_by_session(&session)).await;
        assert_eq!(found, Some(enrollment.clone()));

        let before = enrollment.state();
        enrollment.confirm(NOW).unwrap();
        let confirmed = enrollment.clone();
        assert!(write(&store, move |tx| tx.save_enrollment(BY, &before, &confirmed)).await);
        assert_eq!(read(&store, move |view| view.enrollment(&token)).await, Some(enrollment));
        assert_eq!(read(&store, move |view| view.enrollment_by_session(&session)).await, None);
    }
}
