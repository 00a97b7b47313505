//! Groups: who is in them, and what they open.

use std::sync::Arc;

use axum::Form;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use mfa_store::{ListQuery, Scope, StoreError, UserSort};
use serde::Deserialize;

use super::fault::Fault;
use super::location::words;
use super::login::sentence;
use super::page::Frame;
use super::people::state;
use super::signed::Admin;
use super::ui::{self, Block, Cell, Columns, Field, Form as Fields, Table, segment};
use crate::app::App;
use crate::flows::group::{self as flow, GroupError};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    q: String,
    sort: String,
    page: Option<i64>,
    done: String,
}

impl Asked {
    fn query<S>(&self, order: (S, bool)) -> ListQuery<S> {
        ui::query(&self.q, order, self.page)
    }

    fn link(&self, path: &str, sort: &str, page: i64) -> String {
        ui::page_of(path, &self.q, sort, page)
    }
}

const GROUPS: Columns<()> =
    Columns(&[("Group", Some(("name", ()))), ("Members", None), ("Opens", None)]);

const MEMBERS: Columns<UserSort> = Columns(&[
    ("Login", Some(("login", UserSort::Login))),
    ("Name", Some(("name", UserSort::Name))),
    ("State", None),
    ("Connected", None),
    ("", None),
]);

pub(super) async fn list(
    State(app): State<Arc<App>>,
    admin: Admin,
    Query(asked): Query<Asked>,
) -> Result<Response, Fault> {
    let order = GROUPS.order(&asked.sort, ((), false));
    let query = asked.query(order);
    let found = app.store.read(move |view| view.group_list(&query)).await?;
    let rows = found
        .entries
        .into_iter()
        .map(|group| {
            vec![
                Cell::link(format!("/groups/{}", segment(&group.name)), &group.name),
                Cell::text(group.members),
                Cell::Text(group.locations.join(", ")),
            ]
        })
        .collect();
    let lead = "A location that names no group is open to everyone. Which groups may use a location \
                is set on its own page.";
    let blocks = vec![
        Block::Text(lead.to_owned()),
        Block::Search { value: asked.q.clone(), what: "groups" },
        Block::Table(Table {
            headings: GROUPS.headings(),
            sorts: GROUPS.sorts(order, |sort| asked.link("/groups", sort, 1)),
            rows,
            empty: if asked.q.trim().is_empty() {
                "There is no group yet. Add one below, put people into it, and name it on a \
                 location's page."
            } else {
                "No group fits this search."
            },
            ..Table::default()
        }),
        ui::neighbours(asked.page.unwrap_or(1), found.matching, |page| {
            asked.link("/groups", &asked.sort, page)
        }),
        Block::Form(Fields {
            title: "Add a group",
            action: "/groups".to_owned(),
            fields: vec![
                Field::text("name", "Name", "").required().hint("Letters, digits and . _ - only."),
            ],
            button: "Add",
            ..Fields::default()
        }),
    ];
    Ok(ui::show(Frame::new(&app, &admin.0, "groups", &asked.done), "Groups", blocks))
}

#[derive(Deserialize)]
pub(super) struct Added {
    name: String,
}

pub(super) async fn add(
    State(app): State<Arc<App>>,
    admin: Admin,
    Form(Added { name }): Form<Added>,
) -> Result<Response, Fault> {
    let by = admin.by(&app);
    let name = app.store.write(move |tx| flow::add(tx, by, &name)).await.map_err(refused)?;
    Ok(Redirect::to(&format!("/groups/{}?done=added", segment(&name))).into_response())
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    admin: Admin,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Fault> {
    let order = MEMBERS.order(&asked.sort, (UserSort::Login, false));
    let (query, which) = (asked.query(order), name.clone());
    let path = format!("/groups/{}", segment(&name));
    let action = path.clone();
    let read = move |view: &mut mfa_store::Snapshot| {
        let Some(id) = view.group_id(&which)? else { return Ok(None) };
        let locations = view.locations_of_group(id)?;
        let found = view.user_list(&query, Some(&which))?;
        let mut rows = Vec::with_capacity(found.entries.len());
        for user in &found.entries {
            let login = &user.details.login;
            rows.push(vec![
                Cell::link(format!("/users/{}", segment(login)), login),
                Cell::text(&user.details.name),
                state(user),
                Cell::text(view.live_count(Scope::User(user.id))?),
                Cell::Post {
                    action: action.clone(),
                    fields: vec![("act", "take-out".to_owned()), ("logins", login.clone())],
                    label: "Take out",
                    about: login.clone(),
                    danger: true,
                },
            ]);
        }
        Ok::<_, StoreError>(Some((locations, rows, found.matching)))
    };
    let Some((locations, rows, matching)) = app.store.read(read).await? else {
        return Err(Fault::words(StatusCode::NOT_FOUND, "There is no such group."));
    };
    let opens = if locations.is_empty() {
        "No location is for this group.".to_owned()
    } else {
        format!(
            "Opens {}. Whoever is taken out loses at once what no other group opens, with the \
             sessions there.",
            locations.join(", ")
        )
    };
    let form = |title, hint: &str, act: &str, fields, button| {
        let (hint, action) = (hint.to_owned(), path.clone());
        let hidden = vec![("act", act.to_owned())];
        Fields { title, hint, action, hidden, fields, button, danger: false }
    };
    let mut blocks = vec![
        Block::Text(opens),
        Block::Search { value: asked.q.clone(), what: "members" },
        Block::Table(Table {
            headings: MEMBERS.headings(),
            sorts: MEMBERS.sorts(order, |sort| asked.link(&path, sort, 1)),
            rows,
            empty: if asked.q.trim().is_empty() {
                "Nobody is in this group yet: put people in below."
            } else {
                "No member fits this search."
            },
            ..Table::default()
        }),
        ui::neighbours(asked.page.unwrap_or(1), matching, |page| {
            asked.link(&path, &asked.sort, page)
        }),
        Block::Form(form(
            "Put people in",
            "",
            "put-in",
            vec![Field::text("logins", "Logins", "").required().hint("Separated by commas.")],
            "Put in",
        )),
        Block::Form(form(
            "Rename the group",
            "Who is in it and what it opens stay.",
            "rename",
            vec![Field::text("name", "Name", &name).required()],
            "Rename",
        )),
    ];
    blocks.push(if locations.is_empty() {
        let consent = vec![Field::consent(format!("Remove the group {name}"))];
        let hint = "No location is for it, so nobody loses access.";
        let remove = form("Remove the group", hint, "remove", consent, "Remove");
        Block::Form(Fields { danger: true, ..remove })
    } else {
        let words = "To remove this group take it out of its locations first: a location without \
                     any group is open to everyone.";
        Block::Text(words.to_owned())
    });
    let title = format!("Group {name}");
    Ok(ui::show(Frame::new(&app, &admin.0, "groups", &asked.done), &title, blocks))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Order {
    act: String,
    name: String,
    logins: String,
    sure: String,
}

pub(super) async fn act(
    State(app): State<Arc<App>>,
    admin: Admin,
    Path(name): Path<String>,
    Form(form): Form<Order>,
) -> Result<Response, Fault> {
    let by = admin.by(&app);
    let done = |name: &str, key: &str| {
        Ok(Redirect::to(&format!("/groups/{}?done={key}", segment(name))).into_response())
    };
    let which = name.clone();
    match form.act.as_str() {
        "put-in" => {
            let logins = words(&form.logins);
            let put = app.store.write(move |tx| flow::put_in(tx, by, &which, &logins)).await;
            put.map_err(refused)?;
            app.registry.wake_all();
            done(&name, "put-in")
        }
        "take-out" => {
            let take = move |tx: &mut mfa_store::Tx| flow::take_out(tx, by, &which, &form.logins);
            app.store.write(take).await.map_err(refused)?;
            app.registry.wake_all();
            done(&name, "taken-out")
        }
        "rename" => {
            let rename = move |tx: &mut mfa_store::Tx| flow::rename(tx, by, &which, &form.name);
            let name = app.store.write(rename).await.map_err(refused)?;
            done(&name, "renamed")
        }
        "remove" if form.sure.is_empty() => {
            Err(Fault::bad("Tick the box that says that the group will be removed."))
        }
        "remove" => {
            app.store.write(move |tx| flow::remove(tx, by, &which)).await.map_err(refused)?;
            Ok(Redirect::to("/groups?done=group-removed").into_response())
        }
        _ => Err(Fault::bad("There is no such action.")),
    }
}

fn refused(error: GroupError) -> Fault {
    match error {
        GroupError::Store(error) => error.into(),
        GroupError::NotFound(_) => Fault::words(StatusCode::NOT_FOUND, sentence(&error)),
        error => Fault::bad(sentence(&error)),
    }
}
