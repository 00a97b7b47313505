//! What must not be readable, and what must not open.

use std::os::unix::fs::PermissionsExt as _;

use mfa_core::factor::totp::{TotpSecret, TotpStep};
use mfa_store::{MasterKey, Store, StoreError};

use crate::on_both;
use crate::support::{
    BY, Fresh, device_of, fresh_bytes, key, person, postgres, read, session_of, world, write,
};

on_both! {
    async fn another_master_key_is_refused(fresh: Fresh) {
        drop(fresh.open());
        let refused = Store::open(&fresh.url, &MasterKey::from_bytes([8; 32]));
        assert!(matches!(refused, Err(StoreError::WrongMasterKey)));
    }

    async fn a_sealed_psk_does_not_open_in_another_row(fresh: Fresh) {
        let store = fresh.open();
        let world = world(&store).await;
        let (user, at) = (world.user, world.location.clone());
        let (one, two) = write(&store, move |tx| {
            let other = tx.add_device(BY, &device_of(user))?;
            let one = tx.begin_session(BY, &session_of(&world.device, &at, [1; 32]))?;
            let two = tx.begin_session(BY, &session_of(&other, &at, [2; 32]))?;
            Ok((one, two))
        })
        .await;
        let psk = read(&store, move |view| view.session_psk(one)).await.unwrap();
        assert_eq!(psk.expose_secret(), &[1; 32]);
        let swap = format!(
            "UPDATE session SET psk = (SELECT psk FROM session WHERE id = {one}) WHERE id = {two}"
        );
        fresh.execute(&swap).await;
        let moved = store.read(move |view| view.session_psk(two)).await;
        assert!(matches!(moved, Err(StoreError::Unsealable { table: "session" })));
        let peers = store.read(move |view| view.desired_peers(world.location.id, None)).await;
        assert!(matches!(peers, Err(StoreError::Unsealable { table: "session" })));
    }

    async fn a_pending_secret_does_not_open_as_a_confirmed_one(fresh: Fresh) {
        let store = fresh.open();
        let user = world(&store).await.user;
        let secret = TotpSecret::from_bytes([3; 20]);
        write(&store, move |tx| tx.stage_totp(BY, user, &secret)).await;
        assert!(read(&store, move |view| view.totp(user)).await.is_none());
        fresh.execute("UPDATE factor_totp SET secret = pending_secret").await;
        let forged = store.read(move |view| view.totp(user)).await;
        assert!(matches!(forged, Err(StoreError::Unsealable { table: "factor_totp" })));
    }

    async fn an_ended_session_has_no_psk(fresh: Fresh) {
        let store = fresh.open();
        let world = world(&store).await;
        let session = session_of(&world.device, &world.location, [1; 32]);
        let id = write(&store, move |tx| tx.begin_session(BY, &session)).await;
        let reason = mfa_core::connect::EndReason::Administrator;
        assert!(write(&store, move |tx| tx.end_session(BY, id, reason)).await);
        assert!(!write(&store, move |tx| tx.end_session(BY, id, reason)).await);
        assert!(read(&store, move |view| view.session_psk(id)).await.is_none());
        let sealed = "SELECT 1 / (CASE WHEN COUNT(*) = 0 THEN 1 ELSE 0 END) FROM session \
                      WHERE psk IS NOT NULL";
        fresh.execute(sealed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_any_file_of_the_database_and_nobody_else_may_read_them() {
    let fresh = Fresh::sqlite();
    let store = fresh.open();
    let world = world(&store).await;
    let user = world.user;
    let (psk, totp) = (fresh_bytes(), [0xc3; 20]);
    let session = session_of(&world.device, &world.location, psk);
    let private = read(&store, move |view| view.location_private_key(world.location.id)).await;
    write(&store, move |tx| {
        tx.begin_session(BY, &session)?;
        tx.stage_totp(BY, user, &TotpSecret::from_bytes(totp))?;
        tx.confirm_totp(BY, user, TotpStep::new(1))
    })
    .await;
    let canaries: [&[u8]; 3] = [&psk, &totp, private.expose_secret()];
    let mut files = 0;
    for entry in std::fs::read_dir(fresh.dir().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        let bytes = std::fs::read(&path).unwrap();
        for canary in canaries {
            assert!(!bytes.windows(canary.len()).any(|part| part == canary), "{}", path.display());
        }
        files += 1;
    }
    // core.db, core.db-wal, core.db-shm
    assert_eq!(files, 3);
}

#[tokio::test]
async fn over_a_network_the_server_must_prove_its_name() {
    let (clear, tls) = postgres::fresh_database_with_tls().await;
    let name = clear.rsplit_once('/').unwrap().1.trim_end_matches('?');
    let url = |host: &str, roots: &str| {
        format!("postgres://postgres@{host}/{name}?sslmode=require{roots}")
    };
    let root = format!("&sslrootcert={}", tls.root.display());
    let store = Store::open(&url(&tls.host, &root), &key()).unwrap();
    let id = write(&store, |tx| tx.add_user(BY, &person("alice"))).await;
    assert!(read(&store, move |view| view.user(id)).await.is_some());

    let other_name = tls.host.replace("localhost", "127.0.0.1");
    for (host, roots) in [(&other_name, root.as_str()), (&tls.host, "")] {
        let refused = Store::open(&url(host, roots), &key());
        let Err(StoreError::Connect(cause)) = refused else { panic!("let in: {refused:?}") };
        assert!(cause.to_string().contains("certificate"), "{cause}");
    }
}
