//! Groups, and who is in them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use mfa_store::ListQuery as Wanted;
use serde::Deserialize;
use utoipa::ToSchema;

use super::actor::Caller;
use super::body::{Body, Named, Params};
use super::operation::{Api, Operation};
use super::page::{ListQuery, Page};
use super::problem::Problem;
use crate::app::App;
use crate::flows::api_token::Scope::{UsersRead, UsersWrite};
use crate::flows::group as flow;
use crate::view::GroupView;

const ORDERS: &[(&str, ())] = &[("name", ())];

pub(super) fn add(api: &mut Api) {
    use Operation as Op;
    let list = Op::get("/groups", "listGroups", UsersRead).says(
        "List groups, how many people are in each and which locations are for it. The list of \
         users says who is in one.",
    );
    api.add(list.paged(&["name"]).answers_page::<GroupView>(), list_groups);
    let create = Op::post("/groups", "addGroup", UsersWrite)
        .says("Add a group that nobody is in yet. Naming one of a person adds it, too.");
    api.add(create.takes::<GroupName>().answers::<GroupName>(StatusCode::CREATED), create_group);
    let rename = Op::patch("/groups/{name}", "renameGroup", UsersWrite)
        .says("Give a group another name; who is in it and what it opens stay.");
    api.add(rename.takes::<GroupName>().answers::<GroupName>(StatusCode::OK), rename_group);
    let remove = Op::delete("/groups/{name}", "removeGroup", UsersWrite)
        .says("Remove a group that no location is for.");
    api.add(remove, remove_group);
    let put = Op::put("/groups/{name}/members/{login}", "putInGroup", UsersWrite)
        .says("Put a person into a group, beside the groups that the person is in.");
    api.add(put, put_in);
    let take = Op::delete("/groups/{name}/members/{login}", "takeOutOfGroup", UsersWrite)
        .says("Take a person out of a group; sessions end in locations that no other group opens.");
    api.add(take, take_out);
}

/// What a group is called.
#[derive(Clone, Debug, Deserialize, serde::Serialize, ToSchema)]
#[schema(as = GroupName)]
#[serde(deny_unknown_fields)]
struct GroupName {
    /// Letters, digits and `.`, `_`, `-`.
    name: String,
}

type Member = Result<Path<(String, String)>, axum::extract::rejection::PathRejection>;

async fn list_groups(
    State(app): State<Arc<App>>,
    Params(query): Params<ListQuery>,
) -> Result<Json<Page<GroupView>>, Problem> {
    let asked: Wanted<()> = query.asked(ORDERS)?;
    let found = app.store.read(move |view| view.group_list(&asked)).await?;
    let items = found.entries.into_iter().map(GroupView::from).collect();
    Ok(Json(query.page(items, found.matching)))
}

async fn create_group(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(GroupName { name }): Body<GroupName>,
) -> Result<(StatusCode, Json<GroupName>), Problem> {
    let by = caller.by(app.clock.now());
    let name = app.store.write(move |tx| flow::add(tx, by, &name).map_err(Problem::from)).await?;
    Ok((StatusCode::CREATED, Json(GroupName { name })))
}

async fn rename_group(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(old): Named,
    Body(GroupName { name }): Body<GroupName>,
) -> Result<Json<GroupName>, Problem> {
    let by = caller.by(app.clock.now());
    let rename =
        move |tx: &mut mfa_store::Tx| flow::rename(tx, by, &old, &name).map_err(Problem::from);
    app.store.write(rename).await.map(|name| Json(GroupName { name }))
}

async fn remove_group(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(name): Named,
) -> Result<StatusCode, Problem> {
    let by = caller.by(app.clock.now());
    app.store.write(move |tx| flow::remove(tx, by, &name).map_err(Problem::from)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn put_in(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Member,
) -> Result<StatusCode, Problem> {
    let Path((name, login)) = path.map_err(|error| Problem::bad(error.body_text()))?;
    let (by, logins) = (caller.by(app.clock.now()), [login]);
    let put =
        move |tx: &mut mfa_store::Tx| flow::put_in(tx, by, &name, &logins).map_err(Problem::from);
    app.store.write(put).await?;
    app.registry.wake_all();
    Ok(StatusCode::NO_CONTENT)
}

async fn take_out(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Member,
) -> Result<StatusCode, Problem> {
    let Path((name, login)) = path.map_err(|error| Problem::bad(error.body_text()))?;
    let by = caller.by(app.clock.now());
    let take =
        move |tx: &mut mfa_store::Tx| flow::take_out(tx, by, &name, &login).map_err(Problem::from);
    app.store.write(take).await?;
    app.registry.wake_all();
    Ok(StatusCode::NO_CONTENT)
}
