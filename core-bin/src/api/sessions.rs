//! Sessions: who is connected.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use mfa_store::Scope;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::actor::Caller;
use super::body::{Body, Named, Params};
use super::operation::{Api, Operation};
use super::page::{ListQuery, Order, Page, names};
use super::problem::Problem;
use crate::app::App;
use crate::flows::api_token::Scope::{SessionsRead, SessionsWrite};
use crate::flows::session::{self as flow, Which};
use crate::flows::{location, user};
use crate::view::SessionView;

/// Sessions that have ended are looked through so far back.
const NEWEST: i64 = 10_000;

const ORDERS: &[Order<SessionView>] = &[
    ("id", |a, b| a.id.cmp(&b.id)),
    ("user", |a, b| a.user.cmp(&b.user)),
    ("device", |a, b| a.device.cmp(&b.device)),
    ("location", |a, b| a.location.cmp(&b.location)),
    ("authorized_at", |a, b| a.authorized_at.cmp(&b.authorized_at)),
    ("last_activity_at", |a, b| a.last_activity_at.cmp(&b.last_activity_at)),
    ("lifetime_ends_at", |a, b| a.lifetime_ends_at.cmp(&b.lifetime_ends_at)),
    ("rx_bytes", |a, b| a.rx_bytes.cmp(&b.rx_bytes)),
    ("tx_bytes", |a, b| a.tx_bytes.cmp(&b.tx_bytes)),
];

pub(super) fn add(api: &mut Api) {
    let text = json!({"type": "string"});
    let list = Operation::get("/sessions", "listSessions", SessionsRead)
        .says("List who is connected.")
        .query("user", &text, "Only this person's live ones.")
        .query("location", &text, "Only this location's live ones.")
        .query("ended", &json!({"type": "boolean"}), "Also those that have ended, and why.");
    api.add(list.paged(&names(ORDERS)).answers_page::<SessionView>(), list_sessions);
    let end = Operation::delete("/sessions/{id}", "endSession", SessionsWrite)
        .says("End a session: the peer leaves every gateway at once.");
    api.add(end, end_one);
    let end = Operation::post("/sessions/end", "endSessions", SessionsWrite)
        .says("End all sessions of a person, a device, a location, or every one.");
    api.add(end.takes::<EndBody>().answers::<Ended>(StatusCode::OK), end_many);
}

#[derive(Clone, Debug, Deserialize)]
struct Wanted {
    user: Option<String>,
    location: Option<String>,
    #[serde(default)]
    ended: bool,
    #[serde(default)]
    search: String,
    sort: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    offset: usize,
}

/// Which sessions to end: one of the fields.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = EndSessions)]
#[serde(rename_all = "snake_case")]
enum EndBody {
    /// All of a person.
    User(String),
    /// All of a device: its number, name or public key.
    Device(String),
    /// All of a location.
    Location(String),
    /// `true`: every one.
    All(bool),
}

/// Which sessions ended.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = EndedSessions)]
struct Ended {
    /// Their ids.
    ended: Vec<i64>,
}

async fn list_sessions(
    State(app): State<Arc<App>>,
    Params(query): Params<Wanted>,
) -> Result<Json<Page<SessionView>>, Problem> {
    let Wanted { user: login, location: place, ended, search, sort, limit, offset } = query;
    let query = ListQuery { search, sort, limit, offset };
    let page = app.store.read(move |view| {
        let person = login.as_ref().map(|login| user::find(view, login)).transpose()?;
        let place = place.as_ref().map(|name| location::find(view, name)).transpose()?;
        let scope = match (&person, &place) {
            (Some(person), Some(place)) => Scope::UserAt(person.id, place.id),
            (Some(person), None) => Scope::User(person.id),
            (None, Some(place)) => Scope::Location(place.id),
            (None, None) => Scope::All,
        };
        let mut sessions =
            if ended { view.newest_sessions(NEWEST)? } else { view.live_sessions(scope)? };
        sessions.retain(|one| {
            person.as_ref().is_none_or(|person| one.subject.user == person.id)
                && place.as_ref().is_none_or(|place| one.subject.location == place.id)
        });
        let words = |one: &SessionView| format!("{} {} {}", one.user, one.device, one.location);
        Page::of(SessionView::all(view, sessions)?, &query, words, ORDERS)
    });
    page.await.map(Json)
}

async fn end_one(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(id): Named,
) -> Result<StatusCode, Problem> {
    let id = id.parse().map_err(|_| Problem::not_found("a session is named by its number"))?;
    end(&app, &caller, Which::Number(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn end_many(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(body): Body<EndBody>,
) -> Result<Json<Ended>, Problem> {
    let which = match body {
        EndBody::User(login) => Which::User(login),
        EndBody::Device(device) => Which::Device(device),
        EndBody::Location(name) => Which::Location(name),
        EndBody::All(true) => Which::All,
        EndBody::All(false) => return Err(Problem::bad("say {\"all\": true} to end every one")),
    };
    end(&app, &caller, which).await.map(|ended| Json(Ended { ended }))
}

async fn end(app: &App, caller: &Caller, which: Which) -> Result<Vec<i64>, Problem> {
    let by = caller.by(app.clock.now());
    let ended = app.store.write(move |tx| flow::end(tx, by, &which).map_err(Problem::from)).await?;
    app.registry.wake_all();
    Ok(ended.into_iter().map(mfa_core::id::SessionId::get).collect())
}
