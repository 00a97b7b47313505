//! Changes the master key while cores serve.
//!
//! The store says how one key follows another; here is the order of files and transactions that can
//! be cut off anywhere: a key is on the disk before anything is sealed with it, and leaves the disk
//! after the last value that it sealed. Each [step](Rotation::step) decides by what is on the disk and
//! in the database, and by nothing that a killed process would have remembered.

use core::time::Duration;
use std::collections::BTreeMap;

use mfa_store::{
    Actor, By, CoreId, KeyId, MasterKey, Resealing, Sealing, Standing, Store, StoreError,
};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::dir::{DirError, StateDir};
use crate::rng::Rng;

/// Values that one transaction seals anew; logins wait for it, for some milliseconds.
const BATCH: i64 = 200;
/// A core whose beat has not moved for so long is dead.
const DEAD: Duration = Duration::from_secs(35);

/// How often a core that serves looks whether its key files can be tidied.
const TIDY: Duration = Duration::from_secs(60);

/// Why the master key was not changed, or not to the end. Running the command again goes on.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The key files.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a step did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// The new key is on the disk.
    Written,
    /// The database knows it.
    Staged(KeyId),
    /// So many cores that may serve do not have it yet. Nothing was done.
    Waiting(usize),
    /// It seals from now on.
    Switched(KeyId),
    /// So many values were sealed anew on this pass; there may be more.
    Resealed(usize),
    /// Nothing needs the old key any more, and the database has forgotten it.
    Retired(KeyId),
    /// The old key is gone from the disk. This is the end.
    Done(KeyId),
}

/// A change of the master key, under way.
#[derive(Debug)]
pub struct Rotation {
    store: Store,
    dir: StateDir,
    clock: Clock,
    rng: Rng,
    pass: Resealing,
    /// Whether the last pass came to its end.
    passed: bool,
    /// Whether the old key was retired by this change: what is left is the file.
    retired: bool,
    beats: BTreeMap<CoreId, (i64, Instant)>,
}

impl Rotation {
    /// Begins a change, or goes on with one that was cut off.
    #[must_use]
    pub fn new(store: Store, dir: StateDir, clock: Clock, rng: Rng) -> Self {
        let (pass, beats) = (Resealing::default(), BTreeMap::new());
        Self { store, dir, clock, rng, pass, passed: false, retired: false, beats }
    }

    /// Takes the next step.
    ///
    /// # Errors
    ///
    /// [`MasterKeyError`]; whatever was done before stays and is right.
    pub async fn step(&mut self) -> Result<Step, MasterKeyError> {
        let now = sealing(&self.store).await?;
        if self.retired {
            settle(&self.store, &self.dir).await?;
            return Ok(Step::Done(now.active));
        }
        if now.old.is_some() {
            return if self.passed { self.retire(now).await } else { self.reseal().await };
        }
        let next = self.dir.read_next_master_key()?;
        let standing = match &next {
            Some(key) => standing(&self.store, key).await?,
            None => None,
        };
        match (next, standing, now.next) {
            (None, _, _) => {
                let key = MasterKey::from_bytes(*self.rng.bytes());
                self.dir.write_next_master_key(&key)?;
                Ok(Step::Written)
            }
            (Some(_), Some(Standing::Active), _) => {
                settle(&self.store, &self.dir).await?;
                Ok(Step::Done(now.active))
            }
            (Some(_), Some(Standing::Next), Some(id)) => self.switch(id).await,
            (Some(key), _, _) => self.stage(key).await,
        }
    }

    fn by(&self) -> By {
        By::new(Actor::Cli, self.clock.now())
    }

    async fn stage(&self, key: MasterKey) -> Result<Step, MasterKeyError> {
        let by = self.by();
        let id = self.store.write(move |tx| tx.stage_master_key(by, &key));
        let id: Result<_, StoreError> = id.await;
        Ok(Step::Staged(id?))
    }

    async fn switch(&mut self, id: KeyId) -> Result<Step, MasterKeyError> {
        let lacking = self.store.read(move |view| view.cores_lacking(id));
        let lacking: Result<_, StoreError> = lacking.await;
        let waiting = self.living(&lacking?);
        if waiting > 0 {
            return Ok(Step::Waiting(waiting));
        }
        let by = self.by();
        let done: Result<(), StoreError> =
            self.store.write(move |tx| tx.switch_master_key(by)).await;
        done?;
        Ok(Step::Switched(id))
    }

    /// Counts the cores that are not known to be dead.
    fn living(&mut self, cores: &[(CoreId, i64)]) -> usize {
        let now = Instant::now();
        for (core, beat) in cores {
            let seen = self.beats.entry(*core).or_insert((*beat, now));
            if seen.0 != *beat {
                *seen = (*beat, now);
            }
        }
        let moved = |core: &CoreId| self.beats.get(core).map(|(_, moved)| *moved);
        let lives = |core| moved(core).is_none_or(|at| now.duration_since(at) < DEAD);
        cores.iter().filter(|(core, _)| lives(core)).count()
    }

    async fn reseal(&mut self) -> Result<Step, MasterKeyError> {
        let pass = self.pass;
        let next: Result<_, StoreError> = self.store.write(move |tx| tx.reseal(pass, BATCH)).await;
        match next? {
            Some(pass) => self.pass = pass,
            None => self.passed = true,
        }
        Ok(Step::Resealed(self.pass.done))
    }

    async fn retire(&mut self, now: Sealing) -> Result<Step, MasterKeyError> {
        let by = self.by();
        let left: Result<u64, StoreError> =
            self.store.write(move |tx| tx.retire_master_key(by)).await;
        if left? > 0 {
            // A value moved from one column to another behind the pass.
            (self.pass, self.passed) = (Resealing::default(), false);
            return Ok(Step::Resealed(0));
        }
        self.retired = true;
        Ok(Step::Retired(now.old.unwrap_or(now.active)))
    }
}

/// Returns which keys are in use.
///
/// # Errors
///
/// What the database reports.
pub async fn sealing(store: &Store) -> Result<Sealing, StoreError> {
    store.read(mfa_store::Snapshot::sealing).await
}

async fn standing(store: &Store, key: &MasterKey) -> Result<Option<Standing>, StoreError> {
    let key = key.clone();
    store.read(move |view| view.standing(&key)).await
}

/// Puts the new key's file in its place, if the change of keys is over: on this host it may have been
/// cut off before that, or have been made by another core's host.
///
/// # Errors
///
/// What the database reports, and key files that cannot be read. A file that cannot be moved is no
/// error: both keys are read for as long as it stays.
pub async fn settle(store: &Store, dir: &StateDir) -> Result<(), MasterKeyError> {
    let Some(next) = dir.read_next_master_key()? else { return Ok(()) };
    let now = sealing(store).await?;
    if now.old.is_none()
        && standing(store, &next).await? == Some(Standing::Active)
        && let Err(error) = dir.adopt_next_master_key()
    {
        tracing::warn!(%error, "the new master key cannot be put in the place of the old one");
    }
    Ok(())
}

/// Settles what another host's change has left here, until core stops.
pub(crate) async fn keep(store: Store, dir: StateDir, mut stopping: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            // An error: core is gone.
            _ = stopping.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(TIDY) => {}
        }
        if let Err(error) = settle(&store, &dir).await {
            tracing::warn!(%error, "cannot look after the master key's files");
        }
    }
}
