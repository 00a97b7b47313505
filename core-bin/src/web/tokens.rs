//! Tokens of the REST API. A token works without a second factor, so making one takes a fresh one.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Form;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use mfa_core::token::Token;
use mfa_store::StoreError;
use serde::Deserialize;

use super::fault::Fault;
use super::login::sentence;
use super::page::Frame;
use super::signed::Admin;
use super::ui::{self, Block, Cell, Field, Form as Fields, Table};
use crate::admin::answer::ago;
use crate::app::App;
use crate::flows::api_token::{self as flow, NewToken, Scope, Scopes, TokenError};
use crate::span::Span;
use crate::text::utc;

const DAY: u64 = 86_400;
/// How long a token can be good.
const VALID: [(&str, u64); 4] =
    [("7 days", 7 * DAY), ("30 days", 30 * DAY), (USUAL, 90 * DAY), ("1 year", 366 * DAY)];
const USUAL: &str = "90 days";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    done: String,
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    admin: Admin,
    Query(asked): Query<Asked>,
) -> Result<Response, Fault> {
    page(&app, &admin, &asked.done, Vec::new()).await
}

async fn page(
    app: &Arc<App>,
    admin: &Admin,
    done: &str,
    first: Vec<Block>,
) -> Result<Response, Fault> {
    let now = app.clock.now();
    let rows = app
        .store
        .read(move |view| {
            let mut rows = Vec::new();
            for token in view.api_tokens()? {
                let owner = token.user.map(|id| view.user(id)).transpose()?.flatten();
                let owner = owner.map(|user| user.details.login);
                let good = if token.expires <= now {
                    Cell::Badge("bad", "over".to_owned())
                } else {
                    Cell::time(utc(token.expires))
                };
                rows.push(vec![
                    Cell::text(&token.name),
                    Cell::Text(owner.unwrap_or_else(|| "the installation".to_owned())),
                    Cell::Text(Scopes::stored(&token.scopes).codes().join(", ")),
                    good,
                    Cell::time(ago(token.used, now)),
                    Cell::Post {
                        action: "/tokens/remove".to_owned(),
                        fields: vec![("name", token.name.clone())],
                        label: "Remove",
                        about: token.name,
                        danger: true,
                    },
                ]);
            }
            Ok::<_, StoreError>(rows)
        })
        .await?;
    let mut blocks = first;
    blocks.extend([
        Block::Text(
            "A token lets a program use the REST API: what its scopes say, and no more, without a \
             second factor. What it did stands in the audit log under its number."
                .to_owned(),
        ),
        Block::Links(vec![("/api/docs".to_owned(), "Every call, to read and to try")]),
        Block::Table(Table {
            headings: vec!["Token", "For", "May", "Good until", "Last used", ""],
            rows,
            empty: "There is no token yet. Make one below for each program, with the scopes that it \
                    needs.",
            ..Table::default()
        }),
    ]);
    if admin.is_fresh() {
        blocks.push(Block::Form(Fields {
            title: "Make a token",
            hint: "It is shown once, when it is made.".to_owned(),
            action: "/tokens".to_owned(),
            fields: vec![
                Field::text("name", "What it is for", "")
                    .required()
                    .hint("Letters, digits and . _ - only."),
                Field::checks(
                    "What it may do",
                    Scope::ALL
                        .iter()
                        .map(|one| (one.code(), format!("{}: {}", one.code(), one.words()), false))
                        .collect(),
                ),
                Field::choice(
                    "valid",
                    "Good for",
                    VALID.map(|(name, _)| name.to_owned()).into(),
                    USUAL,
                ),
                Field::text("user", "Administrator for whom it acts", &admin.0.user.details.login)
                    .hint(
                        "It is worth nothing once that person administers no more. Empty: it acts \
                         for the installation.",
                    ),
            ],
            button: "Make the token",
            ..Fields::default()
        }));
    } else {
        blocks.extend(ui::prove("/tokens", "A token works without a second factor."));
    }
    Ok(ui::show(Frame::new(app, &admin.0, "tokens", done), "API tokens", blocks))
}

pub(super) async fn add(
    State(app): State<Arc<App>>,
    admin: Admin,
    Form(form): Form<BTreeMap<String, String>>,
) -> Result<Response, Fault> {
    admin.fresh("/tokens")?;
    let text = |name: &str| form.get(name).map(|text| text.trim().to_owned()).unwrap_or_default();
    let codes = Scope::ALL.iter().map(|scope| scope.code());
    let codes = codes.filter(|code| form.contains_key(*code)).collect::<Vec<_>>().join(",");
    let valid = text("valid");
    let seconds = VALID.iter().find(|(name, _)| *name == valid).map_or(90 * DAY, |(_, secs)| *secs);
    let new = NewToken {
        name: text("name"),
        scopes: Scopes::stored(&codes),
        life: Span::from_secs(seconds).duration(),
        login: Some(text("user")).filter(|login| !login.is_empty()),
    };
    let token = Token::from_random(*app.rng.bytes());
    let (by, digest) = (admin.by(&app), token.digest());
    let made = app.store.write(move |tx| flow::add(tx, by, &new, &Scopes::all(), digest)).await;
    let made = made.map_err(refused)?;
    let words = format!("{} is made, good until {}.", made.name, utc(made.expires));
    let call = format!("curl -H \"Authorization: Bearer $TOKEN\" {}api/v1/…", app.site.url);
    let first = vec![
        Block::Notice("good", words),
        Block::Copy {
            label: "The token, shown only now",
            text: token.expose_text().as_str().to_owned(),
        },
        Block::Copy { label: "How a program uses it", text: call },
    ];
    page(&app, &admin, "", first).await
}

#[derive(Deserialize)]
pub(super) struct Remove {
    name: String,
    #[serde(default)]
    sure: String,
}

/// Removes a token, once it was said what that does.
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    admin: Admin,
    Form(Remove { name, sure }): Form<Remove>,
) -> Result<Response, Fault> {
    if sure.is_empty() {
        let words = format!("Whatever uses the token {name} is refused from now on.");
        let frame = Frame::new(&app, &admin.0, "tokens", "");
        let ways = ("Remove the token", "/tokens".to_owned());
        let hidden = vec![("name", name)];
        return Ok(ui::ask(frame, "Remove a token", words, "/tokens/remove", hidden, ways));
    }
    let by = admin.by(&app);
    app.store.write(move |tx| flow::remove(tx, by, &name)).await.map_err(refused)?;
    Ok(Redirect::to("/tokens?done=token-removed").into_response())
}

fn refused(error: TokenError) -> Fault {
    match error {
        TokenError::Store(error) => error.into(),
        error => Fault::bad(sentence(&error)),
    }
}
