//! What the console asks: pages of lists, the audit log, passkeys, mail settings.

use core::time::Duration;

use mfa_core::connect::EndReason;
use mfa_core::id::UserId;
use mfa_core::method::Method;
use mfa_core::token::Token;
use mfa_store::{
    Actor, By, DeviceSort, GroupSummary, ListQuery, MailSettings, MailTls, NewDevice, NewPasskey,
    Scope, SessionFilter, SessionSort, StoreError, Tx, UserDetails, UserSort, WebSession, WebStage,
};
use zeroize::Zeroizing;

use crate::on_both;
use crate::support::{
    BY, Fresh, NOW, World, fresh_bytes, fresh_key, read, session_of, world, write,
};

fn query<S>(search: &str, sort: S, descending: bool, offset: i64) -> ListQuery<S> {
    ListQuery { search: search.to_owned(), sort, descending, offset, limit: 2 }
}

fn add_person(tx: &mut Tx, by: By, login: &str) -> Result<UserId, StoreError> {
    tx.add_user(
        by,
        &UserDetails {
            login: login.to_owned(),
            name: format!("{login} the First"),
            email: format!("{login}@example.org"),
            ..UserDetails::default()
        },
    )
}

fn add_device(
    tx: &mut Tx,
    by: By,
    user: UserId,
    name: &str,
) -> Result<mfa_store::Device, StoreError> {
    let public_key = fresh_key();
    tx.add_device(
        by,
        &NewDevice {
            user,
            name: name.to_owned(),
            public_key,
            polling_token: Token::from_random(fresh_bytes()).digest(),
            source: None,
        },
    )
}

on_both! {
    async fn users_are_searched_sorted_and_cut_into_pages(fresh: Fresh) {
        let store = fresh.open();
        write(&store, |tx| {
            for (count, login) in (1..).zip(["Cleo", "amy", "bob_1", "bobX1"]) {
                let later = By { now: NOW.saturating_add(Duration::from_secs(count)), ..BY };
                add_person(tx, later, login)?;
            }
            Ok::<_, StoreError>(())
        })
        .await;
        for (ask, expected, matching) in [
            (query("", UserSort::Login, false, 0), vec!["amy", "bob_1"], 4),
            (query("", UserSort::Login, false, 2), vec!["bobX1", "Cleo"], 4),
            (query("", UserSort::Added, true, 0), vec!["bobX1", "bob_1"], 4),
            (query("CLEO", UserSort::Name, false, 0), vec!["Cleo"], 1),
            (query("AMY@example", UserSort::Email, false, 0), vec!["amy"], 1),
            // A search is no pattern.
            (query("b_1", UserSort::Login, false, 0), vec!["bob_1"], 1),
            (query("%", UserSort::Login, false, 0), vec![], 0),
        ] {
            let words = format!("{ask:?}");
            let found = read(&store, move |view| view.user_list(&ask, None)).await;
            let logins: Vec<&str> =
                found.entries.iter().map(|user| user.details.login.as_str()).collect();
            assert_eq!((logins, found.matching), (expected, matching), "{words}");
        }
    }

    async fn devices_are_searched_by_owner_name_or_whole_key(fresh: Fresh) {
        let store = fresh.open();
        let key = write(&store, |tx| {
            let amy = add_person(tx, BY, "amy")?;
            let bob = add_person(tx, BY, "bob")?;
            add_device(tx, BY, amy, "Laptop")?;
            add_device(tx, BY, bob, "phone")?;
            Ok::<_, StoreError>(add_device(tx, BY, bob, "tablet")?.public_key)
        })
        .await;
        for (search, sort, down, expected) in [
            ("", DeviceSort::Name, false, vec!["Laptop", "phone"]),
            ("bob", DeviceSort::Name, true, vec!["tablet", "phone"]),
            ("LAPTOP", DeviceSort::User, false, vec!["Laptop"]),
            (key.to_string().as_str(), DeviceSort::Added, false, vec!["tablet"]),
            ("nobody", DeviceSort::Heard, false, vec![]),
        ] {
            let ask = query(search, sort, down, 0);
            let found = read(&store, move |view| view.device_list(&ask, None)).await;
            let names: Vec<&str> =
                found.entries.iter().map(|(device, _)| device.name.as_str()).collect();
            assert_eq!(names, expected, "{search:?}");
            assert!(found.entries.iter().all(|(device, login)| {
                (login == "amy") == (device.name == "Laptop")
            }));
        }
    }

    async fn sessions_are_listed_with_the_names_of_theirs(fresh: Fresh) {
        let store = fresh.open();
        let World { device, location, .. } = world(&store).await;
        let session = session_of(&device, &location, [1; 32]);
        write(&store, move |tx| tx.begin_session(BY, &session)).await;
        for sort in [
            SessionSort::Since,
            SessionSort::User,
            SessionSort::Device,
            SessionSort::Location,
            SessionSort::Active,
            SessionSort::Received,
            SessionSort::Sent,
        ] {
            for down in [false, true] {
                let search = location.settings.name.to_uppercase();
                let ask = query(&search, sort, down, 0);
                let found = read(&store, move |view| view.session_list(&ask, &SessionFilter::default())).await;
                assert_eq!((found.matching, found.entries.len()), (1, 1), "{sort:?}");
                let (session, [_, name, place]) = &found.entries[0];
                assert_eq!(session.subject.device, device.id);
                assert_eq!((name, place), (&device.name, &location.settings.name));
            }
        }
        let none = query("nothing", SessionSort::Since, true, 0);
        let all = SessionFilter::default();
        assert_eq!(read(&store, move |view| view.session_list(&none, &all)).await.matching, 0);
    }

    async fn lists_are_narrowed_by_the_database(fresh: Fresh) {
        let store = fresh.open();
        let World { user, device, location, .. } = world(&store).await;
        let session = session_of(&device, &location, [1; 32]);
        let id = write(&store, move |tx| tx.begin_session(BY, &session)).await;
        let [amy, bob] = write(&store, |tx| {
            let amy = add_person(tx, BY, "amy")?;
            let bob = add_person(tx, BY, "bob")?;
            add_device(tx, BY, amy, "amy's")?;
            tx.set_user_groups(BY, amy, &["staff", "ops"])?;
            tx.set_user_groups(BY, bob, &["staff"])?;
            Ok::<_, StoreError>([amy, bob])
        })
        .await;

        for (group, search, expected) in [
            ("staff", "", vec!["amy", "bob"]),
            ("ops", "", vec!["amy"]),
            ("staff", "BO", vec!["bob"]),
            ("nobody", "", vec![]),
        ] {
            let ask = query(search, UserSort::Id, false, 0);
            let found = read(&store, move |view| view.user_list(&ask, Some(group))).await;
            let logins: Vec<&str> =
                found.entries.iter().map(|user| user.details.login.as_str()).collect();
            assert_eq!(logins, expected, "{group} {search}");
            assert_eq!(found.matching, u64::try_from(expected.len()).unwrap());
        }
        for (owner, matching) in [(amy, 1), (bob, 0), (user, 1)] {
            let ask = query("", DeviceSort::Id, true, 0);
            let found = read(&store, move |view| view.device_list(&ask, Some(owner))).await;
            assert_eq!(found.matching, matching, "{owner:?}");
            assert!(found.entries.iter().all(|(device, _)| device.user == owner));
        }
        let here = SessionFilter { live: true, user: Some(user), location: Some(location.id) };
        let matching = async |filter: SessionFilter, search: &str| {
            let ask = query(search, SessionSort::Left, true, 0);
            let found = read(&store, move |view| view.session_list(&ask, &filter)).await;
            assert_eq!(found.matching, u64::try_from(found.entries.len()).unwrap());
            found.matching
        };
        for (scope, count) in [
            (Scope::All, 1),
            (Scope::User(user), 1),
            (Scope::User(amy), 0),
            (Scope::Device(device.id), 1),
            (Scope::Location(location.id), 1),
            (Scope::UserAt(user, location.id), 1),
            (Scope::UserMethod(user, Method::Email), 0),
        ] {
            assert_eq!(read(&store, move |view| view.live_count(scope)).await, count, "{scope:?}");
            let listed = read(&store, move |view| view.live_sessions(scope)).await;
            assert_eq!(listed.len(), count, "{scope:?}");
        }
        assert_eq!(matching(here, "").await, 1);
        assert_eq!(matching(here, &location.settings.name).await, 1);
        assert_eq!(matching(SessionFilter { user: Some(amy), ..here }, "").await, 0);
        let elsewhere = mfa_core::id::LocationId::new(location.id.get() + 1);
        assert_eq!(matching(SessionFilter { location: Some(elsewhere), ..here }, "").await, 0);
        write(&store, move |tx| tx.end_session(BY, id, EndReason::Administrator)).await;
        assert_eq!(matching(here, "").await, 0);
        assert_eq!(matching(SessionFilter { live: false, ..here }, "").await, 1);
        assert_eq!(read(&store, |view| view.live_count(Scope::All)).await, 0);
    }

    async fn groups_are_added_renamed_and_removed(fresh: Fresh) {
        let store = fresh.open();
        let amy = write(&store, |tx| add_person(tx, BY, "amy")).await;
        write(&store, |tx| tx.add_group(BY, "staff")).await;
        let again = store.write(|tx| tx.add_group(BY, "staff")).await;
        assert!(matches!(again, Err(StoreError::Exists { what: "group" })), "{again:?}");
        write(&store, move |tx| tx.set_user_groups(BY, amy, &["staff", "Ops"])).await;
        let taken = store.write(|tx| tx.rename_group(BY, "staff", "Ops")).await;
        assert!(matches!(taken, Err(StoreError::Exists { what: "group" })), "{taken:?}");
        let none = store.write(|tx| tx.rename_group(BY, "nobody", "x")).await;
        assert!(matches!(none, Err(StoreError::Missing { what: "group" })), "{none:?}");
        write(&store, |tx| tx.rename_group(BY, "staff", "people")).await;
        let groups = read(&store, move |view| view.groups_of_user(amy)).await;
        assert_eq!(groups.len(), 2);
        assert!(groups.contains(&"people".to_owned()), "{groups:?}");

        let found = read(&store, |view| view.group_list(&query("OP", (), false, 0))).await;
        assert_eq!(found.matching, 2, "in whatever case: {found:?}");
        let found = read(&store, |view| view.group_list(&query("people", (), true, 0))).await;
        let people = GroupSummary { name: "people".to_owned(), members: 1, locations: Vec::new() };
        assert_eq!(found.entries, [people]);

        write(&store, |tx| tx.remove_group(BY, "people")).await;
        assert_eq!(read(&store, move |view| view.groups_of_user(amy)).await, ["Ops"]);
        let gone = store.write(|tx| tx.remove_group(BY, "people")).await;
        assert!(matches!(gone, Err(StoreError::Missing { what: "group" })), "{gone:?}");
    }

    async fn a_group_that_decides_over_a_location_is_not_removed(fresh: Fresh) {
        let store = fresh.open();
        let World { location, .. } = world(&store).await;
        let place = location.id;
        write(&store, move |tx| tx.set_location_groups(BY, place, &["staff"])).await;
        let id = read(&store, |view| view.group_id("staff")).await.unwrap();
        let places = read(&store, move |view| view.locations_of_group(id)).await;
        assert_eq!(places, [location.settings.name]);
        let refused = store.write(|tx| tx.remove_group(BY, "staff")).await;
        assert!(matches!(refused, Err(StoreError::InUse { what: "group" })), "{refused:?}");
        assert_eq!(read(&store, move |view| view.groups_of_location(place)).await, ["staff"]);
    }

    async fn the_audit_log_is_searched_by_the_database(fresh: Fresh) {
        let store = fresh.open();
        let amy = write(&store, |tx| add_person(tx, BY, "amy")).await;
        write(&store, |tx| add_person(tx, BY, "bob")).await;
        write(&store, move |tx| tx.disable_user(BY, amy)).await;
        let of_amy = read(&store, move |view| view.audit_search(None, "amy", Some(amy), 100)).await;
        assert!(of_amy.iter().any(|entry| entry.action == "user.disable"), "{of_amy:?}");
        assert!(of_amy.iter().all(|entry| !entry.detail.contains("bob")), "{of_amy:?}");
        let all = read(&store, |view| view.audit_entries(None, 100)).await;
        let found = read(&store, |view| view.audit_search(None, "USER.", None, 100)).await;
        assert!(!found.is_empty() && found.len() <= all.len());
        assert!(found.iter().all(|entry| entry.action.contains("user.")
            || entry.subject.contains("user.") || entry.detail.contains("user.")));
        let first = found.last().unwrap().seq;
        assert!(read(&store, move |view| view.audit_search(Some(first), "user.", None, 100)).await.is_empty());
        assert!(read(&store, |view| view.audit_search(None, "100%", None, 100)).await.is_empty());
    }

    async fn a_passkey_belongs_to_one_person_and_counts(fresh: Fresh) {
        let store = fresh.open();
        let [amy, bob] = write(&store, |tx| {
            Ok::<_, StoreError>([add_person(tx, BY, "amy")?, add_person(tx, BY, "bob")?])
        })
        .await;
        let new = NewPasskey {
            credential: vec![1, 2, 3],
            algorithm: -7,
            public_key: vec![4; 65],
            sign_count: u32::MAX,
            name: "blue".to_owned(),
        };
        let again = new.clone();
        write(&store, move |tx| tx.add_passkey(BY, amy, &new)).await;
        let taken = store.write(move |tx| tx.add_passkey(BY, bob, &again)).await;
        assert!(matches!(taken, Err(StoreError::Exists { what: "passkey" })), "{taken:?}");
        let known = read(&store, move |view| view.passkeys(amy)).await.remove(0);
        assert_eq!((known.sign_count, known.used), (u32::MAX, None));
        let id = known.id;
        write(&store, move |tx| tx.use_passkey(BY, &known, 7)).await;
        let known = read(&store, move |view| view.passkeys(amy)).await.remove(0);
        assert_eq!((known.sign_count, known.used), (7, Some(NOW)));
        assert_eq!(write(&store, move |tx| tx.remove_passkeys(BY, bob, Some(id))).await, 0);
        assert_eq!(write(&store, move |tx| tx.remove_passkeys(BY, amy, Some(id))).await, 1);
        assert!(read(&store, move |view| view.passkeys(amy)).await.is_empty());
    }

    async fn a_challenge_is_answered_once_and_in_time(fresh: Fresh) {
        let store = fresh.open();
        let user = world(&store).await.user;
        let token = Token::from_random([8; 32]).digest();
        let session = WebSession {
            id: 0,
            user,
            stage: WebStage::Open,
            created: NOW,
            seen: NOW,
            proved: NOW,
            expires: NOW,
            mailed_code: None,
        };
        write(&store, move |tx| tx.add_web_session(BY, &token, &session)).await;
        let id = read(&store, move |view| view.web_session(&token)).await.unwrap().id;
        let until = NOW.saturating_add(Duration::from_millis(1));
        assert_eq!(write(&store, move |tx| tx.take_web_challenge(id, NOW)).await, None);
        write(&store, move |tx| tx.set_web_challenge(id, &[1; 32], until)).await;
        assert_eq!(write(&store, move |tx| tx.take_web_challenge(id, NOW)).await, Some([1; 32]));
        assert_eq!(write(&store, move |tx| tx.take_web_challenge(id, NOW)).await, None);
        write(&store, move |tx| tx.set_web_challenge(id, &[2; 32], until)).await;
        assert_eq!(write(&store, move |tx| tx.take_web_challenge(id, until)).await, None);
    }

    async fn the_mail_password_is_sealed(fresh: Fresh) {
        let store = fresh.open();
        assert!(read(&store, mfa_store::Snapshot::mail_settings).await.is_none());
        let settings = MailSettings {
            host: "mail.example.org".to_owned(),
            port: 465,
            tls: MailTls::Implicit,
            login: "vpn".to_owned(),
            password: Some(Zeroizing::new("a-canary-password".to_owned())),
            sender: "vpn@example.org".to_owned(),
        };
        let set = settings.clone();
        write(&store, move |tx| tx.set_mail_settings(BY, Some(&set))).await;
        assert!(read(&store, mfa_store::Snapshot::mail_settings).await.as_ref() == Some(&settings));
        assert_eq!(read(&store, mfa_store::Snapshot::mail_settings_changed).await, Some(NOW));
        let log = read(&store, |view| view.audit_entries(None, 10)).await;
        assert!(log.iter().any(|entry| entry.action == "mail.set"));
        assert!(!format!("{log:?}{settings:?}").contains("canary"));
        if let Some(file) = fresh.file() {
            drop(store);
            let bytes = std::fs::read(file).unwrap();
            assert!(!bytes.windows(6).any(|window| window == b"canary"));
        }
    }

    async fn a_removed_mail_server_is_gone(fresh: Fresh) {
        let store = fresh.open();
        let settings = MailSettings {
            host: "127.0.0.1".to_owned(),
            port: 25,
            tls: MailTls::None,
            login: String::new(),
            password: None,
            sender: "vpn@example.org".to_owned(),
        };
        write(&store, move |tx| tx.set_mail_settings(BY, Some(&settings))).await;
        write(&store, move |tx| tx.set_mail_settings(By::new(Actor::System, NOW), None)).await;
        assert!(read(&store, mfa_store::Snapshot::mail_settings).await.is_none());
        assert_eq!(read(&store, mfa_store::Snapshot::mail_settings_changed).await, None);
    }
}
