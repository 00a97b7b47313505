//! `core-bin session …`

mod trail;

use clap::Subcommand;
use mfa_store::{Scope, SessionInfo, Snapshot, StoreError};
use serde_json::{Value, json};

use super::answer::{ago, bytes, table, time};
use super::{AdminError, Answer, Consent, Desk};
use crate::flows::session::{self as flow, Which};
use crate::text::count;

/// What can be done with sessions.
#[derive(Debug, Subcommand)]
pub enum SessionCommand {
    /// List who is connected.
    List {
        /// The newest ones with those that have ended, and why.
        #[arg(long)]
        all: bool,
    },
    /// Show a session, and how its end reached each gateway: decided, committed, sent, applied,
    /// verified in the kernel, and what the peer had transferred when it was cut.
    Show {
        /// Its number.
        session: i64,
    },
    /// Show how long ends took, from the decision to the dump of a gateway's kernel that showed it.
    Delays {
        /// As a histogram in Prometheus' text format, for a textfile collector.
        #[arg(long)]
        prometheus: bool,
    },
    /// End sessions: the peers leave every gateway at once, and each device must prove a second
    /// factor again.
    #[command(group(clap::ArgGroup::new("which").required(true)))]
    End {
        /// The number of one.
        #[arg(group = "which")]
        session: Option<i64>,
        /// All of a person.
        #[arg(long, value_name = "LOGIN", group = "which")]
        user: Option<String>,
        /// All of a device: its number, name or public key.
        #[arg(long, value_name = "DEVICE", group = "which")]
        device: Option<String>,
        /// All of a location.
        #[arg(long, value_name = "NAME", group = "which")]
        location: Option<String>,
        /// Every one.
        #[arg(long, group = "which")]
        all: bool,
        /// Whether it may cut people off.
        #[command(flatten)]
        consent: Consent,
    },
}

/// A session with the names of what it belongs to.
struct Named {
    info: SessionInfo,
    user: String,
    device: String,
    location: String,
}

pub(super) async fn run(desk: &Desk, command: SessionCommand) -> Result<Answer, AdminError> {
    match command {
        SessionCommand::List { all } => list(desk, all).await,
        SessionCommand::Show { session } => trail::show(desk, session).await,
        SessionCommand::Delays { prometheus } => trail::delays(desk, prometheus).await,
        SessionCommand::End { session, user, device, location, all, consent } => {
            let which = match (session, user, device, location) {
                (Some(number), ..) => Which::Number(number),
                (_, Some(login), ..) => Which::User(login),
                (_, _, Some(device), _) => Which::Device(device),
                (.., Some(location)) => Which::Location(location),
                _ => Which::All,
            };
            if all {
                let live = desk.store.read(|view| view.live_count(Scope::All)).await?;
                consent.to(&format!("{} will end", count(live, "session")))?;
            }
            let by = desk.by();
            let ended = desk.store.write(move |tx| flow::end(tx, by, &which)).await?;
            let text = format!("{} ended.", count(ended.len(), "session"));
            let ids: Vec<i64> = ended.iter().map(|id| id.get()).collect();
            Ok(Answer::new(json!({ "ended": ids }), text))
        }
    }
}

async fn list(desk: &Desk, all: bool) -> Result<Answer, AdminError> {
    const NEWEST: i64 = 1_000;
    let sessions = desk
        .store
        .read(move |view| {
            let sessions =
                if all { view.newest_sessions(NEWEST)? } else { view.live_sessions(Scope::All)? };
            sessions.into_iter().map(|info| name(view, info)).collect::<Result<Vec<_>, _>>()
        })
        .await?;
    let now = desk.clock.now();
    let rows: Vec<Vec<String>> = sessions
        .iter()
        .map(|session| {
            let info = &session.info;
            vec![
                info.id.to_string(),
                session.user.clone(),
                session.device.clone(),
                session.location.clone(),
                info.method.code().to_owned(),
                ago(Some(info.authorized), now),
                ago(Some(info.last_activity), now),
                format!("{} / {}", bytes(info.rx_bytes), bytes(info.tx_bytes)),
                info.ended.map_or("live", |(_, reason)| reason.code()).to_owned(),
            ]
        })
        .collect();
    let headings = [
        "id",
        "user",
        "device",
        "location",
        "method",
        "since",
        "active",
        "received / sent",
        "state",
    ];
    let json = sessions.iter().map(describe).collect();
    Ok(Answer::new(json, table(&headings, &rows, "Nobody is connected.")))
}

fn name(view: &mut Snapshot, info: SessionInfo) -> Result<Named, StoreError> {
    let subject = info.subject;
    Ok(Named {
        user: view.user(subject.user)?.map(|user| user.details.login).unwrap_or_default(),
        device: view.device(subject.device)?.map(|device| device.name).unwrap_or_default(),
        location: view.location(subject.location)?.map(|l| l.settings.name).unwrap_or_default(),
        info,
    })
}

fn describe(session: &Named) -> Value {
    let info = &session.info;
    json!({
        "id": info.id.get(),
        "user": session.user,
        "device": session.device,
        "location": session.location,
        "method": info.method.code(),
        "generation": info.generation.get(),
        "authorized_at": time(Some(info.authorized)),
        "connected_at": time(info.connected),
        "last_activity_at": time(Some(info.last_activity)),
        "lifetime_ends_at": time(Some(info.lifetime_ends)),
        "rx_bytes": info.rx_bytes,
        "tx_bytes": info.tx_bytes,
        "ended_at": time(info.ended.map(|(at, _)| at)),
        "end_reason": info.ended.map(|(_, reason)| reason.code()),
    })
}
