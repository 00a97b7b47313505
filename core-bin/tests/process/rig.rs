//! An installation whose cores are processes.

use std::path::Path;
use std::sync::Arc;

use load::audit::Ledger;
use load::core::{Core, Place};
use load::database::Database;
use load::gateway::Gateway;
use load::line::Dialer;
use load::storm::{self, Outcome, Try};
use load::world::World;
use mfa_core::factor::totp::TotpStep;

/// Turns each `async fn name(rig: Rig)` into one test on SQLite and one on PostgreSQL.
#[macro_export]
macro_rules! on_both {
    ($(async fn $name:ident($rig:ident: Rig) $body:block)+) => {
        $(mod $name {
            use super::*;

            async fn run($rig: Rig) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                run(Rig::sqlite().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres() {
                run(Rig::postgres().await).await;
            }
        })+
    };
}

const PEOPLE: usize = 200;

pub(crate) struct Rig {
    pub(crate) place: Place,
    pub(crate) world: Arc<World>,
    pub(crate) database: Database,
    pub(crate) root: tempfile::TempDir,
    tries: Vec<Try>,
}

impl Rig {
    pub(crate) async fn sqlite() -> Self {
        let root = tempfile::tempdir().unwrap();
        let database = Database::sqlite(root.path());
        Self::make(root, database).await
    }

    pub(crate) async fn postgres() -> Self {
        Self::make(tempfile::tempdir().unwrap(), Database::postgres().unwrap()).await
    }

    /// With the SQLite file in a directory that is there already.
    pub(crate) async fn sqlite_in(directory: &Path) -> Self {
        Self::make(tempfile::tempdir().unwrap(), Database::sqlite(directory)).await
    }

    async fn make(root: tempfile::TempDir, database: Database) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_core-bin"));
        let place = Place::new(program, &root.path().join("state"), database.url()).unwrap();
        let world = Arc::new(World::make(&place, PEOPLE).await.unwrap());
        Self { place, world, database, root, tries: Vec::new() }
    }

    /// Starts a core and its gateway, and waits until people get in.
    pub(crate) async fn serve(&mut self, person: usize) -> (Core, Gateway) {
        let core = self.place.start().unwrap();
        let to = [self.place.gateways];
        let gateway = Gateway::start(&self.world, &self.place.dir, &to).await.unwrap();
        self.gets_in(person).await;
        (core, gateway)
    }

    pub(crate) fn dialer(&self) -> Dialer {
        Dialer::new(&self.place.dir, self.place.public).unwrap()
    }

    /// Lets a person log in once, on a connection of its own. The code is that of `step`.
    pub(crate) async fn try_login(&mut self, person: usize, step: u64) -> Outcome {
        let mut line = self.dialer().dial(u32::try_from(person).unwrap()).await.unwrap();
        let who = &self.world.people[person];
        let outcome = storm::login(&mut line, &self.world, who, step).await.unwrap();
        let took = core::time::Duration::ZERO;
        self.tries.push(Try { person, step, outcome, took });
        outcome
    }

    /// Lets a person log in with the code of now, again and again until it is acknowledged.
    pub(crate) async fn gets_in(&mut self, person: usize) {
        self.opens(person, step()).await;
    }

    /// Lets a person log in with the code of `sent`, or a newer one when that is too old, again and
    /// again until it is acknowledged; only "busy" and "no gateway" may be answered meanwhile.
    pub(crate) async fn opens(&mut self, person: usize, sent: u64) {
        for _ in 0..600 {
            let now = step();
            let sent = if sent + 1 >= now { sent } else { now };
            match self.try_login(person, sent).await {
                Outcome::Begun(_) => return,
                Outcome::Refused(503) => {}
                // The machine was so busy that the code grew old on its way.
                Outcome::Refused(401) if sent + 1 < step() => {}
                other => panic!("{other:?}"),
            }
            tokio::time::sleep(core::time::Duration::from_millis(100)).await;
        }
        panic!("nobody gets in");
    }

    /// Compares all that was answered so far with the database.
    pub(crate) async fn check(&self) {
        let store = self.world.store().unwrap();
        let mut ledger = Ledger::default();
        ledger.check(&store, &self.world, &self.tries).await.unwrap();
        ledger.verify(&store, &self.world).await.unwrap();
    }
}

/// The step of now.
pub(crate) fn step() -> u64 {
    TotpStep::at(load::clock::now()).get()
}
