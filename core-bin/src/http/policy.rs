//! The content security policy of a page that brings its style sheet and its script with it
//! (CSP level 3 §6.7.3.3): the browser runs these two, known by their digests, and no other.

use axum::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

/// Writes the policy of pages that have `style` and `script` in them, to the letter, and may do what
/// the directives `allowed` say.
pub(crate) fn of(style: &str, script: &str, allowed: &str) -> HeaderValue {
    let digest = |text: &str| STANDARD.encode(Sha256::digest(text));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; {allowed}",
        digest(style),
        digest(script)
    );
    // No directive has a byte that a header must not have; if one had, nothing would be allowed.
    HeaderValue::try_from(policy)
        .unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"))
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn a_page_may_do_what_it_brings_and_what_is_allowed() {
        // Digests by `openssl dgst -sha256 -binary | base64`.
        let policy = of("a{}", "alert(1)", "base-uri 'none'");

        assert_eq!(
            policy,
            "default-src 'none'; style-src 'sha256-X1RutGBrXCt9KkSaXMK7tHftWiRscFHOhxsS8tv8hBk='; script-src 'sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI='; base-uri 'none'"
        );
    }
}
