//! Many people log in at once, and what was answered is written down.

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use mfa_core::factor::totp::{STEP_SECS, TotpStep};
use mfa_core::time::Timestamp;
use mfa_wire::http::{PROOF_HEADER, path};
use mfa_wire::proof::Proof;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::clock::{self, Stopwatch};
use crate::line::{Dialer, Line};
use crate::world::{Person, World};

/// How long to wait when everybody has used the code of now.
const NOBODY: Duration = Duration::from_millis(20);

/// What became of one login.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It was acknowledged: this session.
    Begun(i64),
    /// It was refused with this status.
    Refused(u16),
    /// The connection broke: it may or may not have been done.
    Unknown,
}

/// One login.
#[derive(Clone, Copy, Debug)]
pub struct Try {
    /// Whose: the number in [`World::people`].
    pub person: usize,
    /// The step of the code that was sent.
    pub step: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// How long it took from its first request to its last answer.
    pub took: Duration,
}

/// What was tried, and who may try next.
#[derive(Debug)]
pub struct Book {
    tries: Vec<Try>,
    /// The newest step that each has used.
    used: Vec<u64>,
    next: usize,
    /// Logins whose outcome is unknown: to be tried again with the same code.
    again: Vec<(usize, u64)>,
}

/// The book, shared by all who log in.
#[derive(Clone, Debug)]
pub struct Shared(Arc<Mutex<Book>>);

impl Shared {
    /// An empty book of so many people.
    #[must_use]
    pub fn new(people: usize) -> Self {
        let (tries, again) = (Vec::new(), Vec::new());
        Self(Arc::new(Mutex::new(Book { tries, used: vec![0; people], next: 0, again })))
    }

    fn open(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the tries from number `first` on.
    #[must_use]
    pub fn since(&self, first: usize) -> Vec<Try> {
        self.open().tries.get(first..).unwrap_or_default().to_vec()
    }

    /// How many tries there were.
    #[must_use]
    pub fn count(&self) -> usize {
        self.open().tries.len()
    }

    /// Finds somebody who has not used the code of now, or somebody's login to try again.
    fn take(&self, now: Timestamp) -> Option<(usize, u64)> {
        let mut book = self.open();
        let step = TotpStep::at(now).get();
        // A code that has left the window says nothing any more.
        book.again.retain(|(_, used)| *used >= step.saturating_sub(1));
        if let Some(again) = book.again.pop() {
            return Some(again);
        }
        let people = book.used.len();
        for _ in 0..people {
            let person = book.next;
            book.next = book.next.saturating_add(1) % people.max(1);
            if let Some(used) = book.used.get_mut(person)
                && *used < step
            {
                *used = step;
                return Some((person, step));
            }
        }
        None
    }

    fn write(&self, one: Try) {
        let mut book = self.open();
        if one.outcome == Outcome::Unknown {
            book.again.push((one.person, one.step));
        }
        book.tries.push(one);
    }
}

/// How to log in.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// So many people at once.
    pub clients: u32,
    /// Each login has a connection of its own, with its TLS handshake; else people share them.
    pub fresh: bool,
    /// Whether a refusal or a broken connection ends the storm's client for a moment: core may be away.
    pub patient: bool,
}

/// Lets people log in until `over` turns true. They use the cores at `dialers` in turn.
pub async fn run(
    world: &Arc<World>,
    dialers: &[Dialer],
    book: &Shared,
    manner: Manner,
    over: &watch::Receiver<bool>,
) {
    let mut clients = JoinSet::new();
    for (number, dialer) in (0..manner.clients).zip(dialers.iter().cycle()) {
        let (world, dialer, book, over) =
            (Arc::clone(world), dialer.clone(), book.clone(), over.clone());
        clients.spawn(async move { client(&world, &dialer, &book, manner, number, &over).await });
    }
    clients.join_all().await;
}

async fn client(
    world: &World,
    dialer: &Dialer,
    book: &Shared,
    manner: Manner,
    number: u32,
    over: &watch::Receiver<bool>,
) {
    let mut line = None;
    let mut address = number;
    while !*over.borrow() {
        let Some((number, step)) = book.take(clock::now()) else {
            tokio::time::sleep(NOBODY).await;
            continue;
        };
        let Some(person) = world.people.get(number) else { continue };
        let started = Stopwatch::start();
        if manner.fresh {
            line = None;
            address = address.saturating_add(manner.clients) % (1 << 20);
        }
        let mut open = if let Some(open) = line.take() {
            open
        } else if let Ok(open) = dialer.dial(address).await {
            open
        } else {
            // Nothing was sent, so the code is as good as before.
            book.open().again.push((number, step));
            tokio::time::sleep(NOBODY).await;
            continue;
        };
        let done = login(&mut open, world, person, step).await;
        let took = started.elapsed();
        let outcome = done.unwrap_or(Outcome::Unknown);
        // A connection that broke is not used again.
        line = (outcome != Outcome::Unknown).then_some(open);
        book.write(Try { person: number, step, outcome, took });
        if manner.patient && !matches!(outcome, Outcome::Begun(_)) {
            tokio::time::sleep(NOBODY).await;
        }
    }
}

/// Logs a person in as our client does: a nonce, a challenge with a proof of the device, the code of
/// `step`.
///
/// # Errors
///
/// When the connection breaks: it is not known then whether there is a session.
pub async fn login(line: &mut Line, world: &World, person: &Person, step: u64) -> Result<Outcome> {
    match challenge(line, world, person).await? {
        Ok(token) => answer_challenge(line, person, step, &token).await,
        Err(status) => Ok(Outcome::Refused(status)),
    }
}

/// Asks for a challenge with a proof of the device, and returns its token, or the status of a refusal.
///
/// # Errors
///
/// When the connection breaks.
pub async fn challenge(
    line: &mut Line,
    world: &World,
    person: &Person,
) -> Result<Result<String, u16>> {
    let answer = line.post(path::DEVICE_NONCE, "", "{}").await?;
    if answer.status != 200 {
        return Ok(Err(answer.status));
    }
    let text = |name: &str| answer.body.get(name).and_then(|it| it.as_str()).context("a text");
    let (nonce, core) = (text("nonce")?.parse()?, text("proof_pubkey")?.parse()?);
    let device = person.public_key.to_string();
    let body = json!({ "location_id": world.location.get(), "pubkey": device, "method": 0 });
    let body = body.to_string();
    let proof = Proof::make(&person.key, &core, nonce, "POST", path::MFA_START, body.as_bytes());
    let proof = format!("{PROOF_HEADER}: {}\r\n", proof.context("core's key is a key")?);
    let answer = line.post(path::MFA_START, &proof, &body).await?;
    if answer.status != 200 {
        return Ok(Err(answer.status));
    }
    let token = answer.body.get("token").and_then(|it| it.as_str()).context("a token")?;
    Ok(Ok(token.to_owned()))
}

/// Sends the code of `step` for the challenge `token`.
///
/// # Errors
///
/// When the connection breaks: it is not known then whether there is a session.
pub async fn answer_challenge(
    line: &mut Line,
    person: &Person,
    step: u64,
    token: &str,
) -> Result<Outcome> {
    let at = Timestamp::from_unix_millis(step.saturating_mul(STEP_SECS).saturating_mul(1000));
    let code = person.secret.code_at(at);
    let body = json!({ "token": token, "code": &*code.expose_text() }).to_string();
    let answer = line.post(path::MFA_FINISH, "", &body).await?;
    if answer.status != 200 {
        return Ok(Outcome::Refused(answer.status));
    }
    let session = answer.body.pointer("/session/id").and_then(serde_json::Value::as_i64);
    Ok(Outcome::Begun(session.context("a session")?))
}

/// How often each status was answered; 0: the connection broke.
#[must_use]
pub fn statuses(tries: &[Try]) -> std::collections::BTreeMap<u16, usize> {
    let mut count = std::collections::BTreeMap::new();
    for one in tries {
        let status = match one.outcome {
            Outcome::Begun(_) => 200,
            Outcome::Refused(status) => status,
            Outcome::Unknown => 0,
        };
        let entry: &mut usize = count.entry(status).or_default();
        *entry = entry.saturating_add(1);
    }
    count
}

/// The codes that were ever sent, as person and step.
#[must_use]
pub fn codes(tries: &[Try]) -> BTreeSet<(usize, u64)> {
    tries.iter().map(|one| (one.person, one.step)).collect()
}
