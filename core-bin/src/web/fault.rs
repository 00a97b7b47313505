//! Why there is no page, as a page.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use mfa_store::StoreError;

use super::page;
use crate::flows::login::LoginError;
use crate::http::problem::Refusal;

/// Why a request gets no page.
#[derive(Debug)]
pub(super) enum Fault {
    /// Nobody is signed in; where to go after that.
    SignIn(String),
    /// A factor has to be proved again; where to go after that.
    Prove(String),
    /// It cannot be; what happened and what to do.
    Words(StatusCode, String),
    /// What the API would say, too.
    Refused(Refusal),
}

impl Fault {
    pub(super) fn words(status: StatusCode, words: impl core::fmt::Display) -> Self {
        Self::Words(status, words.to_string())
    }

    /// A form that no page of ours sent.
    pub(super) fn foreign() -> Self {
        Self::bad("This form was sent from another site; nothing was done.")
    }

    pub(super) fn bad(words: impl core::fmt::Display) -> Self {
        Self::words(StatusCode::BAD_REQUEST, words)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy => Self::words(
                StatusCode::SERVICE_UNAVAILABLE,
                "The server is busy; try again in a moment.",
            ),
            error => Self::Refused(error.into()),
        }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<LoginError> for Fault {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Store(error) => error.into(),
            LoginError::NotFresh => Self::Prove("/account".to_owned()),
            error => Self::bad(error),
        }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        match self {
            Self::SignIn(next) => Redirect::to(&with_next("/login", &next)).into_response(),
            Self::Prove(next) => Redirect::to(&with_next("/login/code", &next)).into_response(),
            Self::Words(status, words) => page::refuse(status, &page::Sorry { words: &words }),
            Self::Refused(refusal) => refusal.into_response(),
        }
    }
}

/// Adds where to go next to an address of ours.
pub(super) fn with_next(path: &str, next: &str) -> String {
    let next: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
    format!("{path}?next={next}")
}

/// Takes a place of ours to go to; anything else becomes the start page.
pub(super) fn own_place(next: &str) -> &str {
    let own = next.starts_with('/')
        && !next.starts_with("//")
        && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if own { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::own_place;

    #[test]
    fn nobody_is_sent_elsewhere_after_signing_in() {
        assert_eq!(own_place("/overview?location=paris"), "/overview?location=paris");
        for elsewhere in
            ["//evil.example", "https://evil.example", "/\\evil.example", "", "/a\r\nb"]
        {
            assert_eq!(own_place(elsewhere), "/", "{elsewhere:?}");
        }
    }
}
