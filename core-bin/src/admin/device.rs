//! `core-bin device …`

use clap::Subcommand;
use mfa_store::Scope;
use serde_json::json;

use super::answer::{ago, table, time};
use super::{AdminError, Answer, Consent, Desk};
use crate::flows::{device as flow, user};
use crate::text::count;

/// What can be done with devices.
#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// List enrolled devices.
    List {
        /// Only this person's.
        #[arg(long, value_name = "LOGIN")]
        user: Option<String>,
    },
    /// Remove a device; its sessions end at once and its addresses become free.
    Remove {
        /// Its number, name or public key.
        device: String,
        /// Whether it may cut people off.
        #[command(flatten)]
        consent: Consent,
    },
}

pub(super) async fn run(desk: &Desk, command: DeviceCommand) -> Result<Answer, AdminError> {
    match command {
        DeviceCommand::List { user } => list(desk, user).await,
        DeviceCommand::Remove { device, consent } => {
            let name = device.clone();
            let (found, sessions) = desk
                .store
                .read(move |view| {
                    let found = flow::find(view, &name)?;
                    let sessions = view.live_count(Scope::Device(found.id))?;
                    Ok::<_, AdminError>((found, sessions))
                })
                .await?;
            let ending = count(sessions, "session");
            consent.to(&format!("The device {} will be removed; {ending} will end", found.name))?;
            let (by, id) = (desk.by(), found.id.to_string());
            desk.store.write(move |tx| flow::remove(tx, by, &id)).await?;
            let text = format!("The device {} is removed.", found.name);
            Ok(Answer::new(json!({ "removed": found.id.get() }), text))
        }
    }
}

async fn list(desk: &Desk, login: Option<String>) -> Result<Answer, AdminError> {
    let all = desk
        .store
        .read(move |view| {
            let devices = match &login {
                Some(login) => {
                    let user = user::find(view, login)?;
                    view.devices_of(user.id)?
                }
                None => view.devices()?,
            };
            let mut all = Vec::new();
            for device in devices {
                let owner = view.user(device.user)?.map(|user| user.details.login);
                let sessions = view.live_count(Scope::Device(device.id))?;
                all.push((device, owner.unwrap_or_default(), sessions));
            }
            Ok::<_, AdminError>(all)
        })
        .await?;
    let now = desk.clock.now();
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|(device, owner, sessions)| {
            vec![
                device.id.to_string(),
                device.name.clone(),
                owner.clone(),
                device.public_key.to_string(),
                ago(device.last_poll.map(|poll| poll.at), now),
                if *sessions > 0 { "connected".into() } else { String::new() },
            ]
        })
        .collect();
    let json = all
        .iter()
        .map(|(device, owner, sessions)| {
            json!({
                "id": device.id.get(),
                "name": device.name,
                "user": owner,
                "public_key": device.public_key.to_string(),
                "last_heard_at": time(device.last_poll.map(|poll| poll.at)),
                "sessions": sessions,
                "created_at": time(Some(device.created)),
            })
        })
        .collect();
    let headings = ["id", "device", "user", "public key", "last heard", ""];
    let nothing = "There is no device yet. `core-bin user enroll LOGIN` invites one.";
    Ok(Answer::new(json, table(&headings, &rows, nothing)))
}
