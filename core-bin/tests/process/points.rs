//! SIGKILL at points that have names: at the entry of the n-th system call of a kind that the shipped
//! program makes while people log in. `strace` counts and kills; the program knows nothing of it.
//!
//! What a killed process had asked of the kernel before is done, and what it was about to ask is not:
//! the entry of such a call is a moment between two steps of a commit or of an answer.

use core::time::Duration;
use std::sync::Arc;

use load::audit::Ledger;
use load::core::{Core, Place};
use load::gateway::Gateway;
use load::storm::{self, Manner, Outcome, Shared};
use tokio::sync::watch;

use crate::on_both;
use crate::rig::Rig;

/// Looks at the core, this often and so often at most.
const LOOK: Duration = Duration::from_millis(50);
const LOOKS: usize = 1_200;

/// A name, the calls that are counted, each thread's by themselves, and at which of them to kill.
type Point = (&'static str, &'static str, [u32; 2]);

/// A message to a client, to the gateway, or to PostgreSQL: there each statement and each commit is one.
const MESSAGE: Point = ("a message is not sent", "sendto,writev,sendmsg", [40, 151]);
/// Of SQLite's commits: of the log mostly, and now and then of the file itself, when the log is full.
const SQLITE: [Point; 2] = [
    ("a page is not written", "pwrite64", [60, 901]),
    ("a commit is not forced out", "fsync,fdatasync", [6, 23]),
];

/// How often to go through all points, each time at other moments; `WGMFA_POINTS=50` asks for more.
fn turns() -> u32 {
    std::env::var("WGMFA_POINTS").map_or(1, |text| text.parse().unwrap())
}

/// The same place, where core dies at the entry of the `nth` of these calls.
fn dying(place: &Place, calls: &str, nth: u32) -> Place {
    let (trace, inject) =
        (format!("--trace={calls}"), format!("--inject={calls}:signal=KILL:when={nth}"));
    let strace = ["strace", "-f", "-qqq", "-o", "/dev/null", &trace, &inject];
    // Should strace go first, core goes too.
    let with_it = ["setpriv", "--pdeathsig", "KILL"];
    let wrapper = strace.iter().chain(&with_it).map(|word| (*word).to_owned()).collect();
    Place { wrapper, ..place.clone() }
}

/// Lets people log in until something is so. Returns whether it came to that.
async fn storm_until(rig: &Rig, book: &Shared, mut so: impl FnMut() -> bool) -> bool {
    let manner = Manner { clients: 8, fresh: false, patient: true };
    let (stop, stopping) = watch::channel(false);
    let (world, dialers, pages) = (Arc::clone(&rig.world), [rig.dialer()], book.clone());
    let logins =
        tokio::spawn(async move { storm::run(&world, &dialers, &pages, manner, &stopping).await });
    let mut is_so = so();
    for _ in 0..LOOKS {
        if is_so {
            break;
        }
        tokio::time::sleep(LOOK).await;
        is_so = so();
    }
    stop.send_replace(true);
    logins.await.unwrap();
    is_so
}

/// Starts core, lets it die at a point, and sees people get in at the next one.
async fn die_and_come_back(rig: &Rig, book: &Shared, point: Point, nth: u32) {
    let (name, calls, _) = point;
    // One that dies before it is ready has come so far in its preparations. That is a point, too.
    if let Ok(mut core) = dying(&rig.place, calls, nth).start() {
        let died = storm_until(rig, book, || core.has_ended().unwrap()).await;
        assert!(died, "{name}: core never came to call {nth}: {}", core.log());
    }
    let core: Core = rig.place.start().unwrap();
    let first = book.count();
    let begun = |one: &storm::Try| matches!(one.outcome, Outcome::Begun(_));
    let back = storm_until(rig, book, || book.since(first).iter().any(begun)).await;
    assert!(back, "{name}, call {nth}: nobody gets in again: {}", core.log());
    core.kill().unwrap();
}

on_both! {
    async fn killed_at_a_point_core_comes_back_with_all_that_it_acknowledged_once(rig: Rig) {
        let is_sqlite = rig.place.url.starts_with("sqlite:");
        let points = SQLITE.iter().filter(|_| is_sqlite).chain([&MESSAGE]);
        let (book, mut ledger) = (Shared::new(rig.world.people.len()), Ledger::default());
        let store = rig.world.store().unwrap();
        let core = rig.place.start().unwrap();
        let to = [rig.place.gateways];
        let _gateway = Gateway::start(&rig.world, &rig.place.dir, &to).await.unwrap();
        core.kill().unwrap();
        let mut checked = 0;
        for turn in 0..turns() {
            for point in points.clone() {
                for nth in point.2 {
                    die_and_come_back(&rig, &book, *point, nth + 7 * turn).await;
                    ledger.check(&store, &rig.world, &book.since(checked)).await.unwrap();
                    checked = book.count();
                }
            }
        }
        ledger.verify(&store, &rig.world).await.unwrap();
        assert!(ledger.acknowledged() > 0);
    }
}
