//! Many sessions end in one act, and each end leaves a trail.

use core::time::Duration;
use std::collections::BTreeSet;

use mfa_core::connect::{EndReason, Session, SessionParts, SessionState};
use mfa_core::id::GatewayId;
use mfa_core::method::Method;
use mfa_store::{AuditVerdict, Cut, Location, Passed, Scope, Store, Touched, Trail};
use wg_types::PresharedKey;

use crate::on_both;
use crate::support::{
    BY, Fresh, NOW, World, device_of, key, location, location_key, person, read, session_of, world,
    write,
};

/// A location with as many live sessions as `counts` say: those of the first by e-mail, of the second by TOTP.
async fn crowd(store: &Store, counts: &[usize]) -> Location {
    let counts = counts.to_vec();
    write(store, move |tx| {
        let place = tx.add_location(
            BY,
            &location("big", &["10.64.0.1/15", "fd00:64::1/64"]),
            &location_key(),
        )?;
        let user = tx.add_user(BY, &person("alice"))?;
        for (many, method) in counts.iter().zip([Method::Email, Method::Totp]) {
            for _ in 0..*many {
                let device = tx.add_device(BY, &device_of(user))?;
                let session = session_of(&device, &place, [1; 32]);
                let parts = SessionParts {
                    subject: session.subject(),
                    method,
                    authorized: session.authorized(),
                    lifetime_ends: session.lifetime_ends(),
                    generation: session.generation(),
                    state: SessionState::Authorized { psk: PresharedKey::from_bytes([1; 32]) },
                };
                tx.begin_session(BY, &Session::from_parts(parts))?;
            }
        }
        Ok(place)
    })
    .await
}

/// Says how long something took: the figures of docs/measured.md.
#[expect(clippy::disallowed_methods, clippy::print_stderr, reason = "a figure is taken")]
fn stopwatch() -> impl Fn(&str) {
    let start = std::time::Instant::now();
    move |what| eprintln!("{what} in {:?}", start.elapsed())
}

/// More than there are in any other test, and fewer than the addresses of the smaller location.
const MANY: usize = 40;

on_both! {
    async fn many_sessions_end_in_one_act(fresh: Fresh) {
        let store = fresh.open();
        let World { user, .. } = world(&store).await;
        let big = location("big", &["10.64.0.1/16"]);
        let ids = write(&store, move |tx| {
            let place = tx.add_location(BY, &big, &location_key())?;
            for _ in 0..MANY {
                let device = tx.add_device(BY, &device_of(user))?;
                tx.begin_session(BY, &session_of(&device, &place, [1; 32]))?;
            }
            Ok(place.id)
        })
        .await;
        let before = read(&store, move |view| view.revision(ids)).await.unwrap();
        let log = read(&store, |view| view.audit_entries(None, 1)).await[0].seq;

        let ended = write(&store, move |tx| {
            tx.end_sessions(BY, Scope::Location(ids), EndReason::PolicyChanged)
        })
        .await;

        assert_eq!(ended.len(), MANY);
        assert!(read(&store, move |view| view.live_sessions(Scope::Location(ids))).await.is_empty());
        let changes = read(&store, move |view| view.changes_since(ids, before)).await;
        assert_eq!(changes.revision, before + 1);
        assert!(matches!(changes.touched, Touched::Peers(peers) if peers.len() == MANY));
        let last = *ended.last().unwrap();
        let info = read(&store, move |view| view.session(last)).await.unwrap();
        assert_eq!(info.ended.unwrap().1, EndReason::PolicyChanged);
        assert!(read(&store, move |view| view.session_psk(last)).await.is_none());
        let verdict = read(&store, |view| view.verify_audit(&key())).await;
        let entries = log + i64::try_from(MANY).unwrap();
        assert_eq!(verdict, AuditVerdict::Whole { entries });
    }

    async fn ends_beyond_what_one_statement_or_one_change_carries_are_one_act_too(fresh: Fresh) {
        let store = fresh.open();
        // More than rows that one statement names, and more than peers that one change lists.
        let most = std::env::var("WGMFA_ENDS").map_or(5_001, |many| many.parse().unwrap());
        let some = 1_001;
        let place = crowd(&store, &[some, most]).await;
        let at = place.id;
        // Both come in pages.
        let live = read(&store, move |view| {
            let mut live = BTreeSet::new();
            view.each_live_session(|session| assert!(live.insert(session.id)))?;
            Ok(live)
        });
        assert_eq!(live.await.len(), some + most);
        let peers = read(&store, move |view| view.desired_peers(at, None)).await;
        let keys: BTreeSet<_> = peers.iter().map(|peer| peer.public_key).collect();
        assert_eq!((peers.len(), keys.len()), (some + most, some + most));
        assert!(peers.iter().all(|peer| peer.allowed_ips.len() == 2));
        drop(peers);
        let mut before = read(&store, move |view| view.revision(at)).await.unwrap();
        for (method, many, listed) in
            [(Method::Email, some, true), (Method::Totp, most, false)]
        {
            let took = stopwatch();
            let ended = write(&store, move |tx| {
                tx.end_sessions(BY, Scope::Method(at, method), EndReason::PolicyChanged)
            })
            .await;
            took(&format!("{many} sessions ended"));
            assert_eq!(ended.len(), many);
            let changes = read(&store, move |view| view.changes_since(at, before)).await;
            assert_eq!(changes.revision, before + 1, "one act is one revision");
            match changes.touched {
                Touched::Peers(peers) => assert!(listed && peers.len() == many),
                Touched::Everything => assert!(!listed),
            }
            before = changes.revision;
            let last = *ended.last().unwrap();
            assert!(read(&store, move |view| view.session_psk(last)).await.is_none());
        }
        assert!(read(&store, move |view| view.live_sessions(Scope::Location(at))).await.is_empty());
        assert!(read(&store, move |view| view.desired_peers(at, None)).await.is_empty());
        let verdict = read(&store, |view| view.verify_audit(&key())).await;
        assert!(matches!(verdict, AuditVerdict::Whole { .. }));
    }

    async fn an_end_leaves_a_trail_on_each_gateway(fresh: Fresh) {
        let store = fresh.open();
        let World { location, device, .. } = world(&store).await;
        let at = location.id;
        let session = session_of(&device, &location, [1; 32]);
        let id = write(&store, move |tx| tx.begin_session(BY, &session)).await;
        assert_eq!(read(&store, move |view| view.trail(id)).await, Trail::default());
        let begun = read(&store, move |view| view.revision(at)).await.unwrap();
        write(&store, move |tx| tx.end_session(BY, id, EndReason::Idle)).await;

        let passed = |gateway, revision, millis| Passed {
            gateway: GatewayId::new(gateway),
            location: at,
            revision,
            committed: NOW,
            sent: NOW,
            applied: NOW,
            verified: NOW.saturating_add(Duration::from_millis(millis)),
        };
        // What was acknowledged before the end says nothing of it; of what came after, the first does.
        let steps = [
            passed(7, begun, 0),
            passed(7, begun + 1, 20),
            passed(7, begun + 2, 900),
            passed(8, begun + 2, 50),
        ];
        let cut = Cut { session: id, gateway: GatewayId::new(7), rx_bytes: 10, tx_bytes: 20 };
        write(&store, move |tx| {
            for step in &steps {
                tx.note_passed(step)?;
                tx.note_passed(step)?;
            }
            tx.note_cut(at, &cut)?;
            tx.note_cut(at, &Cut { rx_bytes: 99, ..cut })
        })
        .await;

        let trail = read(&store, move |view| view.trail(id)).await;
        assert_eq!(trail, Trail { passed: vec![steps[1], steps[3]], cuts: vec![cut] });
        let delays = read(&store, mfa_store::Snapshot::end_delays).await;
        assert_eq!(delays.into_iter().collect::<Vec<_>>(), [(20, 1), (50, 1)]);
        let last = read(&store, |view| view.acknowledged(GatewayId::new(7), 2)).await;
        assert_eq!(last, [steps[2], steps[1]], "the newest first");
    }

    async fn last_counters_of_a_live_session_are_left_out(fresh: Fresh) {
        let store = fresh.open();
        let World { location, device, .. } = world(&store).await;
        let at = location.id;
        let session = session_of(&device, &location, [1; 32]);
        let id = write(&store, move |tx| tx.begin_session(BY, &session)).await;
        let cut = Cut { session: id, gateway: GatewayId::new(7), rx_bytes: 10, tx_bytes: 20 };
        write(&store, move |tx| tx.note_cut(at, &cut)).await;
        write(&store, move |tx| tx.end_session(BY, id, EndReason::Idle)).await;
        assert!(read(&store, move |view| view.trail(id)).await.cuts.is_empty());
    }
}
