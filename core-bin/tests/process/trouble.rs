//! The database fails while core serves: refusals that say so, nothing lost, and service again when the
//! trouble ends, without a hand.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use load::core::Core;
use load::storm::Outcome;
use mfa_store::StoreError;

use crate::on_both;
use crate::rig::{Rig, step};

/// Whether this process may do what only root may; says so if not.
fn is_root(what: &str) -> bool {
    let uid = Command::new("id").arg("-u").output().unwrap();
    let is = uid.stdout == b"0\n";
    if !is {
        writeln!(std::io::stdout(), "NOT RUN: only root can {what}").unwrap();
    }
    is
}

/// A file system of so many MiB, unmounted on drop.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(mebibytes: u32) -> Self {
        let place = tempfile::tempdir().unwrap();
        let size = format!("size={mebibytes}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "none"]).arg(place.path());
        assert!(mount.status().unwrap().success());
        Self(place)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file until nothing more fits.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("ballast");
        let mut file = File::create(&path).unwrap();
        while file.write_all(&[0x5a; 4096]).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: what holds it ends soon after.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

/// Makes system calls of a running core fail, until it is dropped.
struct Fault(Child);

impl Fault {
    fn inject(core: &Core, calls: &str, error: &str) -> Self {
        let pid = core.id().to_string();
        let inject = format!("--inject={calls}:error={error}");
        let mut strace = Command::new("strace")
            .args(["-f", "-o", "/dev/null", "-p", &pid, &format!("--trace={calls}"), &inject])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(strace.stderr.take().unwrap()).read_line(&mut said).unwrap();
        assert!(said.contains("attached"), "{said}");
        Self(strace)
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        // Whom it traced goes on.
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_logins_are_refused_and_the_same_code_opens_when_there_is_room() {
    if !is_root("mount a small file system") {
        return;
    }
    let disk = SmallDisk::mount(32);
    let mut rig = Rig::sqlite_in(disk.path()).await;
    let (core, _gateway) = rig.serve(0).await;

    let ballast = disk.fill();
    let step = is_refused_as_busy(&mut rig, 1).await;
    logs(&core, "the database cannot be written").await;
    rig.check().await;

    std::fs::remove_file(ballast).unwrap();
    rig.opens(1, step).await;
    rig.gets_in(2).await;
    rig.check().await;
    core.kill().unwrap();
}

/// `EROFS` is what a file system says that has turned read-only, `EIO` a disk that has failed. After
/// an fsync that failed, what was written may be there or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_turns_read_only_or_fails_refuses_logins_until_it_is_well() {
    if !is_root("trace a program that keeps its memory to itself") {
        return;
    }
    let mut rig = Rig::sqlite().await;
    let (core, _gateway) = rig.serve(0).await;
    let troubles = [("pwrite64", "EROFS"), ("pwrite64", "EIO"), ("fsync,fdatasync", "EIO")];
    for (turn, (calls, error)) in troubles.into_iter().enumerate() {
        let fault = Fault::inject(&core, calls, error);
        let step = is_refused_as_busy(&mut rig, 3 * turn + 1).await;
        drop(fault);
        rig.opens(3 * turn + 1, step).await;
        rig.gets_in(3 * turn + 2).await;
        rig.check().await;
    }
    logs(&core, "the database cannot be written").await;
    core.kill().unwrap();
    // What the next process finds is whole, too.
    let core = rig.place.start().unwrap();
    rig.gets_in(20).await;
    rig.check().await;
    core.kill().unwrap();
}

/// Steps of a code in half an hour; people confirmed their apps an hour ago.
const HALF_HOUR: u64 = 60;

/// The time of day of one process is set: by half an hour ahead, back, and by half an hour behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_lets_no_code_in_twice_and_people_in_when_it_is_right_again() {
    let mut rig = Rig::sqlite().await;
    let clock = rig.root.path().join("clock");
    let set = |to: &str| std::fs::write(&clock, to).unwrap();
    set("+0s");
    rig.place.wrapper = vec![
        "env".to_owned(),
        format!("LD_PRELOAD={}", faketime().display()),
        format!("FAKETIME_TIMESTAMP_FILE={}", clock.display()),
        "FAKETIME_NO_CACHE=1".to_owned(),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
    ];
    let (core, _gateway) = rig.serve(0).await;
    let begun = |outcome| matches!(outcome, Outcome::Begun(_));
    // Wrong, or no guess left: those that were counted in the future count for one window.
    let refused = |outcome| matches!(outcome, Outcome::Refused(401 | 429));

    set("+1800s");
    let now = step();
    assert!(refused(rig.try_login(1, now).await), "the code of now is half an hour old to core");
    assert!(begun(rig.try_login(1, now + HALF_HOUR).await), "core goes by its own clock");
    assert!(refused(rig.try_login(1, now + HALF_HOUR).await), "that code is used");

    set("+0s");
    assert!(refused(rig.try_login(1, now + HALF_HOUR).await), "and stays so");
    rig.gets_in(2).await;

    set("-1800s");
    let now = step();
    assert!(refused(rig.try_login(2, now).await), "the code of now is half an hour ahead to core");
    assert!(refused(rig.try_login(2, now - HALF_HOUR).await), "an older one than that used last");
    assert!(begun(rig.try_login(3, now - HALF_HOUR).await));

    set("+0s");
    assert!(refused(rig.try_login(3, now - HALF_HOUR).await));
    rig.gets_in(3).await;
    rig.gets_in(4).await;
    rig.check().await;
    core.kill().unwrap();
}

/// What sets the clock of one process (Debian: libfaketime).
fn faketime() -> PathBuf {
    let places = std::fs::read_dir("/usr/lib").unwrap();
    places
        .map(|place| place.unwrap().path().join("faketime/libfaketimeMT.so.1"))
        .find(|path| path.is_file())
        .expect("libfaketime is not here; run `cargo xtask setup`")
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
        // The server reads its settings some time after it was told to.
        let read = format!(
            "DO $$ BEGIN ASSERT (SELECT reset_val FROM pg_settings \
             WHERE name = 'default_transaction_read_only') = '{to}'; END $$"
        );
        let mut tries = 0;
        while let Err(error) = rig.database.sql(&read) {
            assert!(tries < 200, "the setting is not taken: {error:#}");
            tries += 1;
        }
    };

    set(&mut rig, "on");
    let step = is_refused_as_busy(&mut rig, 1).await;
    logs(&core, "the database cannot be written").await;

    set(&mut rig, "off");
    rig.opens(1, step).await;
    rig.check().await;
    core.kill().unwrap();
}
