//! The pages: what was seen, laid out.

use std::time::SystemTime;

use askama::Template;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use mfa_wire::http::{Method, MfaList};
use zeroize::Zeroizing;

use super::desk::{Desk, Dialog, Note, Said, Seen, What};
use super::dialog::{About, Question, Stage};
use super::words::{self, sentence};
use crate::error::ClientError;
use crate::life::unix;
use crate::qr;
use crate::render::{bytes, span};
use crate::status::{LocationView, State, left};

/// Seconds before a session's end from which a page offers to renew it, and from which it urges.
const SOON: [u64; 2] = [600, 120];

/// The connections.
#[derive(Template)]
#[template(path = "home.html")]
pub(super) struct Home {
    pub(super) here: &'static str,
    pub(super) said: Option<Said>,
    /// Made by [`Live`]: not escaped again.
    pub(super) live: String,
}

/// The part of it that changes by itself.
#[derive(Template)]
#[template(path = "live.html")]
struct Live {
    problem: Option<String>,
    instances: Vec<Site>,
}

/// One server.
struct Site {
    id: String,
    name: String,
    user: String,
    device: String,
    update_due: bool,
    server_error: Option<String>,
    rows: Vec<Row>,
}

/// One location.
#[derive(Debug, Default)]
struct Row {
    /// Tells rows apart on one page.
    key: String,
    location: i64,
    name: String,
    label: &'static str,
    /// `good`, `note`, `bad` or nothing.
    tone: &'static str,
    detail: String,
    facts: Vec<(&'static str, String)>,
    /// Received and sent.
    counts: Option<(u64, u64)>,
    is_up: bool,
    is_busy: bool,
    can_renew: bool,
    /// The session's end, with the notice's tone.
    warning: Option<(&'static str, String)>,
    note: Option<(&'static str, String)>,
    action: &'static str,
}

/// Draws how everything stands.
pub(super) fn live(desk: &Desk, seen: &Result<Vec<Seen>, ClientError>, now: SystemTime) -> String {
    let page = match seen {
        Ok(seen) => {
            let instances = seen.iter().map(|seen| server(desk, seen, now)).collect();
            Live { problem: None, instances }
        }
        Err(error) => Live { problem: Some(words::error(error)), instances: Vec::new() },
    };
    // Lines of events must not have it; no name needs it.
    page.render().unwrap_or_default().replace('\r', "")
}

fn server(desk: &Desk, seen: &Seen, now: SystemTime) -> Site {
    let instance = &seen.instance;
    let row = |view: &LocationView| {
        let note = desk.note(&(instance.id.clone(), view.location_id));
        let mut row = row(view, note, now);
        row.key = format!("{}-{}", key(&instance.id), view.location_id);
        row
    };
    Site {
        id: instance.id.clone(),
        name: instance.name.clone(),
        user: instance.user.clone(),
        device: instance.device.clone(),
        update_due: seen.update_due,
        server_error: seen.views.iter().find_map(|view| view.server_error.clone()),
        rows: seen.views.iter().map(row).collect(),
    }
}

/// The letters and digits of an id, for ids of a page.
fn key(id: &str) -> String {
    id.chars().filter(char::is_ascii_alphanumeric).take(32).collect()
}

fn row(view: &LocationView, note: Option<Note>, now: SystemTime) -> Row {
    let ago = |at: u64| span(unix(now).saturating_sub(at));
    let rising = matches!(note, Some(Note::Rising)) && view.link.is_none();
    let (label, tone, detail) = match &view.state {
        _ if view.orphaned => (
            "Interrupted",
            "bad",
            "The process of this connection was killed. Disconnect cleans up.".to_owned(),
        ),
        _ if rising => {
            ("Connecting", "note", "The code was right; the tunnel comes up.".to_owned())
        }
        State::NotConnected => {
            let asks =
                if view.mfa { "Connecting asks for a code." } else { "Connects without a code." };
            ("Not connected", "", asks.to_owned())
        }
        State::Connecting => {
            ("Connecting", "note", "Waiting for the gateway's first answer.".to_owned())
        }
        State::Connected => ("Connected", "good", String::new()),
        State::Quiet => (
            "Connected, silent",
            "note",
            "Nothing was sent for minutes, so the gateway has not been heard either.".to_owned(),
        ),
        State::NoAnswer { since } => (
            "No answer",
            "bad",
            format!(
                "The gateway has not answered for {}. WireGuard keeps trying; check this machine's network connection.",
                ago(*since)
            ),
        ),
        State::Ended { message, .. } => {
            let when = view.last_end.as_ref().map(|end| format!(" ({} ago)", ago(end.at)));
            ("Ended", "bad", sentence(message) + &when.unwrap_or_default())
        }
    };
    // What the server has ended is over, whatever the interface still shows: a connect makes way.
    let is_over = matches!(view.state, State::Ended { .. });
    let is_up = (view.link.is_some() && !is_over) || view.orphaned;
    let mut row = Row {
        location: view.location_id,
        name: view.name.clone(),
        label,
        tone,
        detail,
        is_up,
        is_busy: rising,
        action: if is_up { "/disconnect" } else { "/connect" },
        note: match note {
            Some(Note::Failed(words)) => Some(("bad", words)),
            Some(Note::Hint(words)) if is_up => Some(("note", words)),
            Some(Note::Rising | Note::Hint(_)) | None => None,
        },
        ..Row::default()
    };
    if let Some(link) = view.link.as_ref().filter(|_| !is_over) {
        let session = view.session.as_ref().or(link.session.as_ref());
        if let Some(session) = session {
            let left = left(session, now);
            row.can_renew = left > 0;
            row.facts.push(("Session ends in", span(left)));
            row.warning = warning(left);
        }
        let shaken = match link.handshake_age {
            Some(age) => span(age) + " ago",
            None => "none yet".to_owned(),
        };
        row.facts.push(("Latest handshake", shaken));
        row.facts.push(("Received", bytes(link.rx_bytes)));
        row.facts.push(("Sent", bytes(link.tx_bytes)));
        row.facts.push(("Up for", span(link.up_for)));
        row.facts.extend(link.endpoint.clone().map(|at| ("Gateway", at)));
        row.counts = Some((link.rx_bytes, link.tx_bytes));
    }
    row
}

/// Warns before a session's end.
fn warning(left: u64) -> Option<(&'static str, String)> {
    let [soon, very_soon] = SOON;
    if left == 0 || left > soon {
        return None;
    }
    let tone = if left <= very_soon { "bad" } else { "note" };
    Some((tone, format!("The session ends in {}, however much it is used.", span(left))))
}

/// A question over the connections.
#[derive(Template)]
#[template(path = "dialog.html")]
pub(super) struct Ask {
    here: &'static str,
    said: Option<Said>,
    /// Made by [`Live`]: not escaped again.
    behind: String,
    title: &'static str,
    subject: String,
    instance: String,
    is_working: bool,
    choices: Vec<Tab>,
    /// SVG of [`qr::svg`]: not escaped.
    qr: Option<Zeroizing<String>>,
    key: Zeroizing<String>,
    hint: String,
    label: &'static str,
    digits: u8,
    inputmode: &'static str,
    verb: &'static str,
    is_mailed: bool,
    stage: Stage,
}

struct Tab {
    word: &'static str,
    name: &'static str,
    why: String,
    is_chosen: bool,
    is_off: bool,
}

/// Draws a question.
pub(super) fn ask(dialog: &Dialog, behind: String) -> Ask {
    let stage = dialog.attempt.stage();
    let title = match (dialog.what, dialog.method) {
        (What::Connect | What::Renew, _) => "Two-factor authentication",
        (What::SetUp, Method::Totp) => "Set up an authenticator app",
        (What::SetUp, _) => "Set up codes by e-mail",
    };
    let at = dialog.location.as_ref().map(|(_, name)| name.as_str()).unwrap_or_default();
    let subject = match dialog.what {
        What::Connect => format!("Connecting to {at} ({})", dialog.instance_name),
        What::Renew => {
            format!("More time for {at} ({}), without an interruption", dialog.instance_name)
        }
        What::SetUp => format!("For your account at {}", dialog.instance_name),
    };
    let choices = dialog.choices.iter().map(|choice| Tab {
        word: choice.method.word(),
        name: words::method(choice.method),
        why: choice.why.clone().unwrap_or_default(),
        is_chosen: choice.method == dialog.method,
        is_off: choice.why.is_some() && !choice.may_try,
    });
    let mut ask = Ask {
        here: "home",
        said: None,
        behind,
        title,
        subject,
        instance: dialog.instance.clone(),
        is_working: matches!(stage, Stage::Working),
        choices: choices.collect(),
        qr: None,
        key: Zeroizing::default(),
        hint: String::new(),
        label: "",
        digits: 6,
        inputmode: "numeric",
        verb: match dialog.what {
            What::Connect => "Connect",
            What::Renew => "Renew",
            What::SetUp => "Confirm",
        },
        is_mailed: false,
        stage,
    };
    if let Stage::Ask(question) = &ask.stage {
        let question = question.clone();
        ask.describe(&question);
    }
    ask
}

impl Ask {
    fn describe(&mut self, question: &Question) {
        if question.method == Method::Email {
            let to = question.sent_to.as_deref().map(|to| format!(" to {to}")).unwrap_or_default();
            self.hint = format!("A code of eight digits was sent{to}. It is good for ten minutes.");
            self.label = "The code in the mail";
            self.digits = 8;
            self.is_mailed = question.about == About::Person;
        } else {
            self.label = match question.about {
                About::Person => "The code that the app shows, or a recovery code",
                About::Current | About::First => "The six digits that the app shows now",
            };
            if question.about == About::Person {
                // A recovery code has letters.
                self.inputmode = "text";
            }
        }
        if question.about == About::Current {
            self.hint = format!(
                "To change a method, prove one that is set up already. {}",
                if question.method == Method::Email { self.hint.as_str() } else { "" }
            );
            self.verb = "Go on";
        }
        if let Some(secret) = &question.secret {
            self.qr = Some(qr::svg(secret.otpauth.expose_secret()));
            // In groups of four, as people copy it.
            for (at, letter) in secret.base32.expose_secret().chars().enumerate() {
                if at > 0 && at % 4 == 0 {
                    self.key.push(' ');
                }
                self.key.push(letter);
            }
        }
    }
}

/// A form for an enrollment token.
#[derive(Template)]
#[template(path = "enroll.html")]
pub(super) struct Enroll {
    pub(super) here: &'static str,
    pub(super) said: Option<Said>,
    /// The address of what was typed; the token is not sent back.
    pub(super) invitation: String,
}

/// The user's factors.
#[derive(Template)]
#[template(path = "methods.html")]
pub(super) struct Factors {
    here: &'static str,
    said: Option<Said>,
    instance: String,
    instance_name: String,
    user: String,
    methods: Vec<Factor>,
    recovery_codes: u32,
}

struct Factor {
    word: &'static str,
    name: &'static str,
    what: String,
    is_set_up: bool,
    unavailable: Option<String>,
    /// Location and reason.
    refused: Vec<(String, String)>,
}

/// Draws the factors of the user of an instance.
pub(super) fn methods(
    instance: &crate::state::Instance,
    list: &MfaList,
    said: Option<Said>,
) -> Factors {
    let ours = list.methods.iter().filter(|s| matches!(s.method, Method::Totp | Method::Email));
    let mut methods: Vec<_> = ours
        .map(|status| Factor {
            word: status.method.word(),
            name: words::method(status.method),
            what: match (status.method, &status.sent_to) {
                (Method::Email, Some(to)) => format!("Codes go to {to}."),
                (Method::Email, None) => "A code comes to your mailbox each time.".to_owned(),
                _ => "An app on your phone shows a new code every half minute.".to_owned(),
            },
            is_set_up: status.set_up,
            unavailable: status.unavailable.clone(),
            refused: status
                .locations
                .iter()
                .filter_map(|at| Some((at.name.clone(), at.refused.clone()?)))
                .collect(),
        })
        .collect();
    methods.sort_by_key(|factor| factor.word == "email");
    Factors {
        here: "methods",
        said,
        instance: instance.id.clone(),
        instance_name: instance.name.clone(),
        user: instance.user.clone(),
        methods,
        recovery_codes: list.recovery_codes_left,
    }
}

/// A page for who is not let in, or just was.
#[derive(Template)]
#[template(path = "shut.html")]
pub(super) struct Shut {
    pub(super) is_open: bool,
    pub(super) words: &'static str,
}

/// Answers with a page.
pub(super) fn show(page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => Html(html).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::time::UNIX_EPOCH;

    use mfa_wire::http::{EndInfo, SessionInfo};

    use super::*;
    use crate::control::Snapshot;
    use crate::life::LinkState;

    const NOW: u64 = 1_800_000_000;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW)
    }

    fn view(state: State, up: bool) -> LocationView {
        let session = SessionInfo {
            id: 1,
            since: NOW - 60,
            expires: NOW + 3600,
            idle_threshold: 300,
            generation: 1,
            next_generation: None,
            gateways_connected: 1,
            gateways_applied: 1,
        };
        LocationView {
            instance: "Acme".to_owned(),
            name: "office".to_owned(),
            location_id: 1,
            mfa: true,
            state,
            link: up.then(|| Snapshot {
                link: LinkState::Connected,
                interface: "wg-office".to_owned(),
                backend: "kernel".to_owned(),
                handshake_age: Some(5),
                rx_bytes: 2048,
                tx_bytes: 1024,
                endpoint: None,
                up_for: 60,
                mark: None,
                session: None,
            }),
            session: up.then_some(session),
            last_end: Some(EndInfo { reason: "x".into(), detail: "x".into(), at: NOW - 90 }),
            gateways_connected: Some(1),
            server_error: None,
            orphaned: false,
        }
    }

    #[test]
    fn an_end_shows_its_reason_and_when() {
        let state = State::Ended { reason: "idle".into(), message: "it was idle".into() };
        let row = row(&view(state, false), None, now());
        assert_eq!((row.label, row.tone), ("Ended", "bad"));
        assert_eq!(row.detail, "It was idle. (1 min 30 s ago)");
        assert_eq!((row.is_up, row.action), (false, "/connect"));
    }

    #[test]
    fn what_the_server_ended_can_be_connected_anew_while_its_interface_is_still_there() {
        let state = State::Ended { reason: "idle".into(), message: "it was idle".into() };
        let row = row(&view(state, true), None, now());
        assert_eq!((row.is_up, row.action, row.can_renew), (false, "/connect", false));
        assert!(row.facts.is_empty());
    }

    #[test]
    fn what_was_begun_here_never_outshines_the_interface() {
        let rising = |up| row(&view(State::Connected, up), Some(Note::Rising), now()).label;
        assert_eq!((rising(false), rising(true)), ("Connecting", "Connected"));
    }

    #[test]
    fn the_end_is_warned_of_10_and_2_minutes_before() {
        let tone = |left| warning(left).map(|(tone, _)| tone);
        assert_eq!(tone(601), None);
        assert_eq!(tone(600), Some("note"));
        assert_eq!(tone(121), Some("note"));
        assert_eq!(tone(120), Some("bad"));
        assert_eq!(tone(0), None);
    }

    #[test]
    fn names_are_text_and_nothing_else() {
        let evil = "<img src=x onerror=alert(1)>\"'&\r\n";
        let mut seen = view(State::Connected, true);
        seen.name = evil.to_owned();
        let rows = vec![row(&seen, Some(Note::Hint(evil.to_owned())), now())];
        let server = Site {
            id: evil.to_owned(),
            name: evil.to_owned(),
            user: evil.to_owned(),
            device: evil.to_owned(),
            update_due: true,
            server_error: Some(evil.to_owned()),
            rows,
        };
        let html = Live { problem: None, instances: vec![server] }.render().unwrap();
        assert!(html.matches("office").count() == 0 && html.contains("&#60;img"), "{html}");
        assert!(!html.contains("<img"), "{html}");
    }
}
