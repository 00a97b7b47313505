//! Gateways.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use mfa_core::token::Token;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::actor::Caller;
use super::body::{Body, Named};
use super::operation::{Api, Operation};
use super::problem::Problem;
use crate::app::App;
use crate::flows::api_token::Scope::{GatewaysRead, GatewaysWrite};
use crate::flows::gateway as flow;
use crate::view::GatewayView;

pub(super) fn add(api: &mut Api) {
    let list = Operation::get("/gateways", "listGateways", GatewaysRead)
        .says("List gateways: who is connected, and whether each has applied the newest state.");
    api.add(list.answers_list::<GatewayView>(), list_gateways);
    let token = Operation::post("/gateways/token", "inviteGateway", GatewaysWrite)
        .says("Make a token with which a host becomes a gateway of a location.");
    api.add(token.takes::<Invite>().answers::<Invitation>(StatusCode::CREATED), invite);
    let remove = Operation::delete("/gateways/{name}", "removeGateway", GatewaysWrite)
        .says("Shut a gateway out and forget it.");
    api.add(remove, remove_gateway);
}

/// A gateway to invite.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = NewGateway)]
#[serde(deny_unknown_fields)]
struct Invite {
    /// Which location it serves.
    location: String,
    /// What to call it.
    name: String,
    /// A gateway of another make, which has no certificate: its token is good until it is replaced.
    #[serde(default)]
    legacy: bool,
}

/// A gateway's token, shown this once.
#[derive(Clone, Serialize, ToSchema)]
#[schema(as = GatewayInvitation)]
struct Invitation {
    /// The gateway.
    name: String,
    /// Where it dials.
    core: String,
    /// What it enrolls with.
    token: String,
    /// What it knows core by.
    ca_pin: String,
    /// What to run on its host; absent for a gateway of another make.
    command: Option<String>,
    /// Until when; absent: until it is replaced.
    expires_at: Option<String>,
}

async fn list_gateways(State(app): State<Arc<App>>) -> Result<Json<Vec<GatewayView>>, Problem> {
    let now = app.clock.now();
    app.store.read(move |view| Ok(GatewayView::all(view, now)?)).await.map(Json)
}

async fn invite(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(body): Body<Invite>,
) -> Result<(StatusCode, Json<Invitation>), Problem> {
    let by = caller.by(app.clock.now());
    let token = Token::from_random(*app.rng.bytes());
    let (digest, legacy) = (token.digest(), body.legacy);
    let issue = move |tx: &mut mfa_store::Tx| {
        let place = (body.location.as_str(), body.name.as_str());
        if legacy {
            return Ok((flow::legacy_token(tx, by, place, digest)?, None));
        }
        let (gateway, expires) = flow::token(tx, by, place, digest, flow::TOKEN_LIFE)?;
        Ok::<_, Problem>((gateway, Some(expires)))
    };
    let (gateway, expires) = app.store.write(issue).await?;
    app.registry.wake_all();
    let (core, pin) = (&app.addresses.gateways, &app.addresses.pin);
    let shown = token.expose_text();
    let command =
        format!("gateway-bin enroll --core {core} --token {} --ca-pin {pin}", shown.as_str());
    let invitation = Invitation {
        name: gateway.name,
        core: core.clone(),
        token: shown.to_string(),
        ca_pin: pin.clone(),
        command: (!legacy).then_some(command),
        expires_at: expires.map(crate::text::rfc3339),
    };
    Ok((StatusCode::CREATED, Json(invitation)))
}

async fn remove_gateway(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(name): Named,
) -> Result<StatusCode, Problem> {
    let by = caller.by(app.clock.now());
    app.store.write(move |tx| flow::remove(tx, by, &name).map_err(Problem::from)).await?;
    app.registry.wake_all();
    Ok(StatusCode::NO_CONTENT)
}
