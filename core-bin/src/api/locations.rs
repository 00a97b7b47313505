//! Locations.

use core::time::Duration;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::{ETAG, IF_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use ipnet::IpNet;
use mfa_core::policy::{LinkLoss, Mfa, OutageHold};
use mfa_core::rotate::PskPolicy;
use mfa_core::token::Token;
use mfa_store::Location;
use mfa_wire::http::SecretText;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use wg_types::PrivateKey;

use super::actor::Caller;
use super::body::{Body, Named, Params};
use super::operation::{Api, Operation};
use super::problem::Problem;
use crate::app::App;
use crate::flows::api_token::Scope::{LocationsRead, LocationsWrite};
use crate::flows::import::{self, Configuration};
use crate::flows::location::{self as flow, LocationChange};
use crate::view::LocationView;

pub(super) fn add(api: &mut Api) {
    use Operation as Op;
    const OK: StatusCode = StatusCode::OK;
    let list = Op::get("/locations", "listLocations", LocationsRead).says("List locations.");
    api.add(list.answers_list::<LocationView>(), list_locations);
    let add = Op::post("/locations", "addLocation", LocationsWrite).says(
        "Add a location; name, endpoint and addresses are needed. MFA is on unless said otherwise.",
    );
    api.add(add.takes::<LocationBody>().answers::<LocationView>(StatusCode::CREATED), create);
    let import = Op::post("/locations/import", "importLocation", LocationsWrite)
        .says("Make a location of a server's wg-quick configuration, with its peers as devices.");
    api.add(import.takes::<ImportBody>().answers::<ImportedView>(StatusCode::CREATED), import_file);
    let show = Op::get("/locations/{name}", "getLocation", LocationsRead)
        .says("Show a location; its ETag names this state.");
    api.add(show.answers::<LocationView>(OK), show_location);
    let change = Op::patch("/locations/{name}", "changeLocation", LocationsWrite)
        .says("Change a location; what is absent stays. Says what it means for whom.")
        .query(
            "preview",
            &json!({"type": "boolean"}),
            "Change nothing; only say what it would mean.",
        )
        .conditional();
    api.add(change.takes::<LocationBody>().answers::<Changed>(OK), change_location);
    let remove = Op::delete("/locations/{name}", "removeLocation", LocationsWrite)
        .says("Remove a location with its gateways and sessions.")
        .conditional();
    api.add(remove, remove_location);
}

/// What to set of a location.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[schema(as = LocationChange)]
#[serde(deny_unknown_fields)]
struct LocationBody {
    /// What to call it.
    name: Option<String>,
    /// Where clients send WireGuard's packets: HOST:PORT.
    endpoint: Option<String>,
    /// The gateways' UDP port; by default the endpoint's.
    listen_port: Option<u16>,
    /// The networks of the tunnel, each with the gateways' own address in it, or without: the first.
    #[schema(value_type = Option<Vec<String>>)]
    addresses: Option<Vec<IpNet>>,
    /// What clients reach through the tunnel; by default the tunnel's networks.
    #[schema(value_type = Option<Vec<String>>)]
    allowed_ips: Option<Vec<IpNet>>,
    /// Name servers for connected clients.
    #[schema(value_type = Option<Vec<String>>)]
    dns: Option<Vec<IpAddr>>,
    /// Seconds between a client's keepalives; 0: off.
    keepalive_seconds: Option<u16>,
    /// Bytes of the largest packet; 0: the gateways' own choice.
    mtu: Option<u16>,
    /// Whether each connection needs a second factor.
    mfa: Option<bool>,
    /// Which methods count: `totp`, `email`.
    mfa_methods: Option<Vec<String>>,
    /// Seconds of inactivity after which a client is disconnected; 300 is recommended.
    peer_disconnect_threshold_seconds: Option<u64>,
    /// What counts as activity: `transfer` or `handshake`.
    idle_mode: Option<String>,
    /// Seconds that a session lasts at most.
    session_lifetime_seconds: Option<u64>,
    /// The local time of day at which every session ends, with its time zone: `18:30 Europe/Warsaw`; `off`:
    /// none.
    session_ends_at: Option<String>,
    /// Seconds for which nothing at all may come from a client before its session ends; 0: no limit.
    link_loss_seconds: Option<u64>,
    /// Seconds for which live sessions go on when gateways cannot reach core, each until its own lifetime
    /// or idleness; 0: 90 seconds, the lease.
    core_outage_hold_seconds: Option<u64>,
    /// Seconds between a session's pre-shared keys; 0: one for the whole session.
    psk_rotation_seconds: Option<u64>,
    /// The groups that may use it; none: everyone.
    groups: Option<Vec<String>>,
}

impl LocationBody {
    fn change(self) -> Result<LocationChange, Problem> {
        let methods = self.mfa_methods.map(|methods| methods.join(",").parse());
        let psk = self.psk_rotation_seconds.map(|seconds| match seconds {
            0 => Ok(PskPolicy::Fixed),
            seconds => PskPolicy::every(Duration::from_secs(seconds)),
        });
        let daily_end = self.session_ends_at.map(|text| match text.as_str() {
            "off" => Ok(None),
            text => text.parse().map(Some),
        });
        let link_loss = self.link_loss_seconds.map(|seconds| match seconds {
            0 => Ok(None),
            seconds => LinkLoss::new(Duration::from_secs(seconds)).map(Some),
        });
        let outage_hold = self.core_outage_hold_seconds.map(|seconds| match seconds {
            0 => Ok(None),
            seconds => OutageHold::new(Duration::from_secs(seconds)).map(Some),
        });
        let idle_mode = self.idle_mode.map(|mode| mode.parse());
        Ok(LocationChange {
            daily_end: daily_end.transpose().map_err(Problem::bad)?,
            link_loss: link_loss.transpose().map_err(Problem::bad)?,
            outage_hold: outage_hold.transpose().map_err(Problem::bad)?,
            name: self.name,
            endpoint: self.endpoint,
            listen_port: self.listen_port,
            networks: self.addresses,
            allowed_ips: self.allowed_ips,
            dns: self.dns,
            keepalive: self.keepalive_seconds,
            mtu: self.mtu,
            mfa: self.mfa.map(|on| if on { Mfa::Required } else { Mfa::Off }),
            methods: methods
                .transpose()
                .map_err(|error: mfa_core::method::UnknownMethod| Problem::bad(error))?,
            idle_threshold: self.peer_disconnect_threshold_seconds.map(Duration::from_secs),
            idle_mode: idle_mode
                .transpose()
                .map_err(|_| Problem::bad("idle_mode is transfer or handshake"))?,
            lifetime: self.session_lifetime_seconds.map(Duration::from_secs),
            psk: psk.transpose().map_err(Problem::bad)?,
            groups: self.groups,
        })
    }
}

/// A wg-quick configuration to import.
#[derive(Clone, Deserialize, ToSchema)]
#[schema(as = ImportLocation)]
#[serde(deny_unknown_fields)]
struct ImportBody {
    /// What to call the location.
    name: String,
    /// The login of whose the devices are.
    user: String,
    /// Where clients send WireGuard's packets: HOST:PORT.
    endpoint: String,
    /// Whether each connection needs a second factor; it does unless said otherwise.
    mfa: Option<bool>,
    /// The file's text.
    #[schema(value_type = String)]
    configuration: SecretText,
}

/// What was imported.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = ImportedLocation)]
struct ImportedView {
    /// The new location.
    location: LocationView,
    /// How many devices came with it.
    devices: usize,
    /// Lines that have no meaning here.
    ignored: Vec<String>,
}

/// A changed location.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = ChangedLocation)]
struct Changed {
    /// The location as it is now; with `preview` as it was.
    location: LocationView,
    /// What the change means, or would mean, for users and sessions.
    effects: Vec<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Preview {
    #[serde(default)]
    preview: bool,
}

async fn list_locations(State(app): State<Arc<App>>) -> Result<Json<Vec<LocationView>>, Problem> {
    let list = app.store.read(|view| {
        let locations = view.locations()?.into_iter();
        Ok(locations.map(|one| LocationView::of(view, &one)).collect::<Result<Vec<_>, _>>()?)
    });
    list.await.map(Json)
}

async fn show_location(
    State(app): State<Arc<App>>,
    Named(name): Named,
) -> Result<Response, Problem> {
    let shown = app.store.read(move |view| {
        let location = flow::find(view, &name)?;
        Ok::<_, Problem>((tag(&location), LocationView::of(view, &location)?))
    });
    let (tag, shown) = shown.await?;
    Ok(([(ETAG, tag)], Json(shown)).into_response())
}

async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(body): Body<LocationBody>,
) -> Result<(StatusCode, Json<LocationView>), Problem> {
    let name = body.name.clone().ok_or_else(|| Problem::bad("a location needs a name"))?;
    let mut change = body.change()?;
    change.mfa = change.mfa.or(Some(Mfa::Required));
    let key = PrivateKey::from_bytes(*app.rng.bytes());
    let by = caller.by(app.clock.now());
    let added = app.store.write(move |tx| {
        let location = flow::add(tx, by, &name, &change, &key)?;
        Ok::<_, Problem>(LocationView::of(tx, &location)?)
    });
    added.await.map(|location| (StatusCode::CREATED, Json(location)))
}

async fn import_file(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(body): Body<ImportBody>,
) -> Result<(StatusCode, Json<ImportedView>), Problem> {
    let file = Configuration::parse(body.configuration.expose_secret())?;
    let mfa = if body.mfa.unwrap_or(true) { Mfa::Required } else { Mfa::Off };
    let change = LocationChange {
        endpoint: Some(body.endpoint),
        mfa: Some(mfa),
        ..LocationChange::default()
    };
    let (by, rng) = (caller.by(app.clock.now()), app.rng.clone());
    let done = app.store.write(move |tx| {
        let mut polling = || Token::from_random(*rng.bytes()).digest();
        let names = (body.name.as_str(), body.user.as_str());
        let done = import::import(tx, by, names, &file, &change, &mut polling)?;
        let location = LocationView::of(tx, &done.location)?;
        let (devices, ignored) = (done.devices.len(), done.ignored);
        Ok::<_, Problem>(ImportedView { location, devices, ignored })
    });
    let done = done.await?;
    app.registry.wake_all();
    Ok((StatusCode::CREATED, Json(done)))
}

async fn change_location(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(name): Named,
    Params(Preview { preview }): Params<Preview>,
    headers: HeaderMap,
    Body(body): Body<LocationBody>,
) -> Result<Response, Problem> {
    let (change, offered) = (body.change()?, app.offered());
    let by = caller.by(app.clock.now());
    let (expected, place) = (if_match(&headers), name.clone());
    let done = app.store.write(move |tx| {
        let before = flow::find(tx, &place)?;
        check(&before, expected.as_deref())?;
        let after = flow::apply(&before.settings, &change)?;
        let effects = flow::effects(tx, &before, &after, offered)?;
        let now = if preview { before } else { flow::set(tx, by, &place, &change)? };
        let changed = Changed { location: LocationView::of(tx, &now)?, effects };
        Ok::<_, Problem>((tag(&now), changed))
    });
    let (tag, changed) = done.await?;
    app.registry.wake_all();
    Ok(([(ETAG, tag)], Json(changed)).into_response())
}

async fn remove_location(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(name): Named,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let by = caller.by(app.clock.now());
    let expected = if_match(&headers);
    let removed = app.store.write(move |tx| {
        let location = flow::find(tx, &name)?;
        check(&location, expected.as_deref())?;
        Ok::<_, Problem>(flow::remove(tx, by, &name).map(drop)?)
    });
    removed.await?;
    app.registry.wake_all();
    Ok(StatusCode::NO_CONTENT)
}

/// Names the state of a location: whatever changes raises one of these.
fn tag(location: &Location) -> String {
    format!("\"{}-{}-{}\"", location.id.get(), location.revision, location.config_version)
}

fn if_match(headers: &HeaderMap) -> Option<String> {
    headers.get(IF_MATCH).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn check(location: &Location, expected: Option<&str>) -> Result<(), Problem> {
    match expected {
        Some(text) if text != "*" && !text.split(',').any(|one| one.trim() == tag(location)) => {
            let words = "the location was changed meanwhile; read it again";
            Err(Problem::new(StatusCode::PRECONDITION_FAILED, "changed_meanwhile", words))
        }
        _ => Ok(()),
    }
}
