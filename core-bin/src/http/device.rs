//! The calls of our own client; each but the nonce's needs a proof.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use mfa_core::id::{LocationId, SessionId};
use mfa_core::method::Method;
use mfa_core::rotate::PskGeneration;
use mfa_wire::http::{self as wire, SecretText};
use serde::Deserialize;

use super::problem::Refusal;
use super::request::{Call, ProvenCall};
use crate::app::App;
use crate::flows;
use crate::flows::mfa::{Holder, Staged};
use crate::flows::rotate::Said;

/// A body without anything in it: `{}`.
#[derive(Debug, Deserialize)]
pub(super) struct Nothing {}

pub(super) async fn nonce(
    State(app): State<Arc<App>>,
    _call: Call<Nothing>,
) -> Json<wire::NonceResponse> {
    let now = app.clock.now().as_unix_millis();
    let nonce = app.keys.nonces.issue(*app.rng.bytes(), now).to_string();
    Json(wire::NonceResponse { nonce, proof_pubkey: app.keys.proof_public.to_string() })
}

pub(super) async fn status(
    State(app): State<Arc<App>>,
    call: ProvenCall<Nothing>,
) -> Result<Json<wire::DeviceStatus>, Refusal> {
    Ok(Json(flows::status::status(&app, call.device).await?))
}

pub(super) async fn disconnect(
    State(app): State<Arc<App>>,
    call: ProvenCall<wire::DisconnectRequest>,
) -> Result<Json<wire::DisconnectResponse>, Refusal> {
    let location = LocationId::new(call.body.location_id);
    let ended = flows::disconnect::disconnect(&app, call.device, location).await?;
    Ok(Json(wire::DisconnectResponse { ended }))
}

pub(super) async fn renew(
    State(app): State<Arc<App>>,
    call: ProvenCall<wire::RenewRequest>,
) -> Result<Json<wire::RenewResponse>, Refusal> {
    let wire::RenewRequest { session_id, token, code } = call.body;
    let (id, token) = (SessionId::new(session_id), token.expose_secret());
    let (renewed, location) = flows::connect::renew(&app, token, code, id, call.caller).await?;
    Ok(Json(wire::RenewResponse { session: flows::status::of(&app, &renewed, &location) }))
}

pub(super) async fn rotate(
    State(app): State<Arc<App>>,
    call: ProvenCall<wire::RotateRequest>,
) -> Result<Json<wire::RotateResponse>, Refusal> {
    let said = Said {
        location: LocationId::new(call.body.location_id),
        session: SessionId::new(call.body.session_id),
        set: PskGeneration::new(call.body.set),
        proven: PskGeneration::new(call.body.proven),
    };
    let standing = flows::rotate::rotate(&app, call.device, said).await?;
    Ok(Json(wire::RotateResponse {
        generation: standing.generation.get(),
        next: standing.next.map(|(generation, psk)| wire::NextKey {
            generation: generation.get(),
            preshared_key: SecretText::new(psk.expose_base64().as_str()),
        }),
    }))
}

pub(super) async fn mfa_list(
    State(app): State<Arc<App>>,
    call: ProvenCall<Nothing>,
) -> Result<Json<wire::MfaList>, Refusal> {
    Ok(Json(flows::mfa::list(&app, call.device).await?))
}

pub(super) async fn mfa_start(
    State(app): State<Arc<App>>,
    call: ProvenCall<wire::MfaStartRequest>,
) -> Result<Json<wire::MfaStartResponse>, Refusal> {
    let wire::MfaStartRequest { method, current } = call.body;
    let current = match current {
        Some(current) => Some((known(current.method)?, current.code)),
        None => None,
    };
    let holder = Holder::Device(call.device);
    let staged = flows::mfa::start(&app, holder, known(method)?, current).await?;
    let mut answer = wire::MfaStartResponse {
        current_code_sent_to: None,
        totp_secret: None,
        otpauth_uri: None,
        sent_to: None,
    };
    match staged {
        Staged::Totp { base32, uri } => {
            answer.totp_secret = Some(SecretText::new(base32.as_str()));
            answer.otpauth_uri = Some(SecretText::new(uri.as_str()));
        }
        Staged::Email { sent_to } => answer.sent_to = Some(sent_to),
        Staged::CurrentCodeSent { sent_to } => answer.current_code_sent_to = Some(sent_to),
    }
    Ok(Json(answer))
}

pub(super) async fn mfa_finish(
    State(app): State<Arc<App>>,
    call: ProvenCall<wire::MfaFinishRequest>,
) -> Result<Json<wire::RecoveryCodes>, Refusal> {
    let wire::MfaFinishRequest { method, code } = call.body;
    let holder = Holder::Device(call.device);
    let sheet = flows::mfa::finish(&app, holder, known(method)?, code).await?;
    Ok(Json(codes(&sheet)))
}

/// A method that can be set up here.
pub(super) fn known(method: wire::Method) -> Result<Method, Refusal> {
    Method::from_wire(method.number().into()).ok_or_else(|| {
        Refusal::bad_request(format_args!("{method} cannot be set up here; use totp or email"))
    })
}

pub(super) fn codes(sheet: &[zeroize::Zeroizing<String>]) -> wire::RecoveryCodes {
    let recovery_codes = sheet.iter().map(|code| SecretText::new(code.as_str())).collect();
    wire::RecoveryCodes { recovery_codes }
}
