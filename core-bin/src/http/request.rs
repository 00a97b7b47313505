//! What a handler gets of a request: its body, and who makes it.

use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequest, FromRequestParts};
use axum::http::header::COOKIE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Request, StatusCode};
use mfa_wire::http::{ENROLLMENT_COOKIE, PROOF_HEADER, Problem};
use mfa_wire::proof::{Proof, ProofError};
use serde::de::DeserializeOwned;
use wg_types::PublicKey;

use super::BODY_BYTES;
use super::problem::Refusal;
use super::source::{Peer, source};
use super::throttle::Throttled;
use crate::app::{App, Caller};
use crate::flows::enroll::EnrollSession;

/// A request with a JSON body.
#[derive(Debug)]
pub(super) struct Call<T> {
    pub(super) body: T,
    pub(super) caller: Caller,
}

/// A request with a JSON body, of a device that proved itself.
#[derive(Debug)]
pub(super) struct ProvenCall<T> {
    pub(super) body: T,
    pub(super) device: PublicKey,
    pub(super) caller: Caller,
}

/// The session of an enrollment, from its cookie.
#[derive(Debug)]
pub(super) struct Enrolling(pub(super) EnrollSession);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Call<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request<Body>, app: &Arc<App>) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        let source = admit(&parts, app)?;
        let body = to_bytes(body, BODY_BYTES).await.map_err(|_| too_large())?;
        let proven = prove(&parts, &body, app)?;
        // The parser's error could repeat a code or a token.
        let body = serde_json::from_slice(&body).map_err(|error| {
            Refusal::bad_request(format_args!(
                "the body is not the JSON that this call needs (line {}, column {})",
                error.line(),
                error.column()
            ))
        })?;
        Ok(Self { body, caller: Caller { source, proven } })
    }
}

impl<T: DeserializeOwned> FromRequest<Arc<App>> for ProvenCall<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request<Body>, app: &Arc<App>) -> Result<Self, Refusal> {
        let Call { body, caller } = Call::from_request(request, app).await?;
        let device = caller.proven.ok_or_else(|| {
            Refusal::new(StatusCode::UNAUTHORIZED, "proof required", Problem::ProofRequired)
                .detail("this call needs a proof of the device's key")
        })?;
        Ok(Self { body, device, caller })
    }
}

impl FromRequestParts<Arc<App>> for Enrolling {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Refusal> {
        cookie(&parts.headers, ENROLLMENT_COOKIE)
            .and_then(EnrollSession::parse)
            .map(Self)
            .ok_or_else(|| {
                Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", Problem::EnrollmentInvalid)
                    .detail("this enrollment has ended; ask an administrator for a new token")
            })
    }
}

/// Finds the source of a request, and counts the request against its limit.
pub(crate) fn admit(parts: &Parts, app: &App) -> Result<std::net::IpAddr, Refusal> {
    let peer = parts.extensions.get::<Peer>().ok_or_else(|| {
        // Only a router that is called around the listener lacks it.
        Refusal::bad_request("the request has no source address")
    })?;
    let source = source(peer.0, &parts.headers, &app.trusted_proxies);
    match app.limits.all.charge(source.into(), app.clock.now()) {
        Ok(()) => Ok(source),
        Err(Throttled { retry_after }) => Err(Refusal::too_many(
            Problem::TooManyRequests,
            retry_after,
            "too many requests from this address",
        )),
    }
}

/// Returns the value of a cookie. Clients in use also send back a whole `Set-Cookie`; its
/// attributes are passed over.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

fn prove(parts: &Parts, body: &Bytes, app: &App) -> Result<Option<PublicKey>, Refusal> {
    let Some(header) = parts.headers.get(PROOF_HEADER) else { return Ok(None) };
    let refuse = |error: ProofError| {
        Refusal::new(StatusCode::UNAUTHORIZED, "invalid proof", Problem::ProofInvalid)
            .detail(format_args!("{error}; ask for a new nonce and try again"))
    };
    let text = header.to_str().map_err(|_| refuse(ProofError::Malformed))?;
    let proof: Proof = text.parse().map_err(refuse)?;
    let now = app.clock.now().as_unix_millis();
    let (method, path) = (parts.method.as_str(), parts.uri.path());
    proof.verify(&app.keys.proof, &app.keys.nonces, method, path, body, now).map_err(refuse)?;
    Ok(Some(*proof.device()))
}

fn too_large() -> Refusal {
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "request too large", Problem::BadRequest)
        .detail(format_args!("a request's body has at most {BODY_BYTES} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_among_others_and_in_a_whole_set_cookie() {
        let find = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, text.parse().unwrap());
            cookie(&headers, "defguard_proxy").map(str::to_owned)
        };
        assert_eq!(find("a=b; defguard_proxy=x; c=d").as_deref(), Some("x"));
        assert_eq!(find("defguard_proxy=x; Path=/; HttpOnly").as_deref(), Some("x"));
        assert_eq!(find("xdefguard_proxy=x"), None);
    }
}
