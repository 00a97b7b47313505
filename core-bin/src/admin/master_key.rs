//! `core-bin master-key …`

use core::time::Duration;
use std::io::{self, IsTerminal as _, Write as _};

use clap::Subcommand;
use serde_json::json;

use super::{AdminError, Answer, Desk};
use crate::flows::master_key::{Rotation, Step, sealing};

/// How often it is looked whether the cores have the new key.
const PAUSE: Duration = Duration::from_millis(200);

/// What can be done with the master key.
#[derive(Debug, Subcommand)]
pub enum MasterKeyCommand {
    /// Make a new key and seal every secret anew, while servers go on; the old key is removed.
    #[command(after_help = "If it is cut off, run it again: it goes on where it was.\n\n\
        A backup of the database that was made before needs the key of its time: keep a copy of\n\
        master.key with it, or forget both.")]
    Rotate {
        /// How long to wait for servers on other hosts, in seconds; each needs a copy of
        /// master.key.next in its directory.
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        wait: u64,
    },
    /// Say which key seals what, and open every sealed value.
    Status,
}

pub(super) async fn run(desk: &Desk, command: MasterKeyCommand) -> Result<Answer, AdminError> {
    match command {
        MasterKeyCommand::Rotate { wait } => rotate(desk, Duration::from_secs(wait)).await,
        MasterKeyCommand::Status => status(desk).await,
    }
}

async fn rotate(desk: &Desk, wait: Duration) -> Result<Answer, AdminError> {
    let (dir, clock) = (desk.dir.clone(), desk.clock.clone());
    let mut rotation = Rotation::new(desk.store.clone(), dir, clock, desk.rng.clone());
    let (mut resealed, mut waited) = (0, Duration::ZERO);
    loop {
        match rotation.step().await? {
            Step::Waiting(cores) => {
                if waited >= wait {
                    return Err(AdminError::CoresWithoutKey {
                        cores,
                        path: desk.dir.next_master_key().display().to_string(),
                    });
                }
                desk.wake_core();
                tokio::time::sleep(PAUSE).await;
                waited = waited.saturating_add(PAUSE);
            }
            Step::Written => say(&format!(
                "The new key is in {}: put a copy with your copy of master.key.",
                desk.dir.next_master_key().display()
            )),
            Step::Staged(_) => desk.wake_core(),
            Step::Switched(id) => say(&format!("Key {id} seals from now on.")),
            Step::Resealed(count) => resealed = count,
            Step::Retired(id) => say(&format!("Nothing is sealed with key {id} any more.")),
            Step::Done(id) => {
                let json = json!({ "key": id.get(), "resealed": resealed });
                let human = format!(
                    "master.key is a new one (number {id}); {resealed} values were sealed anew. \
                     The old key opens nothing but backups made before now."
                );
                return Ok(Answer::new(json, human));
            }
        }
    }
}

/// Tells a person how far it is; standard output is the answer's.
fn say(words: &str) {
    if io::stderr().is_terminal() {
        // Nobody reads it: no harm.
        let _ = writeln!(io::stderr(), "{words}");
    }
}

async fn status(desk: &Desk) -> Result<Answer, AdminError> {
    let now = sealing(&desk.store).await?;
    let values = desk.store.read(mfa_store::Snapshot::sealed_values).await?;
    let json = json!({
        "active": now.active.get(),
        "next": now.next.map(mfa_store::KeyId::get),
        "old": now.old.map(mfa_store::KeyId::get),
        "values": values.iter().map(|(id, count)| (id.to_string(), *count)).collect::<std::collections::BTreeMap<_, _>>(),
    });
    let next = now.next.map(|next| format!(" Key {next} will, once every server has it."));
    let old = now
        .old
        .map(|old| format!(" Key {old} is being replaced: run `core-bin master-key rotate`."));
    let each: Vec<String> = values
        .iter()
        .map(|(id, count)| format!("\n  key {id}  {count} values, every one opens"))
        .collect();
    let (next, old) = (next.unwrap_or_default(), old.unwrap_or_default());
    let human = format!("Key {} seals.{next}{old}{}", now.active, each.concat());
    Ok(Answer::new(json, human))
}
