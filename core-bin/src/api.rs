//! The REST API for programs: everything that the commands do, under `/api/v1`.
//!
//! [`Api::add`] is the one way in: it puts an operation into the router behind its scope, and into
//! the `OpenAPI` document, so neither can forget it. Handlers call the flows that the commands call.

mod actor;
mod audit;
mod body;
mod devices;
mod explorer;
mod gateways;
mod groups;
mod locations;
mod mail;
mod operation;
mod page;
mod problem;
mod sessions;
mod tokens;
mod users;

use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse as _;
use axum::routing::get;
use serde_json::Value;

pub use actor::Caller;
use operation::Api;
pub use problem::Problem;

use crate::app::App;

/// Where the API's paths begin.
pub const ROOT: &str = "/api/v1";

/// Builds the API's routes, its document and its explorer page.
pub(crate) fn router(app: &Arc<App>) -> Router<Arc<App>> {
    let mut api = Api::new(app);
    users::add(&mut api);
    groups::add(&mut api);
    devices::add(&mut api);
    locations::add(&mut api);
    gateways::add(&mut api);
    sessions::add(&mut api);
    mail::add(&mut api);
    audit::add(&mut api);
    tokens::add(&mut api);
    let (router, document) = api.finish();
    let explorer = explorer::router(&document);
    router
        .merge(explorer)
        .route(&format!("{ROOT}/openapi.json"), get(async move || serve(&document)))
}

fn serve(document: &Value) -> axum::response::Response {
    ([(CONTENT_TYPE, "application/json")], document.to_string()).into_response()
}
