//! What gateways should have, and how they learn that it changed.

use std::collections::BTreeSet;

use mfa_core::connect::EndReason;
use mfa_core::id::LocationId;
use mfa_core::method::{Method, MethodSet};
use mfa_core::policy::{LocationPolicy, Mfa};
use mfa_store::{Activity, DesiredPeer, Quiet, Scope, Store, Touched};

use crate::on_both;
use crate::support::{
    BY, Fresh, NOW, World, device_of, fresh_key, location, location_key, read, session_of, world,
    write,
};

async fn peers(store: &Store, location: LocationId) -> Vec<DesiredPeer> {
    read(store, move |view| view.desired_peers(location, None)).await
}

async fn revision(store: &Store, location: LocationId) -> i64 {
    read(store, move |view| view.revision(location)).await.unwrap()
}

async fn plain_location(store: &Store) -> LocationId {
    let mut settings = location("plain", &["10.2.0.1/24"]);
    settings.policy = LocationPolicy::off();
    write(store, move |tx| Ok(tx.add_location(BY, &settings, &location_key())?.id)).await
}

on_both! {
    async fn with_mfa_a_peer_lives_as_long_as_its_session(fresh: Fresh) {
        let store = fresh.open();
        let World { location, device, .. } = world(&store).await;
        let at = location.id;
        assert!(peers(&store, at).await.is_empty());

        let session = session_of(&device, &location, [1; 32]);
        let before = revision(&store, at).await;
        let id = write(&store, move |tx| tx.begin_session(BY, &session)).await;
        assert_eq!(revision(&store, at).await, before + 1);
        let there = peers(&store, at).await;
        let [peer] = there.as_slice() else { panic!("one peer: {there:?}") };
        assert_eq!(peer.public_key, device.public_key);
        let ips: Vec<_> = peer.allowed_ips.iter().map(ToString::to_string).collect();
        assert_eq!(ips, ["10.1.0.2/32", "fd00:1::2/128"]);
        let live = peer.session.as_ref().unwrap();
        assert_eq!((live.id, live.generation.get()), (id, 1));
        assert_eq!(live.psk.expose_secret(), &[1; 32]);

        write(&store, move |tx| tx.end_session(BY, id, EndReason::Idle)).await;
        assert!(peers(&store, at).await.is_empty());
        let changes = read(&store, move |view| view.changes_since(at, before)).await;
        assert_eq!(changes.revision, before + 2);
        assert_eq!(changes.touched, Touched::Peers(BTreeSet::from([device.public_key])));
    }

    async fn a_new_login_of_a_device_ends_the_old_session(fresh: Fresh) {
        let store = fresh.open();
        let World { location, device, .. } = world(&store).await;
        let (one, two) = (
            session_of(&device, &location, [1; 32]),
            session_of(&device, &location, [2; 32]),
        );
        let one = write(&store, move |tx| tx.begin_session(BY, &one)).await;
        let before = revision(&store, location.id).await;
        let two = write(&store, move |tx| tx.begin_session(BY, &two)).await;
        assert_eq!(revision(&store, location.id).await, before + 1);
        let old = read(&store, move |view| view.session(one)).await.unwrap();
        assert_eq!(old.ended, Some((NOW, EndReason::Replaced)));
        let live = read(&store, |view| view.live_sessions(Scope::All)).await;
        assert_eq!(live.iter().map(|session| session.id).collect::<Vec<_>>(), [two]);
    }

    async fn without_mfa_each_device_of_an_active_user_is_a_peer(fresh: Fresh) {
        let store = fresh.open();
        let World { user, device, .. } = world(&store).await;
        let at = plain_location(&store).await;
        let there = peers(&store, at).await;
        assert_eq!(there.len(), 1);
        assert!(there[0].session.is_none() && there[0].public_key == device.public_key);

        let before = revision(&store, at).await;
        write(&store, move |tx| tx.disable_user(BY, user)).await;
        assert!(peers(&store, at).await.is_empty());
        let changes = read(&store, move |view| view.changes_since(at, before)).await;
        assert_eq!(changes.touched, Touched::Peers(BTreeSet::from([device.public_key])));
    }

    async fn a_peer_is_for_those_in_the_locations_groups(fresh: Fresh) {
        let store = fresh.open();
        let user = world(&store).await.user;
        let at = plain_location(&store).await;
        write(&store, move |tx| tx.set_location_groups(BY, at, &["ops"])).await;
        assert!(peers(&store, at).await.is_empty());
        write(&store, move |tx| tx.set_user_groups(BY, user, &["ops"])).await;
        assert_eq!(peers(&store, at).await.len(), 1);
    }

    async fn mfa_switched_on_cuts_and_switched_off_ends(fresh: Fresh) {
        let store = fresh.open();
        let World { device, .. } = world(&store).await;
        let at = plain_location(&store).await;
        let plain = read(&store, move |view| view.location(at)).await.unwrap();
        assert_eq!(peers(&store, at).await.len(), 1);

        let mut settings = plain.settings.clone();
        settings.policy = LocationPolicy::recommended();
        let with_mfa = settings.clone();
        write(&store, move |tx| tx.set_location(BY, at, &with_mfa)).await;
        assert!(peers(&store, at).await.is_empty());
        let now = read(&store, move |view| view.location(at)).await.unwrap();
        assert!(now.revision > plain.revision && now.config_version > plain.config_version);
        let revision = plain.revision;
        let changes = read(&store, move |view| view.changes_since(at, revision)).await;
        assert_eq!(changes.touched, Touched::Everything);

        let session = session_of(&device, &now, [1; 32]);
        let id = write(&store, move |tx| tx.begin_session(BY, &session)).await;
        settings.policy = settings.policy.with_mfa(Mfa::Off).unwrap();
        write(&store, move |tx| tx.set_location(BY, at, &settings)).await;
        let ended = read(&store, move |view| view.session(id)).await.unwrap().ended;
        assert_eq!(ended.map(|(_, reason)| reason), Some(EndReason::PolicyChanged));
        assert_eq!(peers(&store, at).await.len(), 1);
    }

    async fn a_method_that_is_no_longer_allowed_ends_what_it_bought(fresh: Fresh) {
        let store = fresh.open();
        let World { location, device, .. } = world(&store).await;
        let session = session_of(&device, &location, [1; 32]);
        let id = write(&store, move |tx| tx.begin_session(BY, &session)).await;
        for (methods, lives) in [(Method::Totp, true), (Method::Email, false)] {
            let mut settings = location.settings.clone();
            settings.policy = settings.policy.with_methods(MethodSet::from(methods)).unwrap();
            write(&store, move |tx| tx.set_location(BY, location.id, &settings)).await;
            let session = read(&store, move |view| view.session(id)).await.unwrap();
            assert_eq!(session.ended.is_none(), lives);
        }
    }

    async fn the_truth_about_some_peers_names_those_that_should_be_there(fresh: Fresh) {
        let store = fresh.open();
        let World { user, device, .. } = world(&store).await;
        let at = plain_location(&store).await;
        write(&store, move |tx| tx.add_device(BY, &device_of(user))).await;
        let asked = [device.public_key, fresh_key()];
        let there = read(&store, move |view| view.desired_peers(at, Some(&asked))).await;
        assert_eq!(there.iter().map(|peer| peer.public_key).collect::<Vec<_>>(), asked[..1]);
    }

    async fn what_is_forgotten_or_from_another_database_needs_a_snapshot(fresh: Fresh) {
        let store = fresh.open();
        let World { location, device, .. } = world(&store).await;
        let (at, key) = (location.id, device.public_key);
        fresh.execute("UPDATE location SET revision = 10239").await;
        let now = write(&store, move |tx| tx.touch(at, Some(&key))).await;
        assert_eq!(now, 10240);
        for (since, everything) in [(239, true), (240, false), (10240, false), (10241, true)] {
            let changes = read(&store, move |view| view.changes_since(at, since)).await;
            assert_eq!(changes.touched == Touched::Everything, everything, "since {since}");
        }
    }

    async fn activity_only_moves_forward_and_never_after_the_end(fresh: Fresh) {
        let store = fresh.open();
        let World { location, device, .. } = world(&store).await;
        let session = session_of(&device, &location, [1; 32]);
        let id = write(&store, move |tx| tx.begin_session(BY, &session)).await;
        let at = |secs| NOW.saturating_add(core::time::Duration::from_secs(secs));
        let seen = move |secs, rx_added| Activity {
            session: id,
            last_activity: at(secs),
            rx_added,
            tx_added: 0,
        };
        write(&store, move |tx| tx.note_activity(&[seen(60, 10), seen(30, 20)])).await;
        write(&store, move |tx| tx.end_session(BY, id, EndReason::Idle)).await;
        write(&store, move |tx| tx.note_activity(&[seen(90, 30)])).await;
        let session = read(&store, move |view| view.session(id)).await.unwrap();
        assert_eq!(session.last_activity, at(60));
        assert_eq!(session.connected, Some(at(60)));
        assert_eq!(session.rx_bytes, 30, "what two cores counted is added");
    }

    async fn a_session_that_another_core_heard_of_is_not_ended_as_quiet(fresh: Fresh) {
        let (here, elsewhere) = (fresh.open(), fresh.open());
        let World { location, device, .. } = world(&here).await;
        let session = session_of(&device, &location, [1; 32]);
        let id = write(&here, move |tx| tx.begin_session(BY, &session)).await;
        let at = |secs| NOW.saturating_add(core::time::Duration::from_secs(secs));
        let seen = Activity { session: id, last_activity: at(60), rx_added: 1, tx_added: 1 };
        write(&elsewhere, move |tx| tx.note_activity(&[seen])).await;
        let verdict = write(&here, move |tx| tx.end_quiet_session(BY, id, NOW)).await;
        assert_eq!(verdict, Quiet::HeardSince(at(60)));
        let verdict = write(&here, move |tx| tx.end_quiet_session(BY, id, at(60))).await;
        assert_eq!(verdict, Quiet::Ended);
        let verdict = write(&elsewhere, move |tx| tx.end_quiet_session(BY, id, at(60))).await;
        assert_eq!(verdict, Quiet::Over);
    }
}
