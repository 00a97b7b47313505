//! People and groups.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use mfa_core::method::Method;
use mfa_core::token::Token;
use mfa_store::UserSort;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::actor::Caller;
use super::body::{Body, Named, Params};
use super::operation::{Api, Operation};
use super::page::{ListQuery, Page, names};
use super::problem::Problem;
use crate::app::App;
use crate::flows::api_token::Scope::{UsersRead, UsersWrite};
use crate::flows::login::tell_old_address;
use crate::flows::user::{self as flow, NewUser, UserChange};
use crate::span::Span;
use crate::view::UserView;

const ORDERS: &[(&str, UserSort)] = &[
    ("login", UserSort::Login),
    ("name", UserSort::Name),
    ("email", UserSort::Email),
    ("created_at", UserSort::Added),
    ("id", UserSort::Id),
];

pub(super) fn add(api: &mut Api) {
    use Operation as Op;
    const OK: StatusCode = StatusCode::OK;
    let list = Op::get("/users", "listUsers", UsersRead).says("List people.").query(
        "group",
        &serde_json::json!({"type": "string"}),
        "Only those in this group.",
    );
    api.add(list.paged(&names(ORDERS)).answers_page::<UserView>(), list_users);
    let create = Op::post("/users", "addUser", UsersWrite).says("Add a person.");
    api.add(create.takes::<UserBody>().answers::<UserView>(StatusCode::CREATED), create_user);
    let show = Op::get("/users/{login}", "getUser", UsersRead).says("Show a person.");
    api.add(show.answers::<UserView>(OK), show_user);
    let change = Op::patch("/users/{login}", "changeUser", UsersWrite)
        .says("Change a person; what is absent stays. Another address resets the e-mail method.");
    api.add(change.takes::<UserPatch>().answers::<UserView>(OK), change_user);
    let remove = Op::delete("/users/{login}", "removeUser", UsersWrite)
        .says("Remove a person with all devices, factors and sessions.");
    api.add(remove, remove_user);
    let enroll = Op::post("/users/{login}/enrollment", "enrollUser", UsersWrite)
        .says("Make a one-use token with which the person enrolls a device. An older one is void.");
    api.add(enroll.takes::<EnrollmentBody>().answers::<Ticket>(StatusCode::CREATED), enroll_user);
    let unlock = Op::post("/users/{login}/unlock", "unlockUser", UsersWrite)
        .says("Forget a person's wrong codes, and so unlock what they locked.");
    api.add(unlock, unlock_user);
    let reset = Op::delete("/users/{login}/methods/{method}", "resetMethod", UsersWrite)
        .says("Take a method away; sessions that it bought end.");
    api.add(reset, reset_method);
}

/// A person to add.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = NewUser)]
#[serde(deny_unknown_fields)]
struct UserBody {
    /// The name to log in with.
    login: String,
    /// First and last name.
    #[serde(default)]
    name: String,
    /// Where codes are mailed to.
    #[serde(default)]
    email: String,
    /// A telephone number.
    #[serde(default)]
    phone: String,
    /// Whether the person administers wg-mfa.
    #[serde(default)]
    admin: bool,
    /// Groups to be in.
    #[serde(default)]
    groups: Vec<String>,
}

/// What to change of a person.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[schema(as = UserChange)]
#[serde(deny_unknown_fields)]
struct UserPatch {
    /// First and last name.
    name: Option<String>,
    /// Where codes are mailed to; empty: nowhere.
    email: Option<String>,
    /// A telephone number.
    phone: Option<String>,
    /// Whether the person administers wg-mfa.
    admin: Option<bool>,
    /// `false` shuts the person out: sessions end at once.
    active: Option<bool>,
    /// The groups to be in, in place of the present ones.
    groups: Option<Vec<String>>,
}

/// How an enrollment is to be.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[schema(as = NewEnrollment)]
#[serde(deny_unknown_fields)]
struct EnrollmentBody {
    /// Seconds that the token is good; a day by default, 30 days at most.
    valid_seconds: Option<u64>,
}

/// A token for a person, shown this once.
#[derive(Clone, Serialize, ToSchema)]
#[schema(as = Enrollment)]
struct Ticket {
    /// Where the client enrolls.
    url: String,
    /// What it enrolls with.
    token: String,
    /// Until when.
    expires_at: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    group: Option<String>,
    #[serde(default)]
    search: String,
    sort: Option<String>,
    limit: Option<i64>,
    #[serde(default)]
    offset: i64,
}

async fn list_users(
    State(app): State<Arc<App>>,
    Params(wanted): Params<Wanted>,
) -> Result<Json<Page<UserView>>, Problem> {
    let Wanted { group, search, sort, limit, offset } = wanted;
    let query = ListQuery { search, sort, limit, offset };
    let asked = query.asked(ORDERS)?;
    let found = app.store.read(move |view| {
        let found = view.user_list(&asked, group.as_deref())?;
        let users = found.entries.into_iter();
        let users = users.map(|user| UserView::of(view, user)).collect::<Result<Vec<_>, _>>()?;
        Ok::<_, Problem>((users, found.matching))
    });
    let (users, matching) = found.await?;
    Ok(Json(query.page(users, matching)))
}

async fn show_user(
    State(app): State<Arc<App>>,
    Named(login): Named,
) -> Result<Json<UserView>, Problem> {
    let shown = app.store.read(move |view| {
        let user = flow::find(view, &login)?;
        Ok::<_, Problem>(UserView::of(view, user)?)
    });
    shown.await.map(Json)
}

async fn create_user(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(body): Body<UserBody>,
) -> Result<(StatusCode, Json<UserView>), Problem> {
    let UserBody { login, name, email, phone, admin, groups } = body;
    let new = NewUser { login, name, email, phone, admin, groups };
    let by = caller.by(app.clock.now());
    let added = app.store.write(move |tx| {
        let user = flow::add(tx, by, &new)?;
        Ok::<_, Problem>(UserView::of(tx, user)?)
    });
    added.await.map(|user| (StatusCode::CREATED, Json(user)))
}

async fn change_user(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(login): Named,
    Body(patch): Body<UserPatch>,
) -> Result<Json<UserView>, Problem> {
    let by = caller.by(app.clock.now());
    let UserPatch { name, email, phone, admin, active, groups } = patch;
    let details = name.is_some() || email.is_some() || phone.is_some() || admin.is_some();
    let change = UserChange { name, email, phone, admin };
    let changed = app.store.write(move |tx| {
        let before = flow::find(tx, &login)?.details.email;
        if details {
            flow::set(tx, by, &login, &change)?;
        }
        if let Some(groups) = &groups {
            flow::set_groups(tx, by, &login, groups)?;
        }
        if let Some(active) = active {
            flow::set_active(tx, by, &login, active)?;
        }
        let user = flow::find(tx, &login)?;
        Ok::<_, Problem>((UserView::of(tx, user)?, before))
    });
    let (changed, before) = changed.await?;
    app.registry.wake_all();
    tell_old_address(&app, &before, &changed.email);
    Ok(Json(changed))
}

async fn remove_user(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(login): Named,
) -> Result<StatusCode, Problem> {
    let by = caller.by(app.clock.now());
    app.store.write(move |tx| flow::remove(tx, by, &login).map_err(Problem::from)).await?;
    app.registry.wake_all();
    Ok(StatusCode::NO_CONTENT)
}

async fn enroll_user(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(login): Named,
    Body(body): Body<EnrollmentBody>,
) -> Result<(StatusCode, Json<Ticket>), Problem> {
    const DAY: u64 = 86_400;
    let seconds = body.valid_seconds.unwrap_or(DAY);
    if !(1..=30 * DAY).contains(&seconds) {
        return Err(Problem::bad("a token is good for a second at least and 30 days at most"));
    }
    let by = caller.by(app.clock.now());
    let token = Token::from_random(*app.rng.bytes());
    let (digest, valid) = (token.digest(), Span::from_secs(seconds).duration());
    let issue = move |tx: &mut mfa_store::Tx| {
        flow::enroll(tx, by, &login, digest, valid).map_err(Problem::from)
    };
    let (_, expires) = app.store.write(issue).await?;
    let ticket = Ticket {
        url: app.site.url.to_string(),
        token: app.addresses.client_token(&token).to_string(),
        expires_at: crate::text::rfc3339(expires),
    };
    Ok((StatusCode::CREATED, Json(ticket)))
}

async fn unlock_user(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(login): Named,
) -> Result<StatusCode, Problem> {
    let by = caller.by(app.clock.now());
    app.store.write(move |tx| flow::unlock(tx, by, &login).map_err(Problem::from)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn reset_method(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: Result<Path<(String, String)>, axum::extract::rejection::PathRejection>,
) -> Result<StatusCode, Problem> {
    let Path((login, method)) = path.map_err(|error| Problem::bad(error.body_text()))?;
    let method: Method =
        method.parse().map_err(|_| Problem::not_found("there are the methods totp and email"))?;
    let by = caller.by(app.clock.now());
    let reset = move |tx: &mut mfa_store::Tx| {
        flow::reset_method(tx, by, &login, method).map_err(Problem::from)
    };
    app.store.write(reset).await?;
    app.registry.wake_all();
    Ok(StatusCode::NO_CONTENT)
}
