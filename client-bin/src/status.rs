//! How the connections stand: by the interface's own statistics and the server's word, both taken
//! now, never from memory.

use core::num::NonZeroU32;
use core::time::Duration;
use std::time::{SystemTime, UNIX_EPOCH};

use mfa_wire::http::{DeviceStatus, EndInfo, LocationStatus, SessionInfo};
use serde::Serialize;

use crate::client::Client;
use crate::clock;
use crate::control::{self, Ask, Reply, Snapshot};
use crate::error::ClientError;
use crate::host::Backend;
use crate::life::{LinkState, age, judge};
use crate::location::Location;
use crate::running::Record;
use crate::state::Instance;
use crate::tunnel::link;

/// How one location stands.
#[derive(Clone, Debug, Serialize)]
pub struct LocationView {
    /// The server's name.
    pub instance: String,
    /// The location's name.
    pub name: String,
    /// The location's number.
    pub location_id: i64,
    /// Connecting asks for a code.
    pub mfa: bool,
    /// How it stands.
    #[serde(flatten)]
    pub state: State,
    /// What the interface shows; absent: there is none.
    pub link: Option<Snapshot>,
    /// The live session by the server's word; absent: there is none, or the server was not asked.
    pub session: Option<SessionInfo>,
    /// How the last session ended by the server's word.
    pub last_end: Option<EndInfo>,
    /// Gateways that are connected to the server; absent: the server was not asked.
    pub gateways_connected: Option<u32>,
    /// Why the server's word is missing; absent: it is there.
    pub server_error: Option<String>,
    /// The connection's process was killed and left something behind; `disconnect` cleans up.
    pub orphaned: bool,
}

/// How a location stands.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum State {
    /// There is no interface, and none is missed.
    #[serde(rename = "not connected")]
    NotConnected,
    /// The interface is up, and it is early.
    Connecting,
    /// A fresh handshake, and the server agrees.
    Connected,
    /// Nothing was sent for long, so nothing is known of the gateway.
    Quiet,
    /// The gateway does not answer.
    #[serde(rename = "no answer")]
    NoAnswer {
        /// Since when, Unix seconds.
        since: u64,
    },
    /// The server ended the session, and not at this device's wish.
    Ended {
        /// The stable name of the reason.
        reason: String,
        /// The server's words.
        message: String,
    },
}

impl Client {
    /// Looks at every location of an instance, or of all.
    ///
    /// # Errors
    ///
    /// [`ClientError::State`], [`ClientError::Pick`]. A server that does not answer is no error
    /// here: the views say so.
    pub async fn status(&self, instance: Option<&str>) -> Result<Vec<LocationView>, ClientError> {
        let mut views = Vec::new();
        for instance in self.instances(instance)? {
            let looks = self.looks(&instance).await;
            let word = self.ask_server(&instance, mark(&looks)).await;
            views.extend(self::views(&instance, looks, Some(&word)));
        }
        Ok(views)
    }

    /// Looks at an instance's interfaces, in the order of its locations.
    pub(crate) async fn looks(&self, instance: &Instance) -> Vec<Look> {
        let mut looks = Vec::new();
        for location in &instance.locations {
            looks.push(self.look(instance, location).await);
        }
        looks
    }

    async fn look(&self, instance: &Instance, location: &Location) -> Look {
        let running = self.running();
        let socket = running.socket(&instance.id, location.id);
        if let Ok(Some(Reply::Status(snapshot))) = control::ask(&socket, Ask::Status).await {
            return Look { link: Some(snapshot), orphaned: false };
        }
        // The process is gone or has no socket; the kernel may still have its interface.
        let Some(record) = running.record(&instance.id, location.id) else {
            return Look::default();
        };
        let claim = running.claim(&instance.id, location.id);
        let orphaned = matches!(claim, Ok(Some(_)));
        Look { link: self.look_at(&record, location), orphaned }
    }

    fn look_at(&self, record: &Record, location: &Location) -> Option<Snapshot> {
        if !self.host.exists(&record.interface) {
            return None;
        }
        let wireguard = self.host.open(&record.interface, Backend::Auto).ok()?;
        let now = clock::wall();
        let seen = link(&*wireguard, &location.public_key).ok()?;
        let up_since = UNIX_EPOCH + Duration::from_secs(record.up_since);
        Some(Snapshot {
            link: judge(now, up_since, location.keepalive.is_some(), &seen),
            interface: record.interface.clone(),
            backend: record.backend.clone(),
            handshake_age: seen.last_handshake.map(|last| age(now, last).as_secs()),
            rx_bytes: seen.rx_bytes,
            tx_bytes: seen.tx_bytes,
            endpoint: seen.endpoint.map(|endpoint| endpoint.to_string()),
            up_for: age(now, up_since).as_secs(),
            mark: wireguard.interface().ok()?.fwmark.map(NonZeroU32::get),
            session: None,
        })
    }

    /// Asks the server; `mark` keeps the question out of a tunnel that takes everything.
    pub(crate) async fn ask_server(&self, instance: &Instance, mark: Option<u32>) -> Told {
        let ask = async {
            let api = self.api(instance)?;
            api.set_mark(mark.and_then(NonZeroU32::new)).await;
            Ok::<_, ClientError>(api.status(&instance.private_key).await?)
        };
        ask.await.map_err(|error| error.to_string())
    }
}

/// What the server said of the device, or why it said nothing.
pub(crate) type Told = Result<DeviceStatus, String>;

/// The mark of an interface that takes the way to the server, if there is one.
pub(crate) fn mark(looks: &[Look]) -> Option<u32> {
    looks.iter().find_map(|look| look.link.as_ref()?.mark)
}

/// What this machine shows of one location.
#[derive(Debug, Default)]
pub(crate) struct Look {
    /// Its interface; `None`: there is none.
    pub(crate) link: Option<Snapshot>,
    /// A process died and left something behind.
    pub(crate) orphaned: bool,
}

/// What the server says of one location.
#[derive(Clone, Copy, Debug)]
enum Word<'a> {
    /// Nothing: it was not reached.
    None,
    /// It does not list the location.
    NotListed,
    /// This.
    Said(&'a LocationStatus),
}

impl<'a> Word<'a> {
    fn of(status: Option<&'a DeviceStatus>, location: i64) -> Self {
        let Some(status) = status else { return Self::None };
        let found = status.locations.iter().find(|here| here.location_id == location);
        found.map_or(Self::NotListed, Self::Said)
    }

    const fn said(self) -> Option<&'a LocationStatus> {
        match self {
            Self::Said(here) => Some(here),
            Self::None | Self::NotListed => None,
        }
    }
}

/// Puts what the machine shows and what the server said together; `None`: it was not asked yet.
pub(crate) fn views(
    instance: &Instance,
    looks: Vec<Look>,
    word: Option<&Told>,
) -> Vec<LocationView> {
    let both = instance.locations.iter().zip(looks);
    both.map(|(location, look)| view(instance, location, look, word)).collect()
}

fn view(instance: &Instance, location: &Location, look: Look, word: Option<&Told>) -> LocationView {
    let here = Word::of(word.and_then(|word| word.as_ref().ok()), location.id);
    let found = here.said();
    LocationView {
        instance: instance.name.clone(),
        name: location.name.clone(),
        location_id: location.id,
        mfa: found.map_or_else(|| location.mfa.required(), |here| here.mfa_required),
        state: state(look.link.as_ref(), here),
        session: found.and_then(|here| here.session),
        last_end: found.and_then(|here| here.ended.clone()),
        gateways_connected: found.map(|here| here.gateways_connected),
        server_error: word.and_then(|word| word.as_ref().err().cloned()),
        link: look.link,
        orphaned: look.orphaned,
    }
}

/// Puts both witnesses together.
fn state(link: Option<&Snapshot>, here: Word<'_>) -> State {
    let told = here.said().and_then(|here| here.ended.as_ref());
    let Some(snapshot) = link else {
        return match told {
            // At this device's wish, or by this device itself, elsewhere.
            Some(end) if !matches!(end.reason.as_str(), "disconnected" | "replaced") => ended(end),
            _ => State::NotConnected,
        };
    };
    match here {
        Word::NotListed => State::Ended {
            reason: "not_allowed".to_owned(),
            message: "this device may not use the location any more".to_owned(),
        },
        Word::Said(here) if here.mfa_required && here.session.is_none() => {
            told.map_or_else(no_session, ended)
        }
        _ => match snapshot.link {
            LinkState::Connecting => State::Connecting,
            LinkState::Connected => State::Connected,
            LinkState::Quiet => State::Quiet,
            LinkState::NoAnswer { since } => State::NoAnswer { since },
        },
    }
}

fn ended(end: &EndInfo) -> State {
    State::Ended { reason: end.reason.clone(), message: end.detail.clone() }
}

fn no_session() -> State {
    State::Ended { reason: "ended".to_owned(), message: "there is no session".to_owned() }
}

/// Seconds until a session ends at the latest.
#[must_use]
pub fn left(session: &SessionInfo, now: SystemTime) -> u64 {
    session.expires.saturating_sub(crate::life::unix(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(link: LinkState) -> Snapshot {
        Snapshot {
            link,
            interface: "wg-office".to_owned(),
            backend: "kernel".to_owned(),
            handshake_age: Some(3),
            rx_bytes: 1,
            tx_bytes: 1,
            endpoint: None,
            up_for: 5,
            mark: None,
            session: None,
        }
    }

    fn here(mfa_required: bool, live: bool) -> LocationStatus {
        let session = SessionInfo {
            id: 1,
            since: 0,
            expires: 100,
            idle_threshold: 300,
            generation: 1,
            next_generation: None,
            gateways_connected: 1,
            gateways_applied: 1,
        };
        LocationStatus {
            location_id: 1,
            name: "office".to_owned(),
            mfa_required,
            session: live.then_some(session),
            ended: Some(EndInfo { reason: "idle".to_owned(), detail: "quiet".to_owned(), at: 0 }),
            gateways_connected: 1,
        }
    }

    #[test]
    fn without_an_interface_nothing_is_connected_whatever_the_server_says() {
        let mut here = here(true, true);
        here.ended = None;
        assert_eq!(state(None, Word::Said(&here)), State::NotConnected);
        assert_eq!(state(None, Word::None), State::NotConnected);
    }

    #[test]
    fn an_end_that_nobody_here_wished_is_told_until_the_next_connect() {
        let mut here = here(true, false);
        assert!(matches!(state(None, Word::Said(&here)), State::Ended { .. }));
        for own in ["disconnected", "replaced"] {
            here.ended.as_mut().unwrap().reason = own.to_owned();
            assert_eq!(state(None, Word::Said(&here)), State::NotConnected);
        }
    }

    #[test]
    fn a_fresh_handshake_counts_only_with_a_session() {
        let up = snapshot(LinkState::Connected);
        assert_eq!(state(Some(&up), Word::Said(&here(true, true))), State::Connected);
        let State::Ended { reason, .. } = state(Some(&up), Word::Said(&here(true, false))) else {
            panic!("the session is over");
        };
        assert_eq!(reason, "idle");
    }

    #[test]
    fn a_location_without_a_factor_needs_no_session() {
        let up = snapshot(LinkState::Connected);
        assert_eq!(state(Some(&up), Word::Said(&here(false, false))), State::Connected);
    }

    #[test]
    fn without_the_servers_word_the_interface_decides() {
        let silent = snapshot(LinkState::NoAnswer { since: 9 });
        assert_eq!(state(Some(&silent), Word::None), State::NoAnswer { since: 9 });
        assert_eq!(state(Some(&snapshot(LinkState::Quiet)), Word::None), State::Quiet);
    }

    #[test]
    fn a_location_that_is_not_listed_any_more_is_over() {
        let up = snapshot(LinkState::Connected);
        assert!(matches!(state(Some(&up), Word::NotListed), State::Ended { .. }));
    }
}
