//! `client-mfa/start` and `client-mfa/finish`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use mfa_core::id::LocationId;
use mfa_core::method::Method;
use mfa_wire::http::{
    FinishRequest, FinishResponse, SecretText, SessionInfo, StartRequest, StartResponse,
};

use super::problem::Refusal;
use super::request::Call;
use crate::app::App;
use crate::flows::connect::{self, Finished, StartError, StartOrder};
use crate::flows::status::count;

pub(super) async fn start(
    State(app): State<Arc<App>>,
    call: Call<StartRequest>,
) -> Result<Json<StartResponse>, Refusal> {
    let body = call.body;
    let order = StartOrder {
        location: LocationId::new(body.location_id),
        // A text that is no key is no device's.
        device: body.pubkey.parse().map_err(|_| StartError::DeviceNotFound)?,
        method: Method::from_wire(body.method.number().into()),
        config_version: body.config_version,
        caller: call.caller,
    };
    let started = connect::start(&app, order).await?;
    Ok(Json(StartResponse {
        token: SecretText::new(started.token.expose_text().as_str()),
        challenge: None,
        expires_at: Some(started.expires.as_unix_secs()),
        sent_to: started.sent_to,
    }))
}

pub(super) async fn finish(
    State(app): State<Arc<App>>,
    call: Call<FinishRequest>,
) -> Result<Json<FinishResponse>, Refusal> {
    let FinishRequest { token, code } = call.body;
    let code = code.ok_or_else(|| Refusal::bad_request("this call needs a code"))?;
    let finished = connect::finish(&app, token.expose_secret(), code, call.caller).await?;
    let Finished { psk, session, idle_threshold, applied } = finished;
    Ok(Json(FinishResponse {
        preshared_key: SecretText::new(psk.expose_base64().as_str()),
        token: None,
        session: Some(SessionInfo {
            id: session.id.get(),
            since: session.authorized.as_unix_secs(),
            expires: session.lifetime_ends.as_unix_secs(),
            idle_threshold: idle_threshold.as_secs(),
            generation: session.generation.get(),
            next_generation: None,
            gateways_connected: count(applied.connected),
            gateways_applied: count(applied.applied),
        }),
    }))
}
