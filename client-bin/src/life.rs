//! Decides how a connection stands, and when it is over.
//!
//! Sans-IO: the caller brings what the interface saw, what the server said, and the time.
//!
//! ```text
//! connecting ──handshake──▶ connected ◀──heard again──▶ no answer
//!      │                      │    ▲
//!      └──10 s──▶ no answer   └────┴─ quiet: nothing was sent, so nothing can be known
//! ended: the server says so, whatever the interface shows
//! ```

use core::time::Duration;
use std::time::{SystemTime, UNIX_EPOCH};

use mfa_wire::http::{DeviceStatus, LocationStatus, Problem, SessionInfo};
use serde::{Deserialize, Serialize};
use wg_types::timers::{KEEPALIVE_BYTES, KEEPALIVE_TIMEOUT, REJECT_AFTER_TIME, REKEY_TIMEOUT};

use crate::tunnel::Link;

/// A gateway that has not answered for this long is said not to answer.
pub const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// Who hears data answers within 10 s, by an empty packet if need be; a lost answer is noticed
/// after 15 s. So data that has found no answer by now was not heard.
const UNHEARD: Duration =
    Duration::from_secs(KEEPALIVE_TIMEOUT.as_secs() + 2 * REKEY_TIMEOUT.as_secs());

/// How a connection stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum LinkState {
    /// No handshake yet, and it is early.
    Connecting,
    /// A handshake is fresh enough for its keys to serve.
    Connected,
    /// The last keys are too old to serve, and nothing was sent since: nothing is known.
    Quiet,
    /// Something was sent and nothing came back.
    #[serde(rename = "no answer")]
    NoAnswer {
        /// When the gateway was last heard, or the interface brought up; Unix seconds.
        since: u64,
    },
}

/// The end of a connection, not wished from here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct End {
    /// The stable name of the reason.
    pub reason: String,
    /// What happened and what to do next.
    pub message: String,
}

/// How long before its end a session's end is told, the first time and the last.
const WARNINGS: [u64; 2] = [600, 120];

/// Judges one look at an interface, without a history.
#[must_use]
pub fn judge(now: SystemTime, up_since: SystemTime, keepalive: bool, link: &Link) -> LinkState {
    match link.last_handshake {
        None if age(now, up_since) < ANSWER_WAIT => LinkState::Connecting,
        None => LinkState::NoAnswer { since: unix(up_since) },
        Some(last) if age(now, last) < REJECT_AFTER_TIME => LinkState::Connected,
        // With a keepalive there was something to send all the time.
        Some(last) if keepalive => LinkState::NoAnswer { since: unix(last) },
        Some(_) => LinkState::Quiet,
    }
}

/// Follows one connection.
#[derive(Debug)]
pub struct Life {
    location: i64,
    name: String,
    /// The server's session; `None`: none is needed, or the server does not tell.
    session: Option<SessionInfo>,
    /// A factor was proven for this connection.
    proven: bool,
    up_since: SystemTime,
    keepalive: bool,
    last: Link,
    /// When the gateway was last heard.
    heard: SystemTime,
    /// When something was sent that found no answer yet.
    asked: Option<SystemTime>,
    /// The end that was last warned of, and how long before it.
    warned: Option<(u64, u64)>,
}

impl Life {
    /// Begins when the interface is up.
    #[must_use]
    pub fn new(
        location: i64,
        name: &str,
        session: Option<SessionInfo>,
        proven: bool,
        keepalive: bool,
        now: SystemTime,
    ) -> Self {
        Self {
            location,
            name: name.to_owned(),
            session,
            proven,
            up_since: now,
            keepalive,
            last: Link::default(),
            heard: now,
            asked: None,
            warned: None,
        }
    }

    /// Returns the end of the session and the seconds left, if it is time to warn of it: once 10 min
    /// before, once 2 min before. A session that was extended is warned of anew.
    pub fn warning(&mut self, now: SystemTime) -> Option<(u64, u64)> {
        let ends = self.session?.expires;
        let left = ends.checked_sub(unix(now)).filter(|left| *left > 0)?;
        let span = WARNINGS.into_iter().filter(|span| left <= *span).min()?;
        let known = self.warned.is_some_and(|(end, told)| end == ends && told <= span);
        self.warned = Some((ends, span)).filter(|_| !known).or(self.warned);
        (!known).then_some((ends, left))
    }

    /// The location's name as a shell takes it.
    #[must_use]
    pub fn location(&self) -> String {
        self.quoted()
    }

    /// The session as last told.
    #[must_use]
    pub const fn session(&self) -> Option<&SessionInfo> {
        self.session.as_ref()
    }

    /// When the interface was brought up.
    #[must_use]
    pub const fn up_since(&self) -> SystemTime {
        self.up_since
    }

    /// Takes a look at the interface and says how the connection stands.
    pub fn handle_link(&mut self, now: SystemTime, link: Link) -> LinkState {
        let received = link.rx_bytes.saturating_sub(self.last.rx_bytes);
        let sent = link.tx_bytes.saturating_sub(self.last.tx_bytes);
        if received > 0 {
            self.heard = now;
            self.asked = None;
        } else if sent > 0 && sent != KEEPALIVE_BYTES {
            // A keepalive asks for no answer; data and handshakes do.
            self.asked.get_or_insert(now);
        }
        self.last = link;
        match (judge(now, self.up_since, self.keepalive, &link), self.asked) {
            (LinkState::Connected | LinkState::Quiet, Some(asked)) if age(now, asked) > UNHEARD => {
                LinkState::NoAnswer { since: unix(self.heard) }
            }
            (state, _) => state,
        }
    }

    /// Takes what the server says of the device; an answer ends the connection.
    pub fn handle_status(&mut self, status: &DeviceStatus) -> Option<End> {
        let Some(here) = status.locations.iter().find(|l| l.location_id == self.location) else {
            return Some(self.end(
                "not_allowed",
                "this device may not use it any more. Ask your administrator.",
            ));
        };
        match (here.session, self.session) {
            (Some(theirs), Some(ours)) if theirs.id != ours.id => Some(self.replaced()),
            (Some(theirs), _) => {
                self.session = Some(theirs);
                None
            }
            (None, Some(_)) => Some(self.ended(here)),
            (None, None) if here.mfa_required && !self.proven => Some(self.end(
                "mfa_required",
                &format!("it asks for a code now. Run `client-bin connect {}`.", self.quoted()),
            )),
            (None, None) => None,
        }
    }

    /// Takes a refusal of the server; an answer ends the connection.
    #[must_use]
    pub fn handle_refusal(&self, problem: Problem) -> Option<End> {
        let message = match problem {
            Problem::DeviceNotFound | Problem::PollTokenInvalid => {
                "this device was removed at the server. Ask your administrator for a new enrollment."
            }
            Problem::UserNotFound => "your account was removed. Ask your administrator.",
            Problem::Disabled => {
                "your account or this device was disabled. Ask your administrator."
            }
            _ => return None,
        };
        Some(self.end("device_removed", message))
    }

    /// Takes an Instance Update without this location.
    #[must_use]
    pub fn handle_location_gone(&self) -> End {
        self.end("not_allowed", "this device may not use it any more. Ask your administrator.")
    }

    /// Takes the news that somebody removed the interface.
    #[must_use]
    pub fn handle_interface_gone(&self) -> End {
        self.end(
            "interface_removed",
            &format!(
                "its interface was removed. Run `client-bin connect {}` to connect again.",
                self.quoted()
            ),
        )
    }

    fn ended(&self, here: &LocationStatus) -> End {
        let Some(end) = &here.ended else {
            return self.end("ended", &format!("the session is over. {}", self.again()));
        };
        let message = match (end.reason.as_str(), self.session) {
            ("idle", Some(session)) => {
                let seconds = session.idle_threshold;
                format!("no activity for {seconds} seconds. {}", self.again())
            }
            ("lifetime", _) => format!("its session's longest time is over. {}", self.again()),
            ("administrator", _) => format!("an administrator ended it. {}", self.again()),
            ("replaced", _) => return self.replaced(),
            ("policy_changed", _) => format!(
                "the location's settings have changed. Run `client-bin update`, then `client-bin connect {}`.",
                self.quoted()
            ),
            // The server's own words.
            _ => {
                return End {
                    reason: end.reason.clone(),
                    message: format!("{} {}", self.prefix(), end.detail),
                };
            }
        };
        self.end(&end.reason, &message)
    }

    fn replaced(&self) -> End {
        self.end(
            "replaced",
            "this device connected to it anew, from another place or process, which took the session over.",
        )
    }

    fn end(&self, reason: &str, message: &str) -> End {
        End { reason: reason.to_owned(), message: format!("{} {message}", self.prefix()) }
    }

    fn prefix(&self) -> String {
        format!("The connection to {} was ended:", self.name)
    }

    fn again(&self) -> String {
        format!("Run `client-bin connect {}` to connect again.", self.quoted())
    }

    /// The location's name as a shell takes it.
    fn quoted(&self) -> String {
        quoted(&self.name)
    }
}

/// A name as a shell takes it in one piece.
#[must_use]
pub fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.is_empty() && name.chars().all(plain) {
        name.to_owned()
    } else {
        format!("'{}'", name.replace('\'', r"'\''"))
    }
}

/// How long ago; zero for a time to come, after a clock was set back.
#[must_use]
pub fn age(now: SystemTime, then: SystemTime) -> Duration {
    now.duration_since(then).unwrap_or_default()
}

/// Unix seconds.
#[must_use]
pub fn unix(time: SystemTime) -> u64 {
    age(time, UNIX_EPOCH).as_secs()
}

#[cfg(test)]
mod tests {
    use mfa_wire::http::EndInfo;

    use super::*;

    const START: u64 = 1_800_000_000;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(START + seconds)
    }

    fn link(handshake: Option<u64>, rx_bytes: u64, tx_bytes: u64) -> Link {
        Link { last_handshake: handshake.map(at), rx_bytes, tx_bytes, endpoint: None }
    }

    fn session(id: i64) -> SessionInfo {
        SessionInfo {
            id,
            since: START,
            expires: START + 43_200,
            idle_threshold: 300,
            generation: 1,
            next_generation: None,
            gateways_connected: 1,
            gateways_applied: 1,
        }
    }

    fn life(keepalive: bool) -> Life {
        Life::new(1, "office", Some(session(7)), true, keepalive, at(0))
    }

    fn status(session: Option<SessionInfo>, ended: Option<(&str, &str)>) -> DeviceStatus {
        DeviceStatus {
            device_name: "laptop".to_owned(),
            username: "alice".to_owned(),
            config_version: "1".to_owned(),
            methods: Vec::new(),
            locations: vec![LocationStatus {
                location_id: 1,
                name: "office".to_owned(),
                mfa_required: true,
                session,
                ended: ended.map(|(reason, detail)| EndInfo {
                    reason: reason.to_owned(),
                    detail: detail.to_owned(),
                    at: START,
                }),
                gateways_connected: 1,
            }],
        }
    }

    #[test]
    fn a_gateway_that_never_answers_is_said_not_to_answer_after_10_s() {
        let mut life = life(true);
        assert_eq!(life.handle_link(at(9), link(None, 0, 148)), LinkState::Connecting);
        let silent = LinkState::NoAnswer { since: START };
        assert_eq!(life.handle_link(at(10), link(None, 0, 296)), silent);
        assert_eq!(life.handle_link(at(11), link(Some(11), 92, 444)), LinkState::Connected);
    }

    #[test]
    fn a_handshake_serves_for_180_s() {
        let mut life = life(true);
        assert_eq!(life.handle_link(at(1), link(Some(1), 92, 148)), LinkState::Connected);
        assert_eq!(life.handle_link(at(180), link(Some(1), 92, 148)), LinkState::Connected);
        let silent = LinkState::NoAnswer { since: START + 1 };
        assert_eq!(life.handle_link(at(181), link(Some(1), 92, 148)), silent);
    }

    #[test]
    fn who_has_sent_nothing_does_not_blame_the_gateway() {
        let mut life = life(false);
        life.handle_link(at(1), link(Some(1), 92, 148));
        assert_eq!(life.handle_link(at(500), link(Some(1), 92, 148)), LinkState::Quiet);
    }

    #[test]
    fn data_without_an_answer_shows_before_the_keys_are_old() {
        let mut life = life(true);
        life.handle_link(at(1), link(Some(1), 92, 148));
        life.handle_link(at(30), link(Some(1), 92, 276));
        assert_eq!(life.handle_link(at(50), link(Some(1), 92, 404)), LinkState::Connected);
        let silent = LinkState::NoAnswer { since: START + 1 };
        assert_eq!(life.handle_link(at(51), link(Some(1), 92, 404)), silent);
        assert_eq!(life.handle_link(at(52), link(Some(1), 220, 404)), LinkState::Connected);
    }

    #[test]
    fn a_keepalive_asks_for_no_answer() {
        let mut life = life(true);
        life.handle_link(at(1), link(Some(1), 92, 180));
        for n in 1..=6 {
            let state = life.handle_link(at(25 * n), link(Some(1), 92, 180 + 32 * n));
            assert_eq!(state, LinkState::Connected, "{n}");
        }
    }

    #[test]
    fn a_clock_set_back_ends_nothing() {
        let mut life = life(true);
        assert_eq!(life.handle_link(at(0), link(Some(90), 92, 148)), LinkState::Connected);
    }

    #[test]
    fn a_live_session_goes_on() {
        let mut life = life(true);
        let mut renewed = session(7);
        renewed.expires += 60;
        assert_eq!(life.handle_status(&status(Some(renewed), None)), None);
        assert_eq!(life.session(), Some(&renewed));
    }

    #[test]
    fn the_end_is_told_10_and_2_minutes_before_and_once_each() {
        let mut life = life(true);
        let mut told = Vec::new();
        for second in 42_000..43_300 {
            told.extend(life.warning(at(second)));
        }
        assert_eq!(told, [(START + 43_200, 600), (START + 43_200, 120)]);
    }

    #[test]
    fn an_extended_session_is_warned_of_anew_and_a_short_one_at_once() {
        let mut life = life(true);
        assert!(life.warning(at(43_100)).is_some());
        let longer = SessionInfo { expires: START + 50_000, ..session(7) };
        assert_eq!(life.handle_status(&status(Some(longer), None)), None);
        assert_eq!(life.warning(at(43_101)), None);
        assert_eq!(life.warning(at(49_400)), Some((START + 50_000, 600)));
    }

    #[test]
    fn the_servers_reason_is_told_with_the_next_step() {
        let end = life(true)
            .handle_status(&status(None, Some(("idle", "The tunnel was idle."))))
            .unwrap();
        assert_eq!(end.reason, "idle");
        assert_eq!(
            end.message,
            "The connection to office was ended: no activity for 300 seconds. Run `client-bin connect office` to connect again."
        );
    }

    #[test]
    fn every_reason_of_the_server_is_passed_on() {
        let known = ["idle", "lifetime", "administrator", "replaced", "policy_changed"];
        for reason in known.into_iter().chain(["user_disabled", "made_up_later"]) {
            let end = life(true).handle_status(&status(None, Some((reason, "Why.")))).unwrap();
            assert_eq!(end.reason, reason);
            let own_words = known.contains(&reason);
            assert_ne!(end.message.contains("Why."), own_words, "{}", end.message);
        }
    }

    #[test]
    fn another_session_of_the_device_takes_over() {
        let end = life(true).handle_status(&status(Some(session(8)), None)).unwrap();
        assert_eq!(end.reason, "replaced");
    }

    #[test]
    fn a_location_without_a_factor_needs_no_session() {
        let mut life = Life::new(1, "office", None, false, true, at(0));
        let mut open = status(None, None);
        open.locations[0].mfa_required = false;
        assert_eq!(life.handle_status(&open), None);
    }

    #[test]
    fn a_factor_switched_on_ends_connections_without_one() {
        let mut life = Life::new(1, "head office", None, false, true, at(0));
        let end = life.handle_status(&status(None, None)).unwrap();
        assert_eq!(end.reason, "mfa_required");
        assert!(end.message.contains("`client-bin connect 'head office'`"), "{}", end.message);
    }

    #[test]
    fn a_location_that_is_not_listed_any_more_is_over() {
        let mut none = status(None, None);
        none.locations.clear();
        assert_eq!(life(true).handle_status(&none).unwrap().reason, "not_allowed");
    }

    #[test]
    fn only_refusals_of_the_device_itself_end_a_connection() {
        let life = life(true);
        assert!(life.handle_refusal(Problem::DeviceNotFound).is_some());
        assert!(life.handle_refusal(Problem::Disabled).is_some());
        for passing in [Problem::Busy, Problem::Internal, Problem::TooManyRequests] {
            assert_eq!(life.handle_refusal(passing), None);
        }
    }
}
