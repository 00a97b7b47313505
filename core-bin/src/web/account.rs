//! The own account: devices, methods, sessions, history.

use std::sync::Arc;

use axum::Form;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use mfa_core::connect::EndReason;
use mfa_core::id::SessionId;
use mfa_core::method::Method;
use mfa_core::token::Token;
use mfa_store::{Scope, StoreError};
use mfa_wire::http::{Code, SecretText};
use serde::Deserialize;

use super::fault::Fault;
use super::login::{method_name, sentence};
use super::page::{self, Frame};
use super::people::enrollment;
use super::signed::Signed;
use super::ui::{self, Block, Cell, Field, Form as Fields, Kind, Table};
use super::words::why;
use crate::admin::answer::{ago, bytes};
use crate::app::App;
use crate::flows::device as devices;
use crate::flows::login::{self, SignedIn};
use crate::flows::mfa::{self, Holder, MfaError, Staged};
use crate::text::utc;

const HISTORY: i64 = 25;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    done: String,
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    Signed(one): Signed,
    Query(asked): Query<Asked>,
) -> Result<Response, Fault> {
    page(&app, &one, &asked.done, Vec::new()).await
}

async fn page(
    app: &Arc<App>,
    one: &SignedIn,
    done: &str,
    first: Vec<Block>,
) -> Result<Response, Fault> {
    let (user, now, look) = (one.user.clone(), app.clock.now(), Arc::clone(app));
    let own = one.session.id;
    let mut middle = app
        .store
        .read(move |view| {
            let act = |what: &str, id: String| vec![("act", what.to_owned()), ("which", id)];
            let button = |what: &str, id: String, label: &'static str, about: String| Cell::Post {
                action: "/account".to_owned(),
                fields: act(what, id),
                label,
                about,
                danger: what.starts_with("remove") || what == "end",
            };
            let rows = view
                .devices_of(user.id)?
                .into_iter()
                .map(|device| {
                    vec![
                        Cell::text(&device.name),
                        Cell::Code(device.public_key.to_string()),
                        Cell::time(utc(device.created)),
                        Cell::text(ago(device.last_poll.map(|poll| poll.at), now)),
                        button("remove-device", device.id.to_string(), "Remove", device.name),
                    ]
                })
                .collect();
            let devices = Table {
                title: "My devices",
                headings: vec!["Device", "Public key", "Added", "Last heard", ""],
                rows,
                act: Some(button("add-device", String::new(), "Add a device", String::new())),
                empty: "No device yet. Add one: you get a link, a command and a QR code, good for an hour.",
                ..Table::default()
            };
            let enabled = view.enabled_methods(user.id)?;
            let codes = view.recovery_codes(user.id)?.len();
            let mut rows = Vec::new();
            for method in Method::ALL {
                let has = enabled.contains(method);
                let state = match look.unavailable(method, &user) {
                    Some(why) => Cell::Badge("plain", format!("not offered: {why}")),
                    None if has => Cell::Badge("good", "set up".to_owned()),
                    None => Cell::Badge("plain", "not set up".to_owned()),
                };
                let code = method.code().to_owned();
                let label = if has { "Set up anew" } else { "Set up" };
                let name = method_name(method);
                let offered = look.unavailable(method, &user).is_none();
                let remove = if has {
                    button("remove-method", code.clone(), "Remove", name.to_owned())
                } else {
                    Cell::Text(String::new())
                };
                let set_up = if offered {
                    button("set-up", code, label, name.to_owned())
                } else {
                    Cell::Text(String::new())
                };
                rows.push(vec![Cell::text(name), state, set_up, remove]);
            }
            for passkey in view.passkeys(user.id)? {
                rows.push(vec![
                    Cell::Text(format!("Passkey: {}", passkey.name)),
                    Cell::Badge(
                        "good",
                        match passkey.used {
                            None => "not used yet".to_owned(),
                            last => format!("used {}", ago(last, now)),
                        },
                    ),
                    Cell::Text(String::new()),
                    button("remove-passkey", passkey.id.to_string(), "Remove", passkey.name),
                ]);
            }
            rows.push(vec![
                Cell::text("Recovery codes"),
                Cell::Badge(if codes > 2 { "good" } else { "note" }, format!("{codes} left")),
                button("codes", String::new(), "New codes", "Recovery codes".to_owned()),
                Cell::Text(String::new()),
            ]);
            let methods = Table {
                title: "My methods",
                headings: vec!["Method", "State", "", ""],
                rows,
                ..Table::default()
            };
            let live = view.live_sessions(Scope::User(user.id))?;
            let mut rows = Vec::new();
            for session in live {
                let device = view.device(session.subject.device)?.map(|d| d.name);
                let location = view.location(session.subject.location)?.map(|l| l.settings.name);
                let device = device.unwrap_or_default();
                rows.push(vec![
                    Cell::text(&device),
                    Cell::Text(location.unwrap_or_default()),
                    Cell::text(ago(Some(session.authorized), now)),
                    Cell::Text(bytes(session.rx_bytes)),
                    Cell::Text(bytes(session.tx_bytes)),
                    button("end", session.id.to_string(), "Disconnect", device),
                ]);
            }
            let sessions = Table {
                title: "Connected now",
                headings: vec!["Device", "Location", "Since", "Received", "Sent", ""],
                rows,
                empty: "None of your devices is connected.",
                ..Table::default()
            };
            let rows: Vec<_> = view
                .web_sessions_of(user.id)?
                .into_iter()
                .map(|web| {
                    vec![
                        if web.id == own {
                            Cell::Badge("good", "this browser".to_owned())
                        } else {
                            Cell::Badge("plain", "another browser".to_owned())
                        },
                        Cell::time(utc(web.created)),
                        Cell::text(ago(Some(web.seen), now)),
                    ]
                })
                .collect();
            let browsers = Table {
                title: "Signed-in browsers",
                headings: vec!["Browser", "Since", "Last request"],
                act: (rows.len() > 1).then(|| {
                    button("others", String::new(), "Sign out everywhere else", String::new())
                }),
                rows,
                ..Table::default()
            };
            let mut rows = Vec::new();
            for session in view.sessions_of(user.id, HISTORY)? {
                let device = view.device(session.subject.device)?.map(|d| d.name);
                let location = view.location(session.subject.location)?.map(|l| l.settings.name);
                let end = session
                    .ended
                    .map_or_else(|| "connected".to_owned(), |(_, reason)| why(reason).to_owned());
                rows.push(vec![
                    Cell::time(utc(session.authorized)),
                    Cell::Text(device.unwrap_or_default()),
                    Cell::Text(location.unwrap_or_default()),
                    Cell::text(method_name(session.method)),
                    Cell::Text(end),
                ]);
            }
            let history = Table {
                title: "History",
                headings: vec!["When", "Device", "Location", "Method", "Ended"],
                rows,
                empty: "You have not connected yet.",
                ..Table::default()
            };
            Ok::<_, StoreError>(
                [sessions, devices, methods, history, browsers]
                    .map(Block::Table)
                    .into_iter()
                    .collect::<Vec<_>>(),
            )
        })
        .await?;
    let form = |title, hint: &str, act: &str, fields, button| {
        let hidden = vec![("act", act.to_owned())];
        let (hint, action) = (hint.to_owned(), "/account".to_owned());
        Block::Form(Fields { title, hint, action, hidden, fields, button, danger: false })
    };
    let mut blocks = first;
    blocks.append(&mut middle);
    blocks.push(Block::Passkey(login::passkey::unavailable(app).unwrap_or_default()));
    blocks.push(form(
        "My e-mail address",
        "The old address is told.",
        "email",
        vec![Field::text("value", "E-mail", &one.user.details.email).of(Kind::Email)],
        "Change it",
    ));
    let mut password = Field::text("value", "New password", "").of(Kind::Password).required();
    password.autocomplete = "new-password";
    blocks.push(form(
        "My password",
        "At least 10 characters. Other browsers are signed out.",
        "password",
        vec![password],
        "Change it",
    ));
    Ok(ui::show(Frame::new(app, one, "account", done), "My account", blocks))
}

#[derive(Deserialize)]
pub(super) struct Order {
    act: String,
    #[serde(default)]
    which: String,
    value: Option<SecretText>,
}

pub(super) async fn act(
    State(app): State<Arc<App>>,
    Signed(one): Signed,
    Form(form): Form<Order>,
) -> Result<Response, Fault> {
    let done = |key: &str| Ok(Redirect::to(&format!("/account?done={key}")).into_response());
    let value = || form.value.clone().unwrap_or_else(|| SecretText::new(""));
    match form.act.as_str() {
        "end" => {
            end(&app, &one, &form.which).await?;
            done("ended")
        }
        "others" => {
            login::end_everywhere(&app, &one).await?;
            done("others")
        }
        "remove-device" => {
            let (by, user, which) =
                (App::by_user(one.user.id, app.clock.now()), one.user.id, form.which);
            let removed = app
                .store
                .write(move |tx| {
                    let device = devices::find(tx, &which)?;
                    if device.user != user {
                        return Err(devices::DeviceError::NotFound(which.clone()));
                    }
                    Ok(tx.remove_device(by, device.id)?)
                })
                .await;
            app.registry.wake_all();
            match removed {
                Ok(_) => done("removed"),
                Err(devices::DeviceError::Store(error)) => Err(error.into()),
                Err(_) => Err(Fault::words(StatusCode::NOT_FOUND, "You have no such device.")),
            }
        }
        "add-device" => {
            let token = Token::from_random(*app.rng.bytes());
            let login = one.user.details.login.clone();
            let expires = login::add_device(&app, one.fresh()?, &login, token.digest()).await?;
            page(&app, &one, "", enrollment(&app, &token, expires)).await
        }
        "remove-passkey" => {
            let id = form.which.parse().map_err(|_| Fault::bad("You have no such passkey."))?;
            login::passkey::remove(&app, &one, id).await?;
            done("passkey-removed")
        }
        "email" => {
            login::change_email(&app, &one, value().expose_secret()).await?;
            done("email")
        }
        "password" => {
            login::change_password(&app, &one, value()).await?;
            done("password")
        }
        "codes" => {
            let codes = login::renew_codes(&app, &one).await?;
            page(&app, &one, "", shown(&codes)).await
        }
        "set-up" | "remove-method" => {
            let method: Method =
                form.which.parse().map_err(|_| Fault::bad("There is no such method."))?;
            if form.act == "remove-method" {
                login::remove_method(&app, &one, method).await?;
                return done("method-removed");
            }
            let staged = mfa::start(&app, Holder::Web(one.fresh()?), method, None).await;
            let staged = staged.map_err(|error| Fault::from(login::LoginError::from(error)))?;
            Ok(confirm_page(&app, &one, method, &staged, ""))
        }
        _ => Err(Fault::bad("There is no such action.")),
    }
}

fn shown(codes: &[zeroize::Zeroizing<String>]) -> Vec<Block> {
    if codes.is_empty() {
        return vec![Block::Notice("good", "The method is set up.".to_owned())];
    }
    let words = "These recovery codes are shown only now; older ones are worth nothing. Each opens \
                 a location or these pages once, in place of the app's code.";
    let codes = codes.iter().map(|code| code.as_str().to_owned()).collect();
    vec![Block::Notice("good", words.to_owned()), Block::Codes(codes)]
}

async fn end(app: &Arc<App>, one: &SignedIn, which: &str) -> Result<(), Fault> {
    let Ok(number) = which.parse::<i64>() else { return Err(Fault::bad("No such session.")) };
    let (user, id) = (one.user.id, SessionId::new(number));
    let by = App::by_user(user, app.clock.now());
    app.store
        .write(move |tx| {
            let own = tx.session(id)?.is_some_and(|session| session.subject.user == user);
            if own {
                tx.end_session(by, id, EndReason::Disconnected)?;
            }
            Ok::<_, StoreError>(())
        })
        .await?;
    app.registry.wake_all();
    Ok(())
}

/// Asks for the first code of a method that is being set up.
fn confirm_page(
    app: &App,
    one: &SignedIn,
    method: Method,
    staged: &Staged,
    problem: &str,
) -> Response {
    let mut blocks = Vec::new();
    if !problem.is_empty() {
        blocks.push(Block::Notice("bad", problem.to_owned()));
    }
    let (title, label) = match staged {
        Staged::Totp { base32, uri } => {
            let words = "Scan this with the authenticator app, or type the key into it.";
            blocks.push(Block::Text(words.to_owned()));
            let svg = page::qr(uri).as_str().to_owned();
            blocks.push(Block::Svg { label: "QR code for the authenticator app", svg });
            blocks.push(Block::Copy { label: "Key", text: base32.as_str().to_owned() });
            ("Set up the authenticator app", "The 6 digits that the app shows now")
        }
        Staged::Email { sent_to } | Staged::CurrentCodeSent { sent_to } => {
            blocks.push(Block::Text(format!("A code is on its way to {sent_to}.")));
            ("Set up e-mail codes", "The 8 digits in the mail")
        }
    };
    let mut code = Field::text("code", label, "").of(Kind::Code).required();
    code.autocomplete = "one-time-code";
    blocks.push(Block::Form(Fields {
        title: "Confirm it with a first code",
        action: "/account/totp".to_owned(),
        hidden: vec![("method", method.code().to_owned())],
        fields: vec![code],
        button: "Confirm",
        ..Fields::default()
    }));
    ui::show(Frame::new(app, one, "account", ""), title, blocks)
}

#[derive(Deserialize)]
pub(super) struct Confirm {
    method: String,
    code: String,
}

pub(super) async fn confirm(
    State(app): State<Arc<App>>,
    Signed(one): Signed,
    Form(Confirm { method, code }): Form<Confirm>,
) -> Result<Response, Fault> {
    let method: Method = method.parse().map_err(|_| Fault::bad("There is no such method."))?;
    let holder = Holder::Web(one.fresh()?);
    let code = Code::new(code.split_whitespace().collect::<String>());
    match mfa::finish(&app, holder, method, code).await {
        Ok(codes) => page(&app, &one, "", shown(&codes)).await,
        Err(refused @ (MfaError::Wrong | MfaError::Malformed(_) | MfaError::Guess(_)))
            if method == Method::Totp =>
        {
            let staged = mfa::pending_totp(&app, holder).await;
            let staged = staged.map_err(|error| Fault::from(login::LoginError::from(error)))?;
            Ok(confirm_page(&app, &one, method, &staged, &sentence(&refused)))
        }
        Err(error) => Err(Fault::from(login::LoginError::from(error))),
    }
}
