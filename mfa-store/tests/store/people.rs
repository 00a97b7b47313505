//! Users and groups.

use mfa_core::connect::EndReason;
use mfa_store::StoreError;

use crate::on_both;
use crate::support::{
    BY, Fresh, device_of, location, location_key, person, read, session_of, world, write,
};

on_both! {
    async fn a_login_is_one_whatever_its_case(fresh: Fresh) {
        let store = fresh.open();
        let id = write(&store, |tx| tx.add_user(BY, &person("Alice"))).await;
        let again = store.write(|tx| tx.add_user(BY, &person("ALICE"))).await;
        assert!(matches!(again, Err(StoreError::Exists { what: "login" })));
        let found = read(&store, |view| view.user_by_login(" aliCE ")).await.unwrap();
        assert_eq!((found.id, found.details.login.as_str()), (id, "Alice"));
    }

    async fn a_transaction_goes_on_after_a_name_that_is_taken(fresh: Fresh) {
        let store = fresh.open();
        write(&store, |tx| tx.add_user(BY, &person("alice"))).await;
        let (first, second) = write(&store, |tx| {
            let taken = tx.add_user(BY, &person("alice"));
            assert!(matches!(taken, Err(StoreError::Exists { .. })));
            let known = tx.user_by_login("alice")?.map(|user| user.id);
            Ok((known, tx.add_user(BY, &person("bob"))?))
        })
        .await;
        assert!(first.is_some_and(|alice| alice != second));
    }

    async fn a_disabled_user_has_no_session_and_comes_back_without_one(fresh: Fresh) {
        let store = fresh.open();
        let world = world(&store).await;
        let (user, session) = (world.user, session_of(&world.device, &world.location, [1; 32]));
        let session = write(&store, move |tx| tx.begin_session(BY, &session)).await;
        assert!(write(&store, move |tx| tx.disable_user(BY, user)).await);
        assert!(!write(&store, move |tx| tx.disable_user(BY, user)).await);
        let ended = read(&store, move |view| view.session(session)).await.unwrap().ended;
        assert_eq!(ended.map(|(_, reason)| reason), Some(EndReason::UserDisabled));
        assert!(write(&store, move |tx| tx.enable_user(BY, user)).await);
        let peers = read(&store, move |view| view.desired_peers(world.location.id, None)).await;
        assert!(peers.is_empty());
    }

    async fn who_leaves_a_group_leaves_its_locations(fresh: Fresh) {
        let store = fresh.open();
        let world = world(&store).await;
        let (user, at) = (world.user, world.location.id);
        write(&store, move |tx| tx.set_user_groups(BY, user, &["staff", "ops", "staff"])).await;
        write(&store, move |tx| tx.set_location_groups(BY, at, &["ops"])).await;
        let session = session_of(&world.device, &world.location, [1; 32]);
        let session = write(&store, move |tx| tx.begin_session(BY, &session)).await;
        assert_eq!(read(&store, move |view| view.locations_of(user)).await.len(), 1);
        assert!(read(&store, move |view| view.may_use(user, at)).await);

        write(&store, move |tx| tx.set_user_groups(BY, user, &["staff"])).await;

        let ended = read(&store, move |view| view.session(session)).await.unwrap().ended;
        assert_eq!(ended.map(|(_, reason)| reason), Some(EndReason::AccessRemoved));
        assert_eq!(read(&store, move |view| view.locations_of(user)).await, []);
        assert!(!read(&store, move |view| view.may_use(user, at)).await);
        assert_eq!(read(&store, move |view| view.groups_of_user(user)).await, ["staff"]);
    }

    async fn a_removed_user_takes_everything_along(fresh: Fresh) {
        let store = fresh.open();
        let world = world(&store).await;
        let (user, device) = (world.user, world.device.clone());
        let session = session_of(&world.device, &world.location, [1; 32]);
        write(&store, move |tx| tx.begin_session(BY, &session)).await;
        assert!(write(&store, move |tx| tx.remove_user(BY, user)).await);
        assert!(read(&store, move |view| view.device(device.id)).await.is_none());
        let peers = read(&store, move |view| view.desired_peers(world.location.id, None)).await;
        assert!(peers.is_empty());
    }

    async fn a_key_names_one_device_and_no_location(fresh: Fresh) {
        let store = fresh.open();
        let world = world(&store).await;
        let (user, at) = (world.user, world.location.clone());
        for key in [world.device.public_key, at.public_key] {
            let mut device = device_of(user);
            device.public_key = key;
            let taken = store.write(move |tx| tx.add_device(BY, &device)).await;
            assert!(matches!(taken, Err(StoreError::Exists { what: "public key" })));
        }
        let taken = store
            .write(|tx| tx.add_location(BY, &location("office", &["10.2.0.1/24"]), &location_key()))
            .await;
        assert!(matches!(taken, Err(StoreError::Exists { what: "location" })));
    }
}
