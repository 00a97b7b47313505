//! The database fails while core serves: refusals that say so, nothing lost, and service again when the
//! trouble ends, without a hand.

use std::process::Command;
use std::sync::mpsc;

use load::core::Core;
use load::storm::Outcome;
use mfa_store::StoreError;

use crate::on_both;
use crate::rig::{Rig, step};

/// A process that may write no more bytes to any file than this; "unlimited" takes it back.
fn limit_files(core: &Core, bytes: &str) {
    let (pid, limit) = (core.id().to_string(), format!("--fsize={bytes}:unlimited"));
    let done = Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap();
    assert!(done.success());
}

/// Waits until core has logged something; its log comes over a pipe.
async fn logs(core: &Core, words: &str) {
    for _ in 0..300 {
        if core.log().contains(words) {
            return;
        }
        tokio::time::sleep(core::time::Duration::from_millis(100)).await;
    }
    panic!("core does not say {words:?}: {}", core.log());
}

/// A person comes while there is trouble: "busy", and the code is as good as before.
async fn is_refused_as_busy(rig: &mut Rig, person: usize) -> u64 {
    let step = step();
    let outcome = rig.try_login(person, step).await;
    // 408 is what a request gets that waited too long on a machine that is too busy itself.
    assert!(matches!(outcome, Outcome::Refused(503 | 408)), "{outcome:?}");
    step
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_room_logins_are_refused_and_the_same_code_opens_when_there_is_room() {
    let mut rig = Rig::sqlite().await;
    // Writing beyond the limit is an error then, and not the end of the process.
    rig.place.wrapper = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"].map(str::to_owned).to_vec();
    let (core, _gateway) = rig.serve(0).await;

    limit_files(&core, "1");
    let step = is_refused_as_busy(&mut rig, 1).await;
    logs(&core, "the database cannot be written").await;
    rig.check().await;

    limit_files(&core, "unlimited");
    rig.opens(1, step).await;
    rig.gets_in(2).await;
    rig.check().await;
    core.kill().unwrap();
}

on_both! {
    async fn a_lock_that_is_not_let_go_refuses_logins_until_it_is(rig: Rig) {
        let mut rig = rig;
        let (core, _gateway) = rig.serve(0).await;
        let (held, is_held) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let store = rig.world.store().unwrap();
        let released = std::sync::Mutex::new(released);
        let holder = tokio::spawn(async move {
            let lock = store.write(move |_| {
                let _ = held.send(());
                // Ends when the other half is dropped.
                let _ = released.lock().unwrap().recv();
                Ok::<_, StoreError>(())
            });
            // PostgreSQL may have taken its turn away by then.
            let _ = lock.await;
        });
        tokio::task::spawn_blocking(move || is_held.recv().unwrap()).await.unwrap();

        let step = is_refused_as_busy(&mut rig, 1).await;

        drop(release);
        holder.await.unwrap();
        rig.opens(1, step).await;
        rig.check().await;
        core.kill().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_server_that_goes_and_comes_back_is_found_again() {
    let mut rig = Rig::postgres().await;
    let (core, _gateway) = rig.serve(0).await;

    rig.database.stop().unwrap();
    let step = is_refused_as_busy(&mut rig, 1).await;
    rig.database.start().unwrap();

    rig.opens(1, step).await;
    rig.check().await;
    core.kill().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_turns_read_only_refuses_logins_until_it_can_be_written() {
    let mut rig = Rig::postgres().await;
    let (core, _gateway) = rig.serve(0).await;
    let set = |rig: &mut Rig, to: &str| {
        let words = format!(
            "SET default_transaction_read_only = off; \
             ALTER SYSTEM SET default_transaction_read_only = {to}; SELECT pg_reload_conf();"
        );
        rig.database.sql(&words).unwrap();
    };

    set(&mut rig, "on");
    let step = is_refused_as_busy(&mut rig, 1).await;
    logs(&core, "the database cannot be written").await;

    set(&mut rig, "off");
    rig.opens(1, step).await;
    rig.check().await;
    core.kill().unwrap();
}
