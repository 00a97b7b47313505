//! Devices.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use mfa_store::DeviceSort;
use serde::Deserialize;

use super::actor::Caller;
use super::body::{Named, Params};
use super::operation::{Api, Operation};
use super::page::{ListQuery, Page, names};
use super::problem::Problem;
use crate::app::App;
use crate::flows::api_token::Scope::{DevicesRead, DevicesWrite};
use crate::flows::{device as flow, user};
use crate::view::DeviceView;

const ORDERS: &[(&str, DeviceSort)] = &[
    ("id", DeviceSort::Id),
    ("name", DeviceSort::Name),
    ("user", DeviceSort::User),
    ("last_heard_at", DeviceSort::Heard),
    ("created_at", DeviceSort::Added),
];

pub(super) fn add(api: &mut Api) {
    let list = Operation::get("/devices", "listDevices", DevicesRead)
        .says("List enrolled devices.")
        .query("user", &serde_json::json!({"type": "string"}), "Only this person's.");
    api.add(list.paged(&names(ORDERS)).answers_page::<DeviceView>(), list_devices);
    let show = Operation::get("/devices/{device}", "getDevice", DevicesRead)
        .says("Show a device, by its number, its public key, or a name that no other has.");
    api.add(show.answers::<DeviceView>(StatusCode::OK), show_device);
    let remove = Operation::delete("/devices/{device}", "removeDevice", DevicesWrite)
        .says("Remove a device; its sessions end at once and its addresses become free.");
    api.add(remove, remove_device);
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfUser {
    user: Option<String>,
    #[serde(default)]
    search: String,
    sort: Option<String>,
    limit: Option<i64>,
    #[serde(default)]
    offset: i64,
}

async fn list_devices(
    State(app): State<Arc<App>>,
    Params(query): Params<OfUser>,
) -> Result<Json<Page<DeviceView>>, Problem> {
    let OfUser { user: login, search, sort, limit, offset } = query;
    let query = ListQuery { search, sort, limit, offset };
    let asked = query.asked(ORDERS)?;
    let found = app.store.read(move |view| {
        let owner = login.as_ref().map(|login| user::find(view, login)).transpose()?;
        let found = view.device_list(&asked, owner.map(|owner| owner.id))?;
        let devices = found.entries.into_iter();
        let devices = devices.map(|(device, login)| DeviceView::of(view, device, login));
        Ok::<_, Problem>((devices.collect::<Result<Vec<_>, _>>()?, found.matching))
    });
    let (devices, matching) = found.await?;
    Ok(Json(query.page(devices, matching)))
}

async fn show_device(
    State(app): State<Arc<App>>,
    Named(device): Named,
) -> Result<Json<DeviceView>, Problem> {
    let shown = app.store.read(move |view| {
        let found = flow::find(view, &device)?;
        let owner = view.user(found.user)?.map(|user| user.details.login);
        Ok::<_, Problem>(DeviceView::of(view, found, owner.unwrap_or_default())?)
    });
    shown.await.map(Json)
}

async fn remove_device(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(device): Named,
) -> Result<StatusCode, Problem> {
    let by = caller.by(app.clock.now());
    app.store.write(move |tx| flow::remove(tx, by, &device).map_err(Problem::from)).await?;
    app.registry.wake_all();
    Ok(StatusCode::NO_CONTENT)
}
