//! `core-bin user …`

use core::time::Duration;

use clap::Subcommand;
use mfa_core::method::Method;
use mfa_core::token::Token;
use mfa_store::{Scope, StoreError, User};
use serde_json::{Value, json};

use super::answer::{table, time};
use super::{AdminError, Answer, Consent, Desk};
use crate::config::Tls;
use crate::flows::user::{self as flow, NewUser, UserChange};
use crate::span::Span;
use crate::text::count;

/// What can be done with users.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add a person. Then give them a device: `core-bin user enroll LOGIN`.
    Add {
        /// The name to log in with.
        login: String,
        /// First and last name.
        #[arg(long, default_value = "")]
        name: String,
        /// Where codes are mailed to.
        #[arg(long, default_value = "")]
        email: String,
        /// A telephone number, for your own use.
        #[arg(long, default_value = "")]
        phone: String,
        /// The person administers wg-mfa.
        #[arg(long)]
        admin: bool,
        /// A group the person is in; may be given several times.
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,
    },
    /// List everyone.
    List,
    /// Show a person with devices, methods and groups.
    Show {
        /// Whom.
        login: String,
    },
    /// Change what is known of a person.
    Set {
        /// Whom.
        login: String,
        /// First and last name.
        #[arg(long)]
        name: Option<String>,
        /// Where codes are mailed to.
        #[arg(long)]
        email: Option<String>,
        /// A telephone number.
        #[arg(long)]
        phone: Option<String>,
        /// Whether the person administers wg-mfa.
        #[arg(long)]
        admin: Option<bool>,
    },
    /// Set the groups a person is in, in place of the present ones.
    Group {
        /// Whom.
        login: String,
        /// The groups; none takes the person out of all.
        groups: Vec<String>,
    },
    /// Print a one-use token with which the person enrolls a device and sets up a second factor.
    Enroll {
        /// Whom.
        login: String,
        /// How long the token is good.
        #[arg(long, default_value = "24h")]
        valid: Span,
    },
    /// Shut a person out; their sessions end at once.
    Disable {
        /// Whom.
        login: String,
    },
    /// Let a person in again.
    Enable {
        /// Whom.
        login: String,
    },
    /// Forget a person's wrong codes, and so unlock what they locked.
    Unlock {
        /// Whom.
        login: String,
    },
    /// Take away a method whose authenticator is lost; sessions that it bought end.
    ResetMethod {
        /// Whom.
        login: String,
        /// Which: totp or email.
        method: Method,
    },
    /// Remove a person with all devices.
    Remove {
        /// Whom.
        login: String,
        /// Whether it may cut people off.
        #[command(flatten)]
        consent: Consent,
    },
}

pub(super) async fn run(desk: &Desk, command: UserCommand) -> Result<Answer, AdminError> {
    match command {
        UserCommand::Add { login, name, email, phone, admin, groups } => {
            let new = NewUser { login, name, email, phone, admin, groups };
            let by = desk.by();
            let user = desk.store.write(move |tx| flow::add(tx, by, &new)).await?;
            let login = &user.details.login;
            let text = format!("{login} is added. Next: `core-bin user enroll {login}`");
            Ok(Answer::new(describe(&user), text))
        }
        UserCommand::List => list(desk).await,
        UserCommand::Show { login } => show(desk, login).await,
        UserCommand::Set { login, name, email, phone, admin } => {
            let change = UserChange { name, email, phone, admin };
            let by = desk.by();
            let user = desk.store.write(move |tx| flow::set(tx, by, &login, &change)).await?;
            let text = format!("{} is changed.", user.details.login);
            Ok(Answer::new(describe(&user), text))
        }
        UserCommand::Group { login, groups } => {
            let by = desk.by();
            let json = json!({ "login": login, "groups": groups });
            let text = if groups.is_empty() {
                format!("{login} is in no group.")
            } else {
                format!("{login} is in: {}.", groups.join(", "))
            };
            desk.store.write(move |tx| flow::set_groups(tx, by, &login, &groups)).await?;
            Ok(Answer::new(json, text))
        }
        UserCommand::Enroll { login, valid } => enroll(desk, login, valid.duration()).await,
        UserCommand::Disable { login } => set_active(desk, login, false).await,
        UserCommand::Enable { login } => set_active(desk, login, true).await,
        UserCommand::Unlock { login } => {
            let (by, who) = (desk.by(), login.clone());
            desk.store.write(move |tx| flow::unlock(tx, by, &who)).await?;
            let text = format!("The wrong codes of {login} are forgotten.");
            Ok(Answer::new(json!({ "login": login, "unlocked": true }), text))
        }
        UserCommand::ResetMethod { login, method } => {
            let (by, who) = (desk.by(), login.clone());
            let had = desk.store.write(move |tx| flow::reset_method(tx, by, &who, method)).await?;
            let name = method.name();
            let text = if had {
                format!(
                    "{name} of {login} is reset. `core-bin user enroll {login}` lets them set it \
                     up again."
                )
            } else {
                format!("{login} had no {name}.")
            };
            Ok(Answer::new(json!({ "login": login, "reset": had }), text))
        }
        UserCommand::Remove { login, consent } => {
            let who = login.clone();
            let devices = desk
                .store
                .read(move |view| {
                    let user = flow::find(view, &who)?;
                    Ok::<_, AdminError>(view.devices_of(user.id)?.len())
                })
                .await?;
            let devices = count(devices, "device");
            consent.to(&format!("{login} and {devices} will be removed"))?;
            let (by, who) = (desk.by(), login.clone());
            desk.store.write(move |tx| flow::remove(tx, by, &who)).await?;
            Ok(Answer::new(json!({ "removed": login }), format!("{login} is removed.")))
        }
    }
}

async fn list(desk: &Desk) -> Result<Answer, AdminError> {
    let all = desk
        .store
        .read(|view| {
            let mut all = Vec::new();
            for user in view.users()? {
                let devices = view.devices_of(user.id)?.len();
                let methods = view.enabled_methods(user.id)?.to_string();
                let groups = view.groups_of_user(user.id)?;
                all.push((user, devices, methods, groups));
            }
            Ok::<_, StoreError>(all)
        })
        .await?;
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|(user, devices, methods, groups)| {
            let details = &user.details;
            vec![
                user.id.to_string(),
                details.login.clone(),
                details.email.clone(),
                state(user).to_owned(),
                devices.to_string(),
                if methods.is_empty() { "-".into() } else { methods.clone() },
                groups.join(","),
            ]
        })
        .collect();
    let json = all
        .iter()
        .map(|(user, devices, methods, groups)| {
            merge(
                describe(user),
                &json!({
                    "devices": devices,
                    "methods": words(methods),
                    "groups": groups,
                }),
            )
        })
        .collect();
    let headings = ["id", "login", "e-mail", "state", "devices", "methods", "groups"];
    let nothing = "There is nobody yet. Add someone: `core-bin user add LOGIN`";
    Ok(Answer::new(json, table(&headings, &rows, nothing)))
}

async fn show(desk: &Desk, login: String) -> Result<Answer, AdminError> {
    let (user, devices, methods, groups, sessions) = desk
        .store
        .read(move |view| {
            let user = flow::find(view, &login)?;
            let devices = view.devices_of(user.id)?;
            let methods = view.enabled_methods(user.id)?.to_string();
            let groups = view.groups_of_user(user.id)?;
            let sessions = view.live_count(Scope::User(user.id))?;
            Ok::<_, AdminError>((user, devices, methods, groups, sessions))
        })
        .await?;
    let names: Vec<&str> = devices.iter().map(|device| device.name.as_str()).collect();
    let or_none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
    let text = format!(
        "{} ({})\n  state: {}\n  e-mail: {}\n  methods: {}\n  groups: {}\n  devices: {}\n  \
         connected: {}",
        user.details.login,
        or_none(user.details.name.clone()),
        state(&user),
        or_none(user.details.email.clone()),
        or_none(methods.clone()),
        or_none(groups.join(", ")),
        or_none(names.join(", ")),
        count(sessions, "session"),
    );
    let more = json!({
        "methods": words(&methods), "groups": groups, "devices": names, "sessions": sessions,
    });
    Ok(Answer::new(merge(describe(&user), &more), text))
}

async fn enroll(desk: &Desk, login: String, valid: Duration) -> Result<Answer, AdminError> {
    let by = desk.by();
    let token = Token::from_random(*desk.rng.bytes());
    let (digest, who) = (token.digest(), login.clone());
    let (_, expires) =
        desk.store.write(move |tx| flow::enroll(tx, by, &who, digest, valid)).await?;
    let url = desk.config.public_url().to_string();
    let mut shown = token.expose_text().to_string();
    if desk.config.public.tls == Tls::SelfSigned {
        // Our client trusts core by its pin; others use what stands before the dot.
        shown = format!("{shown}.{}", desk.pin()?);
    }
    let text = format!(
        "Give this to {login}; it is good once, until {}:\n\n  client-bin enroll {url} {shown}\n",
        crate::text::utc(expires),
    );
    let json = json!({ "url": url, "token": shown, "expires_at": time(Some(expires)) });
    Ok(Answer::new(json, text))
}

async fn set_active(desk: &Desk, login: String, active: bool) -> Result<Answer, AdminError> {
    let (by, who) = (desk.by(), login.clone());
    let sessions = desk
        .store
        .write(move |tx| {
            let user = flow::find(tx, &who)?;
            let sessions = tx.live_count(Scope::User(user.id))?;
            flow::set_active(tx, by, &who, active)?;
            Ok::<_, AdminError>(sessions)
        })
        .await?;
    let text = if active {
        format!("{login} may connect again.")
    } else {
        format!("{login} is disabled; {} ended.", count(sessions, "session"))
    };
    Ok(Answer::new(json!({ "login": login, "active": active }), text))
}

const fn state(user: &User) -> &'static str {
    match (user.active, user.details.admin) {
        (false, _) => "disabled",
        (true, true) => "admin",
        (true, false) => "active",
    }
}

fn describe(user: &User) -> Value {
    json!({
        "id": user.id.get(),
        "login": user.details.login,
        "name": user.details.name,
        "email": user.details.email,
        "phone": user.details.phone,
        "admin": user.details.admin,
        "active": user.active,
        "created_at": time(Some(user.created)),
    })
}

/// A list of words, from one text with commas.
fn words(list: &str) -> Vec<&str> {
    list.split(',').filter(|word| !word.is_empty()).collect()
}

fn merge(mut into: Value, more: &Value) -> Value {
    if let (Some(into), Some(more)) = (into.as_object_mut(), more.as_object()) {
        into.extend(more.clone());
    }
    into
}
