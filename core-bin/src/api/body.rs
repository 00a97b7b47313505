//! What a handler gets of a request: its JSON body, its query, a name in its path.

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::problem::Problem;
use crate::app::App;

/// Bytes of a body: a configuration with some thousand peers to import. Only who has a scope sends
/// one.
const BYTES: usize = 1024 * 1024;

/// A JSON body.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

/// The query's parameters.
#[derive(Debug)]
pub(super) struct Params<T>(pub(super) T);

/// The name in the path.
#[derive(Debug)]
pub(super) struct Named(pub(super) String);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Arc<App>) -> Result<Self, Problem> {
        let large = |_| {
            let words = format!("a request's body has at most {BYTES} bytes");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", words)
        };
        let body = to_bytes(request.into_body(), BYTES).await.map_err(large)?;
        let wrong = |error| Problem::bad(format!("the body is not what this call takes: {error}"));
        serde_json::from_slice(&body).map(Self).map_err(wrong)
    }
}

impl<T: DeserializeOwned> FromRequestParts<Arc<App>> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, Problem> {
        let query = Query::<T>::try_from_uri(&parts.uri);
        query.map(|query| Self(query.0)).map_err(|error| Problem::bad(error.body_text()))
    }
}

impl FromRequestParts<Arc<App>> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, app).await;
        path.map(|path| Self(path.0)).map_err(|error| Problem::bad(error.body_text()))
    }
}
