//! Setting up, using and resetting what people prove themselves with.

use mfa_core::connect::EndReason;
use mfa_core::factor::CodeDigest;
use mfa_core::factor::totp::{TotpSecret, TotpStep};
use mfa_core::method::{Method, MethodSet};
use mfa_store::PendingEmail;

use crate::on_both;
use crate::support::{BY, Fresh, NOW, World, person, read, session_of, world, write};

on_both! {
    async fn a_secret_is_in_force_once_its_first_code_came(fresh: Fresh) {
        let store = fresh.open();
        let user = world(&store).await.user;
        let none = write(&store, move |tx| tx.confirm_totp(BY, user, TotpStep::new(1))).await;
        assert!(!none);
        for (byte, step) in [(1, 100), (2, 101)] {
            let secret = TotpSecret::from_bytes([byte; 20]);
            write(&store, move |tx| tx.stage_totp(BY, user, &secret)).await;
            assert!(write(&store, move |tx| tx.confirm_totp(BY, user, TotpStep::new(step))).await);
            let totp = read(&store, move |view| view.totp(user)).await.unwrap();
            assert_eq!(totp.secret.expose_secret(), &[byte; 20]);
            assert_eq!(totp.last_step, Some(TotpStep::new(step)));
        }
        assert_eq!(
            read(&store, move |view| view.enabled_methods(user)).await,
            MethodSet::from(Method::Totp)
        );
    }

    async fn a_confirming_code_is_not_accepted_twice_and_survives_a_reset(fresh: Fresh) {
        let store = fresh.open();
        let user = world(&store).await.user;
        let step = TotpStep::new(100);
        let set_up = move |tx: &mut mfa_store::Tx| {
            tx.stage_totp(BY, user, &TotpSecret::from_bytes([1; 20]))?;
            tx.confirm_totp(BY, user, step)
        };
        assert!(write(&store, set_up).await);
        assert!(!write(&store, move |tx| tx.use_totp_step(user, step)).await);
        assert!(write(&store, move |tx| tx.reset_method(BY, user, Method::Totp)).await);
        assert!(read(&store, move |view| view.totp(user)).await.is_none());
        assert!(!write(&store, set_up).await);
    }

    async fn a_reset_ends_the_sessions_that_the_method_bought(fresh: Fresh) {
        let store = fresh.open();
        let World { user, device, location } = world(&store).await;
        let code = CodeDigest::from_bytes([1; 32]);
        let session = session_of(&device, &location, [1; 32]);
        let id = write(&store, move |tx| {
            tx.stage_totp(BY, user, &TotpSecret::from_bytes([1; 20]))?;
            tx.confirm_totp(BY, user, TotpStep::new(1))?;
            tx.replace_recovery_codes(BY, user, &[code])?;
            tx.begin_session(BY, &session)
        })
        .await;
        assert!(!write(&store, move |tx| tx.reset_method(BY, user, Method::Email)).await);
        assert!(read(&store, move |view| view.session(id)).await.unwrap().ended.is_none());
        assert!(write(&store, move |tx| tx.reset_method(BY, user, Method::Totp)).await);
        let ended = read(&store, move |view| view.session(id)).await.unwrap().ended;
        assert_eq!(ended, Some((NOW, EndReason::MethodReset)));
        assert!(read(&store, move |view| view.recovery_codes(user)).await.is_empty());
    }

    async fn a_mailbox_is_confirmed_by_its_code_and_lost_with_its_address(fresh: Fresh) {
        let store = fresh.open();
        let user = world(&store).await.user;
        assert!(!write(&store, move |tx| tx.confirm_email(BY, user)).await);
        let pending = PendingEmail { code: CodeDigest::from_bytes([1; 32]), until: NOW };
        write(&store, move |tx| tx.stage_email(BY, user, &pending)).await;
        assert!(read(&store, move |view| view.enabled_methods(user)).await.is_empty());
        let stored = read(&store, move |view| view.pending_email(user)).await.unwrap();
        assert!(stored.code.same_as(&pending.code) && stored.until == NOW);
        assert!(write(&store, move |tx| tx.confirm_email(BY, user)).await);
        assert!(!write(&store, move |tx| tx.confirm_email(BY, user)).await);
        let email = MethodSet::from(Method::Email);
        assert_eq!(read(&store, move |view| view.enabled_methods(user)).await, email);

        let mut details = person("alice");
        details.phone = "1".to_owned();
        let same_address = details.clone();
        write(&store, move |tx| tx.set_user_details(BY, user, &same_address)).await;
        assert_eq!(read(&store, move |view| view.enabled_methods(user)).await, email);
        details.email = "alice@elsewhere.example".to_owned();
        write(&store, move |tx| tx.set_user_details(BY, user, &details)).await;
        assert!(read(&store, move |view| view.enabled_methods(user)).await.is_empty());
    }
}
