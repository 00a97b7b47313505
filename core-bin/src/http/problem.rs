//! Refusals, as answers.

use core::time::Duration;

use axum::Json;
use axum::http::header::{CACHE_CONTROL, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use mfa_store::StoreError;
use mfa_wire::http::{ErrorBody, Problem};

/// One refusal: a status, the short text that clients in use match on, and ours beside it.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    body: ErrorBody,
}

impl Refusal {
    /// Refuses with the text that clients match on.
    #[must_use]
    pub fn new(status: StatusCode, error: &str, code: Problem) -> Self {
        let body = ErrorBody {
            error: error.to_owned(),
            code: Some(code),
            detail: None,
            retry_after: None,
        };
        Self { status, body }
    }

    /// Says to a person what happened and what to do next.
    #[must_use]
    pub fn detail(mut self, detail: impl core::fmt::Display) -> Self {
        self.body.detail = Some(detail.to_string());
        self
    }

    /// Says when it is worth trying again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        // Rounded up: a second too early would be refused again.
        self.body.retry_after = Some(wait.as_secs().saturating_add(1));
        self
    }

    /// A request that is not of the form that the call needs.
    #[must_use]
    pub fn bad_request(detail: impl core::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad request", Problem::BadRequest).detail(detail)
    }

    /// Something broke; the cause goes to the log and not to the client.
    #[must_use]
    pub fn internal(error: &dyn core::error::Error) -> Self {
        let mut causes = String::new();
        let mut cause = error.source();
        while let Some(error) = cause {
            causes.push_str(": ");
            causes.push_str(&error.to_string());
            cause = error.source();
        }
        tracing::error!("{error}{causes}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error", Problem::Internal)
            .detail("the server failed; its log says how")
    }

    /// Too much of something.
    #[must_use]
    pub fn too_many(code: Problem, wait: Duration, detail: impl core::fmt::Display) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too many requests", code)
            .detail(detail)
            .retry_after(wait)
    }

    /// More work than the server can do now.
    #[must_use]
    pub fn busy() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", Problem::Busy)
            .detail("the server is busy; try again in a moment")
            .retry_after(Duration::from_secs(1))
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy => Self::busy(),
            error @ (StoreError::Unwritable { .. }
            | StoreError::OutcomeUnknown
            | StoreError::Connect(_)) => {
                tracing::error!(%error, "the database refused");
                Self::busy()
            }
            error => Self::internal(&error),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let wait = self.body.retry_after;
        let mut response = (self.status, Json(self.body)).into_response();
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(wait) = wait {
            headers.insert(RETRY_AFTER, HeaderValue::from(wait));
        }
        response
    }
}
