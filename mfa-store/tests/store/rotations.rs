//! The next PSK of a live session, from staged to promoted.

use std::collections::BTreeSet;
use std::time::Duration;

use mfa_core::connect::EndReason;
use mfa_core::id::{LocationId, SessionId};
use mfa_core::rotate::{PskGeneration, RotationState};
use mfa_core::time::Timestamp;
use mfa_store::{DesiredSession, Snapshot, Store, Touched};
use sha2::{Digest as _, Sha256};
use wg_types::PresharedKey;

use crate::on_both;
use crate::support::{BY, Fresh, NOW, World, read, session_of, world, write};

const FIRST: PskGeneration = PskGeneration::FIRST;
const SECOND: PskGeneration = PskGeneration::new(2);

fn later(secs: u64) -> Timestamp {
    NOW.saturating_add(Duration::from_secs(secs))
}

fn key(byte: u8) -> PresharedKey {
    PresharedKey::from_bytes([byte; 32])
}

async fn due(store: &Store, location: LocationId, since: Timestamp) -> Vec<SessionId> {
    read(store, move |view| view.due_for_rotation(location, since, 10)).await
}

async fn stage(store: &Store, id: SessionId, byte: u8, at: Timestamp) -> usize {
    write(store, move |tx| tx.stage_rotations(&[(id, key(byte))], at)).await
}

async fn note(store: &Store, id: SessionId, set: PskGeneration, proven: PskGeneration) -> usize {
    write(store, move |tx| tx.note_rotations(&[(id, set, proven)], later(601))).await
}

async fn desired(store: &Store, location: LocationId) -> DesiredSession {
    let peers = read(store, move |view| view.desired_peers(location, None)).await;
    peers.into_iter().next().unwrap().session.unwrap()
}

on_both! {
    async fn a_session_is_due_once_its_client_takes_keys_and_a_period_has_passed(fresh: Fresh) {
        let store = fresh.open();
        let World { location, device, .. } = world(&store).await;
        let session = session_of(&device, &location, [1; 32]);
        let id = write(&store, move |tx| tx.begin_session(BY, &session)).await;
        assert!(due(&store, location.id, later(9999)).await.is_empty(), "it never said so");

        assert!(write(&store, move |tx| tx.can_rotate(id)).await);
        assert!(!write(&store, move |tx| tx.can_rotate(id)).await, "said already");
        assert!(due(&store, location.id, NOW.saturating_sub(Duration::from_millis(1))).await.is_empty());
        assert_eq!(due(&store, location.id, NOW).await, [id]);

        assert_eq!(stage(&store, id, 2, later(600)).await, 1);
        assert!(due(&store, location.id, later(9999)).await.is_empty(), "one at a time");
        assert_eq!(stage(&store, id, 3, later(600)).await, 0);
        let next = read(&store, move |view| view.next_psk(id)).await.unwrap();
        assert!(next.same_as(&key(2)));
    }

    async fn gateways_learn_of_a_key_once_the_client_has_it(fresh: Fresh) {
        let store = fresh.open();
        let World { location, device, .. } = world(&store).await;
        let session = session_of(&device, &location, [1; 32]);
        let id = write(&store, move |tx| tx.begin_session(BY, &session)).await;
        let at = location.id;
        write(&store, move |tx| tx.can_rotate(id)).await;
        let before = read(&store, move |view| view.revision(at)).await.unwrap();

        stage(&store, id, 2, later(600)).await;
        assert_eq!(read(&store, move |view| view.revision(at)).await, Some(before));
        let there = desired(&store, at).await;
        assert_eq!((there.generation, there.psk.same_as(&key(1))), (FIRST, true));

        assert_eq!(note(&store, id, FIRST, FIRST).await, 0);
        assert_eq!(note(&store, id, SECOND, FIRST).await, 1);
        assert_eq!(note(&store, id, SECOND, FIRST).await, 0, "said already");
        let changes = read(&store, move |view| view.changes_since(at, before)).await;
        assert_eq!(changes.touched, Touched::Peers(BTreeSet::from([device.public_key])));
        let rotation = read(&store, move |view| view.rotation(id)).await.unwrap();
        assert_eq!(rotation.revision, Some(changes.revision));
        assert_eq!(rotation.rotation.state(), RotationState::Set);
        let there = desired(&store, at).await;
        assert_eq!((there.id, there.generation, there.psk.same_as(&key(2))), (id, SECOND, true));
        let digest: [u8; 32] = Sha256::digest([1; 32]).into();
        assert_eq!(there.previous_psk_digest, Some(digest));
    }

    async fn only_what_is_proven_is_promoted(fresh: Fresh) {
        let store = fresh.open();
        let World { location, device, .. } = world(&store).await;
        let session = session_of(&device, &location, [1; 32]);
        let id = write(&store, move |tx| tx.begin_session(BY, &session)).await;
        write(&store, move |tx| tx.can_rotate(id)).await;
        let promote = async || write(&store, move |tx| tx.promote_rotations(&[id])).await;
        assert_eq!(promote().await, 0);
        stage(&store, id, 2, later(600)).await;
        assert_eq!(promote().await, 0);
        note(&store, id, SECOND, FIRST).await;
        assert_eq!(promote().await, 0);
        note(&store, id, SECOND, SECOND).await;
        let at = location.id;
        let before = read(&store, move |view| view.revision(at)).await;
        assert_eq!(promote().await, 1);
        assert_eq!(promote().await, 0);

        assert_eq!(read(&store, move |view| view.revision(at)).await, before, "nothing to tell");
        assert_eq!(read(&store, move |view| view.rotation(id)).await, None);
        let info = read(&store, move |view| view.session(id)).await.unwrap();
        assert_eq!(info.generation, SECOND);
        let psk = read(&store, move |view| view.session_psk(id)).await.unwrap();
        assert!(psk.same_as(&key(2)));
        let there = desired(&store, at).await;
        assert_eq!((there.generation, there.psk.same_as(&key(2))), (SECOND, true));
        // The next is due a period after this one was staged.
        assert!(due(&store, at, later(599)).await.is_empty());
        assert_eq!(due(&store, at, later(600)).await, [id]);
    }

    async fn an_ended_session_keeps_no_key(fresh: Fresh) {
        let store = fresh.open();
        let World { location, device, .. } = world(&store).await;
        let session = session_of(&device, &location, [1; 32]);
        let id = write(&store, move |tx| tx.begin_session(BY, &session)).await;
        write(&store, move |tx| tx.can_rotate(id)).await;
        stage(&store, id, 2, later(600)).await;
        write(&store, move |tx| tx.end_session(BY, id, EndReason::Idle)).await;

        assert!(read(&store, move |view| view.next_psk(id)).await.is_none());
        assert!(read(&store, move |view| view.session_psk(id)).await.is_none());
        assert!(read(&store, Snapshot::rotations).await.is_empty());
        assert_eq!(note(&store, id, SECOND, SECOND).await, 0);
        assert_eq!(stage(&store, id, 3, later(700)).await, 0);
        assert!(!write(&store, move |tx| tx.can_rotate(id)).await);
        assert!(due(&store, location.id, later(9999)).await.is_empty());
    }
}
