//! `load login`, `load kill`, `load flood`, `load disk`: what a core withstands, in figures.

#![expect(clippy::print_stdout, reason = "the figures are this program's result")]

use core::time::Duration;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use load::audit::Ledger;
use load::clock::Stopwatch;
use load::core::{Place, cpu_of};
use load::database::Database;
use load::figures::Times;
use load::gateway::Gateway;
use load::line::Dialer;
use load::storm::{self, Manner, Outcome, Shared};
use load::world::World;
use load::{flood, kill, malformed};
use tokio::sync::watch;

/// Load for a core, over TLS.
#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    at: At,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Args)]
struct At {
    /// Where the state is kept
    #[arg(long, value_enum, default_value_t = Kind::Sqlite, global = true)]
    database: Kind,
    /// The program [default: core-bin beside this program]
    #[arg(long, value_name = "PATH", global = true)]
    core: Option<PathBuf>,
    /// People with a device and an authenticator app; each logs in once in 30 s at most
    #[arg(long, default_value_t = 5_000, global = true)]
    people: usize,
    /// Where the state directory is made [default: the system's place for temporary files]
    #[arg(long, value_name = "DIR", global = true)]
    under: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Sqlite,
    Postgres,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Log people in, each with a new code, and count what is durable.
    Login {
        /// For how long
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        /// How many at once
        #[arg(long, default_value_t = 64)]
        clients: u32,
        /// Each login with a connection of its own, as people do; else logins share them
        #[arg(long)]
        fresh: bool,
    },
    /// Kill core with SIGKILL under load, again and again.
    Kill {
        /// How often
        #[arg(long, default_value_t = 1_000)]
        kills: usize,
        /// People at once
        #[arg(long, default_value_t = 16)]
        clients: u32,
    },
    /// Let strangers send wrong codes, and owners log in meanwhile.
    Flood {
        /// For how long
        #[arg(long, default_value_t = 20)]
        seconds: u64,
        /// Strangers' addresses, a connection each
        #[arg(long, default_value_t = 256)]
        strangers: u32,
    },
    /// Send damaged gRPC calls to the gateways' port; fails if core says that it failed.
    Malformed {
        /// How many
        #[arg(long, default_value_t = 1_000_000)]
        calls: u64,
        /// Over so many connections at once
        #[arg(long, default_value_t = 8)]
        connections: u64,
    },
    /// Measure what the disk gives: writes of 4 KiB that are forced out one by one.
    Disk {
        /// How many
        #[arg(long, default_value_t = 500)]
        writes: u64,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let root = match &cli.at.under {
        Some(under) => tempfile::tempdir_in(under)?,
        None => tempfile::tempdir()?,
    };
    if let What::Disk { writes } = cli.what {
        return disk(root.path(), writes);
    }
    let program = match cli.at.core {
        Some(path) => path,
        None => std::env::current_exe()?.with_file_name("core-bin"),
    };
    let database = match cli.at.database {
        Kind::Sqlite => Database::sqlite(root.path()),
        Kind::Postgres => Database::postgres()?,
    };
    let place = Place::new(&program, &root.path().join("state"), database.url())?;
    let watch = Stopwatch::start();
    let world = Arc::new(World::make(&place, cli.at.people).await?);
    println!("{} people in {:.1} s", world.people.len(), watch.elapsed().as_secs_f64());
    match cli.what {
        What::Login { seconds, clients, fresh } => {
            let manner = Manner { clients, fresh, patient: false };
            login(&place, &world, manner, Duration::from_secs(seconds)).await
        }
        What::Kill { kills, clients } => {
            let progress = |kill| {
                println!("{kill} kills");
                let _ = std::io::stdout().flush();
            };
            let seen = kill::run(&place, &world, kills, clients, progress).await?;
            println!(
                "{} kills: {} logins acknowledged, each there once; {} sessions began, {} answers \
                 were lost; ready after {}; somebody in after {}",
                seen.kills, seen.acknowledged, seen.begun, seen.lost_answers, seen.ready, seen.back
            );
            Ok(())
        }
        What::Flood { seconds, strangers } => {
            let core = place.start()?;
            let _gateway = Gateway::start(&world, &place.dir, &[place.gateways]).await?;
            let dialer = Dialer::new(&place.dir, place.public)?;
            let lasting = Duration::from_secs(seconds);
            let seen = flood::run(&world, &dialer, strangers, lasting).await?;
            let answered: usize =
                seen.strangers.iter().filter(|(status, _)| **status > 0).map(|(_, n)| n).sum();
            println!(
                "strangers: {:.0} answers a second, {:?}; core used {:.1} s of CPU in {:.1} s",
                per_second(answered, seen.lasted),
                seen.strangers,
                core.cpu().as_secs_f64(),
                seen.lasted.as_secs_f64()
            );
            println!("owners: {:?}, {}", seen.owners, seen.times);
            println!("locked after it: {}", seen.locked);
            ensure!(seen.locked == 0, "strangers locked {} people out", seen.locked);
            core.kill()
        }
        What::Malformed { calls, connections } => {
            let core = place.start()?;
            let seen = malformed::run(&place.dir, place.gateways, calls, connections).await?;
            for ((call, code), count) in &seen {
                println!("{call}: {code:?}: {count}");
            }
            ensure!(!core.log().contains("panicked"), "core panicked: {}", core.log());
            core.kill()
        }
        What::Disk { .. } => Ok(()),
    }
}

async fn login(place: &Place, world: &Arc<World>, manner: Manner, lasting: Duration) -> Result<()> {
    let core = place.start()?;
    let _gateway = Gateway::start(world, &place.dir, &[place.gateways]).await?;
    let dialers = [Dialer::new(&place.dir, place.public)?];
    let book = Shared::new(world.people.len());
    let (stop, stopping) = watch::channel(false);
    let logins = {
        let (world, book) = (Arc::clone(world), book.clone());
        tokio::spawn(async move { storm::run(&world, &dialers, &book, manner, &stopping).await })
    };
    let (watch, before) = (Stopwatch::start(), cpu_of("self"));
    tokio::time::sleep(lasting).await;
    let (tries, lasted) = (book.since(0), watch.elapsed());
    stop.send_replace(true);
    logins.await?;
    let times =
        tries.iter().filter(|one| matches!(one.outcome, Outcome::Begun(_))).map(|one| one.took);
    let times = Times::new(times.collect());
    println!(
        "{:.0} logins a second, {times}; answers {:?}; in {:.1} s core used {:.1} s of CPU, {:.3} ms a login, \
         and the clients {:.1} s",
        per_second(times.count(), lasted),
        storm::statuses(&tries),
        lasted.as_secs_f64(),
        core.cpu().as_secs_f64(),
        1000.0 / per_second(times.count(), core.cpu()),
        cpu_of("self").saturating_sub(before).as_secs_f64(),
    );
    core.kill()?;
    let (store, mut ledger) = (world.store()?, Ledger::default());
    ledger.check(&store, world, &book.since(0)).await?;
    ledger.verify(&store, world).await?;
    println!("all {} are in the database, once", ledger.acknowledged());
    Ok(())
}

fn disk(dir: &Path, writes: u64) -> Result<()> {
    let file = std::fs::File::create(dir.join("probe")).context("cannot write here")?;
    let block = [0x5a; 4096];
    let watch = Stopwatch::start();
    let mut times = Vec::new();
    for number in 0..writes {
        let one = Stopwatch::start();
        file.write_all_at(&block, number.saturating_mul(4096))?;
        file.sync_data()?;
        times.push(one.elapsed());
    }
    let times = Times::new(times);
    println!("{:.0} forced writes a second, {times}", per_second(times.count(), watch.elapsed()));
    Ok(())
}

#[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "a figure to look at")]
fn per_second(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}
