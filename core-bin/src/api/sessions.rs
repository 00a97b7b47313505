//! Sessions: who is connected.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use mfa_core::id::SessionId;
use mfa_store::{SessionFilter, SessionSort, Snapshot};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::actor::Caller;
use super::body::{Body, Named, Params};
use super::operation::{Api, Operation};
use super::page::{ListQuery, Page, names};
use super::problem::Problem;
use crate::app::App;
use crate::flows::api_token::Scope::{SessionsRead, SessionsWrite};
use crate::flows::session::{self as flow, Which};
use crate::flows::{location, user};
use crate::view::{self, Delays, SessionView, StepView};

const ORDERS: &[(&str, SessionSort)] = &[
    ("id", SessionSort::Since),
    ("user", SessionSort::User),
    ("device", SessionSort::Device),
    ("location", SessionSort::Location),
    ("authorized_at", SessionSort::Since),
    ("last_activity_at", SessionSort::Active),
    ("lifetime_ends_at", SessionSort::Left),
    ("rx_bytes", SessionSort::Received),
    ("tx_bytes", SessionSort::Sent),
];

pub(super) fn add(api: &mut Api) {
    let text = json!({"type": "string"});
    let list = Operation::get("/sessions", "listSessions", SessionsRead)
        .says("List who is connected.")
        .query("user", &text, "Only this person's.")
        .query("location", &text, "Only this location's.")
        .query("ended", &json!({"type": "boolean"}), "Also those that have ended, and why.");
    api.add(list.paged(&names(ORDERS)).answers_page::<SessionView>(), list_sessions);
    let show = Operation::get("/sessions/{id}", "getSession", SessionsRead)
        .says("Show a session, and how its end reached each gateway.");
    api.add(show.answers::<Traced>(StatusCode::OK), show_session);
    let delays = Operation::get("/sessions/delays", "getEndDelays", SessionsRead)
        .says("Tell how long ends took, from the decision to the kernel's dump that showed it.");
    api.add(delays.answers::<Delays>(StatusCode::OK), show_delays);
    let end = Operation::delete("/sessions/{id}", "endSession", SessionsWrite)
        .says("End a session: the peer leaves every gateway at once.");
    api.add(end, end_one);
    let end = Operation::post("/sessions/end", "endSessions", SessionsWrite)
        .says("End all sessions of a person, a device, a location, or every one.");
    api.add(end.takes::<EndBody>().answers::<Ended>(StatusCode::OK), end_many);
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    user: Option<String>,
    location: Option<String>,
    #[serde(default)]
    ended: bool,
    #[serde(default)]
    search: String,
    sort: Option<String>,
    limit: Option<i64>,
    #[serde(default)]
    offset: i64,
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
    let asked = query.asked(ORDERS)?;
    let found = app.store.read(move |view| {
        let user = login.as_ref().map(|login| user::find(view, login)).transpose()?;
        let location = place.as_ref().map(|name| location::find(view, name)).transpose()?;
        let filter = SessionFilter {
            live: !ended,
            user: user.map(|user| user.id),
            location: location.map(|location| location.id),
        };
        Ok::<_, Problem>(view.session_list(&asked, &filter)?)
    });
    let found = found.await?;
    let sessions = found.entries.into_iter().map(|(info, names)| SessionView::of(&info, names));
    Ok(Json(query.page(sessions.collect(), found.matching)))
}

/// A session, and how its end reached each gateway.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = TracedSession)]
struct Traced {
    /// The session.
    session: SessionView,
    /// The gateways that have acknowledged its end; empty while it lives.
    trail: Vec<StepView>,
}

async fn show_session(
    State(app): State<Arc<App>>,
    Named(id): Named,
) -> Result<Json<Traced>, Problem> {
    let missing = || Problem::not_found("there is no such session");
    let id = SessionId::new(id.parse().map_err(|_| missing())?);
    let found = app.store.read(move |view| {
        let info = view.session(id)?.ok_or_else(missing)?;
        let subject = info.subject;
        let names = [
            view.user(subject.user)?.map(|user| user.details.login),
            view.device(subject.device)?.map(|device| device.name),
            view.location(subject.location)?.map(|location| location.settings.name),
        ];
        let session = SessionView::of(&info, names.map(Option::unwrap_or_default));
        let trail = view::trail(view, id)?.iter().map(StepView::from).collect();
        Ok::<_, Problem>(Traced { session, trail })
    });
    found.await.map(Json)
}

async fn show_delays(State(app): State<Arc<App>>) -> Result<Json<Delays>, Problem> {
    let delays = app.store.read(Snapshot::end_delays).await?;
    Ok(Json(Delays::of(&delays)))
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
    Ok(ended.into_iter().map(SessionId::get).collect())
}
