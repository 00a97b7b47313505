//! *VPN Overview*: the picture of one location.

use core::time::Duration;
use std::sync::Arc;

use askama::Template;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use mfa_core::time::Timestamp;
use mfa_store::{
    Events, Gateway, Location, Roster, RosterQuery, RosterSort, SessionInfo, Snapshot, StoreError,
    Traffic,
};
use serde::Deserialize;

use super::chart::{self, Series};
use super::fault::Fault;
use super::gateway::Standing;
use super::login::method_name;
use super::page::{self, Frame};
use super::signed::Admin;
use super::ui::{encoded, segment};
use super::words::why;
use crate::admin::answer::{ago, bytes};
use crate::app::App;
use crate::link::registry::Connected;

const ROWS: i64 = 50;
/// Ended sessions that are shown.
const ENDED: i64 = 8;

const PERIODS: [(&str, &str, u64); 4] = [
    ("1h", "the last hour", 3_600),
    ("6h", "the last 6 hours", 6 * 3_600),
    ("24h", "the last day", 24 * 3_600),
    ("7d", "the last 7 days", 7 * 24 * 3_600),
];

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    pub(super) location: String,
    #[serde(default)]
    period: String,
    #[serde(default)]
    q: String,
    #[serde(default)]
    sort: String,
    #[serde(default)]
    page: Option<i64>,
    #[serde(default)]
    done: String,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview<'a> {
    frame: Frame<'a>,
    locations: Vec<String>,
    name: String,
    edit: String,
    asks_mfa: bool,
    periods: [(&'static str, &'static str, u64); 4],
    period: &'static str,
    period_words: &'static str,
    gateways: Vec<GatewayRow>,
    add_gateway: String,
    connected: u64,
    matching: u64,
    people: Vec<PersonRow>,
    headings: Vec<Heading>,
    search: String,
    sort: String,
    pages: Vec<(String, String)>,
    throughput: String,
    received: String,
    sent: String,
    events: String,
    counts: [usize; 3],
    ended: Vec<EndedRow>,
}

struct Heading {
    name: &'static str,
    href: String,
    state: &'static str,
}

struct GatewayRow {
    name: String,
    href: String,
    standing: Standing,
    about: String,
}

struct PersonRow {
    id: i64,
    login: String,
    device: String,
    tunnel: String,
    public: String,
    method: &'static str,
    since: String,
    handshake: String,
    fresh: bool,
    left: String,
    spark: String,
    rx: String,
    tx: String,
}

struct EndedRow {
    login: String,
    device: String,
    when: String,
    why: &'static str,
}

/// What the store says of a location.
struct Found {
    locations: Vec<Location>,
    shown: Option<Shown>,
}

struct Shown {
    location: Location,
    gateways: Vec<Gateway>,
    roster: Roster,
    tunnels: Vec<String>,
    traffic: Vec<Traffic>,
    events: Events,
    ended: Vec<(String, String, SessionInfo, Timestamp)>,
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    admin: Admin,
    Query(asked): Query<Asked>,
) -> Result<Response, Fault> {
    let now = app.clock.now();
    let (period, period_words, secs) =
        PERIODS.into_iter().find(|(code, ..)| *code == asked.period).unwrap_or(PERIODS[0]);
    let length = Duration::from_secs(secs);
    let from = now.saturating_sub(length);
    let page = asked.page.unwrap_or(1).max(1);
    let (sort, descending) = sorting(&asked.sort);
    let query = RosterQuery {
        search: asked.q.clone(),
        sort,
        descending,
        offset: page.saturating_sub(1).saturating_mul(ROWS),
        limit: ROWS,
    };
    let name = asked.location.clone();
    let found = app.store.read(move |view| find(view, &name, &query, from)).await?;
    let Some(shown) = found.shown else {
        return Ok(Redirect::to("/locations/new").into_response());
    };
    let name = shown.location.settings.name.clone();
    let here = |sort: &str, page: i64| {
        format!(
            "/overview?location={}&period={period}&q={}&sort={}&page={page}",
            encoded(&name),
            encoded(&asked.q),
            encoded(sort),
        )
    };
    let span = chart::Span { from, length };
    let seconds = chart::float(secs) / chart::float(60);
    let rate = |pick: fn(&Traffic) -> u64| {
        let points = shown.traffic.iter().map(|one| (one.at, chart::float(pick(one)) / seconds));
        chart::columns(span, points)
    };
    let received = shown.traffic.iter().map(|one| one.rx_bytes).fold(0, u64::saturating_add);
    let sent = shown.traffic.iter().map(|one| one.tx_bytes).fold(0, u64::saturating_add);
    let throughput = if shown.traffic.is_empty() {
        String::new()
    } else {
        let series = [
            Series { class: "rx", name: "received", values: rate(|one| one.rx_bytes) },
            Series { class: "tx", name: "sent", values: rate(|one| one.tx_bytes) },
        ];
        chart::areas("Throughput", span, &series, per_second)
    };
    let count = |times: &[Timestamp]| chart::columns(span, times.iter().map(|at| (*at, 1.0)));
    let Events { begun, refused, idle } = &shown.events;
    let counts = [begun.len(), refused.len(), idle.len()];
    let events = if counts == [0, 0, 0] {
        String::new()
    } else {
        let series = [
            Series { class: "begun", name: "connections", values: count(begun) },
            Series { class: "refused", name: "denials", values: count(refused) },
            Series { class: "idle", name: "idle ends", values: count(idle) },
        ];
        chart::bars("Connections and denials", span, &series)
    };
    let pages = pages(page, shown.roster.matching, |page| here(&asked.sort, page));
    let connected = app.registry.list(shown.location.id);
    let overview = Overview {
        frame: Frame::new(&app, &admin.0, "overview", &asked.done),
        locations: found.locations.into_iter().map(|one| one.settings.name).collect(),
        edit: format!("/locations/{}/edit", segment(&name)),
        add_gateway: format!("/gateways?location={}", encoded(&name)),
        asks_mfa: shown.location.asks_mfa(),
        periods: PERIODS,
        period,
        period_words,
        gateways: shown
            .gateways
            .iter()
            .map(|one| gateway(one, shown.location.revision, &connected, now))
            .collect(),
        connected: shown.roster.connected,
        matching: shown.roster.matching,
        people: people(&app, &shown, now),
        headings: headings(&asked.sort, |sort| here(sort, 1)),
        search: asked.q.clone(),
        sort: asked.sort.clone(),
        pages,
        throughput,
        received: bytes(received),
        sent: bytes(sent),
        events,
        counts,
        ended: shown
            .ended
            .iter()
            .map(|(login, device, session, at)| EndedRow {
                login: login.clone(),
                device: device.clone(),
                when: ago(Some(*at), now),
                why: session.ended.map_or("", |(_, reason)| why(reason)),
            })
            .collect(),
        name,
    };
    Ok(page::show(&overview))
}

fn find(
    view: &mut Snapshot,
    name: &str,
    query: &RosterQuery,
    from: Timestamp,
) -> Result<Found, StoreError> {
    let locations = view.locations()?;
    let chosen =
        locations.iter().find(|one| one.settings.name == name).or_else(|| locations.first());
    let Some(location) = chosen.cloned() else { return Ok(Found { locations, shown: None }) };
    let id = location.id;
    let gateways = view.gateways()?.into_iter().filter(|one| one.location == id).collect();
    let roster = view.roster(id, query)?;
    let mut tunnels = Vec::with_capacity(roster.entries.len());
    for entry in &roster.entries {
        let addresses = view.addresses(entry.session.subject.device, id)?;
        let addresses = addresses.iter().map(|net| net.addr().to_string());
        tunnels.push(addresses.collect::<Vec<_>>().join(", "));
    }
    let mut ended = Vec::new();
    for (session, at) in view.ended_sessions(id, from, ENDED)? {
        let user = view.user(session.subject.user)?.map(|user| user.details.login);
        let device = view.device(session.subject.device)?.map(|device| device.name);
        ended.push((user.unwrap_or_default(), device.unwrap_or_default(), session, at));
    }
    let (traffic, events) = (view.traffic(id, from)?, view.events(id, from)?);
    let shown = Shown { location, gateways, roster, tunnels, traffic, events, ended };
    Ok(Found { locations, shown: Some(shown) })
}

fn gateway(one: &Gateway, revision: i64, connected: &[Connected], now: Timestamp) -> GatewayRow {
    GatewayRow {
        name: one.name.clone(),
        href: format!("/gateways/{}", segment(&one.name)),
        standing: Standing::of(one, revision, connected, now),
        about: [&one.backend, &one.version, &one.hostname]
            .into_iter()
            .filter(|text| !text.is_empty())
            .cloned()
            .collect::<Vec<_>>()
            .join(" · "),
    }
}

fn people(app: &App, shown: &Shown, now: Timestamp) -> Vec<PersonRow> {
    let rows = shown.roster.entries.iter().zip(&shown.tunnels);
    rows.map(|(entry, tunnel)| {
        let session = &entry.session;
        let seen = app.live.seen(session.id);
        let age = seen.handshake.map(|at| now.since(at));
        let (rx, tx) =
            (session.rx_bytes.max(seen.total.rx_bytes), session.tx_bytes.max(seen.total.tx_bytes));
        PersonRow {
            id: session.id.get(),
            login: entry.login.clone(),
            device: entry.device.clone(),
            tunnel: tunnel.clone(),
            public: seen.endpoint.map_or_else(|| "–".to_owned(), |at| at.to_string()),
            method: method_name(session.method),
            since: ago(Some(session.authorized), now),
            handshake: age.map_or_else(|| "–".to_owned(), |age| format!("{} s", age.as_secs())),
            fresh: age.is_some_and(|age| age < Duration::from_secs(180)),
            left: left(session.lifetime_ends.since(now)),
            spark: chart::sparkline(seen.samples.as_slice().iter().copied().map(u64::from)),
            rx: bytes(rx),
            tx: bytes(tx),
        }
    })
    .collect()
}

fn left(span: Duration) -> String {
    let minutes = span.as_secs() / 60;
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes} min"),
        (hours, _) if hours >= 48 => format!("{} d", hours / 24),
        (hours, minutes) => format!("{hours} h {minutes:02}"),
    }
}

fn per_second(value: f64) -> String {
    for (limit, unit) in [(1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s")] {
        if value >= limit {
            let number = value / limit;
            return if number < 10.0 {
                format!("{number:.1} {unit}")
            } else {
                format!("{number:.0} {unit}")
            };
        }
    }
    format!("{value:.0} B/s")
}

const SORTS: [(&str, RosterSort, &str); 6] = [
    ("user", RosterSort::User, "User"),
    ("device", RosterSort::Device, "Device"),
    ("since", RosterSort::Since, "Since"),
    ("left", RosterSort::Left, "Time left"),
    ("received", RosterSort::Received, "Received"),
    ("sent", RosterSort::Sent, "Sent"),
];

/// Reads an order; a minus before it turns it round.
fn sorting(text: &str) -> (RosterSort, bool) {
    let (text, descending) = text.strip_prefix('-').map_or((text, false), |text| (text, true));
    let sort = SORTS.iter().find(|(code, ..)| *code == text);
    sort.map_or((RosterSort::User, false), |(_, sort, _)| (*sort, descending))
}

fn headings(now: &str, link: impl Fn(&str) -> String) -> Vec<Heading> {
    let heading = |&(code, _, name): &(&str, RosterSort, &'static str)| {
        let state = match now.strip_prefix('-') {
            Some(rest) if rest == code => "descending",
            None if now == code || (now.is_empty() && code == "user") => "ascending",
            _ => "none",
        };
        let next = if state == "ascending" { format!("-{code}") } else { code.to_owned() };
        Heading { name, href: link(&next), state }
    };
    SORTS.iter().map(heading).collect()
}

fn pages(page: i64, matching: u64, link: impl Fn(i64) -> String) -> Vec<(String, String)> {
    let last = i64::try_from(matching.div_ceil(50).max(1)).unwrap_or(i64::MAX);
    let mut links = Vec::new();
    if last > 1 {
        if page > 1 {
            links.push((link(page.saturating_sub(1)), "Previous".to_owned()));
        }
        links.push((String::new(), format!("Page {page} of {last}")));
        if page < last {
            links.push((link(page.saturating_add(1)), "Next".to_owned()));
        }
    }
    links
}
