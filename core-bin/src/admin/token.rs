//! `core-bin token …`

use clap::Subcommand;
use mfa_core::token::Token;
use serde_json::json;

use super::answer::table;
use super::{AdminError, Answer, Desk};
use crate::flows::api_token::{self as flow, NewToken, Scopes};
use crate::span::Span;
use crate::view::TokenView;

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it, this once.
    #[command(
        after_help = "Example:\n  core-bin token add grafana --scopes sessions:read,gateways:read"
    )]
    Add {
        /// What it is for.
        name: String,
        /// What it may do, separated by commas; `all`: everything.
        #[arg(long, value_name = "SCOPES")]
        scopes: Scopes,
        /// How long it is good.
        #[arg(long, default_value = "90d")]
        valid: Span,
        /// The administrator on whose behalf it acts: it is worth nothing once that person is none.
        #[arg(long, value_name = "LOGIN")]
        user: Option<String>,
    },
    /// List tokens, what each may do, and when it was last used.
    List,
    /// Remove a token: it is worth nothing from now on.
    Remove {
        /// Which.
        name: String,
    },
}

pub(super) async fn run(desk: &Desk, command: TokenCommand) -> Result<Answer, AdminError> {
    match command {
        TokenCommand::Add { name, scopes, valid, user } => {
            let by = desk.by();
            let token = Token::from_random(*desk.rng.bytes());
            let digest = token.digest();
            let new = NewToken { name, scopes, life: valid.duration(), login: user };
            let made =
                desk.store.write(move |tx| flow::add(tx, by, &new, &Scopes::all(), digest)).await?;
            let shown = token.expose_text();
            let text = format!(
                "{}\n\nIt is shown this once, and good until {}. Use it so:\n\n  \
                 curl -H \"Authorization: Bearer $TOKEN\" {}api/v1/users",
                shown.as_str(),
                crate::text::utc(made.expires),
                desk.config.public_url(),
            );
            let json = json!({
                "name": made.name,
                "token": shown.as_str(),
                "scopes": Scopes::stored(&made.scopes).codes(),
                "expires_at": crate::text::rfc3339(made.expires),
            });
            Ok(Answer::new(json, text))
        }
        TokenCommand::List => list(desk).await,
        TokenCommand::Remove { name } => {
            let (by, which) = (desk.by(), name.clone());
            desk.store.write(move |tx| flow::remove(tx, by, &which)).await?;
            Ok(Answer::new(json!({ "removed": name }), format!("The token {name} is removed.")))
        }
    }
}

async fn list(desk: &Desk) -> Result<Answer, AdminError> {
    let all = desk
        .store
        .read(|view| {
            let tokens = view.api_tokens()?;
            TokenView::all(view, tokens)
        })
        .await?;
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|token| {
            vec![
                token.name.clone(),
                token.user.clone().unwrap_or_default(),
                token.expires_at.clone(),
                token.last_used_at.clone().unwrap_or_else(|| "never".to_owned()),
                token.scopes.join(","),
            ]
        })
        .collect();
    let headings = ["token", "for", "good until", "last used", "scopes"];
    let json = all.iter().map(|token| json!(token)).collect();
    Ok(Answer::new(
        json,
        table(&headings, &rows, "There is no token. Make one: `core-bin token add -h`"),
    ))
}
