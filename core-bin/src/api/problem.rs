//! Refusals as problem details (RFC 9457).

use core::fmt::Display;
use core::time::Duration;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use mfa_store::StoreError;
use serde_json::{Value, json};

use crate::flows::api_token::{Scope, TokenError};
use crate::flows::device::DeviceError;
use crate::flows::gateway::GatewayError;
use crate::flows::group::GroupError;
use crate::flows::import::ImportError;
use crate::flows::location::LocationError;
use crate::flows::session::SessionError;
use crate::flows::user::UserError;

/// Why a call did nothing.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    retry_after: Option<Duration>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Display) -> Self {
        Self { status, code, detail: format!("{detail}"), retry_after: None }
    }

    pub(super) fn bad(detail: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
    }

    pub(super) fn not_found(detail: impl Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    pub(super) fn conflict(detail: impl Display) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    /// The words are the same for a token that is missing, unknown, over or its owner's no more.
    pub(super) fn unauthenticated() -> Self {
        let words = "this call needs a good API token: Authorization: Bearer TOKEN; \
                     `core-bin token add` makes one";
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", words)
    }

    pub(super) fn forbidden(scope: Scope) -> Self {
        let words = format!("the token lacks the scope {}", scope.code());
        Self::new(StatusCode::FORBIDDEN, "scope_missing", words)
    }

    pub(super) fn too_many(wait: Duration) -> Self {
        let mut problem =
            Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", "too many requests");
        problem.retry_after = Some(wait);
        problem
    }

    fn busy() -> Self {
        let words = "the server is busy; try again in a moment";
        let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", words);
        problem.retry_after = Some(Duration::ZERO);
        problem
    }
}

/// How a problem is written in the document.
pub(super) fn schema() -> Value {
    let text = json!({"type": "string"});
    json!({
        "type": "object",
        "description": "Why a call did nothing (RFC 9457).",
        "required": ["type", "title", "status", "detail", "code"],
        "properties": {
            "type": text, "title": text, "status": {"type": "integer"}, "detail": text,
            "code": {"type": "string", "description": "For programs; kept from version to version."},
        },
    })
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code,
        });
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(wait) = self.retry_after {
            // Rounded up: a second too early would be refused again.
            headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().saturating_add(1)));
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy => Self::busy(),
            StoreError::Unwritable { .. } | StoreError::OutcomeUnknown | StoreError::Connect(_) => {
                tracing::error!(%error, "the database refused");
                Self::busy()
            }
            StoreError::Missing { .. } => Self::not_found(error),
            StoreError::Exists { .. }
            | StoreError::InUse { .. }
            | StoreError::NoFreeAddress { .. } => Self::conflict(error),
            error => {
                let cause = core::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, cause, "a call failed");
                let words = "the server failed; its log says how";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", words)
            }
        }
    }
}

impl From<UserError> for Problem {
    fn from(error: UserError) -> Self {
        match error {
            UserError::Store(error) => error.into(),
            UserError::NotFound(_) => Self::not_found(error),
            UserError::Taken(_) | UserError::Disabled(_) => Self::conflict(error),
            UserError::Name(_) => Self::bad(error),
        }
    }
}

impl From<GroupError> for Problem {
    fn from(error: GroupError) -> Self {
        match error {
            GroupError::Store(error) => error.into(),
            GroupError::User(error) => error.into(),
            GroupError::NotFound(_) => Self::not_found(error),
            GroupError::Taken(_) | GroupError::InUse { .. } => Self::conflict(error),
            GroupError::Name(_) => Self::bad(error),
        }
    }
}

impl From<DeviceError> for Problem {
    fn from(error: DeviceError) -> Self {
        match error {
            DeviceError::Store(error) => error.into(),
            DeviceError::NotFound(_) => Self::not_found(error),
            DeviceError::Ambiguous { .. } => Self::conflict(error),
        }
    }
}

impl From<LocationError> for Problem {
    fn from(error: LocationError) -> Self {
        match error {
            LocationError::Store(error) => error.into(),
            LocationError::NotFound(_) => Self::not_found(error),
            LocationError::Taken(_) => Self::conflict(error),
            error => Self::bad(error),
        }
    }
}

impl From<GatewayError> for Problem {
    fn from(error: GatewayError) -> Self {
        match error {
            GatewayError::Store(error) => error.into(),
            GatewayError::Location(error) => error.into(),
            GatewayError::NotFound(_) => Self::not_found(error),
            GatewayError::Elsewhere { .. } => Self::conflict(error),
            GatewayError::Name(_) => Self::bad(error),
        }
    }
}

impl From<SessionError> for Problem {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Store(error) => error.into(),
            SessionError::User(error) => error.into(),
            SessionError::Device(error) => error.into(),
            SessionError::Location(error) => error.into(),
            SessionError::NotFound(_) => Self::not_found(error),
        }
    }
}

impl From<ImportError> for Problem {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Store(error) => error.into(),
            ImportError::User(error) => error.into(),
            ImportError::Location(error) => error.into(),
            ImportError::Line { .. } | ImportError::Absent(_) | ImportError::Name(_) => {
                Self::bad(error)
            }
        }
    }
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Store(error) => error.into(),
            TokenError::User(error) => error.into(),
            TokenError::NotFound(_) => Self::not_found(error),
            TokenError::Taken(_) => Self::conflict(error),
            TokenError::Escalation(_) => Self::new(StatusCode::FORBIDDEN, "scope_missing", error),
            error => Self::bad(error),
        }
    }
}
