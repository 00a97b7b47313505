//! `core-bin gateway …`

use core::time::Duration;

use clap::Subcommand;
use mfa_core::token::Token;
use mfa_store::Gateway;
use serde_json::{Value, json};

use super::answer::{ago, table, time};
use super::{AdminError, Answer, Consent, Desk};
use crate::flows::gateway as flow;

/// Silence after which a gateway is listed as away: three statistics periods of 30 s.
const AWAY: Duration = Duration::from_secs(90);

/// What can be done with gateways.
#[derive(Debug, Subcommand)]
pub enum GatewayCommand {
    /// Print the command with which a host becomes a gateway of a location; good once, for 15
    /// minutes. For a gateway that exists it replaces the certificate.
    Token {
        /// Which location it serves.
        location: String,
        /// What to call it.
        name: String,
        /// Make a token for a gateway of another make, which has no certificate. It is good until
        /// it is replaced or the gateway removed.
        #[arg(long)]
        legacy: bool,
    },
    /// List gateways: who is connected, and whether each has applied the newest state.
    List,
    /// Shut a gateway out and forget it.
    Remove {
        /// Which.
        name: String,
        /// Whether it may cut people off.
        #[command(flatten)]
        consent: Consent,
    },
}

pub(super) async fn run(desk: &Desk, command: GatewayCommand) -> Result<Answer, AdminError> {
    match command {
        GatewayCommand::Token { location, name, legacy: false } => {
            token(desk, location, name).await
        }
        GatewayCommand::Token { location, name, legacy: true } => {
            legacy_token(desk, location, name).await
        }
        GatewayCommand::List => list(desk).await,
        GatewayCommand::Remove { name, consent } => {
            let which = name.clone();
            desk.store.read(move |view| flow::find(view, &which)).await?;
            consent.to(&format!("The gateway {name} will be shut out; its tunnels stop"))?;
            let (by, which) = (desk.by(), name.clone());
            desk.store.write(move |tx| flow::remove(tx, by, &which)).await?;
            let text = format!("The gateway {name} is removed.");
            Ok(Answer::new(json!({ "removed": name }), text))
        }
    }
}

async fn token(desk: &Desk, place: String, name: String) -> Result<Answer, AdminError> {
    let by = desk.by();
    let token = Token::from_random(*desk.rng.bytes());
    let digest = token.digest();
    let (gateway, expires) = desk
        .store
        .write(move |tx| flow::token(tx, by, (&place, &name), digest, flow::TOKEN_LIFE))
        .await?;
    let core = desk.config.gateways_url().to_string();
    let core = core.trim_end_matches('/');
    let (shown, pin) = (token.expose_text(), desk.pin()?.to_string());
    let command =
        format!("gateway-bin enroll --core {core} --token {} --ca-pin {pin}", shown.as_str());
    let text = format!(
        "On the gateway's host, until {}:\n\n  {command}\n  gateway-bin run\n",
        crate::text::utc(expires)
    );
    let json = json!({
        "name": gateway.name,
        "core": core,
        "token": shown.as_str(),
        "ca_pin": pin,
        "command": command,
        "expires_at": time(Some(expires)),
    });
    Ok(Answer::new(json, text))
}

async fn legacy_token(desk: &Desk, place: String, name: String) -> Result<Answer, AdminError> {
    let by = desk.by();
    let token = Token::from_random(*desk.rng.bytes());
    let digest = token.digest();
    let gateway =
        desk.store.write(move |tx| flow::legacy_token(tx, by, (&place, &name), digest)).await?;
    let core = desk.config.gateways_url().to_string();
    let core = core.trim_end_matches('/');
    let shown = token.expose_text();
    let ca = desk.dir.ca().join("ca.pem");
    let ca = ca.display();
    let text = format!(
        "Set this in the configuration of the gateway {}, and start it again:\n\n  \
         core's URL      {core}\n  token           {}\n  \
         CA certificate  a copy of {ca} on this host\n\n\
         The token is good until it is replaced or the gateway removed: keep it secret.\n",
        gateway.name,
        shown.as_str(),
    );
    let json = json!({
        "name": gateway.name,
        "core": core,
        "token": shown.as_str(),
        "ca_certificate": ca.to_string(),
        "expires_at": null,
    });
    Ok(Answer::new(json, text))
}

async fn list(desk: &Desk) -> Result<Answer, AdminError> {
    let all = desk
        .store
        .read(|view| {
            let mut all = Vec::new();
            for gateway in view.gateways()? {
                let location = view.location(gateway.location)?;
                let name = location.as_ref().map(|l| l.settings.name.clone()).unwrap_or_default();
                all.push((gateway, name, location.map_or(0, |l| l.revision)));
            }
            Ok::<_, AdminError>(all)
        })
        .await?;
    let now = desk.clock.now();
    let state = |gateway: &Gateway, revision: i64| match (gateway.heard, gateway.enrolled) {
        (_, None) => "not enrolled",
        (None, Some(_)) => "never connected",
        (Some(heard), _) if now.since(heard) > AWAY => "away",
        _ if gateway.applied_revision < revision => "catching up",
        _ => "in sync",
    };
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|(gateway, location, revision)| {
            vec![
                gateway.name.clone(),
                location.clone(),
                state(gateway, *revision).to_owned(),
                ago(gateway.heard, now),
                format!("{} of {revision}", gateway.applied_revision),
                gateway.backend.clone(),
                gateway.version.clone(),
                gateway.hostname.clone(),
            ]
        })
        .collect();
    let json: Value = all
        .iter()
        .map(|(gateway, location, revision)| {
            json!({
                "id": gateway.id.get(),
                "name": gateway.name,
                "location": location,
                "state": state(gateway, *revision),
                "last_heard_at": time(gateway.heard),
                "applied_revision": gateway.applied_revision,
                "revision": revision,
                "backend": gateway.backend,
                "version": gateway.version,
                "hostname": gateway.hostname,
            })
        })
        .collect();
    let headings =
        ["gateway", "location", "state", "last heard", "revision", "backend", "version", "host"];
    let nothing = "There is no gateway yet. Add one: `core-bin gateway token LOCATION NAME`";
    Ok(Answer::new(json, table(&headings, &rows, nothing)))
}
