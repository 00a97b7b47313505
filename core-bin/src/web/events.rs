//! Server-sent events: something on the overview changed. They carry no data; the page fetches
//! itself.

use core::convert::Infallible;
use core::time::Duration;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use mfa_core::id::LocationId;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::fault::Fault;
use super::overview::Asked;
use super::signed::{Admin, token};
use crate::app::App;
use crate::flows::login;

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Looks between two refreshes of what only time changes, and two looks at the session.
const SLOW: u32 = 10;
/// Looks until the browser has to come again.
const LOOKS: u32 = 600;

pub(super) async fn stream(
    State(app): State<Arc<App>>,
    _admin: Admin,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> Result<Response, Fault> {
    let Ok(permit) = Arc::clone(&app.live.watchers).try_acquire_owned() else {
        let words = "Too many browsers watch already; reload the page instead.";
        return Err(Fault::words(StatusCode::SERVICE_UNAVAILABLE, words));
    };
    let held = token(&headers, &app).unwrap_or_default().to_owned();
    let name = asked.location;
    let location = app.store.read(move |view| view.location_by_name(&name)).await?;
    let Some(location) = location.map(|location| location.id) else {
        return Err(Fault::words(StatusCode::NOT_FOUND, "There is no such location."));
    };
    let (events, stream) = mpsc::channel::<Result<Event, Infallible>>(1);
    // Ends when the browser leaves, is signed out, or has to come again.
    tokio::spawn(async move {
        let mut last = look(&app, location).await;
        for count in 1..=LOOKS {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = events.closed() => break,
            }
            let now = look(&app, location).await;
            if count % SLOW == 0 {
                let signed = login::signed_in(&app, &held, true).await;
                if !matches!(signed, Ok(Some(one)) if one.user.details.admin) {
                    break;
                }
            }
            if now != last || count % SLOW == 0 {
                last = now;
                if events.send(Ok(Event::default().event("change").data("."))).await.is_err() {
                    break;
                }
            }
        }
        drop(permit);
    });
    Ok(Sse::new(ReceiverStream::new(stream)).keep_alive(KeepAlive::default()).into_response())
}

/// What the page is made of, in a few numbers.
async fn look(app: &App, location: LocationId) -> (Option<i64>, u64, Vec<Option<i64>>) {
    let revision = app.store.read(move |view| view.revision(location)).await.ok().flatten();
    let applied = app.registry.list(location).into_iter().map(|seat| seat.applied).collect();
    (revision, app.live.news(), applied)
}
