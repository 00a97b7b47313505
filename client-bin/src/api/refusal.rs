//! What a server refused, in words that say what to do next.
//!
//! Our core names its refusals and tells the facts. Other servers of the same API send a short text,
//! which is recognized here. What to do next is this client's to say: it knows its own commands.

use http::StatusCode;
use mfa_wire::http::{ErrorBody, Problem};

/// One refusal.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// What was refused.
    pub problem: Problem,
    /// What happened and what to do next, for people.
    pub text: String,
    /// Seconds after which it is worth trying again; `None`: it does not depend on time.
    pub retry_after: Option<u64>,
}

/// Which call was refused: a status alone means different things in different places.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Call {
    /// Within an enrollment.
    Enrollment,
    /// An Instance Update.
    Poll,
    /// The start or the finish of a connect.
    Connect,
    /// The confirmation of a factor.
    Setup,
    /// One of our own.
    Device,
}

impl Refusal {
    /// Reads the answer to a call that was not granted.
    pub(crate) fn read(call: Call, status: StatusCode, body: &[u8]) -> Self {
        let body = serde_json::from_slice::<ErrorBody>(body).ok();
        let short = body.as_ref().map_or("", |body| body.error.as_str());
        let named = body.as_ref().and_then(|body| body.code).filter(|&c| c != Problem::Unknown);
        let problem = named.unwrap_or_else(|| recognize(call, status, short));
        let retry_after = body.as_ref().and_then(|body| body.retry_after);
        let detail = body.as_ref().and_then(|body| body.detail.as_deref());
        let text = match words(problem, call) {
            Some(words) => words.explain(detail, retry_after),
            None => match detail {
                Some(detail) => sentence(detail),
                None => unknown(status, short),
            },
        };
        Self { problem, text, retry_after }
    }
}

/// Recognizes the texts of other servers.
fn recognize(call: Call, status: StatusCode, short: &str) -> Problem {
    match (call, status.as_u16(), short) {
        (_, _, "location not found") => Problem::LocationNotFound,
        (_, _, "device not found") => Problem::DeviceNotFound,
        (_, _, "user not found") => Problem::UserNotFound,
        (_, _, "MFA not enabled for location") => Problem::MfaNotEnabled,
        (_, _, "selected MFA method not available") => Problem::MethodNotSetUp,
        (_, _, "selected MFA method not supported by location") => Problem::MethodNotAllowed,
        (_, _, "invalid token" | "login session not found") => Problem::ChallengeInvalid,
        // One spelling from two calls: the user's groups, or the code. Case tells them apart.
        (Call::Connect, 401, "unauthorized") => Problem::NotAllowed,
        (Call::Connect | Call::Setup, 401, _) => Problem::CodeWrong,
        (Call::Enrollment, 401, _) => Problem::EnrollmentInvalid,
        (Call::Poll, 401, _) => Problem::PollTokenInvalid,
        (Call::Device, 401, _) => Problem::ProofInvalid,
        (_, 429, _) => Problem::TooManyRequests,
        (_, 503, _) => Problem::Busy,
        (_, 500..=599, _) => Problem::Internal,
        _ => Problem::Unknown,
    }
}

/// What a refusal is in words.
struct Words {
    /// What happened.
    what: &'static str,
    /// What to do.
    next: &'static str,
    /// The server's own words for what happened say more, if there are any.
    facts: bool,
}

impl Words {
    fn explain(&self, detail: Option<&str>, retry_after: Option<u64>) -> String {
        match (self.facts, detail, retry_after) {
            // The server gives advice too, but does not know this client's commands.
            (true, Some(detail), _) if self.next.contains('`') => {
                format!("{} {}", sentence(detail), self.next)
            }
            (true, Some(detail), _) => sentence(detail),
            (_, _, Some(seconds)) => format!("{} Try again in {seconds} s.", self.what),
            _ => format!("{} {}", self.what, self.next),
        }
    }
}

/// Makes a sentence of a clause.
fn sentence(clause: &str) -> String {
    let mut rest = clause.trim().chars();
    let first = rest.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let mut text = first + rest.as_str();
    if !text.ends_with(['.', '!', '?']) {
        text.push('.');
    }
    text
}

fn unknown(status: StatusCode, short: &str) -> String {
    let said = if short.is_empty() { "no reason given" } else { short };
    format!(
        "The server refused this ({status}: {said}). Update the client or tell your administrator."
    )
}

/// `None`: the server's own words are all there is.
fn words(problem: Problem, call: Call) -> Option<Words> {
    let ours = |what, next| Some(Words { what, next, facts: false });
    let theirs = |what, next| Some(Words { what, next, facts: true });
    match problem {
        Problem::LocationNotFound => ours(
            "The server does not know this location, or not for you.",
            "Run `client-bin update` to fetch the list of today.",
        ),
        Problem::DeviceNotFound | Problem::PollTokenInvalid => ours(
            "The server does not know this device any more.",
            "Ask your administrator for a new enrollment token and run `client-bin enroll` again.",
        ),
        Problem::UserNotFound => {
            ours("The server does not know your account any more.", "Ask your administrator.")
        }
        Problem::Disabled => {
            theirs("Your account or this device is disabled.", "Ask your administrator.")
        }
        Problem::MfaNotEnabled => ours(
            "This location connects without a code by now.",
            "Run `client-bin update`, then connect again.",
        ),
        Problem::NotAllowed => theirs(
            "None of your groups may use this location.",
            "Ask your administrator if you should.",
        ),
        Problem::MethodNotSetUp => ours(
            "Selected method has not been configured on your account.",
            "Run `client-bin mfa setup totp` or `client-bin mfa setup email`, or choose another with --method; `client-bin mfa list` shows what there is.",
        ),
        Problem::MethodNotAllowed => theirs(
            "This location does not accept this method.",
            "Choose another with --method; `client-bin mfa list` shows which it accepts.",
        ),
        Problem::MethodUnavailable => theirs(
            "The server cannot offer this method now.",
            "Choose another with --method; `client-bin mfa list` shows what there is.",
        ),
        Problem::MethodLocked => theirs(
            "This method is locked after too many wrong codes.",
            "Use another, or ask your administrator to unlock it.",
        ),
        Problem::ChallengeInvalid | Problem::ChallengeSpent if call == Call::Setup => ours(
            "No setup waits for this code any more.",
            "Begin again with `client-bin mfa setup`.",
        ),
        Problem::ChallengeInvalid | Problem::ChallengeSpent => ours(
            "The time for this code is over, or it had too many tries.",
            "Run `client-bin connect` again.",
        ),
        Problem::SessionOver => ours("This session is over.", "Run `client-bin connect` again."),
        Problem::CodeMalformed => theirs(
            "This is not a code: one of an authenticator app has 6 digits, one of an e-mail 8.",
            "Type it again.",
        ),
        Problem::CodeWrong => ours(
            "The code is wrong.",
            "Take the newest one; if an app's code is refused again, check the clock of the phone.",
        ),
        Problem::CodeUsed => theirs(
            "This code was used before; each is good once.",
            "Wait until your app shows the next one.",
        ),
        Problem::TooManyTries => theirs("Too many wrong codes.", "Try again later."),
        Problem::TooManyRequests => theirs("Too many requests.", "Try again later."),
        Problem::GatewayOffline => theirs(
            "No gateway of this location is connected to the server.",
            "Try again later, or tell your administrator.",
        ),
        Problem::ConfigStale => ours(
            "The configuration of this location has changed at the server.",
            "Run `client-bin update`, then connect again.",
        ),
        Problem::EnrollmentInvalid => ours(
            "The enrollment token is unknown, expired or used already.",
            "Ask your administrator for a new one.",
        ),
        Problem::DeviceExists => theirs(
            "A device with this name or key exists already.",
            "Choose another name with --name.",
        ),
        Problem::ProofRequired | Problem::ProofInvalid => ours(
            "The server does not accept this device's proof of its key.",
            "Run `client-bin update`; if that fails too, enroll again.",
        ),
        Problem::CurrentCodeRequired => ours(
            "To change a factor, a code of one that is set up already is needed.",
            "Give it with --current-code, or run the command on a terminal.",
        ),
        Problem::EnrollmentRequired => ours(
            "No factor is set up yet, and the enrollment is over.",
            "Ask your administrator for a new enrollment token and run `client-bin enroll` with it.",
        ),
        Problem::Busy => {
            theirs("The server has more work than it can do now.", "Try again in a minute.")
        }
        Problem::Internal => ours(
            "The server failed.",
            "Try again; if it goes on, tell your administrator, whose log says more.",
        ),
        Problem::BadRequest | Problem::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(call: Call, status: u16, text: &str) -> Refusal {
        let body = serde_json::json!({ "error": text }).to_string();
        Refusal::read(call, StatusCode::from_u16(status).unwrap(), body.as_bytes())
    }

    #[test]
    fn every_text_of_the_shared_api_is_recognized() {
        let connect = |status, text| read(Call::Connect, status, text).problem;
        assert_eq!(connect(400, "location not found"), Problem::LocationNotFound);
        assert_eq!(connect(400, "device not found"), Problem::DeviceNotFound);
        assert_eq!(connect(400, "user not found"), Problem::UserNotFound);
        assert_eq!(connect(400, "MFA not enabled for location"), Problem::MfaNotEnabled);
        assert_eq!(connect(401, "unauthorized"), Problem::NotAllowed);
        assert_eq!(connect(400, "selected MFA method not available"), Problem::MethodNotSetUp);
        assert_eq!(
            connect(400, "selected MFA method not supported by location"),
            Problem::MethodNotAllowed
        );
        assert_eq!(connect(400, "invalid token"), Problem::ChallengeInvalid);
        assert_eq!(connect(400, "login session not found"), Problem::ChallengeInvalid);
        assert_eq!(connect(401, "Unauthorized"), Problem::CodeWrong);
        assert_eq!(read(Call::Enrollment, 401, "x").problem, Problem::EnrollmentInvalid);
        assert_eq!(read(Call::Poll, 401, "x").problem, Problem::PollTokenInvalid);
    }

    #[test]
    fn every_recognized_refusal_says_what_to_do() {
        for (status, text) in [
            (400, "location not found"),
            (400, "device not found"),
            (400, "user not found"),
            (400, "MFA not enabled for location"),
            (401, "unauthorized"),
            (400, "selected MFA method not available"),
            (400, "selected MFA method not supported by location"),
            (400, "invalid token"),
            (401, "Unauthorized"),
            (429, ""),
            (503, ""),
            (500, ""),
        ] {
            let text = read(Call::Connect, status, text).text;
            let advice = ["Run ", "Ask ", "Choose ", "Take ", "Try ", "Too many"];
            assert!(advice.iter().any(|word| text.contains(word)), "{text}");
        }
    }

    #[test]
    fn our_core_explains_itself() {
        let body =
            br#"{"error":"Unauthorized","code":"code-used","detail":"Wait.","retry_after":9}"#;
        let refusal = Refusal::read(Call::Connect, StatusCode::UNAUTHORIZED, body);
        assert_eq!(
            refusal,
            Refusal { problem: Problem::CodeUsed, text: "Wait.".to_owned(), retry_after: Some(9) }
        );
    }

    #[test]
    fn a_name_from_the_future_falls_back_to_the_shared_text() {
        let body = br#"{"error":"location not found","code":"made-up-later"}"#;
        let refusal = Refusal::read(Call::Connect, StatusCode::BAD_REQUEST, body);
        assert_eq!(refusal.problem, Problem::LocationNotFound);
    }

    #[test]
    fn an_answer_that_is_no_json_is_still_told() {
        let refusal = Refusal::read(Call::Connect, StatusCode::BAD_GATEWAY, b"<html>");
        assert_eq!(refusal.problem, Problem::Internal);
        let refusal = Refusal::read(Call::Connect, StatusCode::IM_A_TEAPOT, b"<html>");
        assert!(refusal.text.contains("418"), "{}", refusal.text);
    }

    #[test]
    fn waiting_times_are_told() {
        let body = br#"{"error":"x","code":"too-many-tries","retry_after":840}"#;
        let refusal = Refusal::read(Call::Connect, StatusCode::TOO_MANY_REQUESTS, body);
        assert_eq!(refusal.text, "Too many wrong codes. Try again in 840 s.");
    }
}
