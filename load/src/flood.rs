//! Strangers who know everybody's public key send wrong codes as fast as they can, and the owners of
//! the devices log in meanwhile.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use mfa_core::factor::totp::TotpStep;
use mfa_core::token::Token;
use mfa_wire::http::path;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::clock::{self, Stopwatch};
use crate::figures::Times;
use crate::line::{Dialer, Line};
use crate::storm::{self, Outcome};
use crate::world::{World, random};

/// Owners log in this often, one after the other.
const OWNERS: Duration = Duration::from_millis(100);
/// How many codes a stranger sends for a challenge before it asks for another. Five are looked at.
const ON_ONE: u32 = 50;
/// The strangers' addresses begin here; owners have those below.
const STRANGERS: u32 = 1 << 16;

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Answers to strangers, by status; 0: the connection broke.
    pub strangers: BTreeMap<u16, usize>,
    /// For so long.
    pub lasted: Duration,
    /// Answers to owners, by status.
    pub owners: BTreeMap<u16, usize>,
    /// Times of owners' logins.
    pub times: Times,
    /// People who could not log in with a right code when the flood was over.
    pub locked: usize,
}

/// Floods the core at `dialer` for `lasting`, from so many addresses.
///
/// # Errors
///
/// When there are no random bytes.
pub async fn run(
    world: &Arc<World>,
    dialer: &Dialer,
    strangers: u32,
    lasting: Duration,
) -> Result<Report> {
    let (stop, stopping) = watch::channel(false);
    let mut tasks = JoinSet::new();
    for number in 0..strangers {
        let (world, dialer, stop) = (Arc::clone(world), dialer.clone(), stopping.clone());
        tasks.spawn(async move { stranger(&world, &dialer, number, &stop).await });
    }
    let started = Stopwatch::start();
    let (mut times, mut owners) = (Vec::new(), BTreeMap::new());
    let half = world.people.len() / 2;
    // The first half of the people log in during the flood, the others after it.
    for number in 0..half {
        if started.elapsed() >= lasting {
            break;
        }
        tokio::time::sleep(OWNERS).await;
        let watch = Stopwatch::start();
        let status = owner(world, dialer, number).await;
        times.push(watch.elapsed());
        count(&mut owners, status);
    }
    while started.elapsed() < lasting {
        tokio::time::sleep(OWNERS).await;
    }
    let lasted = started.elapsed();
    stop.send_replace(true);
    let mut seen = BTreeMap::new();
    for answers in tasks.join_all().await {
        for (status, number) in answers {
            let entry: &mut usize = seen.entry(status).or_default();
            *entry = entry.saturating_add(number);
        }
    }
    let mut locked = 0_usize;
    for number in half..world.people.len() {
        if owner(world, dialer, number).await != 200 {
            locked = locked.saturating_add(1);
        }
    }
    Ok(Report { strangers: seen, lasted, owners, times: Times::new(times), locked })
}

async fn owner(world: &World, dialer: &Dialer, number: usize) -> u16 {
    let Some(person) = world.people.get(number) else { return 0 };
    // From an address of its own each time: the limit by address is not what is looked at.
    let address = u32::try_from(number).unwrap_or_default();
    let Ok(mut open) = dialer.dial(address).await else { return 0 };
    let step = TotpStep::at(clock::now()).get();
    match storm::login(&mut open, world, person, step).await {
        Ok(Outcome::Begun(_)) => 200,
        Ok(Outcome::Refused(status)) => status,
        Ok(Outcome::Unknown) | Err(_) => 0,
    }
}

async fn stranger(
    world: &World,
    dialer: &Dialer,
    number: u32,
    stop: &watch::Receiver<bool>,
) -> BTreeMap<u16, usize> {
    let mut answers = BTreeMap::new();
    let (mut line, mut sent, mut token) = (None, 0_u32, None);
    let mut victim = usize::try_from(number).unwrap_or_default();
    while !*stop.borrow() {
        let mut open: Line = if let Some(open) = line.take() {
            open
        } else if let Ok(open) = dialer.dial(STRANGERS.saturating_add(number)).await {
            open
        } else {
            count(&mut answers, 0);
            continue;
        };
        let asked = if sent.is_multiple_of(ON_ONE) {
            victim = victim.saturating_add(97) % world.people.len().max(1);
            let Some(person) = world.people.get(victim) else { break };
            let device = person.public_key.to_string();
            let body =
                json!({ "location_id": world.location.get(), "pubkey": device, "method": 0 });
            let answer = open.post(path::MFA_START, "", &body.to_string()).await;
            if let Ok(answer) = &answer {
                token = answer.body.get("token").and_then(|it| it.as_str()).map(str::to_owned);
            }
            answer
        } else {
            // Without a challenge any token will do.
            let guess = random().map(|bytes| Token::from_random(bytes).expose_text().to_string());
            let token = token.clone().or_else(|| guess.ok()).unwrap_or_default();
            let body = json!({ "token": token, "code": format!("{:06}", sent % 1_000_000) });
            open.post(path::MFA_FINISH, "", &body.to_string()).await
        };
        sent = sent.saturating_add(1);
        match asked {
            Ok(answer) => {
                count(&mut answers, answer.status);
                line = Some(open);
            }
            Err(_) => count(&mut answers, 0),
        }
    }
    answers
}

fn count(answers: &mut BTreeMap<u16, usize>, status: u16) {
    let entry = answers.entry(status).or_default();
    *entry = entry.saturating_add(1);
}
