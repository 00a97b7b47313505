//! Users.

use core::time::Duration;
use std::sync::Arc;

use axum::Form;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use mfa_core::id::UserId;
use mfa_core::method::{Method, MethodSet};
use mfa_core::time::Timestamp;
use mfa_core::token::Token;
use mfa_store::{Scope, Snapshot, StoreError, Tx, User, UserSort};
use serde::Deserialize;

use super::fault::Fault;
use super::location::words;
use super::login::{method_name, sentence};
use super::page::Frame;
use super::records;
use super::signed::Admin;
use super::ui::{self, Block, Cell, Columns, Field, Form as Fields, Kind, Table, segment};
use crate::admin::answer::{ago, bytes};
use crate::app::App;
use crate::flows::login::tell_old_address;
use crate::flows::user::{self as flow, NewUser, UserChange, UserError};
use crate::text::{count, utc};

/// Sessions that a user's page shows.
const HISTORY: i64 = 8;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    q: String,
    sort: String,
    page: Option<i64>,
    done: String,
}

const COLUMNS: Columns<UserSort> = Columns(&[
    ("Login", Some(("login", UserSort::Login))),
    ("Name", Some(("name", UserSort::Name))),
    ("E-mail", Some(("email", UserSort::Email))),
    ("State", None),
    ("Methods", None),
    ("Devices", None),
    ("Groups", None),
]);

pub(super) async fn list(
    State(app): State<Arc<App>>,
    admin: Admin,
    Query(asked): Query<Asked>,
) -> Result<Response, Fault> {
    let page = asked.page.unwrap_or(1);
    let order = COLUMNS.order(&asked.sort, (UserSort::Login, false));
    let query = ui::query(&asked.q, order, asked.page);
    let (rows, matching) = app
        .store
        .read(move |view| {
            let found = view.user_list(&query, None)?;
            let mut rows = Vec::new();
            for user in &found.entries {
                let details = &user.details;
                let path = format!("/users/{}", segment(&details.login));
                rows.push(vec![
                    Cell::link(path, &details.login),
                    Cell::text(&details.name),
                    Cell::text(&details.email),
                    state(user),
                    match methods(view.enabled_methods(user.id)?) {
                        none if none.is_empty() => Cell::Badge("note", "none yet".to_owned()),
                        some => Cell::Text(some),
                    },
                    Cell::text(view.devices_of(user.id)?.len()),
                    Cell::Text(view.groups_of_user(user.id)?.join(", ")),
                ]);
            }
            Ok::<_, StoreError>((rows, found.matching))
        })
        .await?;
    let link = |sort: &str, page: i64| ui::page_of("/users", &asked.q, sort, page);
    let blocks = vec![
        Block::Search { value: asked.q.clone(), what: "users" },
        Block::Table(Table {
            headings: COLUMNS.headings(),
            sorts: COLUMNS.sorts(order, |sort| link(sort, 1)),
            rows,
            empty: "Nobody fits this search.",
            ..Table::default()
        }),
        ui::neighbours(page, matching, |page| link(&asked.sort, page)),
        Block::Form(Fields {
            title: "Add a user",
            hint: "Then issue an enrollment link on the user's page: with it the person chooses a \
                   password, sets up a second factor and adds a device."
                .to_owned(),
            action: "/users".to_owned(),
            fields: vec![
                Field::text("login", "Login", "").required(),
                Field::text("name", "First and last name", ""),
                Field::text("email", "E-mail", "").of(Kind::Email),
                Field::text("phone", "Telephone", "").hint("For your own use."),
                Field::text("groups", "Groups", "").hint("Names separated by commas."),
                Field::check("admin", "This person administers".to_owned(), false),
            ],
            button: "Add",
            ..Fields::default()
        }),
    ];
    Ok(ui::show(Frame::new(&app, &admin.0, "users", &asked.done), "Users", blocks))
}

/// The methods as people call them.
pub(super) fn methods(set: MethodSet) -> String {
    set.iter().map(method_name).collect::<Vec<_>>().join(", ")
}

pub(super) fn state(user: &User) -> Cell {
    match (user.active, user.details.admin) {
        (false, _) => Cell::Badge("bad", "disabled".to_owned()),
        (true, true) => Cell::Badge("note", "administrator".to_owned()),
        (true, false) => Cell::Badge("good", "active".to_owned()),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Added {
    login: String,
    name: String,
    email: String,
    phone: String,
    groups: String,
    admin: String,
}

pub(super) async fn add(
    State(app): State<Arc<App>>,
    admin: Admin,
    Form(form): Form<Added>,
) -> Result<Response, Fault> {
    let new = NewUser {
        login: form.login,
        name: form.name,
        email: form.email,
        phone: form.phone,
        admin: !form.admin.is_empty(),
        groups: words(&form.groups),
    };
    let by = admin.by(&app);
    let user = app.store.write(move |tx| flow::add(tx, by, &new)).await.map_err(refused)?;
    app.registry.wake_all();
    let path = format!("/users/{}?done=added", segment(&user.details.login));
    Ok(Redirect::to(&path).into_response())
}

fn refused(error: UserError) -> Fault {
    match error {
        UserError::Store(error) => error.into(),
        UserError::NotFound(login) => {
            Fault::words(StatusCode::NOT_FOUND, format_args!("There is no user {login}."))
        }
        error => Fault::bad(sentence(&error)),
    }
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    admin: Admin,
    Path(login): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Fault> {
    page(&app, &admin, login, &asked.done, Vec::new()).await
}

async fn page(
    app: &Arc<App>,
    admin: &Admin,
    login: String,
    done: &str,
    first: Vec<Block>,
) -> Result<Response, Fault> {
    let now = app.clock.now();
    let (user, devices, (methods, passkeys), groups, (sessions, history)) = app
        .store
        .read(move |view| {
            let user = flow::find(view, &login)?;
            let mut devices = Vec::new();
            for device in view.devices_of(user.id)? {
                let live = view.live_count(Scope::Device(device.id))?;
                devices.push((device, live));
            }
            let methods = (view.enabled_methods(user.id)?, view.passkeys(user.id)?.len());
            let groups = view.groups_of_user(user.id)?;
            let sessions = (view.live_count(Scope::User(user.id))?, history(view, user.id, now)?);
            Ok::<_, UserError>((user, devices, methods, groups, sessions))
        })
        .await
        .map_err(refused)?;
    let details = &user.details;
    let path = format!("/users/{}", segment(&details.login));
    let act = |what: &str| vec![("act", what.to_owned())];
    let own = user.id == admin.0.user.id;
    let mut blocks = first;
    let mut facts = vec![
        (
            "State",
            match (user.active, details.admin) {
                (false, _) => "disabled".to_owned(),
                (true, true) => "administrator".to_owned(),
                (true, false) => "active".to_owned(),
            },
        ),
        ("E-mail", details.email.clone()),
        ("Telephone", details.phone.clone()),
        (
            "Methods",
            match self::methods(methods) {
                none if none.is_empty() => "none yet".to_owned(),
                some => some,
            },
        ),
        ("Groups", groups.join(", ")),
        ("Connected", count(sessions, "session")),
        ("Added", utc(user.created)),
    ];
    facts.retain(|(_, value)| !value.is_empty());
    blocks.push(Block::Facts(facts));
    let about = |name: &str| format!("{name} of {}", details.login);
    let rows = devices
        .iter()
        .map(|(device, live)| {
            vec![
                Cell::text(&device.name),
                Cell::Code(device.public_key.to_string()),
                Cell::time(utc(device.created)),
                Cell::time(ago(device.last_poll.map(|poll| poll.at), now)),
                records::disconnect(device, &details.login, *live, &details.login),
                Cell::Post {
                    action: "/devices/remove".to_owned(),
                    fields: vec![
                        ("device", device.id.get().to_string()),
                        ("back", details.login.clone()),
                    ],
                    label: "Remove",
                    about: about(&device.name),
                    danger: true,
                },
            ]
        })
        .collect();
    blocks.push(Block::Table(Table {
        title: "Devices",
        headings: vec!["Device", "Public key", "Added", "Last heard", "Connected", ""],
        rows,
        empty: "No device yet. An enrollment link lets the person add one.",
        ..Table::default()
    }));
    blocks.push(Block::Table(history));
    let form = |title, hint: &str, hidden, fields, button, danger| {
        let (hint, action) = (hint.to_owned(), path.clone());
        Block::Form(Fields { title, hint, action, hidden, fields, button, danger })
    };
    blocks.push(form(
        "Enrollment link",
        "Good once. It sets a password and a second factor in a browser, or enrolls a device with \
         the client. An older link is worth nothing from then on.",
        act("enroll"),
        vec![Field::choice(
            "valid",
            "Good for",
            VALID.map(|(name, _)| name.to_owned()).into(),
            DAY,
        )],
        "Issue a link",
        false,
    ));
    blocks.push(form(
        "Details",
        "",
        act("set"),
        vec![
            Field::text("name", "First and last name", &details.name),
            Field::text("email", "E-mail", &details.email)
                .of(Kind::Email)
                .hint("With another address, e-mail codes have to be set up again."),
            Field::text("phone", "Telephone", &details.phone),
            Field::text("groups", "Groups", &groups.join(", ")).hint("Names separated by commas."),
            Field::check("admin", "This person administers".to_owned(), details.admin),
        ],
        "Save changes",
        false,
    ));
    let row = |act: String, name: &str, what: String, label, danger| {
        vec![
            Cell::text(name),
            Cell::Text(what),
            Cell::Post {
                action: path.clone(),
                fields: vec![("act", act)],
                label,
                about: format!("{name}, {}", details.login),
                danger,
            },
        ]
    };
    let connected = count(sessions, "session");
    let mut more = vec![
        row(
            "end sessions".to_owned(),
            "Disconnect",
            format!("{connected} will end, and signed-in browsers are signed out."),
            "Disconnect",
            true,
        ),
        row(
            "unlock".to_owned(),
            "Wrong codes",
            "They are forgotten, and what they locked is open again.".to_owned(),
            "Unlock",
            false,
        ),
    ];
    let again = "The person sets up another with an enrollment link.";
    for method in methods.iter() {
        let what = format!("It is taken away, and sessions that it bought end. {again}");
        let act = format!("reset {}", method.code());
        more.push(row(act, method_name(method), what, "Reset", true));
    }
    if passkeys > 0 {
        let what = format!("{} taken away.", count(passkeys, "passkey"));
        more.push(row("remove passkeys".to_owned(), "Passkeys", what, "Remove", true));
    }
    if !own {
        let (act, what, label) = if user.active {
            let what = format!("Nothing opens any more; {connected} will end.");
            ("disable", what, "Shut out")
        } else {
            ("enable", "What was allowed before is allowed again.".to_owned(), "Let in again")
        };
        more.push(row(act.to_owned(), "Access", what, label, user.active));
    }
    blocks.push(Block::Table(Table {
        title: "Other actions",
        headings: vec!["Action", "What it does", ""],
        rows: more,
        ..Table::default()
    }));
    if !own {
        let devices = count(devices.len(), "device");
        blocks.push(form(
            "Remove the user",
            "",
            act("remove"),
            vec![Field::consent(format!("Remove {} and {devices}", details.login))],
            "Remove",
            true,
        ));
    }
    let title = if details.name == details.login {
        details.login.clone()
    } else {
        format!("{} ({})", details.name, details.login)
    };
    Ok(ui::show(Frame::new(app, &admin.0, "users", done), &title, blocks))
}

/// The user's newest sessions.
fn history(view: &mut Snapshot, user: UserId, now: Timestamp) -> Result<Table, StoreError> {
    let mut rows = Vec::new();
    for session in view.sessions_of(user, HISTORY)? {
        let device = view.device(session.subject.device)?.map(|device| device.name);
        let location = view.location(session.subject.location)?.map(|one| one.settings.name);
        rows.push(vec![
            Cell::link(format!("/sessions/{}", session.id), &utc(session.authorized)),
            Cell::Text(device.unwrap_or_default()),
            Cell::Text(location.unwrap_or_default()),
            Cell::text(method_name(session.method)),
            Cell::time(ago(Some(session.last_activity), now)),
            Cell::time(bytes(session.rx_bytes)),
            Cell::time(bytes(session.tx_bytes)),
            records::state(session.ended),
        ]);
    }
    Ok(Table {
        title: "Sessions of late",
        headings: vec![
            "Since", "Device", "Location", "Method", "Active", "Received", "Sent", "State",
        ],
        rows,
        empty: "This person has not connected yet.",
        ..Table::default()
    })
}

/// For how long an enrollment link can be good.
const VALID: [(&str, u64); 4] =
    [("1 hour", 3_600), (DAY, 86_400), ("7 days", 7 * 86_400), ("30 days", 30 * 86_400)];
const DAY: &str = "24 hours";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Order {
    act: String,
    valid: String,
    name: String,
    email: String,
    phone: String,
    groups: String,
    admin: String,
    sure: String,
}

pub(super) async fn act(
    State(app): State<Arc<App>>,
    admin: Admin,
    Path(login): Path<String>,
    Form(form): Form<Order>,
) -> Result<Response, Fault> {
    if form.act == "enroll" {
        return enroll(&app, &admin, login, &form.valid).await;
    }
    let (by, who, own) = (admin.by(&app), login.clone(), admin.0.user.id);
    let work = move |tx: &mut Tx| {
        let before = flow::find(tx, &who)?.details.email;
        let done = perform(tx, by, &who, &form, own)?;
        let after = tx.user_by_login(&who)?.map(|user| user.details.email);
        Ok::<_, UserError>((done, before, after))
    };
    let (done, before, after) = app.store.write(work).await.map_err(refused)?;
    app.registry.wake_all();
    if let Some(after) = after {
        tell_old_address(&app, &before, &after);
    }
    match done {
        Ok("removed") => Ok(Redirect::to("/users?done=removed").into_response()),
        Ok(done) => {
            let path = format!("/users/{}?done={done}", segment(&login));
            Ok(Redirect::to(&path).into_response())
        }
        Err(words) => Err(Fault::bad(words)),
    }
}

fn perform(
    tx: &mut Tx,
    by: mfa_store::By,
    login: &str,
    form: &Order,
    own: UserId,
) -> Result<Result<&'static str, &'static str>, UserError> {
    let user = flow::find(tx, login)?;
    let is_own = user.id == own;
    Ok(Ok(match form.act.as_str() {
        "set" => {
            let admin = !form.admin.is_empty();
            if is_own && !admin {
                return Ok(Err("You cannot take your own administration away."));
            }
            let change = UserChange {
                name: Some(form.name.clone()),
                email: Some(form.email.clone()),
                phone: Some(form.phone.clone()),
                admin: Some(admin),
            };
            flow::set(tx, by, login, &change)?;
            flow::set_groups(tx, by, login, &words(&form.groups))?;
            "saved"
        }
        "disable" | "remove" if is_own => {
            return Ok(Err("You cannot shut yourself out; another administrator can."));
        }
        "remove" if form.sure.is_empty() => {
            return Ok(Err("Tick the box that says that the user will be removed."));
        }
        "remove" => {
            flow::remove(tx, by, login)?;
            "removed"
        }
        "disable" => {
            flow::set_active(tx, by, login, false)?;
            tx.end_web_sessions(by, user.id, None)?;
            "disabled"
        }
        "enable" => {
            flow::set_active(tx, by, login, true)?;
            "enabled"
        }
        "unlock" => {
            flow::unlock(tx, by, login)?;
            "unlocked"
        }
        "end sessions" => {
            let administrator = mfa_core::connect::EndReason::Administrator;
            tx.end_sessions(by, Scope::User(user.id), administrator)?;
            if !is_own {
                tx.end_web_sessions(by, user.id, None)?;
            }
            "sessions-ended"
        }
        "remove passkeys" => {
            tx.remove_passkeys(by, user.id, None)?;
            "reset-passkeys"
        }
        reset => {
            let method: Option<Method> =
                reset.strip_prefix("reset ").and_then(|method| method.parse().ok());
            let Some(method) = method else { return Ok(Err("There is no such action.")) };
            flow::reset_method(tx, by, login, method)?;
            "reset-method"
        }
    }))
}

async fn enroll(
    app: &Arc<App>,
    admin: &Admin,
    login: String,
    valid: &str,
) -> Result<Response, Fault> {
    let seconds = VALID.iter().find(|(name, _)| *name == valid).map_or(86_400, |(_, secs)| *secs);
    let valid = Duration::from_secs(seconds);
    let (by, who) = (admin.by(app), login.clone());
    let token = Token::from_random(*app.rng.bytes());
    let digest = token.digest();
    let issued = app.store.write(move |tx| flow::enroll(tx, by, &who, digest, valid)).await;
    let (_, expires) = issued.map_err(refused)?;
    let blocks = enrollment(app, &token, expires);
    page(app, admin, login, "", blocks).await
}

/// Shows an enrollment: a link for a browser, a command for our client, a QR code for others.
pub(super) fn enrollment(app: &App, token: &Token, expires: Timestamp) -> Vec<Block> {
    let url = &app.site.url;
    let shown = app.addresses.client_token(token);
    let link = format!("{url}join?token={}", token.expose_text().as_str());
    let words = format!("Good once, until {}. It is shown only now.", utc(expires));
    vec![
        Block::Notice("good", words),
        Block::Copy { label: "Link for a browser", text: link.clone() },
        Block::Copy {
            label: "Command on a device",
            text: format!("client-bin enroll {url} {}", shown.as_str()),
        },
        Block::Svg {
            label: "QR code of the link",
            svg: super::page::qr(&link).as_str().to_owned(),
        },
    ]
}
