//! The audit log is whole, or says where it is not.

use mfa_store::{AuditVerdict, MasterKey};

use crate::on_both;
use crate::support::{BY, Fresh, key, person, read, write};

async fn verdict_after(fresh: &Fresh, tampering: &str) -> AuditVerdict {
    let store = fresh.open();
    for login in ["ann", "ben", "cyd", "dan"] {
        write(&store, move |tx| tx.add_user(BY, &person(login))).await;
    }
    fresh.execute(tampering).await;
    read(&store, |view| view.verify_audit(&key())).await
}

on_both! {
    async fn a_log_that_nobody_touched_is_whole(fresh: Fresh) {
        assert_eq!(verdict_after(&fresh, "").await, AuditVerdict::Whole { entries: 4 });
        let entries = read(&fresh.open(), |view| view.audit_entries(Some(4), 2)).await;
        let seqs: Vec<_> = entries.iter().map(|entry| entry.seq).collect();
        assert_eq!(seqs, [3, 2]);
        assert_eq!((entries[0].actor.as_str(), entries[0].action.as_str()), ("cli", "user.add"));
    }

    async fn a_dropped_entry_is_noticed(fresh: Fresh) {
        let verdict = verdict_after(&fresh, "DELETE FROM audit WHERE seq = 2").await;
        assert_eq!(verdict, AuditVerdict::Broken { seq: 2 });
    }

    async fn a_changed_entry_is_noticed(fresh: Fresh) {
        let verdict =
            verdict_after(&fresh, "UPDATE audit SET actor = 'system' WHERE seq = 3").await;
        assert_eq!(verdict, AuditVerdict::Broken { seq: 3 });
    }

    async fn a_cut_off_end_is_noticed(fresh: Fresh) {
        let verdict = verdict_after(&fresh, "DELETE FROM audit WHERE seq > 2").await;
        assert_eq!(verdict, AuditVerdict::CutShort { last: 2, written: 4 });
    }

    async fn a_log_that_was_emptied_is_noticed(fresh: Fresh) {
        let verdict = verdict_after(&fresh, "DELETE FROM audit").await;
        assert_eq!(verdict, AuditVerdict::CutShort { last: 0, written: 4 });
    }

    async fn who_has_another_key_cannot_have_written_it(fresh: Fresh) {
        verdict_after(&fresh, "").await;
        let store = fresh.open();
        let other = MasterKey::from_bytes([9; 32]);
        let verdict = read(&store, move |view| view.verify_audit(&other)).await;
        assert_eq!(verdict, AuditVerdict::Broken { seq: 1 });
    }

    async fn two_cores_write_one_chain(fresh: Fresh) {
        let (one, two) = (fresh.open(), fresh.open());
        for login in ["ann", "ben", "cyd"] {
            let also = format!("{login}-too");
            let (a, b) = tokio::join!(
                write(&one, move |tx| tx.add_user(BY, &person(login))),
                write(&two, move |tx| tx.add_user(BY, &person(&also))),
            );
            assert_ne!(a, b);
        }
        let verdict = read(&one, |view| view.verify_audit(&key())).await;
        assert_eq!(verdict, AuditVerdict::Whole { entries: 6 });
    }
}
