//! `poll`: instance update.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use mfa_wire::http::{PollRequest, PollResponse};

use super::problem::Refusal;
use super::request::Call;
use crate::app::App;
use crate::flows;

pub(super) async fn poll(
    State(app): State<Arc<App>>,
    call: Call<PollRequest>,
) -> Result<Json<PollResponse>, Refusal> {
    let token = call.body.token;
    let device_config = flows::poll::poll(&app, token.expose_secret(), call.caller.source).await?;
    Ok(Json(PollResponse { device_config }))
}
